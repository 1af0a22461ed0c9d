"""What a run costs that finds all its embeddings made: COCO 2014's number of photographs, 2,048 numbers each.

Run by `make bench-reuse`; needs 1 GB of disk. Ends with one JSON line of seconds; the last of them is the floor: the
vectors' digests, which tell whether they are what was written.
"""

import hashlib
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from components.encoder.extract import plan_shards
from components.encoder.pool import EmbeddingPool, EncoderCard, shard_name
from components.encoder.store import EmbeddingStore, write_store

IMAGES, DIMENSION, SHARD = 123_287, 2048, 1024
Result = TypeVar("Result")


def main() -> None:
    logging.disable()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        digests = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(IMAGES)]
        card = EncoderCard("drawn", "0" * 16, DIMENSION, 299, "antialias", "float32")
        vectors = np.random.default_rng(0).random((SHARD, DIMENSION), np.float32)
        for start in range(0, IMAGES, SHARD):
            images = digests[start : start + SHARD]
            EmbeddingPool(folder / "pool", card).write(shard_name(images), images, vectors[: len(images)], {})
        photographs = pd.DataFrame({"image_id": range(IMAGES), "archive": "photos", "digest": digests, "error": ""})
        photographs["file_name"], photographs["bytes"] = photographs["image_id"].astype(str) + ".jpg", 164_000
        (folder / "store").mkdir()
        seconds: dict[str, float] = {}
        pool = EmbeddingPool(folder / "pool", card)
        found = timed(seconds, "find and verify", lambda: pool.find(digests))
        assert timed(seconds, "plan", lambda: plan_shards(photographs, found, SHARD)) == []
        timed(seconds, "link and index", lambda: write_store(folder / "store", photographs, pool))
        store = timed(seconds, "open", lambda: EmbeddingStore.open(folder / "store"))
        assert len(store.index) == IMAGES
        timed(seconds, "floor: SHA-256", lambda: [hash_file(path) for path in folder.glob("pool/*.npy")])
    sys.stdout.write(json.dumps({name: round(each, 2) for name, each in seconds.items()}) + "\n")


def timed(seconds: dict[str, float], name: str, work: Callable[[], Result]) -> Result:
    started = time.perf_counter()
    result = work()
    seconds[name] = time.perf_counter() - started
    return result


def hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
