"""The pool: every embedding an encoder ever made here, in shards, found by the content of the image.

All data sets and scoring runs of one encoder share it, so that an image is embedded once. A shard is two files:
`NAME.npy`, the vectors, and, written last, `NAME.json`, which says whose they are and which images cannot be decoded.
"""

import hashlib
import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from filelock import FileLock
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from components.artifacts import file_digest, write_atomic

log = logging.getLogger(__name__)

Storage = Literal["float32", "float16"]


@dataclass(frozen=True)
class EncoderCard:
    """What made the embeddings of a pool, a store or a model."""

    name: str
    fingerprint: str
    """Digest of architecture, weights, preprocessing, precision and storage, 16 hex digits."""
    dimension: int
    input_size: int
    preprocessing: str
    storage: Storage


class ShardRow(NamedTuple):
    """Where a vector lies."""

    shard: str
    row: int


class PoolLookup(NamedTuple):
    """What a pool knows of some images, by digest."""

    places: Mapping[str, ShardRow]
    bad: Mapping[str, str]
    """Images that cannot be decoded, and why."""
    transient: Mapping[str, str] = {}
    """Images that could not be read or decoded just now, and why; see `EmbeddingPool.transient`."""


@dataclass(frozen=True)
class Vectors:
    """Vectors in shards that are mapped into memory: only what is asked for is read."""

    shards: Sequence[np.ndarray]
    shard: np.ndarray
    """Each vector's shard, by its position in `shards`."""
    row: np.ndarray
    """Each vector's row in its shard."""
    dimension: int

    @property
    def shape(self) -> tuple[int, int]:
        """(vectors, dimension), as of the array that `[:]` gives."""
        return len(self), self.dimension

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, which: np.ndarray | slice) -> np.ndarray:
        """Some of the vectors: float32, (those asked for, dimension)."""
        shard, row = self.shard[which], self.row[which]
        found = np.empty((len(row), self.dimension), np.float32)
        for number in np.unique(shard):
            here = shard == number
            found[here] = self.shards[number][row[here]]
        return found


class JoinedVectors(Vectors):
    """The vectors of several encoders for the same images, one behind the other."""

    def __init__(self, parts: Sequence[Vectors]) -> None:
        super().__init__((), parts[0].shard, parts[0].row, sum(part.dimension for part in parts))
        object.__setattr__(self, "parts", parts)

    parts: Sequence[Vectors]

    def __getitem__(self, which: np.ndarray | slice) -> np.ndarray:
        """Some of the vectors: float32, (those asked for, dimension)."""
        return np.concatenate([part[which] for part in self.parts], axis=1)


class _Entry(TypedDict):
    """A shard's JSON file."""

    vectors: str
    """SHA-256 of the other file."""
    images: list[str]
    bad: dict[str, str]


_ENTRY = TypeAdapter(_Entry)


class EmbeddingPool:
    """The embeddings in `folder`, all made by the encoder of `card`."""

    def __init__(self, folder: Path, card: EncoderCard) -> None:
        self.folder, self.card = folder, card
        self._intact: set[str] = set()
        self.transient: dict[str, str] = {}
        """Images that could not be read or decoded just now, for a reason that may pass; kept nowhere else."""

    @classmethod
    def of(cls, home: Path, card: EncoderCard) -> "EmbeddingPool":
        """The pool of an encoder under `home`, a folder of pools."""
        return cls(home / card.fingerprint, card)

    def find(self, digests: Collection[str]) -> PoolLookup:
        """What is known of these images. A damaged shard is forgotten, and its images with it."""
        wanted, places, bad = set(digests), dict[str, ShardRow](), dict[str, str]()
        for path in sorted(path for path in self.folder.glob("*.json") if path.is_file()):
            entry = self._entry(path)
            rows = {digest: row for row, digest in enumerate(entry["images"]) if digest in wanted}
            if rows and not self._is_intact(path, entry):
                continue
            for digest, row in rows.items():
                places.setdefault(digest, ShardRow(path.stem, row))
            bad |= {digest: why for digest, why in entry["bad"].items() if digest in wanted}
        passing = {digest: why for digest, why in self.transient.items() if digest in wanted - places.keys()}
        return PoolLookup(places, bad, passing)

    def has(self, shard: str) -> bool:
        """Whether `write` completed for this shard."""
        return (self.folder / f"{shard}.json").exists()

    def vectors(self, places: Sequence[ShardRow]) -> "Vectors":
        """The vectors at these places, in that order, none of which is read yet."""
        names = sorted({place.shard for place in places})
        number = {name: i for i, name in enumerate(names)}
        shards = [np.load(self.path(name), mmap_mode="r") for name in names]
        where = [(number[place.shard], place.row) for place in places]
        shard, row = np.array(where, np.intp).reshape(-1, 2).T
        return Vectors(shards, shard, row, self.card.dimension)

    def path(self, shard: str) -> Path:
        """Where a shard's vectors lie."""
        return self.folder / f"{shard}.npy"

    def write(self, shard: str, images: Sequence[str], vectors: np.ndarray, bad: Mapping[str, str]) -> None:
        """Commits a shard: the digests of the images with their vectors (images, dimension), and the bad images."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "lock"):
            for leftover in self.folder.glob("*.tmp"):  # of a killed run: nobody else writes now
                leftover.unlink()
            with write_atomic(self.path(shard)) as temporary:
                with temporary.open("wb") as file:
                    np.save(file, vectors.astype(self.card.storage, copy=False))
                digest = file_digest(temporary)
            entry = {"vectors": digest, "images": list(images), "bad": dict(bad)}
            with write_atomic(self.folder / f"{shard}.json") as temporary:
                temporary.write_text(json.dumps(entry, indent=1, ensure_ascii=False), encoding="utf-8")

    def _entry(self, path: Path) -> _Entry:
        try:
            entry = json.loads(path.read_text(encoding="utf-8"))
            return _ENTRY.validate_python(entry)
        except (ValueError, RecursionError) as error:
            log.warning("%s is damaged (%s); its images are embedded again", path, error)
            path.unlink(missing_ok=True)
            return {"vectors": "", "images": [], "bad": {}}

    def _is_intact(self, path: Path, entry: _Entry) -> bool:
        shard = path.stem
        if shard in self._intact:
            return True
        if not self._has_vectors(self.path(shard), entry):
            log.warning("%s is missing or damaged; its images are embedded again", self.path(shard))
            path.unlink(missing_ok=True)
            return False
        self._intact.add(shard)
        return True

    def _has_vectors(self, path: Path, entry: _Entry) -> bool:
        """Whether the file has a vector for each image of the entry, the same ones that were written."""
        if not path.is_file() or file_digest(path) != entry["vectors"]:
            return False
        try:
            vectors = np.load(path, mmap_mode="r")
        except Exception:  # noqa: BLE001 - NumPy reads the header as Python's syntax, and passes on what that raises
            return False
        expected = (len(entry["images"]), self.card.dimension)
        return bool(vectors.shape == expected and vectors.dtype == self.card.storage)


def shard_name(digests: Sequence[str]) -> str:
    """A shard's name: a digest of its composition, 16 hex digits."""
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]
