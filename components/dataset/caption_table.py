"""Reading the caption table, which `components.dataset.captions` writes."""

from pathlib import Path

import pandas as pd

IMAGES_FILE = "images.parquet"
CAPTIONS_FILE = "captions.parquet"


def read_caption_table(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The images (`data_contracts.schema.IMAGES`) and their captions (`CAPTIONS`)."""
    return pd.read_parquet(folder / IMAGES_FILE), pd.read_parquet(folder / CAPTIONS_FILE)
