"""The page of a predictions' data set: every image with its caption, the files without one, and the batches over time.

Beside the page lie its rows, in JavaScript files that it loads one after the other, and its thumbnails. So the page is
small whatever the data set is, and works from disk, where a browser lets no page fetch a file.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from components.pages.rendering import render_page, script_json
from components.pages.thumbnails import data_uri

ROWS = 1000
"""In a file."""
BARS = 60
"""Batches in the plot and in the table, the last ones."""
EMBEDDED = 500
"""Rows, the last ones, of a page in a single file."""


@dataclass(frozen=True)
class Batch:
    """What one run added to the data set."""

    key: str
    model: str
    rows: pd.DataFrame
    """`schema.PREDICTIONS`, with `words`, the length of each caption."""

    @property
    def time(self) -> pd.Timestamp:
        """When its first row was scored."""
        return pd.Timestamp(self.rows["scored_at"].min())

    @property
    def probabilities(self) -> "pd.Series[float]":
        """Of each caption the mean probability of its words and its end; NaN without a caption."""
        return pd.Series(np.exp(self.rows["logprob"] / (self.rows["words"] + 1)))


@dataclass(frozen=True)
class BatchFacts:
    """A line of the table of batches."""

    date: str
    model: str
    captioned: int
    quarantined: int
    probability: float | None
    """The mean of its captions' probabilities per word."""


def write_batch_page(batches: Sequence[Batch], page: Path, folder: Path | None, thumbnails: Path) -> Path:
    """Writes the page, and its files into `folder` beside it. Returns the page's path.

    `thumbnails` holds a JPEG file per content, see `thumbnail_path`. Without a `folder` the page holds the last 500
    rows and their pictures, and needs no other file.
    """
    batches = sorted(batches, key=lambda batch: (batch.time, batch.key), reverse=True)
    rows = [row for number, batch in enumerate(batches) for row in _rows(batch, number)]
    facts = [_facts(batch) for batch in batches]
    shown = rows if folder else rows[:EMBEDDED]
    pictures: dict[str, str] = {}
    files: list[str] = []
    if folder is None:
        for digest in {str(row[5]) for row in shown if row[5]}:
            path = thumbnail_path(thumbnails, digest)
            if path.exists():
                pictures[digest] = data_uri(path.read_bytes(), "jpeg")
    else:
        page.unlink(missing_ok=True)  # of rows that are gone
        shutil.rmtree(folder / "rows", ignore_errors=True)
        (folder / "rows").mkdir(parents=True)
        for start in range(0, len(rows), ROWS):
            files.append(f"{folder.name}/rows/{start // ROWS:05}.js")
            text = f"addRows({script_json(rows[start : start + ROWS])});\n"
            (page.parent / files[-1]).write_text(text, encoding="utf-8")
    state = {
        "files": files,
        "rows": [] if folder else shown,
        "pictures": pictures,
        "thumbnails": thumbnails.relative_to(page.parent).as_posix() if folder else "",
        "batches": [{"date": one.date, "model": one.model} for one in facts],
        "total": len(shown),
    }
    text = render_page(
        "batch",
        captioned=sum(one.captioned for one in facts),
        quarantined=sum(one.quarantined for one in facts),
        left_out=len(rows) - len(shown),
        batches=facts[:BARS],
        earlier=max(0, len(facts) - BARS),
        most=max((one.captioned + one.quarantined for one in facts[:BARS]), default=1),
        models=list(dict.fromkeys(one.model for one in facts)),
        state=script_json(state),
    )
    temporary = page.with_name(page.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(page)
    return page


def thumbnail_path(thumbnails: Path, digest: str) -> Path:
    """Where the picture of a content (SHA-256) lies."""
    return thumbnails / digest[:2] / f"{digest}.jpg"


def _rows(batch: Batch, number: int) -> list[list[object]]:
    """For each input: address, caption, percent per word, seconds since 1970, batch, content, reason."""
    table = batch.rows
    seconds = table["scored_at"].astype("datetime64[s, UTC]").astype("int64")
    percent = (100 * batch.probabilities).round(1)
    columns = (table["uri"], table["caption"], percent, seconds, table["image_id"])
    return [
        [
            uri,
            caption,
            sure if not error else None,
            second,
            number,
            digest if not error else "",
            error,
        ]
        for uri, caption, sure, second, digest, error in zip(*columns, table["error"], strict=True)
    ]


def _facts(batch: Batch) -> BatchFacts:
    good = int((batch.rows["status"] == "ok").sum())
    return BatchFacts(
        date=batch.time.strftime("%Y-%m-%d %H:%M"),
        model=batch.model,
        captioned=good,
        quarantined=len(batch.rows) - good,
        probability=float(batch.probabilities.mean()) if good else None,
    )
