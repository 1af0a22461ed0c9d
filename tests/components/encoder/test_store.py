import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.encoder.pool import EmbeddingPool, EncoderCard
from components.encoder.store import CHANGED, READ_AGAIN, REPLACE, EmbeddingStore, vectors_path, write_store
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
    found = store.lookup(asked)
    assert found.shape == (len(asked), 3)
    assert found.dtype == np.float32
    assert np.array_equal(found, vectors_of(contents[i] for i in asked))


def test_photographs_of_the_same_content_share_a_vector(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", photographs([(1, 7), (2, 8), (3, 7)]), pool_of(tmp_path / "pool", [8, 7], [7]))
    places = store.index.set_index("image_id")[["shard", "row"]]
    assert places.loc[1].equals(places.loc[3])
    assert not places.loc[1].equals(places.loc[2])
    assert np.array_equal(store.lookup([3, 2, 1]), vectors_of([7, 8, 7]))


def test_a_store_holds_its_own_photographs_only(tmp_path: Path) -> None:
    pool = pool_of(tmp_path / "pool", [1, 2], [3], [4, 5])
    store = store_of(tmp_path / "store", photographs([(10, 2), (20, 5)]), pool)
    assert store.index["image_id"].tolist() == [10, 20]
    assert [(number, len(vectors)) for number, vectors in store.shards()] == [(0, 2), (1, 2)]
    assert np.array_equal(store.lookup([20, 10]), vectors_of([5, 2]))


def test_the_index_names_each_photographs_content(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", photographs([(1, 5), (2, None), (3, 4)]), pool_of(tmp_path / "pool", [4, 5]))
    assert store.index[["image_id", "digest"]].values.tolist() == [[1, digest_of(5)], [3, digest_of(4)]]


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
    for ask in (store.lookup, store.vectors):
        with pytest.raises(KeyError, match=f"no embedding of image 77 and 1 others in {tmp_path}"):
            ask(image_ids)


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
    assert np.array_equal(store.lookup([2, 1]), vectors_of([2, 1]))


def test_a_store_outlives_its_pool_and_what_is_written_to_it_later(tmp_path: Path) -> None:
    pool = pool_of(tmp_path / "pool", [1, 2])
    store = store_of(tmp_path / "store", photographs([(1, 1), (2, 2)]), pool)
    pool.write("shard 0", [digest_of(9)], vectors_of([9]), {})
    assert np.array_equal(store.lookup([1, 2]), vectors_of([1, 2]))
    pool.path("shard 0").unlink()
    assert np.array_equal(EmbeddingStore.open(tmp_path / "store").lookup([1, 2]), vectors_of([1, 2]))


def test_a_store_written_again_in_the_same_folder_is_the_new_one(tmp_path: Path) -> None:
    pool = pool_of(tmp_path / "pool", [1], [2], [3])
    store_of(tmp_path / "store", photographs([(1, 1), (2, 2), (3, 3)]), pool)
    before = pool.path("shard 0").read_bytes()
    store = store_of(tmp_path / "store", photographs([(3, 3)]), pool)
    assert np.array_equal(store.lookup([3]), vectors_of([3]))
    assert pool.path("shard 0").read_bytes() == before


def test_float16_is_looked_up_as_float32(tmp_path: Path) -> None:
    pool = EmbeddingPool(tmp_path / "pool", EncoderCard("toy", "0" * 16, 3, 8, "notebook", "float16"))
    pool.write("one", [digest_of(1)], vectors_of([1]), {})
    store = store_of(tmp_path / "store", photographs([(1, 1)]), pool)
    found = store.lookup([1])
    assert found.dtype == np.float32
    assert np.array_equal(found[0], vector(1).astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_the_encoders_card_comes_back(tmp_path: Path, storage: str) -> None:
    card = EncoderCard("toy", "f" * 16, 3, 8, "antialias", storage)  # type: ignore[arg-type]
    store = store_of(tmp_path / "store", photographs([]), EmbeddingPool(tmp_path / "pool", card))
    assert store.encoder == card


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
    assert store.lookup([]).shape == (0, 3)
    assert store.vectors([]).shape == (0, 3)
