import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.encoder import store as module
from components.encoder.pool import EmbeddingPool, EncoderCard, JoinedVectors
from components.encoder.store import (
    CHANGED,
    READ_AGAIN,
    REPLACE,
    EmbeddingStore,
    join_stores,
    joined_fingerprint,
    vectors_path,
    write_store,
)
from data_contracts.schema import EMBEDDING_INDEX, PHOTOGRAPHS, QUARANTINE

CARD = EncoderCard("toy", "0123456789abcdef", 3, 8, "notebook", "float32")


def digest_of(content: int) -> str:
    return f"digest {content}"


def vector(content: int) -> np.ndarray:
    return np.array([content, -content, 0.1], np.float32)


def vectors_of(contents: Iterable[int]) -> np.ndarray:
    return np.array([vector(content) for content in contents], np.float32).reshape(-1, CARD.dimension)


def photographs(rows: Iterable[tuple[int, int | None]]) -> pd.DataFrame:
    """A table of image ids and their contents; without content a photograph is unreadable."""
    filled = [
        (i, "train", f"{i}.jpg", *((0, "", "cannot be read") if content is None else (9, digest_of(content), "")))
        for i, content in rows
    ]
    return pd.DataFrame(filled, columns=list(PHOTOGRAPHS)).astype(PHOTOGRAPHS)


def pool_of(folder: Path, *shards: Sequence[int], bad: Sequence[int] = ()) -> EmbeddingPool:
    pool = EmbeddingPool(folder, CARD)
    for number, contents in enumerate(shards):
        pool.write(f"shard {number}", [digest_of(c) for c in contents], vectors_of(contents), {})
    if bad:
        pool.write("bad", [], vectors_of([]), {digest_of(content): f"reason {content}" for content in bad})
    return pool


def store_of(folder: Path, table: pd.DataFrame, pool: EmbeddingPool) -> EmbeddingStore:
    folder.mkdir(exist_ok=True)
    rows = write_store(folder, table, pool)
    store = EmbeddingStore.open(folder)
    assert rows == len(store.index)
    return store


def dtypes(table: pd.DataFrame) -> dict[str, str]:
    return {str(name): str(dtype) for name, dtype in table.dtypes.items()}


@pytest.fixture(scope="module")
def new_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """A new folder for each example of a property."""
    return lambda: tmp_path_factory.mktemp("store")


@given(ids=st.sets(st.integers(0, 2**62), min_size=1, max_size=20), data=st.data())
def test_embeddings_are_found_by_id_in_any_order(
    new_folder: Callable[[], Path], ids: set[int], data: st.DataObject
) -> None:
    contents = {i: number for number, i in enumerate(data.draw(st.permutations(sorted(ids))))}
    cut = data.draw(st.integers(0, len(ids)))
    folder = new_folder()
    pool = pool_of(folder / "pool", range(cut), range(cut, len(ids)))
    store = store_of(folder, photographs(contents.items()), pool)
    asked = data.draw(st.lists(st.sampled_from(sorted(ids)), max_size=30))
    found = store.vectors(asked)[:]
    assert found.shape == (len(asked), 3)
    assert found.dtype == np.float32
    assert np.array_equal(found, vectors_of(contents[i] for i in asked))


def test_photographs_of_the_same_content_share_a_vector(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", photographs([(1, 7), (2, 8), (3, 7)]), pool_of(tmp_path / "pool", [8, 7], [7]))
    places = store.index.set_index("image_id")[["shard", "row"]]
    assert places.loc[1].equals(places.loc[3])
    assert not places.loc[1].equals(places.loc[2])
    assert np.array_equal(store.vectors([3, 2, 1])[:], vectors_of([7, 8, 7]))


def test_a_store_holds_its_own_photographs_only(tmp_path: Path) -> None:
    pool = pool_of(tmp_path / "pool", [1, 2], [3], [4, 5])
    store = store_of(tmp_path / "store", photographs([(10, 2), (20, 5)]), pool)
    assert store.index["image_id"].tolist() == [10, 20]
    assert [(number, len(vectors)) for number, vectors in store.shards()] == [(0, 2), (1, 2)]
    assert np.array_equal(store.vectors([20, 10])[:], vectors_of([5, 2]))


def test_photographs_without_embedding_are_quarantined_with_digest_and_reason(tmp_path: Path) -> None:
    pool = pool_of(tmp_path / "pool", [1], bad=[2])
    store = store_of(tmp_path / "store", photographs([(10, 1), (20, 2), (30, None), (40, 3), (50, 2)]), pool)
    assert store.index["image_id"].tolist() == [10]
    rows = store.quarantine.set_index("image_id").to_dict("index")
    remedies = {image_id: row.pop("remedy") for image_id, row in rows.items()}
    expected = {
        20: (digest_of(2), "reason 2"),
        30: ("", "cannot be read"),
        40: (digest_of(3), CHANGED),
        50: (digest_of(2), "reason 2"),
    }
    assert rows == {
        i: {"archive": "train", "file_name": f"{i}.jpg", "digest": digest, "reason": reason}
        for i, (digest, reason) in expected.items()
    }
    assert (remedies[20], remedies[30], remedies[50]) == (REPLACE, READ_AGAIN, REPLACE)


@pytest.mark.parametrize("image_ids", [[1, 77, 2, 78], np.array([77, 78])])
def test_an_id_without_embedding_is_named(tmp_path: Path, image_ids: Sequence[int]) -> None:
    table = photographs([(1, 1), (2, 2), (78, None)])
    store = store_of(tmp_path / "store", table, pool_of(tmp_path / "pool", [1, 2]))
    with pytest.raises(KeyError, match=f"no embedding of image 77 and 1 others in {tmp_path}"):
        store.vectors(image_ids)


def test_vectors_are_mapped_into_memory_not_read(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", photographs([(1, 1), (2, 2)]), pool_of(tmp_path / "pool", [1], [2]))
    assert all(isinstance(vectors, np.memmap) for _, vectors in store.shards())
    vectors = store.vectors([2, 1, 2])
    assert all(isinstance(shard, np.memmap) for shard in vectors.shards)
    assert np.array_equal(vectors[1:], vectors_of([1, 2]))


def test_the_pools_shards_are_linked_not_copied(tmp_path: Path) -> None:
    pool = pool_of(tmp_path / "pool", [1, 2], [3])
    store_of(tmp_path / "store", photographs([(1, 1), (3, 3)]), pool)
    for number in range(2):
        linked = vectors_path(tmp_path / "store", number).stat()
        assert (linked.st_ino, linked.st_nlink) == (pool.path(f"shard {number}").stat().st_ino, 2)


def test_shards_are_copied_where_the_file_system_cannot_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise OSError("Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    pool = pool_of(tmp_path / "pool", [1, 2])
    store = store_of(tmp_path / "store", photographs([(1, 1), (2, 2)]), pool)
    copied = vectors_path(tmp_path / "store", 0)
    assert copied.read_bytes() == pool.path("shard 0").read_bytes()
    assert not copied.samefile(pool.path("shard 0"))
    assert np.array_equal(store.vectors([2, 1])[:], vectors_of([2, 1]))


def test_a_store_outlives_its_pool_and_what_is_written_to_it_later(tmp_path: Path) -> None:
    pool = pool_of(tmp_path / "pool", [1, 2])
    store = store_of(tmp_path / "store", photographs([(1, 1), (2, 2)]), pool)
    pool.write("shard 0", [digest_of(9)], vectors_of([9]), {})
    assert np.array_equal(store.vectors([1, 2])[:], vectors_of([1, 2]))
    pool.path("shard 0").unlink()
    assert np.array_equal(EmbeddingStore.open(tmp_path / "store").vectors([1, 2])[:], vectors_of([1, 2]))


def test_a_store_written_again_in_the_same_folder_is_the_new_one(tmp_path: Path) -> None:
    pool = pool_of(tmp_path / "pool", [1], [2], [3])
    store_of(tmp_path / "store", photographs([(1, 1), (2, 2), (3, 3)]), pool)
    before = pool.path("shard 0").read_bytes()
    store = store_of(tmp_path / "store", photographs([(3, 3)]), pool)
    assert np.array_equal(store.vectors([3])[:], vectors_of([3]))
    assert pool.path("shard 0").read_bytes() == before


@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_the_encoders_card_comes_back(tmp_path: Path, storage: str) -> None:
    card = EncoderCard("toy", "f" * 16, 3, 8, "antialias", storage)  # type: ignore[arg-type]
    store = store_of(tmp_path / "store", photographs([]), EmbeddingPool(tmp_path / "pool", card))
    assert store.encoders == (card,)
    assert (store.fingerprint, store.dimension) == ("f" * 16, 3)


@pytest.mark.parametrize(
    "rows",
    [[], [(1, None)], [(1, 9)], [(1, 1)], [(1, 1), (2, None)]],
    ids=["none", "unreadable", "gone", "good", "both"],
)
def test_tables_have_their_columns_also_when_they_are_empty(tmp_path: Path, rows: list[tuple[int, int | None]]) -> None:
    store = store_of(tmp_path / "store", photographs(rows), pool_of(tmp_path / "pool", [1]))
    assert dtypes(store.index) == EMBEDDING_INDEX
    assert dtypes(store.quarantine) == QUARANTINE
    assert len(store.index) + len(store.quarantine) == len(rows)
    assert store.vectors([])[:].shape == (0, 3)
    assert store.vectors([]).shape == (0, 3)


WIDE = EncoderCard("wide", "fedcba9876543210", 2, 16, "antialias", "float16")


def other_vectors_of(contents: Iterable[int]) -> np.ndarray:
    """What another encoder makes of them: halves, which float16 holds."""
    return np.array([[content / 2, 0.25] for content in contents], np.float32).reshape(-1, WIDE.dimension)


def other_store_of(
    folder: Path, table: pd.DataFrame, *shards: Sequence[int], bad: Sequence[int] = ()
) -> EmbeddingStore:
    """A store of the other encoder."""
    pool = EmbeddingPool(folder / "other pool", WIDE)
    for number, contents in enumerate(shards):
        pool.write(f"shard {number}", [digest_of(c) for c in contents], other_vectors_of(contents), {})
    pool.write("bad", [], other_vectors_of([]), {digest_of(content): f"other reason {content}" for content in bad})
    return store_of(folder / "other", table, pool)


def joined(folder: Path, *stores: EmbeddingStore) -> EmbeddingStore:
    (folder / "joined").mkdir()
    rows = join_stores(folder / "joined", stores)
    store = EmbeddingStore.open(folder / "joined")
    assert rows == len(store.index)
    return store


@pytest.mark.parametrize("shard", [1, 3, 8192])
def test_stores_are_joined_by_image_id_whatever_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard: int
) -> None:
    monkeypatch.setattr(module, "JOINED_SHARD", shard)
    contents = {10: 3, 20: 1, 30: 4, 40: 1, 50: 5}
    one = store_of(tmp_path / "one", photographs(contents.items()), pool_of(tmp_path / "pool", [5, 4], [3, 1]))
    other = other_store_of(tmp_path, photographs([*contents.items()][::-1]), [1], [3, 4, 5])
    store = joined(tmp_path, one, other)
    asked = [50, 10, 40, 40, 30, 20]
    expected = [contents[i] for i in asked]
    assert np.array_equal(store.vectors(asked)[:], np.hstack([vectors_of(expected), other_vectors_of(expected)]))
    assert store.index[["image_id", "digest"]].values.tolist() == [[i, digest_of(c)] for i, c in contents.items()]
    assert [len(vectors) for _, vectors in store.shards()] == [min(shard, 5 - i) for i in range(0, 5, shard)]
    assert (dtypes(store.index), dtypes(store.quarantine)) == (EMBEDDING_INDEX, QUARANTINE)


def test_the_order_of_the_stores_is_that_of_their_numbers(tmp_path: Path) -> None:
    table = photographs([(1, 7), (2, 8)])
    one = store_of(tmp_path / "one", table, pool_of(tmp_path / "pool", [7, 8]))
    other = other_store_of(tmp_path, table, [8, 7])
    store = joined(tmp_path, other, one)
    assert np.array_equal(store.vectors([2, 1])[:], np.hstack([other_vectors_of([8, 7]), vectors_of([8, 7])]))
    assert store.encoders == (WIDE, CARD)
    assert store.dimension == store.vectors([1]).dimension == 5
    assert store.fingerprint == joined_fingerprint([WIDE, CARD]) == "fedcba9876543210+0123456789abcdef"
    assert store.fingerprint != joined_fingerprint([CARD, WIDE])


def test_a_joined_store_has_the_images_of_all_and_quarantines_those_of_any(tmp_path: Path) -> None:
    table = photographs([(10, 1), (20, 2), (30, 3), (40, None), (50, 5), (60, 6)])
    one = store_of(tmp_path / "one", table, pool_of(tmp_path / "pool", [1, 2, 5], bad=[3, 6]))
    other = other_store_of(tmp_path, table, [1, 3, 5], bad=[2, 6])
    store = joined(tmp_path, one, other)
    assert store.index["image_id"].tolist() == [10, 50]
    assert np.array_equal(store.vectors([50, 10])[:], np.hstack([vectors_of([5, 1]), other_vectors_of([5, 1])]))
    reasons = dict(zip(store.quarantine["image_id"], store.quarantine["reason"], strict=True))
    assert reasons == {20: "other reason 2", 30: "reason 3", 40: "cannot be read", 60: "reason 6"}
    assert len(store.quarantine) == 4
    with pytest.raises(KeyError, match="no embedding of image 20 and 1 others"):
        store.vectors([10, 20, 30])[:]


def test_stores_without_a_common_image_join_to_an_empty_one(tmp_path: Path) -> None:
    one = store_of(tmp_path / "one", photographs([(1, 1), (2, None)]), pool_of(tmp_path / "pool", [1]))
    store = joined(tmp_path, one, other_store_of(tmp_path, photographs([(3, 3)]), [3]))
    assert store.vectors([])[:].shape == (0, 5)
    assert list(store.shards()) == []
    assert (dtypes(store.index), dtypes(store.quarantine)) == (EMBEDDING_INDEX, QUARANTINE)


def test_three_stores_join_and_a_joined_store_joins_on(tmp_path: Path) -> None:
    table = photographs([(1, 7), (2, 8)])
    one = store_of(tmp_path / "one", table, pool_of(tmp_path / "pool", [7, 8]))
    other = other_store_of(tmp_path, table, [7, 8])
    for folder in ("all", "pair"):
        (tmp_path / folder).mkdir()
    at_once = joined(tmp_path / "all", one, other, one)
    in_two_steps = joined(tmp_path, joined(tmp_path / "pair", one, other), one)
    assert at_once.encoders == in_two_steps.encoders == (CARD, WIDE, CARD)
    assert np.array_equal(at_once.vectors([2, 1])[:], in_two_steps.vectors([2, 1])[:])
    assert at_once.dimension == 8


def test_a_joined_store_needs_neither_its_stores_nor_their_pools(tmp_path: Path) -> None:
    table = photographs([(1, 7)])
    one = store_of(tmp_path / "one", table, pool_of(tmp_path / "pool", [7]))
    store = joined(tmp_path, one, other_store_of(tmp_path, table, [7]))
    shutil.rmtree(tmp_path / "one")
    shutil.rmtree(tmp_path / "other")
    assert np.array_equal(store.vectors([1])[:], np.hstack([vectors_of([7]), other_vectors_of([7])]))
    assert np.array_equal(EmbeddingStore.open(store.folder).vectors([1])[:], store.vectors([1])[:])


def test_joined_vectors_are_read_as_one_array(tmp_path: Path) -> None:
    contents = [4, 2, 9, 2, 7]
    table = photographs(enumerate(contents))
    one = store_of(tmp_path / "one", table, pool_of(tmp_path / "pool", [2, 9], [4, 7]))
    other = other_store_of(tmp_path, table, [7, 9, 2, 4])
    ids = np.arange(5)
    vectors = JoinedVectors([one.vectors(ids), other.vectors(ids)])
    whole = np.hstack([vectors_of(contents), other_vectors_of(contents)])
    assert (vectors.shape, vectors.dimension, len(vectors)) == ((5, 5), 5, 5)
    for which in (slice(None), slice(1, 3), slice(4, 99), slice(0, 0), np.array([3, 0, 3]), np.array([], int)):
        found = vectors[which]
        assert np.array_equal(found, whole[which])
        assert found.dtype == np.float32
    assert np.array_equal(vectors[np.array([True, False, True, False, False])], whole[[0, 2]])
