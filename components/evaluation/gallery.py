"""The gallery: one HTML page of the best and the worst captions, with photographs, references and scores."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image, ImageOps

from components.errors import BadImageError

THUMBNAIL: Final = 360
"""Longest side of a photograph on the page, in pixels."""

LABELS: Final = {
    "cider": "CIDEr",
    "bleu4": "BLEU-4",
    "meteor": "METEOR",
    "rouge_l": "ROUGE-L",
    "bleu1": "BLEU-1",
    "bleu2": "BLEU-2",
    "bleu3": "BLEU-3",
}
"""The scores as papers write them, in the order of the tiles."""


@dataclass(frozen=True)
class GalleryItem:
    """One photograph with its generated caption.

    `photograph` is an encoded image (JPEG, PNG, …); `logprob` the natural log of the whole caption's
    probability, its end included; `cider` the image's own CIDEr-D as the scorer gives it (1.0 is shown as
    100).
    """

    image_id: int
    photograph: bytes
    caption: str
    logprob: float
    cider: float
    references: tuple[str, ...]

    @property
    def word_probability(self) -> float:
        """Geometric mean of the probabilities of the caption's words and of its end, 0…1."""
        return math.exp(self.logprob / (len(self.caption.split()) + 1))


def render_gallery(
    title: str,
    best: Sequence[GalleryItem],
    worst: Sequence[GalleryItem],
    scores: Mapping[str, float],
    facts: Mapping[str, str],
    curves_png: bytes | None,
) -> str:
    """One self-contained HTML page: it holds its photographs and loads nothing.

    `scores` are fractions as `score_captions` gives them, shown × 100; `facts` (model, data, tokenizer,
    code …) become the footer, in their order. All text is escaped.

    Raises:
        BadImageError: a photograph cannot be decoded; the message names its image id.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["thumbnail"] = _thumbnail_uri
    shown = {name: label for name, label in LABELS.items() if name in scores}
    shown |= {name: name for name in scores if name not in LABELS}
    return environment.get_template("gallery.html.j2").render(
        title=title,
        sections=[
            ("well", "Where the model worked well", "highest", best),
            ("poorly", "Where it worked poorly", "lowest", worst),
        ],
        scores=[(label, 100 * scores[name]) for name, label in shown.items()],
        facts=facts,
        curves=_data_uri(curves_png, "png") if curves_png else None,
    )


def _thumbnail_uri(item: GalleryItem, side: int = THUMBNAIL) -> str:
    try:
        with Image.open(io.BytesIO(item.photograph)) as image:
            image.thumbnail((side, side))
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:  # Pillow's decoders raise all three for damaged files
        raise BadImageError(
            f"The photograph of image {item.image_id} cannot be decoded for the gallery ({error}). "
            "Replace the file, or leave the image out."
        ) from error
    encoded = io.BytesIO()
    upright.save(encoded, "JPEG", quality=82, optimize=True)
    return _data_uri(encoded.getvalue(), "jpeg")


def _data_uri(content: bytes, subtype: str) -> str:
    return f"data:image/{subtype};base64,{base64.b64encode(content).decode('ascii')}"
