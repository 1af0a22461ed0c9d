"""What captioning, training and evaluating give: objects, tables, and what a notebook shows of them."""

import base64
import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np
import pandas as pd

from captioning.photographs import Photograph
from components.decoder.caption import Caption
from components.errors import BadImageError
from components.images.decoding import decode
from components.pages.thumbnails import jpeg

if TYPE_CHECKING:
    import keras

    from components.evaluation.summary import Summary

SHOWN = 24
"""Results that a notebook shows as pictures; `table()` has all."""
SIDE, QUALITY = 240, 80
"""Longest side of a picture in a notebook (pixels), and its JPEG quality."""


@dataclass(frozen=True)
class Result:
    """A photograph with its captions, best first, or why it has none. A notebook shows the picture."""

    name: str
    """The path or address, or what it was given as."""
    captions: tuple[Caption, ...]
    error: str = ""
    unlike_training: bool = False
    """Whether its embedding lies further from the training images' mean than 99 % of theirs."""
    photograph: Photograph | None = field(default=None, repr=False, compare=False)

    @property
    def text(self) -> str:
        """The best caption; empty when there is none."""
        return self.captions[0].text if self.captions else ""

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<div dir='auto'>{html.escape(caption.text or '(no words)')}"
            f" <small title='mean probability of a word'>{caption.mean_probability:.0%}</small></div>"
            for caption in self.captions
        )
        reason = f"<div><em>{html.escape(self.error)}</em></div>" if self.error else ""
        return (
            f"<figure style='display:inline-block;vertical-align:top;width:{SIDE}px;margin:0 16px 16px 0'>"
            f"{self._image()}<figcaption>{rows}{reason}"
            f"<small style='opacity:.6;overflow-wrap:anywhere'>{html.escape(self.name)}</small></figcaption></figure>"
        )

    def _image(self) -> str:
        try:
            content = jpeg(decode(self.photograph.again()), SIDE, QUALITY) if self.photograph else b""
        except (BadImageError, OSError):  # a broken file, or one that is gone by now
            content = b""
        if not content:
            return ""
        data = base64.b64encode(content).decode("ascii")
        return f"<img src='data:image/jpeg;base64,{data}' alt='{html.escape(self.name)}' style='max-width:100%'>"


@dataclass(frozen=True)
class Results(Sequence[Result]):
    """The results in the order of the photographs."""

    items: tuple[Result, ...]

    @property
    def note(self) -> str:
        """What to know of the captions when most of the photographs are unlike the training images; else empty."""
        count, captioned = sum(one.unlike_training for one in self.items), sum(bool(one.captions) for one in self.items)
        if 2 * count <= captioned:
            return ""
        return (
            f"{count:,} of {captioned:,} photographs are unlike the images that this model was trained on: "
            "do not rely on these captions"
        )

    @overload
    def __getitem__(self, which: int) -> Result: ...

    @overload
    def __getitem__(self, which: slice) -> "Results": ...

    def __getitem__(self, which: int | slice) -> "Result | Results":
        return Results(self.items[which]) if isinstance(which, slice) else self.items[which]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Result]:
        return iter(self.items)

    def table(self) -> pd.DataFrame:
        """One row per caption, or per photograph without one.

        Columns: `name`, `rank` (from 1, 0 without a caption), `caption`, `logprob` (of the whole caption, natural
        logarithm), `mean_probability` (of a word, given those before it), `unlike_training`, `error`.
        """
        rows: list[tuple[object, ...]] = []
        for result in self.items:
            if not result.captions:
                rows.append((result.name, 0, "", np.nan, np.nan, result.unlike_training, result.error))
            for rank, caption in enumerate(result.captions, start=1):
                figures = (caption.logprob, caption.mean_probability)
                rows.append((result.name, rank, caption.text, *figures, result.unlike_training, ""))
        columns = ["name", "rank", "caption", "logprob", "mean_probability", "unlike_training", "error"]
        return pd.DataFrame(rows, columns=columns)

    def _repr_html_(self) -> str:
        more = len(self.items) - SHOWN
        end = f"<p>… and {more:,} more: <code>.table()</code> has all.</p>" if more > 0 else ""
        end += f"<p>{html.escape(self.note)}.</p>" if self.note else ""
        return "".join(result._repr_html_() for result in self.items[:SHOWN]) + end


@dataclass(frozen=True)
class Embeddings:
    """Embeddings with the names of their images."""

    ids: np.ndarray
    """(images,): names of photographs, or a data set's image ids."""
    vectors: np.ndarray
    """(images, dimension), float32."""
    errors: dict[str, str] = field(default_factory=dict)
    """Why other photographs have none, by name."""

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Training:
    """A trained decoder."""

    decoder: "keras.Model"
    """`decoder((embeddings, words))` gives the logits (images, steps, words); its weights are the best epoch's."""
    history: pd.DataFrame
    """One row per epoch: see `components.training.history.History`."""


@dataclass(frozen=True)
class Evaluation:
    """How good a model's captions of a split are. A notebook shows the scores."""

    summary: "Summary"
    """`metrics` and `intervals` (95 %), as fractions: a CIDEr of 0.5 is what papers print as 50."""
    predictions: pd.DataFrame
    """One row per image: `image_id`, `caption`, `logprob` and its own scores."""
    gallery: Path
    """The page of the best, the worst and random captions."""

    @property
    def scores(self) -> pd.DataFrame:
        """One row per official score: `score`, `low` and `high`, the ends of its 95 % interval."""
        rows = {name: (self.summary.metrics[name], *ends) for name, ends in self.summary.intervals.items()}
        return pd.DataFrame.from_dict(rows, orient="index", columns=["score", "low", "high"])

    def _repr_html_(self) -> str:
        return str(self.scores.to_html(float_format=lambda value: f"{value:.3f}"))
