"""The page of two models side by side: both captions of each photograph, and the scores with their differences."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from components.pages.every_image import Captioned, rows_of
from components.pages.rendering import render_page, script_json

COMPARISON_PAGE = "comparison.html"


class ScoreRow(NamedTuple):
    """A score of both models; all as fractions, the page shows them × 100."""

    name: str
    first: float
    second: float
    low: float
    """The 95 % interval of first - second."""
    high: float
    p: float
    verdict: str


def write_comparison_page(
    first: Captioned,
    second: Captioned,
    pictures: pd.DataFrame,
    scores: Sequence[ScoreRow],
    identity: Mapping[str, str],
    page: Path,
) -> Path:
    """Writes the page, one file that needs no other. `pictures`: see `components.evaluation.pictures`."""
    rows = rows_of(pictures, (first, second))
    state = script_json({"rows": rows, "models": [first.model, second.model]})
    images = len(first.predictions)
    text = render_page(
        "comparison",
        "every_image",
        first=first.model,
        second=second.model,
        scores=scores,
        images=images,
        left_out=images - len(rows),
        identity=identity,
        state=state,
    )
    page.write_text(text, encoding="utf-8")
    return page
