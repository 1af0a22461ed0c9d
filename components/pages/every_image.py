"""Every image of an evaluation with the captions of one model or two, as the rows that a page's script shows."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from components.pages.thumbnails import data_uri

MAX_ROWS = 5000
"""On a page; of more images those are left out that differ, or score, neither very well nor very badly."""


class Captioned(NamedTuple):
    """A model's captions of the images."""

    model: str
    predictions: pd.DataFrame
    """`image_id`, `caption`, `cider`."""


def rows_of(pictures: pd.DataFrame, models: Sequence[Captioned]) -> list[list[object]]:
    """For each image: name, id, thumbnail, references, then a caption and a CIDEr (× 100) per model.

    `pictures` is `components.evaluation.pictures`' table. The rows are sorted by the first model's CIDEr, or by how
    much it is above the second one's; of more than 5,000 those in the middle are left out.
    """
    tables = [each.predictions.set_index("image_id")[["caption", "cider"]] for each in models]
    shown = pictures.set_index("image_id").loc[tables[0].index]
    order = tables[0]["cider"] - (tables[1]["cider"].reindex(tables[0].index) if len(tables) > 1 else 0.0)
    ranked = order.sort_values(ascending=False, kind="stable").index
    if len(ranked) > MAX_ROWS:
        ranked = ranked[: MAX_ROWS // 2].append(ranked[-MAX_ROWS // 2 :])
    rows: list[list[object]] = []
    for image in ranked:
        picture = shown.loc[image]
        content = picture["thumbnail"]
        row = [picture["name"], str(image), data_uri(content, "jpeg") if content else "", list(picture["references"])]
        for table in tables:
            row += [table.loc[image, "caption"], round(100 * float(table.loc[image, "cider"]), 1)]
        rows.append(row)
    return rows
