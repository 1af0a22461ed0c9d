from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.artifacts import Artifact, Stage, run_stage
from components.config import EncoderConfig
from components.encoder import extract
from components.encoder.extract import Photograph, embed_shard, encode, in_batches, map_ahead, plan_shards
from components.encoder.pixels import read_pixels
from components.encoder.registry import load_network
from components.encoder.store import EmbeddingStore, EncoderCard, finish_store, vectors_path
from data_contracts.schema import IMAGES

CONFIG = EncoderConfig(name="efficientnet_lite0", weights="package", batch_size=4, shard_size=3, threads=2)
CARD = EncoderCard("efficientnet_lite0", "0123456789abcdef", 1280, 224)
GOOD = (40, 7, 13, 2, 99, 51, 8)
BROKEN = {20: "truncated", 30: "empty", 60: "not an image", 70: "cannot be read"}


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory, photograph: Callable[[int], bytes]) -> dict[str, Path]:
    """A zip file with the photographs of even ids, and a folder with the others; four of them are broken."""
    folder = tmp_path_factory.mktemp("archives")
    files = {f"{image_id}.jpg": photograph(image_id) for image_id in GOOD}
    files |= {"20.jpg": photograph(20)[:-50], "30.jpg": b"", "60.jpg": b"<html>"}
    with ZipFile(folder / "even.zip", "w") as even:
        for name, content in files.items():
            if int(Path(name).stem) % 2 == 0:
                even.writestr(name, content)
            else:
                (folder / name).write_bytes(content)
    return {"even": folder / "even.zip", "odd": folder}


def table_of(ids: Iterable[int]) -> pd.DataFrame:
    rows = [(i, "train", "odd" if i % 2 else "even", f"{i}.jpg") for i in ids]
    return pd.DataFrame(rows, columns=list(IMAGES)).astype(IMAGES)


def embed(
    ids: Sequence[int], archives: dict[str, Path], folder: Path, config: EncoderConfig = CONFIG
) -> EmbeddingStore:
    shards = plan_shards(table_of(ids), config.shard_size)
    for shard in shards:
        assert embed_shard(shard, archives, config, folder) == len(shard.photographs)
    finish_store(folder, len(shards), CARD)
    return EmbeddingStore.open(folder)


def as_stage(
    archives: dict[str, Path], home: Path, after_shard: Callable[[int], None] = lambda number: None
) -> Artifact:
    """All the photographs' embeddings as the flow makes them; `after_shard` may disturb it."""

    def work(folder: Path) -> int:
        shards = plan_shards(table_of([*GOOD, *BROKEN]), CONFIG.shard_size)
        for shard in shards:
            embed_shard(shard, archives, CONFIG, folder)
            after_shard(shard.number)
        return finish_store(folder, len(shards), CARD)

    return run_stage(home, Stage("embeddings"), work, resumable=True)


@pytest.fixture(scope="module")
def undisturbed(archives: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return as_stage(archives, tmp_path_factory.mktemp("home"))


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    difference = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert difference.max() < 1e-5


def test_every_photograph_gets_the_embedding_of_its_own_pixels(
    undisturbed: Artifact, photograph: Callable[[int], bytes]
) -> None:
    store = EmbeddingStore.open(undisturbed.path)
    assert sorted(store.index["image_id"]) == sorted(GOOD)
    assert undisturbed.rows == len(GOOD)
    network = load_network(CONFIG)
    alone = [np.asarray(network(read_pixels(photograph(i), 224)[None])) for i in GOOD]
    assert_same(store.lookup(GOOD), np.concatenate(alone))
    distances = np.linalg.norm(store.lookup(GOOD)[:, None] - store.lookup(GOOD)[None], axis=-1)
    assert distances[~np.eye(len(GOOD), dtype=bool)].min() > 0.1  # so that a mix-up would be seen


def test_broken_photographs_are_quarantined_with_their_reasons(undisturbed: Artifact) -> None:
    quarantine = EmbeddingStore.open(undisturbed.path).quarantine.to_dict("records")
    assert [row.pop("image_id") for row in quarantine] == sorted(BROKEN)
    for (image_id, reason), row in zip(BROKEN.items(), quarantine, strict=True):
        assert reason in row.pop("reason")
        assert row == {"archive": "even", "file_name": f"{image_id}.jpg"}


@pytest.mark.parametrize("changes", [{"batch_size": 2, "threads": 1}, {"shard_size": 100}])
def test_batches_threads_shards_and_order_do_not_change_embeddings(
    undisturbed: Artifact, archives: dict[str, Path], tmp_path: Path, changes: dict[str, int]
) -> None:
    store = embed([*reversed(GOOD), *BROKEN], archives, tmp_path, CONFIG.model_copy(update=changes))
    assert_same(store.lookup(GOOD), EmbeddingStore.open(undisturbed.path).lookup(GOOD))
    assert len(store.quarantine) == len(BROKEN)


def test_a_finished_shard_is_left_alone(
    archives: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def state() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("shard-*")}

    embed(GOOD[:2], archives, tmp_path)
    before = state()

    def refuse(*_: object) -> Any:
        raise AssertionError("nothing is to be done")

    for name in ("load_network", "open_archive", "read_pixels"):
        monkeypatch.setattr(extract, name, refuse)
    embed(GOOD[:2], archives, tmp_path)
    assert state() == before


def test_a_run_cut_between_shards_resumes_and_ends_the_same(
    undisturbed: Artifact, archives: dict[str, Path], tmp_path: Path
) -> None:
    def cut(number: int) -> None:
        if number == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        as_stage(archives, tmp_path, cut)
    (partial,) = (tmp_path / "partial").iterdir()
    # What a kill in the middle of the third shard's commit leaves.
    vectors_path(partial, 2).write_bytes(b"half")
    (partial / "shard-00002.index.parquet.tmp").write_bytes(b"half")
    before = vectors_path(partial, 0).stat().st_mtime_ns
    resumed = as_stage(archives, tmp_path)
    assert vectors_path(resumed.path, 0).stat().st_mtime_ns == before
    assert (resumed.digest, resumed.rows) == (undisturbed.digest, undisturbed.rows)


def test_nothing_but_broken_photographs_and_nothing_at_all(archives: dict[str, Path], tmp_path: Path) -> None:
    for name, ids in (("broken", list(BROKEN)), ("nothing", [])):
        (tmp_path / name).mkdir()
        store = embed(ids, archives, tmp_path / name)
        assert (len(store.index), len(store.quarantine)) == (0, len(ids))


def test_a_part_of_a_batch_gives_as_many_embeddings(photograph: Callable[[int], bytes]) -> None:
    network = load_network(CONFIG)
    pixels = [read_pixels(photograph(i), 224) for i in range(2)]
    found = encode(network, pixels, CONFIG.batch_size)
    assert found.shape == (2, 1280)
    assert found.dtype == np.float32
    assert_same(found, np.asarray(network(np.stack(pixels))))


@given(st.lists(st.integers(0, 10**9), unique=True, max_size=30), st.integers(1, 8), st.data())
def test_the_plan_does_not_depend_on_the_order_of_the_images(ids: list[int], size: int, data: st.DataObject) -> None:
    plan = plan_shards(table_of(ids), size)
    assert plan == plan_shards(table_of(data.draw(st.permutations(ids))), size)
    assert [shard.number for shard in plan] == list(range(len(plan)))
    assert all(len(shard.photographs) == size for shard in plan[:-1])
    planned = [photograph for shard in plan for photograph in shard.photographs]
    assert planned == [Photograph(i, "odd" if i % 2 else "even", f"{i}.jpg") for i in sorted(ids)]


def test_images_without_a_file_and_repeated_ones_are_not_planned() -> None:
    images = pd.concat([table_of([3, 1, 2]), table_of([3])])
    images.loc[images["image_id"] == 1, "file_name"] = ""
    (shard,) = plan_shards(images, 10)
    assert [photograph.image_id for photograph in shard.photographs] == [2, 3]


@given(st.lists(st.integers()), st.integers(1, 9))
def test_batches_are_consecutive_and_full(items: list[int], size: int) -> None:
    batches = list(in_batches(iter(items), size))
    assert [item for batch in batches for item in batch] == items
    assert all(len(batch) == size for batch in batches[:-1])
    assert all(batches)


class Inline(Executor):
    """Does the work at once and counts it."""

    submitted = 0

    def submit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        self.submitted += 1
        future: Future[Any] = Future()
        future.set_result(function(*args, **options))
        return future


@given(st.lists(st.integers(), max_size=30), st.integers(0, 8))
def test_map_ahead_keeps_the_order_and_its_distance(items: list[int], ahead: int) -> None:
    pool = Inline()
    results: list[str] = []
    for result in map_ahead(pool, str, items, ahead):
        assert len(results) < pool.submitted <= len(results) + 1 + ahead
        results.append(result)
    assert results == [str(item) for item in items]
    assert pool.submitted == len(items)
