"""What of an evaluation is shown: which photographs, with what beside them, and the figures as people read them."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from components.archives.archive import open_archive
from components.archives.image_archive import ImageArchive
from components.decoder.caption import Caption, Search
from components.encoder.store import EmbeddingStore
from components.evaluation.gallery import Card, Section, Tile
from components.evaluation.summary import SCORES
from components.vocabulary.vocabulary import Vocabulary

if TYPE_CHECKING:
    from components.model.captioner import Captioner

RANKED: Final = 5
"""Captions of a beam search shown with each photograph."""
RANDOM_SEED: Final = 0


@dataclass(frozen=True)
class OwnPictures:
    """Pictures that no one has described, to be captioned and shown."""

    contents: Mapping[str, bytes]
    """By name, as image files have it."""
    embeddings: np.ndarray
    """(pictures, dimension), in the same order."""


@dataclass(frozen=True)
class EvaluationInputs:
    """What a captioner is evaluated on."""

    images: pd.DataFrame
    captions: pd.DataFrame
    """The caption table; see `data_contracts.schema`."""
    store: EmbeddingStore
    archives: Mapping[str, Path]
    """Where the photographs of each source lie."""
    train_split: str
    """Captions of this split may be known by heart."""
    own: OwnPictures | None = None


def choose(
    predictions: pd.DataFrame,
    captions: Mapping[int, Caption],
    captioner: "Captioner",
    material: EvaluationInputs,
    count: int,
) -> list[Section]:
    """`count` photographs each of the best, the worst and at random, and all of one's own.

    `predictions` have `image_id`, `cider` and `logprob`; `captions` what was scored.
    """
    ranked = predictions.sort_values(["cider", "logprob"], ascending=False)["image_id"].to_numpy()
    # Of a handful of images none is shown as both well and poorly captioned, and none again at random.
    half = min(count, max(1, len(ranked) // 2))
    few = " There is only one image: it is the best and the worst." if len(ranked) == 1 else ""
    drawn = np.random.default_rng(RANDOM_SEED).permutation(np.sort(ranked))[:count]
    scores = dict(zip(predictions["image_id"], predictions["cider"], strict=True))
    with ExitStack() as stack:
        opened = {name: stack.enter_context(open_archive(path)) for name, path in material.archives.items()}

        def cards(ids: np.ndarray) -> list[Card]:
            return _cards(ids, captions, scores, captioner, material, opened)

        sections = [
            Section("best", "The best", f"The {half} captions with the highest CIDEr.{few}", cards(ranked[:half])),
            Section("worst", "The worst", f"The {half} with the lowest.{few}", cards(ranked[::-1][:half])),
        ]
        if len(ranked) > 2 * half:
            lead = "What to expect: drawn without looking at the scores."
            sections.append(Section("random", "At random", lead, cards(drawn)))
    return [*sections, Section("own", "Your own pictures", "Nobody described these.", _own_cards(captioner, material))]


def _cards(
    ids: np.ndarray,
    captions: Mapping[int, Caption],
    scores: Mapping[int, float],
    captioner: "Captioner",
    material: EvaluationInputs,
    opened: Mapping[str, ImageArchive],
) -> list[Card]:
    rows = material.images.drop_duplicates("image_id").set_index("image_id").loc[ids]
    beams = captioner.caption(material.store.vectors(ids), Search.of_width(RANKED))
    references = material.captions[material.captions["image_id"].isin(ids)].groupby("image_id")["caption"].apply(list)
    return [
        Card(
            name=f"{Path(name).name}, image {image_id}",
            photograph=opened[archive].read(name),
            caption=captions[image_id],
            ranked=tuple(ranked),
            references=tuple(references[image_id]),
            cider=scores[image_id],
        )
        for image_id, archive, name, ranked in zip(ids, rows["archive"], rows["file_name"], beams, strict=True)
    ]


def _own_cards(captioner: "Captioner", material: EvaluationInputs) -> list[Card]:
    if material.own is None:
        return []
    beams = captioner.caption(material.own.embeddings, Search.of_width(RANKED))
    return [
        Card(name, content, ranked[0], tuple(ranked))
        for (name, content), ranked in zip(material.own.contents.items(), beams, strict=True)
    ]


def score_tiles(metrics: Mapping[str, float], intervals: Mapping[str, tuple[float, float]]) -> list[Tile]:
    """The official scores with their intervals, × 100."""
    return [
        Tile(label, f"{100 * metrics[name]:.1f}", "{:.1f} to {:.1f}".format(*(100 * end for end in intervals[name])))
        for name, label in SCORES.items()
        if name in metrics
    ]


def measure_tiles(metrics: Mapping[str, float], vocabulary: Vocabulary) -> list[Tile]:
    """What a good score can hide."""
    return [
        Tile("CIDEr with images shuffled", f"{100 * metrics['cider_shuffled']:.1f}"),
        Tile("Distinct captions", f"{metrics['distinct']:.0%}"),
        Tile("Never seen in training", f"{metrics['novel']:.0%}"),
        Tile("Words used", f"{metrics['words_used']:,.0f}", f"of {len(vocabulary) - 4:,}"),
        Tile("Length", f"{metrics['length']:.1f}", "words"),
        Tile("End in “a”, “of”, …", f"{metrics['dangling']:.1%}"),
    ]
