"""The predictions' data set: a Parquet folder that grows by whole batches.

    OUT/batch=0123456789abcdef/part-00000.parquet …   one row per input, see `data_contracts.schema.PREDICTIONS`
    OUT/batch=0123456789abcdef/_manifest.json         what the batch is of, and how many rows
    OUT/_page.html, OUT/_page                         the page of it, see `components.scoring.batch_page`

A batch appears by one rename, complete or not at all; what is being written lies in OUT/_staging, which readers of
Parquet folders pass over, as they do a file whose name begins with an underscore.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from components.artifacts import file_digest, write_atomic
from components.decoder.caption import Search
from components.errors import TRIED_AGAIN, CaptioningError, ConfigurationError
from data_contracts.schema import PREDICTIONS

NOTHING = sha256(b"").hexdigest()
"""The `image_id` of an input whose content could not be read."""
MANIFEST = "_manifest.json"
STAGING = "_staging"
PART, PART_PATTERN = "part-{:05d}.parquet", "part-*.parquet"


@dataclass(frozen=True)
class Scorer:
    """What captions a data set's images: the same ones are captioned once by the same scorer."""

    model: str
    """`models:/name/version`."""
    package: str
    """Digest of the model's package."""
    search: Search

    @property
    def identity(self) -> dict[str, Any]:
        """Of all that decides a caption."""
        return {"package": self.package, "search": asdict(self.search)}


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


def read_dataset(folder: Path, scorer: Scorer | None = None) -> pd.DataFrame:
    """All rows, or those of one scorer: `schema.PREDICTIONS`.

    Raises `CaptioningError` when a batch is damaged.
    """
    tables = [table for _, _, table in read_batches(folder, scorer)]
    if not tables:
        return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in PREDICTIONS.items()})
    return pd.concat(tables, ignore_index=True)


def read_batches(folder: Path, scorer: Scorer | None = None) -> Iterator[tuple[str, dict[str, Any], pd.DataFrame]]:
    """Key, manifest and rows of each batch. Raises as `read_dataset` does."""
    for path in sorted(folder.glob(f"batch=*/{MANIFEST}")):
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            if scorer and manifest["scorer"] != scorer.identity:
                continue
            tables = [pd.read_parquet(path.parent / name) for name in manifest["parts"]]
            yield path.parent.name.removeprefix("batch="), manifest, pd.concat(tables, ignore_index=True)
        except (OSError, ValueError, KeyError) as error:  # pyarrow's errors are ValueErrors
            raise CaptioningError(
                f"{path.parent} is damaged: {error!r}. Take it away, and its images are scored again"
            ) from error


def write_csv(folder: Path) -> Path:
    """Writes the rows of all batches as one CSV file beside the folder. Returns its path."""
    path = folder.with_name(f"{folder.name}.csv")
    with write_atomic(path) as temporary:
        read_dataset(folder).to_csv(temporary, index=False)
    return path


def new_inputs(inputs: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Of the inputs (`uri`, `image_id`, `error`), those that may get a row.

    One that could be read may, unless a row of the same address and content has a caption or a reason that stays. One
    that could not, for a reason that may pass, may when its address has no row at all: what was captioned yesterday
    and cannot be reached today keeps its caption.
    """
    settled = known[~_is_for_now(known)]
    pairs, addresses = set(zip(settled["uri"], settled["image_id"], strict=True)), set(known["uri"])
    unread = _is_for_now(inputs) & (inputs["image_id"] == NOTHING)
    rows = zip(inputs["uri"], inputs["image_id"], unread, strict=True)
    return inputs[[uri not in addresses if bad else (uri, digest) not in pairs for uri, digest, bad in rows]]


def new_rows(rows: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Of the predictions of new inputs those that say what no known row says: failing once more for now is no news."""
    pairs = set(zip(known["uri"], known["image_id"], strict=True))
    found = zip(rows["uri"], rows["image_id"], _is_for_now(rows), strict=True)
    return rows[[not (again and (uri, digest) in pairs) for uri, digest, again in found]]


def _is_for_now(table: pd.DataFrame) -> "pd.Series[bool]":
    return table["error"].str.endswith(TRIED_AGAIN)


def commit_batch(folder: Path, key: str, parts: Path, scorer: Scorer) -> int:
    """Adds the parts (a folder of Parquet files) as the batch `key`; one that is there stays. Returns its captions.

    Rows that are no news (see `new_rows`) are left out; of nothing but such rows there is no batch.
    """
    final, staged = folder / f"batch={key}", folder / STAGING / key
    if not (final / MANIFEST).exists():
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        known, statuses = None, dict[str, pd.Series]()
        for path in sorted(parts.glob(PART_PATTERN)):
            table = pd.read_parquet(path)
            if not _is_for_now(table).any():
                shutil.copyfile(path, staged / path.name)
            else:
                known = read_dataset(folder, scorer) if known is None else known
                table = new_rows(table, known)
                table.to_parquet(staged / path.name, index=False)
            if len(table):
                statuses[path.name] = table["status"]
            else:
                (staged / path.name).unlink()
        if not statuses:
            shutil.rmtree(folder / STAGING)
            return 0
        rows = sum(map(len, statuses.values()))
        captioned = sum(int((status == "ok").sum()) for status in statuses.values())
        manifest = {
            "model": scorer.model,
            "scorer": scorer.identity,
            "inputs": rows,
            "captioned": captioned,
            "quarantined": rows - captioned,
            "parts": {name: file_digest(staged / name) for name in statuses},
        }
        (staged / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        staged.rename(final)
        shutil.rmtree(folder / STAGING, ignore_errors=True)
    return int(json.loads((final / MANIFEST).read_text(encoding="utf-8"))["captioned"])
