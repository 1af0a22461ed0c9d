"""Captioning a batch of images: one row an image, whatever happened to it."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from components.artifacts import write_atomic
from components.encoder.extract import in_batches
from components.errors import ConfigurationError
from components.registry.captioner import Captioner, Search
from components.scoring.inputs import ImageFile
from data_contracts.schema import PREDICTIONS

PREDICTIONS_FILE = "predictions.parquet"

BATCH = 256
"""Images in memory at a time."""


def caption_images(
    images: Iterable[ImageFile], captioner: Captioner, search: Search, model_version: str
) -> pd.DataFrame:
    """The predictions table of `images` (see `data_contracts.schema.PREDICTIONS`), in their order."""
    batches = [_caption_batch(batch, captioner, search, model_version) for batch in in_batches(images, BATCH)]
    return pd.concat(batches, ignore_index=True)


def prepare_folder(folder: Path) -> None:
    """Makes the folder for the predictions. Raises `ConfigurationError` when nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"cannot write predictions to {folder}: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise ConfigurationError(f"cannot write predictions to {folder}: it is read-only")


def write_predictions(predictions: pd.DataFrame, folder: Path) -> Path:
    """Commits the table as `predictions.parquet` in `folder`, whole or not at all."""
    prepare_folder(folder)
    path = folder / PREDICTIONS_FILE
    with write_atomic(path) as temporary:
        predictions.to_parquet(temporary, index=False)
    return path


def read_predictions(folder: Path) -> pd.DataFrame:
    """Reads what `write_predictions` wrote."""
    return pd.read_parquet(folder / PREDICTIONS_FILE)


def _caption_batch(
    files: Sequence[ImageFile], captioner: Captioner, search: Search, model_version: str
) -> pd.DataFrame:
    found = captioner.read([file.content for file in files])
    # A registered model brings its own error classes: what is not an array is a reason.
    pixels = {row: image for row, image in enumerate(found) if isinstance(image, np.ndarray) and not files[row].error}
    captions = captioner.caption(captioner.embed(list(pixels.values())), search)
    best = {row: ranked[0] for row, ranked in zip(pixels, captions, strict=True)}
    rows = range(len(files))
    table = pd.DataFrame(
        {
            "image_id": [hashlib.sha256(file.content).hexdigest() for file in files],
            "uri": [file.uri for file in files],
            "caption": [best[row].text if row in best else "" for row in rows],
            "logprob": [best[row].logprob if row in best else np.nan for row in rows],
            "status": ["ok" if row in best else "quarantined" for row in rows],
            "error": ["" if row in best else files[row].error or str(found[row]) for row in rows],
            "model_version": model_version,
            "encoder_fingerprint": captioner.card["encoder"]["fingerprint"],
            "scored_at": datetime.now(UTC),
        }
    )
    return table.astype(PREDICTIONS)[list(PREDICTIONS)]
