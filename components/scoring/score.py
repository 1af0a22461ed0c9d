"""Captioning a batch of images: one row an image, whatever happened to it."""

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd

from components.artifacts import write_atomic
from components.decoder.caption import Search
from components.encoder.pool import JoinedVectors
from components.encoder.store import reasons_of
from components.errors import ConfigurationError
from components.registry.captioner import Captioner
from components.registry.reference import REFERENCE_FILE, Reference
from components.scoring.embed import fill_pools
from components.scoring.inputs import archives_of, read_inputs, uri_of
from data_contracts.schema import PREDICTIONS

PREDICTIONS_FILE = "predictions.parquet"
DRIFT_FILE = "drift.parquet"


def caption_images(
    images: Path, names: Sequence[str], captioner: Captioner, search: Search, model_version: str, pools: Path
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The named inputs' `schema.PREDICTIONS`, in their order, and how they differ from training's: `schema.DRIFT`.

    `pools` holds the pool of each encoder: what is in it is not embedded again, what is not is put there.
    """
    photographs = read_inputs(images, names)
    filled = fill_pools(captioner, photographs, archives_of(images), pools)
    known = [(pool, pool.find(photographs["digest"].tolist())) for pool in filled]
    good = pd.Series(True, index=photographs.index)
    for _, found in known:
        good &= photographs["digest"].isin(found.places.keys())
    digests = photographs.loc[good, "digest"]
    vectors = JoinedVectors([pool.vectors([found.places[digest] for digest in digests]) for pool, found in known])
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
            "encoder_fingerprint": captioner.fingerprint,
            "scored_at": datetime.now(UTC),
        }
    )
    table.loc[good, "caption"] = [best.text for best, *_ in captions]
    table.loc[good, "logprob"] = [best.logprob for best, *_ in captions]
    table.loc[~good, "error"] = reasons_of(photographs[~good], [found for _, found in known])
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
