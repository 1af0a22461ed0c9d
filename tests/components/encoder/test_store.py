from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.encoder.store import (
    EmbeddingStore,
    EncoderCard,
    finish_store,
    shard_is_finished,
    vectors_path,
    write_shard,
)
from data_contracts.schema import EMBEDDING_INDEX, QUARANTINE

CARD = EncoderCard("toy", "0123456789abcdef", dimension=3, input_size=8)
NONE_BAD = pd.DataFrame(columns=list(QUARANTINE))


def vector(image_id: int) -> np.ndarray:
    return np.array([image_id, -image_id, 0.1], np.float32)


def store_of(folder: Path, *shards: list[int]) -> EmbeddingStore:
    folder.mkdir(exist_ok=True)
    for number, ids in enumerate(shards):
        vectors = np.array([vector(i) for i in ids], np.float32).reshape(-1, CARD.dimension)
        write_shard(folder, number, vectors, ids, NONE_BAD)
    assert finish_store(folder, len(shards), CARD) == sum(map(len, shards))
    return EmbeddingStore.open(folder)


@given(ids=st.sets(st.integers(0, 2**62), min_size=1, max_size=20), data=st.data())
def test_embeddings_are_found_by_id_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, ids: set[int], data: st.DataObject
) -> None:
    stored = data.draw(st.permutations(sorted(ids)))
    cut = data.draw(st.integers(0, len(stored)))
    store = store_of(tmp_path_factory.getbasetemp() / "store", stored[:cut], stored[cut:])
    asked = data.draw(st.lists(st.sampled_from(stored), max_size=30))
    found = store.lookup(asked)
    assert found.shape == (len(asked), 3)
    assert found.dtype == np.float32
    assert np.array_equal(found, np.array([vector(i) for i in asked], np.float32).reshape(-1, 3))


def test_an_id_without_embedding_is_named(tmp_path: Path) -> None:
    store = store_of(tmp_path, [1, 2], [3])
    with pytest.raises(KeyError, match=f"no embedding of image 77 and 1 others in {tmp_path}"):
        store.lookup([1, 77, 2, 78])


def test_shards_are_mapped_into_memory_not_read(tmp_path: Path) -> None:
    store = store_of(tmp_path, [1, 2], [], [3])
    shards = list(store.shards())
    assert [(number, len(vectors)) for number, vectors in shards] == [(0, 2), (2, 1)]
    assert all(isinstance(vectors, np.memmap) for _, vectors in shards)
    assert store.encoder == CARD


def test_tables_have_their_columns_also_when_they_are_empty(tmp_path: Path) -> None:
    for name, shards in (("none", []), ("empty", [[]]), ("full", [[1], [2]])):
        store = store_of(tmp_path / name, *shards)
        assert {column: str(dtype) for column, dtype in store.index.dtypes.items()} == EMBEDDING_INDEX
        assert {column: str(dtype) for column, dtype in store.quarantine.dtypes.items()} == QUARANTINE
        assert store.lookup([]).shape == (0, 3)


def test_quarantined_photographs_of_all_shards_are_kept(tmp_path: Path) -> None:
    for number in range(3):
        bad = pd.DataFrame([(number, "train", f"{number}.jpg", "empty")], columns=list(QUARANTINE))
        write_shard(tmp_path, number, np.zeros((0, 3)), [], bad.iloc[number % 2 :])
    finish_store(tmp_path, 3, CARD)
    assert EmbeddingStore.open(tmp_path).quarantine.to_dict("tight")["data"] == [
        [0, "train", "0.jpg", "empty"],
        [2, "train", "2.jpg", "empty"],
    ]


def test_a_shard_is_finished_when_all_of_it_is_there(tmp_path: Path) -> None:
    assert not shard_is_finished(tmp_path, 0)
    with pytest.raises(KeyError):  # after the vectors, before the index
        write_shard(tmp_path, 0, np.zeros((2, 3)), [1, 2], NONE_BAD.drop(columns="reason"))
    assert vectors_path(tmp_path, 0).exists()
    assert not shard_is_finished(tmp_path, 0)
    write_shard(tmp_path, 0, np.zeros((2, 3)), [1, 2], NONE_BAD)
    assert shard_is_finished(tmp_path, 0)
    assert not shard_is_finished(tmp_path, 1)
    assert not list(tmp_path.glob("*.tmp"))
