"""Embedding photographs: read and decoded by threads, encoded in batches, written in shards, all at the same time.

    photographs → decode (threads) → batch → encode (one thread) → write (one thread) → pool

Each arrow is a stream that works a fixed distance ahead of what is asked of it, so memory does not grow with the
number of photographs, and an error anywhere ends it all.
"""

import hashlib
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import pandas as pd

from components.archives.archive import Location, open_archive
from components.config import EncoderConfig
from components.encoder.encoders import find_encoder, load_network
from components.encoder.pool import EmbeddingPool, PoolLookup, shard_name
from components.errors import TRIED_AGAIN, BadImageError
from components.hardware import has_gpu
from components.images.decoding import MAX_BYTES
from components.images.preprocessing import read_pixels
from components.images.streaming import in_batches, map_ahead
from components.progress import track

log = logging.getLogger(__name__)

CPU_BATCH, GPU_BATCH = 32, 256
BATCHES_AHEAD = 2
"""Batches that are decoded before the encoder asks for them."""


@dataclass(frozen=True)
class Photograph:
    """One photograph to embed, and where it lies."""

    digest: str
    archive: str
    file_name: str


@dataclass(frozen=True)
class Shard:
    """The unit of resuming. Its composition decides its name, and on a given machine every byte of its vectors."""

    name: str
    photographs: tuple[Photograph, ...]


@dataclass(frozen=True)
class Engine:
    """How photographs become vectors."""

    read: Callable[[bytes], np.ndarray | Exception]
    """An image file's content → uint8 pixels (size, size, 3), or why there are none. Called from several threads."""
    encode: Callable[[np.ndarray], np.ndarray]
    """Pixels (images, size, size, 3) → embeddings (images, dimension), float32; at most `batch_size` images."""
    batch_size: int


def load_engine(config: EncoderConfig) -> Engine:
    """The engine of a profile's encoder; its network is built once a process."""
    network, size = load_network(config), find_encoder(config).input_size
    batch_size = config.batch_size or (GPU_BATCH if has_gpu() else CPU_BATCH)

    def read(content: bytes) -> np.ndarray | Exception:
        try:
            return read_pixels(content, size, config.preprocessing)
        except BadImageError as error:
            return error

    def encode(pixels: np.ndarray) -> np.ndarray:
        # Every batch has the same shape, so that the network is compiled once.
        padding = [(0, batch_size - len(pixels)), (0, 0), (0, 0), (0, 0)]
        full = np.pad(pixels, padding) if len(pixels) < batch_size else pixels
        return np.asarray(network.predict_on_batch(full), np.float32)[: len(pixels)]

    return Engine(read, encode, batch_size)


def plan_shards(photographs: pd.DataFrame, found: PoolLookup, shard_size: int) -> list[Shard]:
    """Divides the photographs (`schema.PHOTOGRAPHS`) whose content is not found yet into shards, in their order.

    Content that is there twice is planned once. What is left after some shards were made is planned as before.
    """
    known = [*found.places, *found.bad]
    new = photographs[(photographs["error"] == "") & ~photographs["digest"].isin(known)]
    new = new.drop_duplicates("digest")
    if len(photographs):
        log.info("%d photographs, %d of them to embed", len(photographs), len(new))
    rows = new[["digest", "archive", "file_name"]].itertuples(index=False, name=None)
    return [
        Shard(shard_name([digest for digest, *_ in group]), tuple(Photograph(*row) for row in group))
        for group in in_batches(rows, shard_size)
    ]


def embed_shards(shards: Sequence[Shard], archives: Mapping[str, Location], engine: Engine, pool: EmbeddingPool) -> int:
    """Embeds what is not in the pool yet; each shard is committed as soon as it is complete. Returns their images.

    A photograph that cannot be decoded is kept with its reason.
    """
    missing = [shard for shard in shards if not pool.has(shard.name)]
    photographs = [photograph for shard in missing for photograph in shard.photographs]
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", module="PIL")  # on odd metadata; what matters is an error
        opened = {name: stack.enter_context(open_archive(path)) for name, path in archives.items()}

        def workers(count: int, name: str) -> Executor:
            executor = ThreadPoolExecutor(count, name)
            stack.callback(executor.shutdown, cancel_futures=True)  # what waits is dropped when an error ends it
            return executor

        def transient(photograph: Photograph, error: Exception) -> Exception | None:
            """The error, if it is for good; else none, and the pool's user is told."""
            if not str(error).endswith(TRIED_AGAIN):
                return error
            pool.transient[photograph.digest] = str(error)
            return None

        def decode(photograph: Photograph) -> np.ndarray | Exception | None:
            try:
                content = opened[photograph.archive].read(photograph.file_name, MAX_BYTES)
            except BadImageError as error:  # for now: it could be read when it was listed
                return transient(photograph, error) and None
            if hashlib.sha256(content).hexdigest() != photograph.digest:
                return None  # a file that was replaced since it was listed would be kept under another's digest
            pixels = engine.read(content)
            return transient(photograph, pixels) if isinstance(pixels, Exception) else pixels

        def encode(batch: _Batch) -> tuple[_Batch, np.ndarray]:
            empty = np.empty((0, pool.card.dimension), np.float32)
            return batch, engine.encode(batch.pixels) if batch.digests else empty

        ahead = BATCHES_AHEAD * engine.batch_size
        decoded = map_ahead(workers(os.cpu_count() or 1, "decode"), decode, photographs, ahead)
        batches = _batches(missing, track(decoded, len(photographs), "photographs"), engine.batch_size)
        encoded = map_ahead(workers(1, "encode"), encode, batches, 1)
        for _ in map_ahead(workers(1, "write"), lambda shard: pool.write(*shard), _complete(encoded), 1):
            pass
    return len(photographs)


@dataclass(frozen=True)
class _Batch:
    """Some photographs of a shard, on their way to the encoder; the last one also says which of the shard are bad."""

    shard: str
    digests: tuple[str, ...]
    pixels: np.ndarray
    bad: Mapping[str, str]
    last: bool


def _batches(shards: Iterable[Shard], decoded: Iterator[np.ndarray | Exception | None], size: int) -> Iterator[_Batch]:
    """Batches never span shards, so that a shard's vectors do not depend on what was embedded before it."""
    for shard in shards:
        good, bad = dict[str, np.ndarray](), dict[str, str]()
        for photograph, pixels in zip(shard.photographs, decoded, strict=False):
            if isinstance(pixels, np.ndarray):
                good[photograph.digest] = pixels
            elif pixels is not None:
                bad[photograph.digest] = str(pixels)
            if len(good) == size:
                yield _Batch(shard.name, tuple(good), np.stack(list(good.values())), {}, last=False)
                good = {}
        if bad:
            first = next(photograph for photograph in shard.photographs if photograph.digest in bad)
            log.warning(
                "photographs that cannot be decoded: %d, such as %s: %s", len(bad), first.file_name, bad[first.digest]
            )
        pixels = np.stack(list(good.values())) if good else np.empty(0, np.uint8)
        yield _Batch(shard.name, tuple(good), pixels, bad, last=True)


def _complete(
    encoded: Iterable[tuple[_Batch, np.ndarray]],
) -> Iterator[tuple[str, list[str], np.ndarray, Mapping[str, str]]]:
    """The arguments of `EmbeddingPool.write` for each shard whose last batch is there."""
    digests, vectors = list[str](), list[np.ndarray]()
    for batch, found in encoded:
        digests += batch.digests
        vectors.append(found)
        if batch.last:
            if digests or batch.bad:  # of files that are away nothing is kept: they are tried again
                yield batch.shard, digests, np.concatenate(vectors), batch.bad
            digests, vectors = [], []
