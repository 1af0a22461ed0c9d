from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from components.config import DecoderConfig
from components.decoder.model import Decoder, build_decoder

Embeddings = Callable[[int, int], np.ndarray]
STEPS = 6


def words_of(seed: int, captions: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 8, (captions, STEPS)).astype(np.int32)


def dense(decoder: Decoder, name: str, values: np.ndarray, activation: bool = True) -> np.ndarray:
    kernel, bias = (np.asarray(w, np.float64) for w in decoder.get_layer(name).get_weights())
    values = values @ kernel + bias
    return np.where(values > 0, values, np.expm1(np.minimum(values, 0))) if activation else values


def reference_logits(decoder: Decoder, embeddings: np.ndarray, words: np.ndarray) -> np.ndarray:
    """The notebook's network in NumPy, with the LSTM of Hochreiter & Schmidhuber (gates: in, forget, cell, out)."""
    kernel, recurrent, bias = (np.asarray(w, np.float64) for w in decoder.get_layer("lstm").get_weights())
    (vectors,) = decoder.get_layer("word_embedding").get_weights()
    image = dense(decoder, "image_bottleneck", embeddings)
    hidden = dense(decoder, "to_hidden", image)
    cell = hidden if decoder.to_cell is None else dense(decoder, "to_cell", image)
    logits = []
    for column in words.T:
        gates = vectors[column] @ kernel + hidden @ recurrent + bias
        enter, forget, candidate, leave = np.split(gates, 4, axis=1)
        cell = sigmoid(forget) * cell + sigmoid(enter) * np.tanh(candidate)
        hidden = sigmoid(leave) * np.tanh(cell)
        logits.append(dense(decoder, "logits", dense(decoder, "logit_bottleneck", hidden), activation=False))
    return np.stack(logits, axis=1)


def sigmoid(values: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-values)))


@pytest.mark.parametrize("separate_states", [False, True])
def test_equals_the_reference_in_numpy(
    random_decoder: Callable[..., Decoder], random_embeddings: Embeddings, separate_states: bool
) -> None:
    decoder = random_decoder(1, separate_states=separate_states)
    embeddings, words = random_embeddings(2, 10), words_of(3, 10)
    logits = np.asarray(decoder((embeddings, words)))
    np.testing.assert_allclose(logits, reference_logits(decoder, embeddings, words), atol=1e-5)


@pytest.mark.parametrize("separate_states", [False, True])
def test_word_by_word_equals_the_whole_caption(
    random_decoder: Callable[..., Decoder], random_embeddings: Embeddings, separate_states: bool
) -> None:
    decoder = random_decoder(4, separate_states=separate_states)
    embeddings, words = random_embeddings(5, 10), words_of(6, 10)
    state, steps = decoder.first_state(embeddings), []
    for column in words.T:
        logits, state = decoder.step(column, state)
        steps.append(np.asarray(logits))
    np.testing.assert_allclose(np.stack(steps, axis=1), np.asarray(decoder((embeddings, words))), atol=1e-5)


def test_a_later_word_changes_nothing_before_it(
    random_decoder: Callable[..., Decoder], random_embeddings: Embeddings
) -> None:
    decoder, embeddings, words = random_decoder(7), random_embeddings(8, 4), words_of(9, 4)
    changed = words.copy()
    changed[:, 3] = (words[:, 3] + 1) % 8
    before, after = np.asarray(decoder((embeddings, words))), np.asarray(decoder((embeddings, changed)))
    np.testing.assert_array_equal(before[:, :3], after[:, :3])
    assert not np.allclose(before[:, 3:], after[:, 3:])


def test_the_states_are_one_projection_or_two(
    random_decoder: Callable[..., Decoder], random_embeddings: Embeddings
) -> None:
    hidden, cell = random_decoder(1).first_state(random_embeddings(2, 3))
    np.testing.assert_array_equal(hidden, cell)
    hidden, cell = random_decoder(1, separate_states=True).first_state(random_embeddings(2, 3))
    assert not np.allclose(hidden, cell)


def test_a_seed_decides_the_first_weights(toy: DecoderConfig) -> None:
    seeds = (0, 0, 1)
    first, same, other = (build_decoder(toy.model_copy(update={"seed": s}), 8, 5).get_weights() for s in seeds)
    assert all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    assert not any(a.shape == b.shape and np.array_equal(a, b) for a, b in pairwise(w for w in first if w.any()))
