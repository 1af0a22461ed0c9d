"""Two models on the same images: which one is better, and whether that is by chance."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from components.errors import CaptioningError
from components.evaluation.bootstrap import interval, p_value, resample
from components.evaluation.metrics import FIGURES, corpus_scores
from components.evaluation.summary import Summary, read_predictions

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


def write_comparison(differences: list[Difference], folder: Path) -> int:
    """Writes JSON that `read_comparison` reads. Returns the number of metrics."""
    rows = [asdict(difference) for difference in differences]
    (folder / COMPARISON_FILE).write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return len(rows)


def read_comparison(folder: Path) -> list[Difference]:
    """Reads what `write_comparison` wrote."""
    return [Difference(**row) for row in json.loads((folder / COMPARISON_FILE).read_text(encoding="utf-8"))]
