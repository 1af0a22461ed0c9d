"""The embedding store: one data set's view of the pool, its vectors found by image id."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from components.artifacts import Incomplete
from components.encoder.pool import EmbeddingPool, EncoderCard, JoinedVectors, PoolLookup, Vectors
from components.errors import TRIED_AGAIN
from data_contracts.schema import EMBEDDING_INDEX, QUARANTINE

INDEX_FILE = "index.parquet"
QUARANTINE_FILE = "quarantine.parquet"
ENCODERS_FILE = "encoders.json"
READ_AGAIN = "Make the file readable, put it in its place, or fetch the archive again; then run again"
REPLACE = "Put a whole image in its place (JPEG, PNG, WebP, GIF, BMP, TIFF); a new content is tried again by itself"
JOINED_SHARD = 8192
"""Images a shard of a joined store."""
RUN_AGAIN = "Run again once that is fixed and nobody writes there"
CHANGED = f"it changed while it was read; {TRIED_AGAIN}"


@dataclass(frozen=True)
class EmbeddingStore:
    """A finished store. Vectors are mapped into memory, one shard a file."""

    folder: Path
    encoders: tuple[EncoderCard, ...]
    """More than one in a joined store: their numbers stand one behind the other."""
    index: pd.DataFrame
    """See `data_contracts.schema.EMBEDDING_INDEX`; one row per image."""
    quarantine: pd.DataFrame
    """See `data_contracts.schema.QUARANTINE`; one row per photograph that could not be read."""

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Opens a store that `write_store` made."""
        cards = [EncoderCard(**card) for card in json.loads((folder / ENCODERS_FILE).read_text(encoding="utf-8"))]
        return cls(
            folder, tuple(cards), pd.read_parquet(folder / INDEX_FILE), pd.read_parquet(folder / QUARANTINE_FILE)
        )

    @property
    def fingerprint(self) -> str:
        """The encoders' fingerprints."""
        return joined_fingerprint(self.encoders)

    @property
    def dimension(self) -> int:
        """Numbers in an embedding."""
        return sum(encoder.dimension for encoder in self.encoders)

    def shards(self) -> Iterator[tuple[int, np.ndarray]]:
        """Each shard's number and its vectors, (images, dimension), mapped into memory."""
        for shard in sorted(self.index["shard"].unique()):
            yield int(shard), np.load(vectors_path(self.folder, int(shard)), mmap_mode="r")

    def vectors(self, image_ids: Sequence[int] | np.ndarray) -> Vectors:
        """The embeddings of `image_ids` in that order, none of which is read yet.

        Raises `KeyError` naming an id that has none.
        """
        places = self.index.set_index("image_id").reindex(np.asarray(image_ids))
        if places["shard"].isna().any():
            missing = places.index[places["shard"].isna()]
            raise KeyError(f"no embedding of image {missing[0]} and {len(missing) - 1} others in {self.folder}")
        shard, row = places["shard"].to_numpy(int), places["row"].to_numpy(int)
        return Vectors([vectors for _, vectors in self.shards()], shard, row, self.dimension)


def write_store(folder: Path, photographs: pd.DataFrame, pool: EmbeddingPool) -> int:
    """Writes the store of these photographs (`schema.PHOTOGRAPHS`). Returns the number of embeddings.

    It is `Incomplete` when a photograph without one may have one later. The pool's shards are linked, not copied, where
    the file system can.
    """
    found = pool.find(photographs["digest"].tolist())
    places = photographs["digest"].map(found.places.get)
    names = sorted({place.shard for place in places.dropna()})
    number = {name: i for i, name in enumerate(names)}
    for name in names:
        _link(pool.path(name), vectors_path(folder, number[name]))
    good = places.notna()
    index = pd.DataFrame({
        "image_id": photographs["image_id"][good],
        "digest": photographs["digest"][good],
        "shard": [number[place.shard] for place in places.dropna()],
        "row": [place.row for place in places.dropna()],
    })  # fmt: skip
    bad = photographs[~good]
    reasons = reasons_of(bad, [found])
    remedies = [
        READ_AGAIN if not digest else RUN_AGAIN if reason.endswith(TRIED_AGAIN) else REPLACE
        for reason, digest in zip(reasons, bad["digest"], strict=True)
    ]
    quarantine = bad.assign(reason=reasons, remedy=remedies).astype(QUARANTINE)[list(QUARANTINE)]
    return _write_tables(folder, (pool.card,), index, quarantine)


def join_stores(folder: Path, stores: Sequence[EmbeddingStore]) -> int:
    """Writes one store of several encoders' embeddings, joined by image id. Returns the number of embeddings.

    It has the images that every encoder has embedded, and the quarantine of all.
    """
    common = set.intersection(*(set(store.index["image_id"]) for store in stores))
    index = stores[0].index[stores[0].index["image_id"].isin(common)]
    places = np.arange(len(index))
    index = index.assign(shard=places // JOINED_SHARD, row=places % JOINED_SHARD)
    vectors = JoinedVectors([store.vectors(index["image_id"].to_numpy()) for store in stores])
    for shard, start in enumerate(range(0, len(index), JOINED_SHARD)):
        np.save(vectors_path(folder, shard), vectors[start : start + JOINED_SHARD])
    bad = pd.concat([store.quarantine for store in stores]).drop_duplicates("image_id")
    return _write_tables(folder, [encoder for store in stores for encoder in store.encoders], index, bad)


def joined_fingerprint(encoders: Sequence[EncoderCard]) -> str:
    """What identifies embeddings of these encoders, in this order."""
    return "+".join(encoder.fingerprint for encoder in encoders)


def _write_tables(folder: Path, encoders: Sequence[EncoderCard], index: pd.DataFrame, quarantine: pd.DataFrame) -> int:
    cards = [asdict(encoder) for encoder in encoders]
    (folder / ENCODERS_FILE).write_text(json.dumps(cards, indent=1), encoding="utf-8")
    index.astype(EMBEDDING_INDEX).to_parquet(folder / INDEX_FILE, index=False)
    quarantine.to_parquet(folder / QUARANTINE_FILE, index=False)
    return Incomplete(len(index)) if quarantine["reason"].str.endswith(TRIED_AGAIN).any() else len(index)


def reasons_of(bad: pd.DataFrame, found: Sequence[PoolLookup]) -> list[str]:
    """Why each of these photographs (`schema.PHOTOGRAPHS`) has no embedding; `found` is what each pool knows."""
    why = {digest: reason for known in found for digest, reason in {**known.transient, **known.bad}.items()}
    return [error or why.get(digest, CHANGED) for digest, error in zip(bad["digest"], bad["error"], strict=True)]


def vectors_path(folder: Path, shard: int) -> Path:
    """Where a shard's vectors lie."""
    return folder / f"shard-{shard:05d}.npy"


def _link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
