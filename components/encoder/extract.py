"""Embedding photographs, a shard at a time: decoded by a few threads, a batch ahead of the encoder."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from components.config import EncoderConfig
from components.dataset.archive import open_archive
from components.encoder.pixels import read_pixels
from components.encoder.registry import Network, find_encoder, load_network
from components.encoder.store import shard_is_finished, write_shard
from components.errors import BadImageError
from components.progress import track
from data_contracts.schema import QUARANTINE

log = logging.getLogger(__name__)
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Photograph:
    """One photograph to embed, and where it lies."""

    image_id: int
    archive: str
    file_name: str


@dataclass(frozen=True)
class Shard:
    """The unit of work and of resuming. Its composition depends on the images and the shard size alone."""

    number: int
    photographs: tuple[Photograph, ...]


def plan_shards(images: pd.DataFrame, shard_size: int) -> list[Shard]:
    """Divides the images that have a file, in the order of their ids, into shards."""
    there = images[images["file_name"] != ""].drop_duplicates("image_id").sort_values("image_id")
    photographs = there[["image_id", "archive", "file_name"]].itertuples(index=False, name=None)
    return [
        Shard(number, tuple(Photograph(*row) for row in rows))
        for number, rows in enumerate(in_batches(photographs, shard_size))
    ]


def embed_shard(shard: Shard, archives: Mapping[str, Path], config: EncoderConfig, folder: Path) -> int:
    """Embeds the shard's photographs into `folder`, unless an earlier attempt did. Returns how many it holds.

    A photograph that cannot be read is quarantined with its reason.
    """
    if shard_is_finished(folder, shard.number):
        return len(shard.photographs)
    encoder, network = find_encoder(config), load_network(config)
    good: list[int] = []
    bad: list[tuple[int, str, str, str]] = []
    vectors: list[np.ndarray] = []

    def good_pixels() -> Iterator[np.ndarray]:
        pairs = zip(shard.photographs, decoded, strict=True)
        for photograph, pixels in track(pairs, len(shard.photographs), f"shard {shard.number}, photographs"):
            if isinstance(pixels, BadImageError):
                log.warning("%s in %s: %s", photograph.file_name, photograph.archive, pixels)
                bad.append((photograph.image_id, photograph.archive, photograph.file_name, str(pixels)))
            else:
                good.append(photograph.image_id)
                yield pixels

    with ExitStack() as stack:
        opened = {name: stack.enter_context(open_archive(path)) for name, path in archives.items()}
        pool = stack.enter_context(ThreadPoolExecutor(config.threads, "decode"))

        def decode(photograph: Photograph) -> np.ndarray | BadImageError:
            try:
                data = opened[photograph.archive].read(photograph.file_name)
                return read_pixels(data, encoder.input_size)
            except BadImageError as error:
                return error

        decoded = map_ahead(pool, decode, shard.photographs, 2 * config.batch_size)
        vectors = [encode(network, batch, config.batch_size) for batch in in_batches(good_pixels(), config.batch_size)]
    found = np.concatenate(vectors) if vectors else np.empty((0, encoder.dimension), np.float32)
    write_shard(folder, shard.number, found, good, pd.DataFrame(bad, columns=list(QUARANTINE)))
    return len(shard.photographs)


def encode(network: Network, pixels: Iterable[np.ndarray], batch_size: int) -> np.ndarray:
    """Embeddings (images, dimension), float32, of at most `batch_size` images (size, size, 3), uint8."""
    batch = np.stack(list(pixels))
    # Every batch has the same shape, so that the network is compiled once.
    padding = [(0, batch_size - len(batch)), (0, 0), (0, 0), (0, 0)]
    return np.asarray(network.predict_on_batch(np.pad(batch, padding)), np.float32)[: len(batch)]


def in_batches(items: Iterable[Item], size: int) -> Iterator[tuple[Item, ...]]:
    """Consecutive groups of `size` items; the last may be smaller."""
    rest = iter(items)
    while batch := tuple(islice(rest, size)):
        yield batch


def map_ahead(
    pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """`map` on a pool: results in order, at most `ahead` items beyond the one asked for."""
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
