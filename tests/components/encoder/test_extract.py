import io
import signal
import struct
import threading
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from components.artifacts import Incomplete
from components.config import EncoderConfig
from components.encoder import extract
from components.encoder.encoders import describe_encoder, load_network
from components.encoder.extract import Engine, Photograph, Shard, embed_shards, load_engine, plan_shards
from components.encoder.pool import EmbeddingPool, EncoderCard, PoolLookup, ShardRow
from components.encoder.store import CHANGED, RUN_AGAIN, EmbeddingStore, write_store
from components.errors import TRIED_AGAIN, BadImageError, TransientImageError
from components.images.photographs import read_photographs
from components.images.preprocessing import read_pixels
from data_contracts.schema import PHOTOGRAPHS

LITE = EncoderConfig(name="efficientnet_lite0", weights="package", batch_size=4, shard_size=3)
TOY = EncoderCard("toy", "0123456789abcdef", 3, 8, "notebook", "float32")
NOTHING = PoolLookup({}, {})
GOOD = (40, 7, 13, 2, 99, 51, 8)
BROKEN = {20: "truncated", 30: "empty", 60: "not an image"}
SECONDS = 5


def read_toy(content: bytes) -> np.ndarray | Exception:
    try:
        return read_pixels(content, 8, "notebook")
    except BadImageError as error:
        return error


def mean_colours(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(pixels.mean(axis=(1, 2), dtype=np.float64), np.float32)


def toy_engine(
    batch_size: int = 2,
    read: Callable[[bytes], np.ndarray | Exception] = read_toy,
    encode: Callable[[np.ndarray], np.ndarray] = mean_colours,
) -> Engine:
    def checked(pixels: np.ndarray) -> np.ndarray:
        assert pixels.dtype == np.uint8
        assert pixels.shape[1:] == (8, 8, 3)
        assert 1 <= len(pixels) <= batch_size
        return encode(pixels)

    return Engine(read, checked, batch_size)


def refuse(*_: object) -> NoReturn:
    raise AssertionError("nothing is to be done")


IDLE = Engine(refuse, refuse, 2)
"""Fails when it is asked for anything."""


@contextmanager
def no_thread_stays() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def listed(ids: Iterable[int], archive: str | None = None) -> pd.DataFrame:
    """Photographs `ID.jpg`; of odd ids in the archive `odd`, of the others in `even`."""
    rows = [(i, archive or ("odd" if i % 2 else "even"), f"{i}.jpg") for i in ids]
    return pd.DataFrame(rows, columns=["image_id", "archive", "file_name"])


def embed(
    ids: Sequence[int], archives: Mapping[str, Path], pool: EmbeddingPool, engine: Engine, shard_size: int = 3
) -> pd.DataFrame:
    """All of a run: read, plan, embed. Returns the table of photographs."""
    table = read_photographs(listed(ids, next(iter(archives)) if len(archives) == 1 else None), archives)
    shards = plan_shards(table, pool.find(table["digest"].tolist()), shard_size)
    assert embed_shards(shards, archives, engine, pool) == sum(len(shard.photographs) for shard in shards)
    return table


def embeddings(table: pd.DataFrame, pool: EmbeddingPool) -> dict[int, np.ndarray]:
    """Of each photograph that has one, by id."""
    found = pool.find(table["digest"].tolist())
    good = table[table["digest"].isin(found.places)]
    vectors = pool.vectors([found.places[digest] for digest in good["digest"]])[:]
    return dict(zip(good["image_id"].tolist(), vectors, strict=True))


def store_of(table: pd.DataFrame, pool: EmbeddingPool, folder: Path) -> EmbeddingStore:
    folder.mkdir()
    write_store(folder, table, pool)
    return EmbeddingStore.open(folder)


def files_of(pool: EmbeddingPool) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in pool.folder.iterdir()}


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    difference = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert difference.max() < 1e-5


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory, photograph: Callable[[int], bytes]) -> dict[str, Path]:
    """A zip file with the photographs of even ids, and a folder with the others; three of them are broken."""
    folder = tmp_path_factory.mktemp("archives")
    files = {f"{image_id}.jpg": photograph(image_id) for image_id in GOOD}
    files |= {"20.jpg": photograph(20)[:-50], "30.jpg": b"", "60.jpg": b"<html>"}
    with zipfile.ZipFile(folder / "even.zip", "w") as even:
        for name, content in files.items():
            if int(Path(name).stem) % 2 == 0:
                even.writestr(name, content)
            else:
                (folder / name).write_bytes(content)
    return {"even": folder / "even.zip", "odd": folder}


MANY = range(17)
BATCHES = (2, 4, 6, 7, 9, 10)
"""Batches of two that are encoded up to the end of each shard of three; a broken photograph is in the fourth."""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, photograph: Callable[[int], bytes]) -> dict[str, Path]:
    """A zip file of 17 photographs, one of them broken."""
    path = tmp_path_factory.mktemp("many") / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in MANY:
            archive.writestr(f"{number}.jpg", photograph(number)[: 100 if number == 9 else None])
    return {"many": path}


@pytest.fixture
def pool(tmp_path: Path) -> EmbeddingPool:
    return EmbeddingPool(tmp_path / "pool", TOY)


@pytest.fixture(scope="module")
def new_pool(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], EmbeddingPool]:
    """A new pool for each example of a property."""
    return lambda: EmbeddingPool(tmp_path_factory.mktemp("pool"), TOY)


@pytest.fixture(scope="module")
def expected(many: dict[str, Path], new_pool: Callable[[], EmbeddingPool]) -> EmbeddingPool:
    """What an undisturbed run makes of `many`."""
    pool = new_pool()
    embed(MANY, many, pool, toy_engine())
    return pool


# Planning


def table_of(contents: Iterable[int | None]) -> pd.DataFrame:
    """Photographs in the order of their ids with these contents; without one a photograph cannot be read."""
    rows = [
        (i, "a", f"{i}.jpg", *((0, "", "cannot be read") if content is None else (9, f"digest {content}", "")))
        for i, content in enumerate(contents)
    ]
    return pd.DataFrame(rows, columns=list(PHOTOGRAPHS)).astype(PHOTOGRAPHS)


def planned(shards: Iterable[Shard]) -> list[Photograph]:
    return [photograph for shard in shards for photograph in shard.photographs]


def found_of(digests: Iterable[str], bad: Iterable[str] = ()) -> PoolLookup:
    return PoolLookup({digest: ShardRow("some", 0) for digest in digests}, dict.fromkeys(bad, "broken"))


contents = st.lists(st.none() | st.integers(0, 20), min_size=1, max_size=40)


@given(contents, st.integers(1, 8), st.sets(st.integers(0, 20)), st.sets(st.integers(0, 20)))
def test_new_content_is_planned_once_in_the_order_of_the_table(
    contents: list[int | None], size: int, known: set[int], bad: set[int]
) -> None:
    found = found_of((f"digest {content}" for content in known), (f"digest {content}" for content in bad))
    plan = plan_shards(table_of(contents), found, size)
    assert all(len(shard.photographs) == size for shard in plan[:-1])
    assert all(1 <= len(shard.photographs) <= size for shard in plan)
    first = {content: i for i, content in reversed(list(enumerate(contents))) if content not in {None, *known, *bad}}
    rows = sorted((i, content) for content, i in first.items())
    assert planned(plan) == [Photograph(f"digest {content}", "a", f"{i}.jpg") for i, content in rows]
    assert len({shard.name for shard in plan}) == len(plan)


@given(contents, st.integers(1, 8), st.data())
def test_what_is_left_after_some_shards_were_made_is_planned_as_before(
    contents: list[int | None], size: int, data: st.DataObject
) -> None:
    table = table_of(contents)
    plan = plan_shards(table, NOTHING, size)
    made = [shard for shard in plan if data.draw(st.booleans())]
    digests = [photograph.digest for photograph in planned(made)]
    broken = data.draw(st.sets(st.sampled_from(digests))) if digests else set()
    found = found_of(set(digests) - broken, broken)
    assert plan_shards(table, found, size) == [shard for shard in plan if shard not in made]


def test_a_shards_name_depends_on_content_alone() -> None:
    table = table_of([3, 1, 2])
    elsewhere = table.assign(archive="b", file_name="x.jpg", image_id=[7, 8, 9])
    names = [[shard.name for shard in plan_shards(each, NOTHING, 2)] for each in (table, elsewhere)]
    assert names[0] == names[1]
    assert names[0] != [shard.name for shard in plan_shards(table_of([1, 3, 2]), NOTHING, 2)]


def test_the_plan_does_not_depend_on_the_order_of_the_images(archives: dict[str, Path]) -> None:
    one, two = (read_photographs(listed(ids), archives) for ids in ([*GOOD, *BROKEN], [*BROKEN, *reversed(GOOD)]))
    plan = plan_shards(one, NOTHING, 3)
    assert plan == plan_shards(two, NOTHING, 3)
    assert [photograph.file_name for photograph in planned(plan)] == [f"{i}.jpg" for i in sorted([*GOOD, *BROKEN])]


@pytest.mark.parametrize("contents", [[], [None], [5]])
def test_where_nothing_is_new_nothing_is_planned(contents: list[int | None]) -> None:
    assert plan_shards(table_of(contents), found_of(["digest 5"]), 3) == []


# With the real network


@pytest.fixture(scope="module")
def lite_pool(
    archives: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[pd.DataFrame, EmbeddingPool]:
    """What an undisturbed run makes of `archives`."""
    pool = EmbeddingPool(tmp_path_factory.mktemp("lite"), describe_encoder(LITE))
    return embed([*GOOD, *BROKEN], archives, pool, load_engine(LITE)), pool


def test_every_photograph_gets_the_embedding_of_its_own_pixels(
    lite_pool: tuple[pd.DataFrame, EmbeddingPool], photograph: Callable[[int], bytes]
) -> None:
    found = embeddings(*lite_pool)
    assert sorted(found) == sorted(GOOD)
    network = load_network(LITE)
    alone = [np.asarray(network(read_pixels(photograph(i), 224, "antialias")[None])) for i in GOOD]
    vectors = np.stack([found[i] for i in GOOD])
    assert_same(vectors, np.concatenate(alone))
    distances = np.linalg.norm(vectors[:, None] - vectors[None], axis=-1)
    assert distances[~np.eye(len(GOOD), dtype=bool)].min() > 0.1  # so that a mix-up would be seen


def test_broken_photographs_are_kept_with_their_reasons(lite_pool: tuple[pd.DataFrame, EmbeddingPool]) -> None:
    table, pool = lite_pool
    bad = pool.find(table["digest"].tolist()).bad
    digests = table.set_index("image_id")["digest"]
    assert set(bad) == {digests[image_id] for image_id in BROKEN}
    for image_id, reason in BROKEN.items():
        assert reason in bad[digests[image_id]]


@pytest.mark.parametrize("changes", [{"batch_size": 2}, {"shard_size": 100}])
def test_batches_and_shards_do_not_change_embeddings(
    lite_pool: tuple[pd.DataFrame, EmbeddingPool], archives: dict[str, Path], tmp_path: Path, changes: dict[str, int]
) -> None:
    config = LITE.model_copy(update=changes)
    pool = EmbeddingPool(tmp_path, describe_encoder(config))
    table = embed([*reversed(GOOD), *BROKEN], archives, pool, load_engine(config), config.shard_size)
    found, expected = embeddings(table, pool), embeddings(*lite_pool)
    assert_same(np.stack([found[i] for i in GOOD]), np.stack([expected[i] for i in GOOD]))


def test_a_run_of_the_network_that_is_cut_ends_with_the_same_bytes(
    lite_pool: tuple[pd.DataFrame, EmbeddingPool], archives: dict[str, Path], tmp_path: Path
) -> None:
    engine = load_engine(LITE)
    pool = EmbeddingPool(tmp_path, describe_encoder(LITE))
    with pytest.raises(RuntimeError, match="cut"):
        embed([*GOOD, *BROKEN], archives, pool, replace(engine, encode=failing_after(2, RuntimeError, engine.encode)))
    assert len(list(pool.folder.glob("*.json"))) < 4
    embed([*GOOD, *BROKEN], archives, pool, engine)
    assert files_of(pool) == files_of(lite_pool[1])


def test_a_part_of_a_batch_gives_as_many_embeddings(photograph: Callable[[int], bytes]) -> None:
    engine, network = load_engine(LITE), load_network(LITE)
    pixels = np.stack([np.asarray(engine.read(photograph(i))) for i in range(4)])
    for count in (1, 3, 4):
        found = engine.encode(pixels[:count])
        assert found.shape == (count, 1280)
        assert found.dtype == np.float32
        assert_same(found, np.asarray(network(pixels[:count])))


@pytest.mark.parametrize("preprocessing", ["notebook", "antialias"])
def test_an_engine_reads_as_its_profile_says(photograph: Callable[[int], bytes], preprocessing: Any) -> None:
    engine = load_engine(LITE.model_copy(update={"preprocessing": preprocessing}))
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3)).astype(np.uint8)).save(file, "PNG")
    assert np.array_equal(engine.read(file.getvalue()), read_pixels(file.getvalue(), 224, preprocessing))
    broken = engine.read(photograph(1)[:-50])
    assert isinstance(broken, BadImageError)
    assert "truncated" in str(broken)


@pytest.mark.parametrize(("gpu", "batch_size"), [(False, 32), (True, 256)])
def test_batches_are_larger_on_a_gpu(monkeypatch: pytest.MonkeyPatch, gpu: bool, batch_size: int) -> None:
    monkeypatch.setattr(extract, "has_gpu", lambda: gpu)
    assert load_engine(LITE.model_copy(update={"batch_size": None})).batch_size == batch_size
    assert load_engine(LITE).batch_size == 4


# The pipeline


@given(order=st.permutations(MANY), batch_size=st.integers(1, 20), shard_size=st.integers(1, 20))
@settings(max_examples=25)
def test_nothing_but_the_content_decides_an_embedding(
    many: dict[str, Path],
    new_pool: Callable[[], EmbeddingPool],
    photograph: Callable[[int], bytes],
    order: list[int],
    batch_size: int,
    shard_size: int,
) -> None:
    pool = new_pool()
    found = embeddings(embed(order, many, pool, toy_engine(batch_size), shard_size), pool)
    assert sorted(found) == [number for number in MANY if number != 9]
    for number, vector in found.items():
        assert np.array_equal(vector, mean_colours(np.stack([read_pixels(photograph(number), 8, "notebook")]))[0])


def test_shards_have_the_photographs_they_were_planned_with(many: dict[str, Path], expected: EmbeddingPool) -> None:
    table = read_photographs(listed(MANY, "many"), many)
    found = expected.find(table["digest"].tolist())
    for shard in plan_shards(table, NOTHING, 3):
        assert expected.has(shard.name)
        good = [photograph.digest for photograph in shard.photographs if photograph.digest not in found.bad]
        assert [found.places[digest] for digest in good] == [ShardRow(shard.name, row) for row in range(len(good))]


def test_a_finished_shard_is_left_alone(many: dict[str, Path], pool: EmbeddingPool) -> None:
    def state() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in pool.folder.iterdir()}

    shards = plan_shards(read_photographs(listed(MANY, "many"), many), NOTHING, 3)
    assert embed_shards(shards[:2], many, toy_engine(), pool) == 6
    before = state()
    assert embed_shards(shards[:2], many, IDLE, pool) == 0
    assert embed_shards(shards, many, toy_engine(), pool) == len(MANY) - 6
    assert {name: mark for name, mark in state().items() if name in before and name != "lock"} == {
        name: mark for name, mark in before.items() if name != "lock"
    }


def test_only_new_images_are_embedded_when_images_are_added(
    many: dict[str, Path], pool: EmbeddingPool, photograph: Callable[[int], bytes]
) -> None:
    encoded: Counter[bytes] = Counter()

    def count(pixels: np.ndarray) -> np.ndarray:
        encoded.update(image.tobytes() for image in pixels)
        return mean_colours(pixels)

    embed([1, 5, 9], many, pool, toy_engine(encode=count))
    embed([5, 12, 9, 3, 4, 0], many, pool, toy_engine(encode=count))
    table = embed(range(13), many, pool, toy_engine(encode=count))
    good = [number for number in range(13) if number != 9]
    assert encoded == Counter(read_pixels(photograph(number), 8, "notebook").tobytes() for number in good)
    assert sorted(embeddings(table, pool)) == good
    embed(range(13), many, pool, IDLE)


def test_the_same_content_is_embedded_once(
    tmp_path: Path, pool: EmbeddingPool, photograph: Callable[[int], bytes]
) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(6):
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(photograph(number % 2))
    batches: list[int] = []

    def count(pixels: np.ndarray) -> np.ndarray:
        batches.append(len(pixels))
        return mean_colours(pixels)

    archives = {"a": tmp_path / "photos"}
    table = read_photographs(listed(range(6), "a"), archives)
    assert embed_shards(plan_shards(table, NOTHING, 10), archives, toy_engine(encode=count), pool) == 2
    assert sum(batches) == 2
    store = store_of(table, pool, tmp_path / "store")
    assert np.array_equal(store.vectors([4, 3])[:], store.vectors([0, 1])[:])
    assert not np.array_equal(store.vectors([0])[:], store.vectors([1])[:])


def test_a_shard_of_nothing_but_broken_photographs(
    archives: dict[str, Path], pool: EmbeddingPool, caplog: pytest.LogCaptureFixture
) -> None:
    table = embed(list(BROKEN), {"even": archives["even"]}, pool, toy_engine(encode=refuse))
    (shard,) = plan_shards(table, NOTHING, 3)
    assert pool.has(shard.name)
    found = pool.find(table["digest"].tolist())
    assert found.places == {}
    for digest, reason in zip(table["digest"], BROKEN.values(), strict=True):
        assert reason in found.bad[digest]
    assert "photographs that cannot be decoded: 3, such as 20.jpg: " in caplog.text
    embed(list(BROKEN), {"even": archives["even"]}, pool, IDLE)


def test_no_shards_at_all(many: dict[str, Path], pool: EmbeddingPool) -> None:
    assert embed_shards([], many, IDLE, pool) == 0


# Disturbances


def failing_after(
    batches: int, kind: type[BaseException], encode: Callable[[np.ndarray], np.ndarray] = mean_colours
) -> Callable[[np.ndarray], np.ndarray]:
    """Encodes so many batches, then raises."""
    done = 0

    def work(pixels: np.ndarray) -> np.ndarray:
        nonlocal done
        if done == batches:
            raise kind("cut")
        done += 1
        return encode(pixels)

    return work


def assert_resumes(many: dict[str, Path], pool: EmbeddingPool, expected: EmbeddingPool, least: int, most: int) -> None:
    """A cut run left between `least` and `most` shards, all whole; the next one makes the others."""
    whole, before = files_of(expected), files_of(pool) if pool.folder.exists() else {}
    assert least <= sum(name.endswith(".json") for name in before) <= most
    for name, content in before.items():
        if name.endswith(".json"):
            assert content == whole[name]
            assert before[name.replace(".json", ".npy")] == whole[name.replace(".json", ".npy")]
    embed(MANY, many, pool, toy_engine())
    assert files_of(pool) == whole


@given(batches=st.integers(0, 9), kind=st.sampled_from([RuntimeError, MemoryError, KeyboardInterrupt]))
@settings(max_examples=25)
def test_a_run_cut_by_an_error_of_the_encoder_resumes_and_ends_the_same(
    many: dict[str, Path],
    new_pool: Callable[[], EmbeddingPool],
    expected: EmbeddingPool,
    batches: int,
    kind: type[BaseException],
) -> None:
    pool = new_pool()
    started = time.monotonic()
    with no_thread_stays(), pytest.raises(kind, match="cut"):
        embed(MANY, many, pool, toy_engine(encode=failing_after(batches, kind)))
    assert time.monotonic() - started < SECONDS
    complete = sum(batches >= needed for needed in BATCHES)
    assert_resumes(many, pool, expected, least=complete - 1, most=complete)


@pytest.mark.parametrize("batches", [0, 5])
def test_control_c_ends_a_run_at_once_and_it_resumes(
    many: dict[str, Path], pool: EmbeddingPool, expected: EmbeddingPool, batches: int
) -> None:
    done = 0

    def interrupt(pixels: np.ndarray) -> np.ndarray:
        nonlocal done
        if done == batches:
            time.sleep(0.2)  # until the main thread waits
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            time.sleep(0.3)  # the batch that is being encoded is finished
        done += 1
        return mean_colours(pixels)

    started = time.monotonic()
    with no_thread_stays(), pytest.raises(KeyboardInterrupt):
        embed(MANY, many, pool, toy_engine(encode=interrupt))
    assert time.monotonic() - started < SECONDS
    assert done == batches + 1
    complete = sum(batches >= needed for needed in BATCHES)
    assert_resumes(many, pool, expected, least=complete - 1, most=complete)


def test_an_error_of_the_decoder_ends_a_run(
    many: dict[str, Path], pool: EmbeddingPool, expected: EmbeddingPool
) -> None:
    lock, reads = threading.Lock(), 0

    def read(content: bytes) -> np.ndarray | Exception:
        nonlocal reads
        with lock:
            reads += 1
            if reads == 12:
                raise RuntimeError("cut")
        return read_toy(content)

    with no_thread_stays(), pytest.raises(RuntimeError, match="cut"):
        embed(MANY, many, pool, toy_engine(read=read))
    assert_resumes(many, pool, expected, least=0, most=4)


def test_a_full_disk_ends_a_run(many: dict[str, Path], pool: EmbeddingPool, expected: EmbeddingPool) -> None:
    class Full(EmbeddingPool):
        written = 0

        def write(self, *args: Any) -> None:
            if self.written == 2:
                raise OSError("No space left on device")
            self.written += 1
            super().write(*args)

    with no_thread_stays(), pytest.raises(OSError, match="No space left"):
        embed(MANY, many, Full(pool.folder, TOY), toy_engine())
    assert_resumes(many, pool, expected, least=2, most=2)


def test_what_waits_is_dropped_when_an_error_ends_a_run(
    many: dict[str, Path], pool: EmbeddingPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract.os, "cpu_count", lambda: 1)
    reads = []

    def read(content: bytes) -> NoReturn:
        reads.append(content)
        time.sleep(0.1)
        raise RuntimeError("cut")

    with no_thread_stays(), pytest.raises(RuntimeError, match="cut"):
        embed(MANY, many, pool, toy_engine(8, read))
    assert len(reads) < 5


@pytest.mark.parametrize("stuck", ["encode", "write"])
def test_memory_is_bounded_when_a_later_stage_is_slow(
    tmp_path: Path, pool: EmbeddingPool, photograph: Callable[[int], bytes], stuck: str
) -> None:
    count, batch, shard_size = 100, 2, 4
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number in range(count):
            archive.writestr(f"{number}.jpg", photograph(number))
    go, reads = threading.Event(), []

    def read(content: bytes) -> np.ndarray | Exception:
        reads.append(content)
        return read_toy(content)

    def encode(pixels: np.ndarray) -> np.ndarray:
        assert stuck == "write" or go.wait(30)
        return mean_colours(pixels)

    class Slow(EmbeddingPool):
        def write(self, *args: Any) -> None:
            assert stuck == "encode" or go.wait(30)
            super().write(*args)

    slow, archives = Slow(pool.folder, TOY), {"a": tmp_path / "a.zip"}
    run = threading.Thread(
        target=embed, args=(range(count), archives, slow, toy_engine(batch, read, encode), shard_size)
    )
    run.start()
    try:
        seen = -1
        while seen != len(reads) or not reads:
            seen = len(reads)
            time.sleep(0.2)
        # Two batches decoded ahead, one being encoded, one waiting for it, one being filled; two shards at the writer.
        assert seen <= 5 * batch + (2 * shard_size if stuck == "write" else 0)
    finally:
        go.set()
        run.join(60)
    assert not run.is_alive()
    assert len(reads) == count


# Files that change


@pytest.fixture
def folder(tmp_path: Path, photograph: Callable[[int], bytes]) -> Path:
    """Four photographs, `0.jpg` to `3.jpg`."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.jpg").write_bytes(photograph(number))
    return folder


def test_a_file_that_changes_while_it_is_read_is_not_kept_under_the_wrong_digest(
    tmp_path: Path, folder: Path, pool: EmbeddingPool, photograph: Callable[[int], bytes]
) -> None:
    archives = {"a": folder}
    table = read_photographs(listed(range(4), "a"), archives)
    (folder / "1.jpg").write_bytes(photograph(77))
    (folder / "2.jpg").unlink()
    assert embed_shards(plan_shards(table, NOTHING, 3), archives, toy_engine(), pool) == 4
    assert sorted(embeddings(table, pool)) == [0, 3]
    store = store_of(table, pool, tmp_path / "store")
    assert store.quarantine["image_id"].tolist() == [1, 2]
    assert store.quarantine["reason"][0] == CHANGED
    assert "No such file" in store.quarantine["reason"][1]
    assert store.quarantine["reason"].str.endswith(TRIED_AGAIN).all()

    (folder / "2.jpg").write_bytes(photograph(2))
    table = embed(range(4), archives, pool, toy_engine())
    store = store_of(table, pool, tmp_path / "next store")
    pixels = [read_pixels(photograph(number), 8, "notebook") for number in (0, 77, 2, 3)]
    assert np.array_equal(store.vectors(range(4))[:], mean_colours(np.stack(pixels)))


def test_a_reason_that_may_pass_is_told_and_not_kept(photograph: Callable[[int], bytes], tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in (1, 2):
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(photograph(number))
    images = pd.DataFrame({"image_id": [1, 2], "archive": "a", "file_name": ["1.jpg", "2.jpg"]})
    archives: dict[str, Path] = {"a": tmp_path / "photos"}
    table = read_photographs(images, archives)

    def short_of_memory(content: bytes) -> np.ndarray | Exception:
        return TransientImageError("too little memory") if content == photograph(2) else read_toy(content)

    def embedded(read: Callable[[bytes], np.ndarray | Exception]) -> tuple[EmbeddingStore, int]:
        pool = EmbeddingPool(tmp_path / "pool", TOY)
        digests = table["digest"].tolist()
        embed_shards(plan_shards(table, pool.find(digests), 8), archives, toy_engine(read=read), pool)
        folder = tmp_path / f"store of {read.__name__}"
        folder.mkdir()
        rows = write_store(folder, table, pool)
        return EmbeddingStore.open(folder), rows

    store, rows = embedded(short_of_memory)
    assert (len(store.index), isinstance(rows, Incomplete)) == (1, True)
    assert store.quarantine["reason"].tolist() == [str(TransientImageError("too little memory"))]
    store, rows = embedded(read_toy)
    assert (len(store.index), len(store.quarantine), isinstance(rows, Incomplete)) == (2, 0, False)


def test_a_file_that_is_away_for_some_runs_is_tried_again_at_each(
    tmp_path: Path, folder: Path, pool: EmbeddingPool, photograph: Callable[[int], bytes]
) -> None:
    archives = {"a": folder}
    table = read_photographs(listed(range(4), "a"), archives)
    (folder / "2.jpg").unlink()
    for _ in range(2):
        embed_shards(plan_shards(table, pool.find(table["digest"].tolist()), 3), archives, toy_engine(), pool)
    assert sorted(embeddings(table, pool)) == [0, 1, 3]
    (folder / "2.jpg").write_bytes(photograph(2))
    embed_shards(plan_shards(table, pool.find(table["digest"].tolist()), 3), archives, toy_engine(), pool)
    assert sorted(embeddings(table, pool)) == [0, 1, 2, 3]


@pytest.mark.parametrize("reason", ["it needs pi-heif", "there is not enough memory to decode it"])
def test_what_cannot_be_decoded_for_now_is_no_verdict(
    tmp_path: Path, folder: Path, pool: EmbeddingPool, photograph: Callable[[int], bytes], reason: str
) -> None:
    archives, passing = {"a": folder}, TransientImageError(reason)
    table = read_photographs(listed(range(3), "a"), archives)
    toy = toy_engine()
    engine = replace(toy, read=lambda content: passing if content == photograph(1) else toy.read(content))
    for _ in range(2):
        embed_shards(plan_shards(table, pool.find(table["digest"].tolist()), 3), archives, engine, pool)
    (tmp_path / "store").mkdir()
    assert isinstance(write_store(tmp_path / "store", table, pool), Incomplete)
    quarantine = EmbeddingStore.open(tmp_path / "store").quarantine
    assert quarantine[["image_id", "reason", "remedy"]].values.tolist() == [[1, str(passing), RUN_AGAIN]]
    later = EmbeddingPool(pool.folder, pool.card)
    assert later.find(table["digest"].tolist()).bad == {}
    embed_shards(plan_shards(table, later.find(table["digest"].tolist()), 3), archives, toy, later)
    (tmp_path / "healed").mkdir()
    assert not isinstance(write_store(tmp_path / "healed", table, later), Incomplete)


# Files of every kind


def as_file(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def odd_files() -> dict[str, bytes]:
    """Pictures of unusual kinds, all of which can be decoded."""
    colours = np.random.default_rng(5).integers(0, 256, (12, 16, 4)).astype(np.uint8)
    rgb, rgba = Image.fromarray(colours[..., :3]), Image.fromarray(colours)
    palette = rgb.quantize(16)
    upside_down, broken_exif = Image.Exif(), b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\x03\0"
    upside_down[0x0112] = 3
    return {
        "alpha.png": as_file(rgba, "PNG"),
        "alpha.webp": as_file(rgba, "WEBP"),
        "cmyk.jpg": as_file(rgb.convert("CMYK"), "JPEG"),
        "deep.png": as_file(Image.fromarray(colours[..., 0].astype(np.uint16) * 257), "PNG"),
        "palette.png": as_file(palette, "PNG"),
        "see-through palette.png": as_file(palette, "PNG", transparency=bytes(range(0, 256, 16))),
        "palette.gif": as_file(palette, "GIF"),
        "picture.webp": as_file(rgb, "WEBP"),
        "picture.bmp": as_file(rgb, "BMP"),
        "picture.tiff": as_file(rgb, "TIFF"),
        "grey.jpg": as_file(rgb.convert("L"), "JPEG"),
        "two colours.png": as_file(rgb.convert("1"), "PNG"),
        "progressive.jpg": as_file(rgb, "JPEG", progressive=True),
        "upside down.jpg": as_file(rgb, "JPEG", exif=upside_down),
        "odd metadata.jpg": as_file(rgb, "JPEG", exif=broken_exif),
        "animation.gif": as_file(palette, "GIF", save_all=True, append_images=[palette.rotate(90)]),
    }


def png_header(width: int, height: int) -> bytes:
    """A PNG that ends where its pixels begin."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", 10**6) + b"IDAT"


def with_header(content: bytes, name: str, field: int, value: int) -> bytes:
    """A zip file with another number in both of a member's headers; in the second it lies two bytes further on."""
    changed = bytearray(content)
    for start in (content.index(name.encode()) - 30 + field, content.rindex(name.encode()) - 46 + field + 2):
        changed[start : start + 2] = value.to_bytes(2, "little")
    return bytes(changed)


def test_every_good_file_is_embedded_and_every_broken_one_named(
    tmp_path: Path, pool: EmbeddingPool, photograph: Callable[[int], bytes]
) -> None:
    good = {f"photo {number}.jpg": photograph(number) for number in range(24)} | odd_files()
    broken = {
        "truncated.jpg": (photograph(50)[:-50], "truncated"),
        "truncated.png": (good["alpha.png"][:-40], "decoded"),
        "empty.jpg": (b"", "empty"),
        "text.jpg": (b"<html>not found</html>", "not an image"),
        "no width.png": (png_header(0, 5), "image"),
        "gigantic.png": (png_header(2**31 - 1, 2**31 - 1), "pixels"),
        "damaged.jpg": (photograph(51), "CRC"),
        "encrypted.jpg": (photograph(52), "encrypted"),
        "squeezed.jpg": (photograph(53), "deflated"),
    }
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (good | {name: content for name, (content, _) in broken.items()}).items():
            archive.writestr(name, content)
    content = path.read_bytes().replace(photograph(51), photograph(51)[:-9] + b"damaged..", 1)
    content = with_header(with_header(content, "encrypted.jpg", 6, 1), "squeezed.jpg", 8, 99)
    path.write_bytes(content)
    reasons = {name: reason for name, (_, reason) in broken.items()} | {"missing.jpg": "cannot be read"}
    assert (len(good), len(reasons)) == (40, 10)

    names = [*good, *reasons]
    images = pd.DataFrame({"image_id": range(len(names)), "archive": "a", "file_name": names})
    table = read_photographs(images, {"a": path})
    embed_shards(plan_shards(table, NOTHING, 8), {"a": path}, toy_engine(4), pool)
    store = store_of(table, pool, tmp_path / "store")
    assert store.index["image_id"].tolist() == list(range(40))
    pixels = [read_pixels(content, 8, "notebook") for content in good.values()]
    assert np.array_equal(store.vectors(range(40))[:], mean_colours(np.stack(pixels)))
    assert store.quarantine["file_name"].tolist() == list(reasons)
    for name, reason in zip(store.quarantine["file_name"], store.quarantine["reason"], strict=True):
        assert reasons[name] in reason, name
