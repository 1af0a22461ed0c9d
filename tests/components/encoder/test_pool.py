import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from components.encoder.pool import EmbeddingPool, EncoderCard, PoolLookup, ShardRow, Storage, shard_name

CARD = EncoderCard("toy", "0123456789abcdef", 3, 8, "notebook", "float32")
MakePool = Callable[..., EmbeddingPool]


def digest_of(number: int) -> str:
    return f"{number:064x}"


def vector(digest: str) -> np.ndarray:
    return np.array([int(digest, 16), -int(digest, 16), 0.5], np.float32)


def vectors_of(digests: Sequence[str]) -> np.ndarray:
    return np.array([vector(digest) for digest in digests], np.float32).reshape(-1, CARD.dimension)


def write(pool: EmbeddingPool, name: str, numbers: Sequence[int], bad: Sequence[int] = ()) -> None:
    digests = [digest_of(number) for number in numbers]
    pool.write(name, digests, vectors_of(digests), {digest_of(number): f"reason “犬”\n\\ {number}" for number in bad})


def known(pool: EmbeddingPool, numbers: Sequence[int]) -> list[int]:
    """Which of these are found. Their vectors are looked at."""
    found = pool.find([digest_of(number) for number in numbers])
    there = [number for number in numbers if digest_of(number) in found.places]
    stored = pool.vectors([found.places[digest_of(number)] for number in there])[:]
    assert np.array_equal(stored, vectors_of([digest_of(number) for number in there]))
    return there


@pytest.fixture
def pool(tmp_path: Path) -> EmbeddingPool:
    return EmbeddingPool.of(tmp_path, CARD)


@pytest.fixture(scope="module")
def make_pool(tmp_path_factory: pytest.TempPathFactory) -> MakePool:
    """A new pool for each example of a property."""
    return lambda storage="float32": EmbeddingPool(tmp_path_factory.mktemp("pool"), replace(CARD, storage=storage))


numbers = st.integers(0, 2000)  # whole numbers that float16 holds, too


@given(
    shards=st.lists(st.lists(numbers, max_size=6, unique=True), max_size=4),
    asked=st.lists(numbers, max_size=9),
    storage=st.sampled_from(["float32", "float16"]),
    data=st.data(),
)
def test_vectors_are_found_by_digest(
    make_pool: MakePool, shards: list[list[int]], asked: list[int], storage: Storage, data: st.DataObject
) -> None:
    pool = make_pool(storage)
    for name, shard in enumerate(shards):
        write(pool, str(name), shard)
    stored = sorted({number for shard in shards for number in shard})
    asked += data.draw(st.lists(st.sampled_from(stored), max_size=9)) if stored else []
    assert known(pool, asked) == [number for number in asked if number in stored]


@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    data=st.data(),
    which=st.slices(12) | st.lists(st.integers(-12, 11), max_size=20) | st.lists(st.booleans(), min_size=12),
)
def test_vectors_are_indexed_like_an_array(
    make_pool: MakePool, lengths: list[int], data: st.DataObject, which: slice | list[int]
) -> None:
    pool = make_pool()
    for name, length in enumerate(lengths):
        write(pool, str(name), range(name * 10, name * 10 + length))
    there = [ShardRow(str(name), row) for name, length in enumerate(lengths) for row in range(length)]
    places = data.draw(st.lists(st.sampled_from(there), min_size=12, max_size=12))
    array = vectors_of([digest_of(int(place.shard) * 10 + place.row) for place in places])
    if isinstance(which, list):
        booleans = bool(which) and isinstance(which[0], bool)
        index = np.array(which[:12], bool) if booleans else np.array(which, np.intp)
    else:
        index = which
    vectors = pool.vectors(places)
    assert (len(vectors), vectors.shape) == (12, (12, CARD.dimension))
    assert vectors[index].dtype == np.float32
    assert np.array_equal(vectors[index], array[index])


def test_no_places_give_no_vectors(pool: EmbeddingPool) -> None:
    vectors = pool.vectors([])
    assert (len(vectors), vectors.shape, vectors[:].shape) == (0, (0, 3), (0, 3))


def test_float16_takes_half_the_space_and_comes_back_as_float32(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(5, 300)).astype(np.float32)
    sizes = []
    for storage in ("float32", "float16"):
        card = replace(CARD, dimension=300, storage=storage, fingerprint=storage)
        pool = EmbeddingPool.of(tmp_path, card)
        pool.write("one", [digest_of(number) for number in range(5)], vectors, {})
        found = pool.vectors([ShardRow("one", row) for row in range(5)])[:]
        assert found.dtype == np.float32
        assert np.array_equal(found, vectors.astype(storage).astype(np.float32))
        sizes.append(pool.path("one").stat().st_size - 128)
    assert sizes == [5 * 300 * 4, 5 * 300 * 2]


def test_a_new_pool_knows_nothing(pool: EmbeddingPool) -> None:
    assert pool.find([digest_of(1)]) == PoolLookup({}, {})
    assert not pool.has("one")


def test_bad_images_are_kept_with_their_reasons(pool: EmbeddingPool) -> None:
    write(pool, "mixed", [1], bad=[2, 3])
    write(pool, "nothing but bad ones", [], bad=[4])
    found = pool.find([digest_of(number) for number in (1, 2, 4, 5)])
    assert found.bad == {digest_of(number): f"reason “犬”\n\\ {number}" for number in (2, 4)}
    assert list(found.places) == [digest_of(1)]
    assert pool.has("nothing but bad ones")


def test_content_in_two_shards_is_found_once(pool: EmbeddingPool) -> None:
    write(pool, "one", [1, 2])
    write(pool, "two", [2, 3])
    assert known(pool, [1, 2, 3]) == [1, 2, 3]
    pool.path("one").unlink()
    assert known(EmbeddingPool(pool.folder, CARD), [1, 2, 3]) == [2, 3]


def test_pools_of_other_encoders_are_apart(tmp_path: Path) -> None:
    one, two = (EmbeddingPool.of(tmp_path, replace(CARD, fingerprint=name)) for name in ("a" * 16, "b" * 16))
    write(one, "one", [1])
    assert known(one, [1]) == [1]
    assert known(two, [1]) == []


def test_a_shard_written_again_replaces_the_first(pool: EmbeddingPool) -> None:
    write(pool, "one", [1, 2])
    kept = pool.vectors([ShardRow("one", 0)])
    write(pool, "one", [3])
    assert known(pool, [1, 2, 3]) == [3]
    assert np.array_equal(kept[:], vectors_of([digest_of(1)]))  # who has it mapped keeps what it mapped


def cut(content: bytes, position: int) -> bytes:
    return content[: position % len(content)]


def flip(content: bytes, position: int) -> bytes:
    changed = bytearray(content)
    changed[position % len(content)] ^= 1
    return bytes(changed)


def grow(content: bytes, position: int) -> bytes:
    return content + bytes(position + 1)


@given(damage=st.sampled_from([cut, flip, grow]), position=st.integers(0, 300), missing=st.booleans())
def test_a_shard_with_damaged_vectors_is_forgotten_and_the_rest_stays(
    make_pool: MakePool, damage: Callable[[bytes, int], bytes], position: int, missing: bool
) -> None:
    pool = make_pool()
    write(pool, "one", [1, 2, 3])
    write(pool, "two", [4], bad=[5])
    path = pool.path("one")
    path.unlink() if missing else path.write_bytes(damage(path.read_bytes(), position))
    fresh = EmbeddingPool(pool.folder, CARD)
    assert known(fresh, [1, 2, 3, 4]) == [4]
    assert digest_of(5) in fresh.find([digest_of(5)]).bad
    assert (fresh.has("one"), fresh.has("two")) == (False, True)
    write(fresh, "one", [1, 2, 3])
    assert known(fresh, [1, 2, 3, 4]) == [1, 2, 3, 4]


@given(damage=st.sampled_from([cut, flip]), position=st.integers(0, 600))
@example(flip, 5)  # "vectors" is no key of it any more
def test_a_damaged_entry_gives_no_wrong_vector_and_the_rest_stays(
    make_pool: MakePool, damage: Callable[[bytes, int], bytes], position: int
) -> None:
    pool = make_pool()
    write(pool, "one", [2**60, 2**64], bad=[2**68])
    write(pool, "two", [4])
    path = pool.folder / "one.json"
    path.write_bytes(damage(path.read_bytes(), position))
    assert 4 in known(EmbeddingPool(pool.folder, CARD), [2**60, 2**64, 4])


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b'{"vectors": "', id="cut"),
        pytest.param(bytes(100), id="zeros"),
        pytest.param(b"\xff\xfe", id="no text"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"null", id="null"),
    ],
)
def test_a_damaged_entry_is_forgotten_with_a_warning(
    pool: EmbeddingPool, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    write(pool, "one", [1, 2])
    write(pool, "two", [3])
    (pool.folder / "one.json").write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert known(pool, [1, 2, 3]) == [3]
    assert "one.json is damaged" in caplog.text
    assert "again" in caplog.text
    caplog.clear()
    assert known(pool, [1, 2, 3]) == [3]
    assert not caplog.text
    write(pool, "one", [1, 2])
    assert known(pool, [1, 2, 3]) == [1, 2, 3]


@pytest.mark.parametrize("missing", [True, False])
def test_damaged_vectors_are_told(pool: EmbeddingPool, caplog: pytest.LogCaptureFixture, missing: bool) -> None:
    write(pool, "one", [1])
    path = pool.path("one")
    path.unlink() if missing else path.write_bytes(path.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING):
        assert known(pool, [1]) == []
    assert "one.npy is missing or damaged" in caplog.text


def test_vectors_without_an_entry_are_not_known(pool: EmbeddingPool) -> None:
    """What a kill between the two files of a shard leaves."""
    write(pool, "one", [1])
    (pool.folder / "one.json").unlink()
    assert not pool.has("one")
    assert known(pool, [1]) == []


def test_leftovers_of_a_killed_run_are_removed_at_the_next_write(pool: EmbeddingPool) -> None:
    write(pool, "one", [1])
    for name in ("two.npy.tmp", "two.json.tmp", "one.json.tmp"):
        (pool.folder / name).write_bytes(b"half")
    assert known(pool, [1]) == [1]
    write(pool, "three", [3])
    assert not list(pool.folder.glob("*.tmp"))
    assert known(pool, [1, 3]) == [1, 3]


def test_a_write_that_fails_leaves_the_shard_unknown(pool: EmbeddingPool) -> None:
    write(pool, "one", [1])
    with pytest.raises(TypeError):
        pool.write("two", [digest_of(2)], vectors_of([digest_of(2)]), {digest_of(3): object()})  # type: ignore[dict-item]
    assert not pool.has("two")
    assert known(pool, [1, 2]) == [1]
    write(pool, "two", [2])
    assert known(pool, [1, 2]) == [1, 2]


def test_threads_that_write_and_find_at_once_leave_every_shard_intact(pool: EmbeddingPool) -> None:
    started = threading.Barrier(4)

    def work(writer: int) -> None:
        mine = EmbeddingPool(pool.folder, CARD)
        started.wait(10)
        for shard in range(8):
            owner = 0 if shard % 2 else writer  # every other shard is written by all of them
            write(mine, f"{owner}-{shard}", [owner * 100 + shard])
            assert known(mine, [owner * 100 + shard]) == [owner * 100 + shard]

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    everything = [*range(8), *(writer * 100 + shard for writer in (1, 2, 3) for shard in range(0, 8, 2))]
    assert known(EmbeddingPool(pool.folder, CARD), everything) == everything
    assert not list(pool.folder.glob("*.tmp"))


WRITER = """
import sys
from pathlib import Path
import numpy as np
from components.encoder.pool import EmbeddingPool, EncoderCard

pool = EmbeddingPool(Path(sys.argv[1]), EncoderCard("toy", "0123456789abcdef", 3, 8, "notebook", "float32"))
print("ready", flush=True)
sys.stdin.readline()
for shard in range(20):
    number = int(sys.argv[2]) * 100 + shard
    pool.write(str(number), [f"{number:064x}"], np.array([[number, -number, 0.5]]), {})
    pool.write("shared", [f"{7:064x}"], np.array([[7, -7, 0.5]]), {})
"""


def test_two_processes_that_write_at_once_leave_both_shards_intact(pool: EmbeddingPool) -> None:
    root = Path(__file__).parents[3]
    arguments = [[sys.executable, "-c", WRITER, str(pool.folder), str(writer)] for writer in (1, 2)]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(each, stdin=pipe, stdout=pipe, text=True, cwd=root) for each in arguments]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.communicate("go\n", timeout=60)
        assert process.returncode == 0
    everything = [7, *range(100, 120), *range(200, 220)]
    assert known(pool, everything) == everything
    assert not list(pool.folder.glob("*.tmp"))


@given(st.lists(numbers, max_size=5), st.lists(numbers, max_size=5))
def test_a_shards_name_is_of_its_composition(one: list[int], two: list[int]) -> None:
    names = [shard_name([digest_of(number) for number in composition]) for composition in (one, two)]
    assert (names[0] == names[1]) == (one == two)
    assert all(len(name) == 16 and set(name) <= set("0123456789abcdef") for name in names)
