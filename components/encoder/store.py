"""The embedding store: shards of vectors on disk, and an index that finds them by image id."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from components.artifacts import write_atomic
from data_contracts.schema import EMBEDDING_INDEX, QUARANTINE

INDEX_FILE = "index.parquet"
QUARANTINE_FILE = "quarantine.parquet"
ENCODER_FILE = "encoder.json"


@dataclass(frozen=True)
class EncoderCard:
    """Which encoder made the embeddings of a store."""

    name: str
    fingerprint: str
    dimension: int
    input_size: int


@dataclass(frozen=True)
class EmbeddingStore:
    """A finished store. Vectors are float32, memory-mapped, one shard a file."""

    folder: Path
    encoder: EncoderCard
    index: pd.DataFrame
    """See `data_contracts.schema.EMBEDDING_INDEX`; one row an image."""
    quarantine: pd.DataFrame
    """See `data_contracts.schema.QUARANTINE`; one row a photograph that could not be read."""

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Opens a store that `finish_store` made."""
        card = EncoderCard(**json.loads((folder / ENCODER_FILE).read_text(encoding="utf-8")))
        return cls(folder, card, pd.read_parquet(folder / INDEX_FILE), pd.read_parquet(folder / QUARANTINE_FILE))

    def shards(self) -> Iterator[tuple[int, np.ndarray]]:
        """Each shard's number and its vectors, (images, dimension), memory-mapped."""
        for shard in sorted(self.index["shard"].unique()):
            yield int(shard), np.load(vectors_path(self.folder, int(shard)), mmap_mode="r")

    def lookup(self, image_ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """The embeddings of `image_ids` in that order: float32, (images, dimension).

        Raises `KeyError` naming an id that has none.
        """
        places = self.index.set_index("image_id").reindex(np.asarray(image_ids))
        if places["shard"].isna().any():
            missing = places.index[places["shard"].isna()]
            raise KeyError(f"no embedding of image {missing[0]} and {len(missing) - 1} others in {self.folder}")
        found = np.empty((len(places), self.encoder.dimension), np.float32)
        shard, row = places["shard"].to_numpy(int), places["row"].to_numpy(int)
        for number, vectors in self.shards():
            here = shard == number
            found[here] = vectors[row[here]]
        return found


def vectors_path(folder: Path, shard: int) -> Path:
    """Where a shard's vectors lie."""
    return folder / f"shard-{shard:05d}.npy"


def shard_is_finished(folder: Path, shard: int) -> bool:
    """Whether `write_shard` completed for this shard."""
    return _index_path(folder, shard).exists()


def write_shard(folder: Path, shard: int, vectors: np.ndarray, image_ids: Sequence[int], bad: pd.DataFrame) -> None:
    """Commits one shard: its vectors (images, dimension) with their ids, and its quarantined photographs."""
    with write_atomic(vectors_path(folder, shard)) as temporary, temporary.open("wb") as file:
        np.save(file, vectors.astype(np.float32, copy=False))
    with write_atomic(_quarantine_path(folder, shard)) as temporary:
        bad.astype(QUARANTINE)[list(QUARANTINE)].to_parquet(temporary, index=False)
    index = pd.DataFrame({"image_id": image_ids, "shard": shard, "row": range(len(image_ids))})
    with write_atomic(_index_path(folder, shard)) as temporary:  # last: it says that the shard is finished
        index.astype(EMBEDDING_INDEX).to_parquet(temporary, index=False)


def finish_store(folder: Path, shards: int, card: EncoderCard) -> int:
    """Joins the shards' indexes into the store's. Returns the number of embeddings."""
    numbers = range(shards)
    index = _concat([_index_path(folder, shard) for shard in numbers], EMBEDDING_INDEX)
    _concat([_quarantine_path(folder, s) for s in numbers], QUARANTINE).to_parquet(
        folder / QUARANTINE_FILE, index=False
    )
    (folder / ENCODER_FILE).write_text(json.dumps(asdict(card), indent=1), encoding="utf-8")
    index.to_parquet(folder / INDEX_FILE, index=False)
    return len(index)


def _concat(paths: Sequence[Path], columns: dict[str, str]) -> pd.DataFrame:
    frames = [frame for path in paths if len(frame := pd.read_parquet(path))]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(columns)).astype(columns)


def _index_path(folder: Path, shard: int) -> Path:
    return folder / f"shard-{shard:05d}.index.parquet"


def _quarantine_path(folder: Path, shard: int) -> Path:
    return folder / f"shard-{shard:05d}.quarantine.parquet"
