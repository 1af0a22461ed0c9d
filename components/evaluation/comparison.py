"""Two models on the same images: which one is better, and whether that is by chance."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from components.errors import CaptioningError
from components.evaluation.bootstrap import interval, p_value, resample
from components.evaluation.metrics import FIGURES, corpus_scores
from components.evaluation.pictures import read_pictures
from components.evaluation.summary import SCORES, Summary, read_predictions
from components.pages.comparison import ScoreRow, write_comparison_page
from components.pages.every_image import Captioned

COMPARISON_FILE = "comparison.json"


@dataclass(frozen=True)
class Difference:
    """One metric of two models. Positive: the first is better."""

    metric: str
    first: float
    second: float
    low: float
    """The 95 % interval of first - second, by a paired bootstrap over images; without 0 in it, it is significant."""
    high: float
    p: float
    """Of the two-sided test that there is no difference."""

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `tie`: what can be said of the first model at the 5 % level."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "tie"


def compare(first: Path, second: Path) -> list[Difference]:
    """The differences of two evaluations' metrics, folders of `report.evaluate`.

    METEOR's resamples are images' means, moved to the corpus' scores, as in `metrics.intervals`.
    Raises `CaptioningError` unless they are of the same images, references and tokenizer.
    """
    summaries = [Summary.load(folder) for folder in (first, second)]
    for what in ("data", "tokenizer"):
        found = [str(getattr(summary, what)) for summary in summaries]
        if found[0] != found[1]:
            raise CaptioningError(
                f"the two evaluations cannot be compared: their {what} is {found[0]} and {found[1]}. "
                "Evaluate both models on the same split of the same profile, on one machine"
            )
    tables = [read_predictions(folder).set_index("image_id").sort_index() for folder in (first, second)]
    figures = [name for name in FIGURES if all(name in table for table in tables)]
    columns = [table[figures].to_numpy() for table in tables]

    def scores(means: np.ndarray) -> list[pd.DataFrame]:
        return [corpus_scores(pd.DataFrame(part, columns=figures), len(tables[0])) for part in np.hsplit(means, 2)]

    one, other = scores(np.hstack([column.mean(axis=0, keepdims=True) for column in columns]))
    of_one, of_other = scores(resample(np.hstack(columns)))
    differences = []
    for metric in map(str, of_one):
        mine, theirs = (summary.metrics[metric] for summary in summaries)
        moved = mine - theirs - float(one[metric].iloc[0] - other[metric].iloc[0])
        difference = (of_one[metric] - of_other[metric]).to_numpy() + moved
        differences.append(Difference(metric, mine, theirs, *interval(difference), p_value(difference)))
    return differences


def write_side_by_side(
    first: tuple[str, Path], second: tuple[str, Path], differences: Sequence[Difference], page: Path
) -> None:
    """Writes the page of two models, each its name and the folder of its evaluation, on the same images."""
    mine, theirs = (Captioned(name, read_predictions(folder)) for name, folder in (first, second))
    scores = [
        ScoreRow(SCORES.get(one.metric, one.metric), one.first, one.second, one.low, one.high, one.p, one.verdict)
        for one in differences
    ]
    summary = Summary.load(first[1])
    identity = {
        "Data": f"split {summary.split}: {summary.images:,} images, digest {summary.data}",
        "Tokenizer": summary.tokenizer,
        "Test": "paired bootstrap over images; p is the chance of such a difference between models that are alike",
    }
    write_comparison_page(mine, theirs, read_pictures(first[1], mine.predictions["image_id"]), scores, identity, page)


def write_comparison(differences: list[Difference], folder: Path) -> int:
    """Writes JSON that `read_comparison` reads. Returns the number of metrics."""
    rows = [asdict(difference) for difference in differences]
    (folder / COMPARISON_FILE).write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return len(rows)


def read_comparison(folder: Path) -> list[Difference]:
    """Reads what `write_comparison` wrote."""
    return [Difference(**row) for row in json.loads((folder / COMPARISON_FILE).read_text(encoding="utf-8"))]
