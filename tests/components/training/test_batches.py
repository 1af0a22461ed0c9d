from collections import Counter
from collections.abc import Callable

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from components.encoder.store import EmbeddingStore
from components.training.batches import LENGTH_STEP, BatchSampler, TrainingSet, shifted
from components.training.cider import LAST_ID
from components.vocabulary.vocabulary import Vocabulary
from data_contracts.schema import END, PAD, START, UNK

MAX_LENGTH = 7
VOCABULARY = Vocabulary.build([["a", "red", "kite", "dog"]], min_count=1)
A, DOG, KITE, RED = (VOCABULARY.ids[word] for word in ("a", "dog", "kite", "red"))
Store = Callable[[list[int]], EmbeddingStore]
Sets = Callable[..., TrainingSet]

caption_lengths = st.lists(st.integers(1, 20), min_size=1, max_size=40).map(np.array)
batch_sizes, seeds = st.integers(1, 90), st.integers(0, 99)


def captions(*rows: tuple[int, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["image_id", "tokens"])


def passes(order: BatchSampler, count: int) -> list[list[np.ndarray]]:
    """The batches of the first passes."""
    return [[order.at(number * order.batches + place) for place in range(order.batches)] for number in range(count)]


@given(lengths=caption_lengths, batch_size=batch_sizes, seed=seeds)
def test_every_pass_shows_every_caption_once_but_for_what_fills_the_last_batch(
    lengths: np.ndarray, batch_size: int, seed: int
) -> None:
    order, captions = BatchSampler(lengths, batch_size, seed), len(lengths)
    for batches in passes(order, 3):
        assert {batch.shape for batch in batches} == {(batch_size,)}
        shown = sum(map(len, batches))
        assert 0 <= shown - captions < batch_size
        counts = Counter(np.concatenate(batches).tolist())
        assert set(counts) == set(range(captions))
        assert set(counts.values()) <= {shown // captions, -(-shown // captions)}


@given(lengths=caption_lengths, batch_size=batch_sizes, seed=seeds, steps=st.lists(st.integers(0, 200), max_size=6))
def test_a_step_is_a_function_of_its_number(lengths: np.ndarray, batch_size: int, seed: int, steps: list[int]) -> None:
    order = BatchSampler(lengths, batch_size, seed)
    for step in steps:
        np.testing.assert_array_equal(order.at(step), BatchSampler(lengths, batch_size, seed).at(step))


@given(lengths=caption_lengths, batch_size=batch_sizes, seed=seeds)
def test_captions_of_a_batch_are_about_equally_long(lengths: np.ndarray, batch_size: int, seed: int) -> None:
    (batches,) = passes(BatchSampler(lengths, batch_size, seed), 1)
    # Batches divide the captions by length: together they span no more than all captions do.
    assert sum(np.ptp(lengths[batch]) for batch in batches) <= np.ptp(lengths)


def test_little_of_a_pass_is_padding(set_of: Sets) -> None:
    random = np.random.default_rng(0)
    lengths = np.clip(random.normal(10, 3, 2000).round().astype(int), 3, 18)
    data = set_of([[4] * length for length in lengths], max_length=20)
    (batches,) = passes(BatchSampler(data.lengths, 50, 0), 1)
    targets = np.concatenate([data.batch(batch).targets.ravel() for batch in batches])
    assert (targets == PAD).mean() < 0.08


def test_each_pass_and_each_seed_has_its_own_order_and_lengths_come_mixed() -> None:
    lengths = np.repeat(np.arange(1, 11), 20)
    first, second = passes(BatchSampler(lengths, 10, seed=0), 2)
    (other,) = passes(BatchSampler(lengths, 10, seed=1), 1)
    assert np.concatenate(first).tolist() != np.concatenate(second).tolist()
    assert np.concatenate(first).tolist() != np.concatenate(other).tolist()
    met = {frozenset(batch.tolist()) for batch in first} & {frozenset(batch.tolist()) for batch in second}
    assert not met  # who is in a batch with whom changes too
    means = [lengths[batch].mean() for batch in first]
    assert means not in (sorted(means), sorted(means, reverse=True))


@given(lengths=st.lists(st.integers(0, MAX_LENGTH - 2), min_size=1, max_size=6))
def test_a_batch_keeps_every_end_and_weighs_all_but_padding_alike(set_of: Sets, lengths: list[int]) -> None:
    data = set_of([[4] * length for length in lengths])
    batch = data.batch(np.arange(len(lengths)))
    assert batch.words.shape == batch.targets.shape == batch.weights.shape
    assert [str(array.dtype) for array in batch] == ["int32", "int32", "int32", "float32"]
    assert (batch.words[0] == START).all()
    np.testing.assert_array_equal(batch.words[1:], batch.targets[:-1])
    np.testing.assert_array_equal((batch.targets == END).sum(axis=0), 1)
    np.testing.assert_array_equal(batch.weights > 0, batch.targets != PAD)
    np.testing.assert_array_equal((batch.weights > 0).sum(axis=0), np.array(lengths) + 1)
    np.testing.assert_array_equal(data.lengths, np.array(lengths) + 1)
    np.testing.assert_allclose(batch.weights[batch.weights > 0], 1 / (sum(lengths) + len(lengths)), rtol=1e-6)
    steps = len(batch.words)
    assert steps <= MAX_LENGTH - 1
    assert steps - max(lengths) - 1 < LENGTH_STEP


def test_a_caption_that_lost_its_end_is_shifted_like_any_other() -> None:
    words, targets, weights = shifted(np.array([[START, 4, 5], [START, END, PAD]], np.int32))
    assert words.T.tolist() == [[START, 4], [START, END]]
    assert targets.T.tolist() == [[4, 5], [END, PAD]]
    np.testing.assert_allclose(weights.T, [[1 / 3, 1 / 3], [1 / 3, 0]])


def test_captions_are_joined_to_their_images_by_id(make_store: Store) -> None:
    table = captions((30, "a dog"), (30, "red dog"), (99, "a dog"), (10, "a red kite"), (20, "kite"))
    training = TrainingSet.build(table, VOCABULARY, make_store([20, 30, 5, 10]), MAX_LENGTH)
    batch = training.batch(np.array([3, 0, 2, 1]))
    assert training.embeddings[batch.images, 0].tolist() == [20, 30, 10, 30]
    texts = [" ".join(VOCABULARY.decode(ids)) for ids in batch.words.T]
    assert texts == ["kite", "a dog", "a red kite", "red dog"]
    assert training.embeddings.dtype == np.float32
    assert training.embeddings.shape == (3, 5)  # none of image 5, which has no caption


def test_captions_of_images_without_embedding_are_left_out(make_store: Store) -> None:
    training = TrainingSet.build(captions((1, "a dog"), (2, "a kite")), VOCABULARY, make_store([2]), MAX_LENGTH)
    assert len(training) == 1
    assert training.ids.tolist() == [[START, A, KITE, END, PAD, PAD, PAD]]
    assert training.references.tolist() == [[A, KITE, END]]


def test_long_captions_are_cut_before_their_end_and_unknown_words_marked(make_store: Store) -> None:
    training = TrainingSet.build(captions((1, "unicorn a a a a a a a")), VOCABULARY, make_store([1]), MAX_LENGTH)
    assert training.ids.tolist() == [[START, UNK, *[A] * 4, END]]
    assert training.batch(np.array([0])).targets.T.tolist() == [training.ids[0, 1:].tolist()]


def test_references_are_whole_and_tell_unknown_words_apart(make_store: Store) -> None:
    table = captions((1, "a unicorn"), (2, "red griffin a a a a a dog"), (1, "griffin unicorn kite"), (2, ""))
    training = TrainingSet.build(table, VOCABULARY, make_store([1, 2]), MAX_LENGTH)
    unicorn, griffin = len(VOCABULARY), len(VOCABULARY) + 1
    expected = [[A, unicorn, END], [RED, griffin, A, A, A, A, A, DOG, END], [griffin, unicorn, KITE, END], [END]]
    assert training.references.tolist() == [row + [PAD] * (9 - len(row)) for row in expected]
    assert training.references.dtype == np.int32
    assert training.image_rows.tolist() == [0, 1, 0, 1]


def test_a_special_spelled_out_in_a_caption_is_an_ordinary_unknown_word(make_store: Store) -> None:
    training = TrainingSet.build(captions((1, "<end> a <pad>")), VOCABULARY, make_store([1]), MAX_LENGTH)
    assert training.ids.tolist() == [[START, UNK, A, UNK, END, PAD, PAD]]
    assert training.references.tolist() == [[8, A, 9, END]]


def test_words_beyond_the_last_id_share_it(make_store: Store) -> None:
    text = " ".join(f"word{number}" for number in range(LAST_ID))
    training = TrainingSet.build(captions((1, text)), VOCABULARY, make_store([1]), MAX_LENGTH)
    ids = training.references[0, :-1]
    np.testing.assert_array_equal(ids, np.minimum(np.arange(LAST_ID) + len(VOCABULARY), LAST_ID))


def test_no_captions_make_an_empty_set(make_store: Store) -> None:
    assert len(TrainingSet.build(captions((9, "a dog")), VOCABULARY, make_store([1]), MAX_LENGTH)) == 0
