"""Captioning a batch of images: one row an image, whatever happened to it."""

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd

from components.artifacts import write_atomic
from components.encoder.extract import Engine, embed_shards, plan_shards
from components.encoder.pool import EmbeddingPool
from components.encoder.store import reasons_of
from components.errors import ConfigurationError
from components.registry.captioner import BATCH, Captioner, Search
from components.registry.reference import REFERENCE_FILE, Reference
from components.scoring.inputs import archives_of, read_inputs, uri_of
from data_contracts.schema import PREDICTIONS

PREDICTIONS_FILE = "predictions.parquet"
DRIFT_FILE = "drift.parquet"

SHARD = 1024
"""Images a shard of new embeddings: what a killed run loses at most."""


def caption_images(
    images: Path, names: Sequence[str], captioner: Captioner, search: Search, model_version: str, pool: EmbeddingPool
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The named inputs' `schema.PREDICTIONS`, in their order, and how they differ from training's: `schema.DRIFT`.

    `pool` is that of the captioner's encoder: what is in it is not embedded again, what is not is put there.
    """
    photographs = read_inputs(images, names)
    digests = photographs["digest"].tolist()
    shards = plan_shards(photographs, pool.find(digests), SHARD)
    embed_shards(shards, archives_of(images), Engine(captioner.read_one, captioner.embed, BATCH), pool)
    found = pool.find(digests)
    places = photographs["digest"].map(found.places.get)
    good = places.notna()
    vectors = pool.vectors(places[good].tolist())
    captions = captioner.caption(vectors, search)
    table = pd.DataFrame(
        {
            "image_id": photographs["digest"].where(photographs["digest"] != "", sha256(b"").hexdigest()),
            "uri": [uri_of(images, name) for name in photographs["file_name"]],
            "caption": "",
            "logprob": np.nan,
            "status": np.where(good, "ok", "quarantined"),
            "error": "",
            "model_version": model_version,
            "encoder_fingerprint": pool.card.fingerprint,
            "scored_at": datetime.now(UTC),
        }
    )
    table.loc[good, "caption"] = [best.text for best, *_ in captions]
    table.loc[good, "logprob"] = [best.logprob for best, *_ in captions]
    table.loc[~good, "error"] = reasons_of(photographs[~good], found)
    drift = Reference.load(captioner.folder / REFERENCE_FILE).compare(vectors, table.loc[good, "caption"])
    return table.astype(PREDICTIONS)[list(PREDICTIONS)], drift


def prepare_folder(folder: Path) -> None:
    """Makes the folder for the predictions. Raises `ConfigurationError` when nothing can be written there."""
    if folder.exists() and not folder.is_dir():
        raise ConfigurationError(f"cannot write predictions to {folder}: it is a file; give a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigurationError(f"cannot write predictions to {folder}: {error.strerror}") from error


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
