"""Shards of the embedding pool that are not what was written: embedded again, never believed."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from components.artifacts import file_digest
from components.encoder.pool import EmbeddingPool, EncoderCard
from tests.hostile.fuzzer import damaged
from tests.hostile.watch import try_all

CARD = EncoderCard("toy", "0" * 16, 5, 8, "notebook", "float32")
NAMES = ["first", "second", "third"]


def written(folder: Path) -> EmbeddingPool:
    EmbeddingPool(folder, CARD).write("shard", NAMES, np.eye(3, 5), {"fourth": "cannot be decoded"})
    return EmbeddingPool(folder, CARD)


def read(pool: EmbeddingPool) -> set[str]:
    """The images that are found, whose vectors can be read."""
    found = pool.find([*NAMES, "fourth"])
    vectors = pool.vectors(list(found.places.values()))
    assert vectors[:].shape == (len(found.places), CARD.dimension)
    assert all(isinstance(why, str) for why in found.bad.values())
    return set(found.places)


def attempt(key: str, folder: Path) -> None:
    pool, path = written(folder), folder / ("shard.json" if int(key) % 2 else "shard.npy")
    path.write_bytes(damaged([path.read_bytes()], int(key)))
    if int(key) % 4 == 0:  # the entry agrees
        entry = json.loads((folder / "shard.json").read_text()) | {"vectors": file_digest(path)}
        (folder / "shard.json").write_text(json.dumps(entry))
    read(pool)


def test_damaged_shards(inputs: range) -> None:
    assert try_all("tests.hostile.test_pool:attempt", inputs) == {}


def edited(**changes: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        entry = json.loads((folder / "shard.json").read_text()) | changes
        (folder / "shard.json").write_text(json.dumps(entry))

    return edit


def saved(array: np.ndarray) -> Callable[[Path], None]:
    def save(folder: Path) -> None:
        np.save(folder / "shard.npy", array)  # an array of objects is pickled
        edited(vectors=file_digest(folder / "shard.npy"))(folder)

    return save


def claimed(folder: Path) -> None:
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 1000000000000)}".ljust(117) + "\n"
    (folder / "shard.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
    edited(vectors=file_digest(folder / "shard.npy"))(folder)


DEEDS: dict[str, Callable[[Path], object]] = {
    "nested too deeply": lambda folder: (folder / "shard.json").write_text("[" * 200_000),
    "images that are no text": edited(images=[{}, [], None]),
    "more images than vectors": edited(images=[*NAMES, "fourth"]),
    "fewer images than vectors": edited(images=NAMES[:2]),
    "reasons that are no text": edited(bad={"fourth": ["why"]}),
    "no digest": edited(vectors=None),
    "numbers of another kind": saved(np.eye(3, 5, dtype=np.float64)),
    "vectors of another length": saved(np.eye(3, 4, dtype=np.float32)),
    "objects": saved(np.array([[print] * 5] * 3, dtype=object)),
    "a huge shape": claimed,
    "a device": lambda folder: [(folder / "shard.npy").unlink(), (folder / "shard.npy").symlink_to("/dev/zero")],
}


@pytest.mark.parametrize("deed", DEEDS)
def test_a_shard_that_is_not_what_was_written_is_forgotten(deed: str, tmp_path: Path) -> None:
    pool = written(tmp_path)
    DEEDS[deed](tmp_path)
    assert read(pool) == set()


def test_a_folder_and_a_pipe_among_the_shards_are_passed_over(tmp_path: Path) -> None:
    pool = written(tmp_path)
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "pipe.json")
    assert read(pool) == set(NAMES)
