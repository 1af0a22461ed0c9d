"""Reading the caption table, which `components.dataset.captions` writes."""

import json
from pathlib import Path

import pandas as pd

IMAGES_FILE = "images.parquet"
CAPTIONS_FILE = "captions.parquet"
UNCAPTIONED_FILE = "uncaptioned.json"


def read_caption_table(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The images (`data_contracts.schema.IMAGES`) and their captions (`CAPTIONS`)."""
    return pd.read_parquet(folder / IMAGES_FILE), pd.read_parquet(folder / CAPTIONS_FILE)


def read_uncaptioned(folder: Path) -> tuple[str, ...]:
    """The names of the photographs that no captions file mentions, sorted."""
    path = folder / UNCAPTIONED_FILE
    return tuple(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else ()
