from collections import Counter
from collections.abc import Callable

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from components.decoder.batches import LENGTH_STEP, TrainingSet, drawn_at
from components.encoder.pool import Vectors
from components.encoder.store import EmbeddingStore
from components.vocabulary.vocabulary import Vocabulary
from data_contracts.schema import END, PAD, START, UNK

MAX_LENGTH = 7
VOCABULARY = Vocabulary.build([["a", "red", "kite", "dog"]], min_count=1)
Store = Callable[[list[int]], EmbeddingStore]


def no_vectors(images: int) -> Vectors:
    return Vectors([np.zeros((images, 5), np.float32)], np.zeros(images, int), np.arange(images), 5)


def captions(*rows: tuple[int, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["image_id", "tokens"])


def set_of(lengths: list[int]) -> TrainingSet:
    """Captions of so many words, each of an image of its own."""
    ids = np.full((len(lengths), MAX_LENGTH), PAD, np.int32)
    for row, length in zip(ids, lengths, strict=True):
        row[: length + 2] = [START, *[4] * length, END]
    return TrainingSet(no_vectors(len(lengths)), np.arange(len(lengths)), ids)


@given(captions=st.integers(1, 40), batch_size=st.integers(1, 90), steps=st.integers(1, 12), seed=st.integers(0, 99))
def test_no_caption_is_drawn_again_before_all_were_drawn(captions: int, batch_size: int, steps: int, seed: int) -> None:
    batches = [drawn_at(step, batch_size, captions, seed) for step in range(steps)]
    assert {len(batch) for batch in batches} == {batch_size}
    drawn = np.concatenate(batches)
    for start in range(0, len(drawn), captions):
        one_pass = drawn[start : start + captions]
        assert len(set(one_pass.tolist())) == len(one_pass)
        assert set(one_pass.tolist()) <= set(range(captions))
    counts = Counter(drawn.tolist())
    assert max(counts.values()) - min(counts.get(caption, 0) for caption in range(captions)) <= 1


def test_each_pass_and_each_seed_has_its_own_order_and_a_step_always_the_same() -> None:
    first, second = (drawn_at(step, 50, 50, seed=0).tolist() for step in (0, 1))
    assert first != second != sorted(second)
    assert first != drawn_at(0, 50, 50, seed=1).tolist()
    assert drawn_at(0, 50, 50, seed=0).tolist() == first  # after other passes and seeds


@given(lengths=st.lists(st.integers(0, MAX_LENGTH - 2), min_size=1, max_size=6))
def test_a_batch_keeps_every_end_and_weighs_all_but_padding(lengths: list[int]) -> None:
    batch = set_of(lengths).batch(np.arange(len(lengths)))
    assert batch.words.shape == batch.targets.shape == batch.weights.shape
    assert [str(a.dtype) for a in (batch.words, batch.embeddings, batch.weights)] == ["int32", "float32", "float32"]
    assert (batch.words[:, 0] == START).all()
    np.testing.assert_array_equal(batch.words[:, 1:], batch.targets[:, :-1])
    np.testing.assert_array_equal((batch.targets == END).sum(axis=1), 1)
    np.testing.assert_array_equal(batch.weights, batch.targets != PAD)
    np.testing.assert_array_equal(batch.weights.sum(axis=1), np.array(lengths) + 1)
    steps = batch.words.shape[1]
    assert steps <= MAX_LENGTH - 1
    assert steps - max(lengths) - 1 < LENGTH_STEP


def test_captions_are_joined_to_their_images_by_id(make_store: Store) -> None:
    table = captions((30, "a dog"), (30, "red dog"), (99, "a dog"), (10, "a red kite"), (20, "kite"))
    training = TrainingSet.build(table, VOCABULARY, make_store([20, 30, 5, 10]), MAX_LENGTH)
    batch = training.batch(np.array([3, 0, 2, 1]))
    assert batch.embeddings[:, 0].tolist() == [20, 30, 10, 30]
    texts = [" ".join(VOCABULARY.decode(ids)) for ids in batch.words]
    assert texts == ["kite", "a dog", "a red kite", "red dog"]


def test_captions_of_images_without_embedding_are_left_out(make_store: Store) -> None:
    training = TrainingSet.build(captions((1, "a dog"), (2, "a kite")), VOCABULARY, make_store([2]), MAX_LENGTH)
    assert len(training) == 1
    assert training.ids.tolist() == [[START, *(VOCABULARY.ids[word] for word in ("a", "kite")), END, PAD, PAD, PAD]]


def test_long_captions_are_cut_before_their_end_and_unknown_words_marked(make_store: Store) -> None:
    training = TrainingSet.build(captions((1, "unicorn a a a a a a a")), VOCABULARY, make_store([1]), MAX_LENGTH)
    assert training.ids.tolist() == [[START, UNK, *[VOCABULARY.ids["a"]] * 4, END]]
    assert training.batch(np.array([0])).targets.tolist() == [training.ids[0, 1:].tolist()]
