"""The gallery: one HTML page of a captioner's scores, of its captions beside their photographs, and of its plots."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from components.decoder.caption import Caption
from components.errors import BadImageError
from components.images.decoding import decode
from components.pages.rendering import render_page, script_json
from components.pages.thumbnails import data_uri, jpeg

PAGE_BYTES: Final = 7_900_000
"""What a page may weigh: mail servers begin to refuse at 10 MB."""
QUALITIES: Final = ((360, 82), (360, 65), (300, 50), (240, 40), (160, 30), (96, 20))
"""Longest side of a photograph on the page (pixels) and its JPEG quality: the first that is small enough is taken."""
BACKDROP: Final = 12
"""Longest side of what is shown, blurred, beside a photograph that does not fill its frame."""
BACKDROP_BYTES: Final = 1000
"""What it takes, at most."""


@dataclass(frozen=True)
class Card:
    """One photograph with what a model says about it."""

    name: str
    photograph: bytes
    """An encoded image (JPEG, PNG, …)."""
    caption: Caption
    """The one that was scored."""
    ranked: tuple[Caption, ...] = ()
    """What a beam search found, best first."""
    references: tuple[str, ...] = ()
    """What people wrote about it."""
    cider: float | None = None
    """The image's own CIDEr-D as the scorer gives it (1.0 is shown as 100), if it has references."""

    @property
    def text(self) -> str:
        """Every word that a filter may look for, lower-case."""
        return " ".join((self.caption.text, *self.references)).lower()


class Section(NamedTuple):
    """Some cards under a heading."""

    kind: str
    heading: str
    lead: str
    cards: Sequence[Card]


class Tile(NamedTuple):
    """A figure: what it is, how it is written, and what makes it meaningful."""

    label: str
    value: str
    note: str = ""


class Plot(NamedTuple):
    """A picture of figures."""

    name: str
    lead: str
    png: bytes


@dataclass(frozen=True)
class Page:
    """What a gallery shows, in its order."""

    title: str
    scores: Sequence[Tile]
    measures: Sequence[Tile]
    sections: Sequence[Section]
    plots: Sequence[Plot]
    samples: Sequence[tuple[float, str]]
    """Captions of one photograph drawn at different temperatures."""
    identity: Mapping[str, str]
    """Model, data and code: what the page is about, for the footer."""
    every_image: Sequence[Sequence[object]] = ()
    """See `components.pages.every_image.rows_of`."""
    left_out: int = 0
    """Images that are not among these."""


def render_gallery(page: Page) -> str:
    """One self-contained HTML page of at most 8 MB: it holds its photographs, loads nothing and needs no network.

    All text is escaped, and the page's policy lets no script run but its own. Raises `BadImageError` naming a
    photograph that cannot be decoded.
    """

    def render(thumbnail: Callable[[Card], tuple[str, str]]) -> str:
        state = script_json({"rows": page.every_image, "models": [page.identity.get("Model", "")]})
        return render_page("gallery", "every_image", page=page, thumbnail=thumbnail, state=state)

    # What everything but the photographs takes is known when it is there.
    rest = len(render(lambda _: ("", "")).encode())
    count = sum(len(section.cards) for section in page.sections)
    budget = (PAGE_BYTES - rest) // max(count, 1) * 3 // 4 - BACKDROP_BYTES
    return render(lambda card: _thumbnail(card, budget))


def _thumbnail(card: Card, budget: int) -> tuple[str, str]:
    """The photograph as a data URI of a JPEG of at most `budget` bytes, and the tiny one behind it."""
    try:
        upright = decode(card.photograph)
    except BadImageError as error:
        raise BadImageError(
            f"The photograph {card.name} cannot be decoded for the gallery ({error}). "
            "Replace the file, or leave the image out."
        ) from error
    content = b""
    for side, quality in QUALITIES:
        content = jpeg(upright, side, quality)
        if len(content) <= budget:
            break
    return data_uri(content, "jpeg"), data_uri(jpeg(upright, BACKDROP, 50), "jpeg")
