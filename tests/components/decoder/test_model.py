import random
from collections.abc import Callable
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.decoder.lstm import Precision
from components.decoder.model import CLIP_SIGMA, Decoder, Place, Tensor, build_decoder
from components.training_config import DecoderConfig

Decoders = Callable[..., Decoder]
Embeddings = Callable[[int, int], np.ndarray]

STEPS = 6
FLAGS = ("standardize_embeddings", "separate_states", "image_at_every_step", "tie_embeddings")
EVERY_CONFIGURATION = [dict(zip(FLAGS, flags, strict=True)) for flags in product([False, True], repeat=len(FLAGS))]

every_configuration = pytest.mark.parametrize(
    "options", EVERY_CONFIGURATION, ids=lambda options: " ".join(f for f in FLAGS if options[f]) or "notebook"
)


def words_of(seed: int, captions: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 8, (captions, STEPS)).astype(np.int32)


def reference_logits(decoder: Decoder, embeddings: np.ndarray, words: np.ndarray) -> np.ndarray:
    """The network in NumPy, from the decoder's weights by name, in float64: (captions, steps, words)."""
    weights = {weight.path.removeprefix("decoder/"): np.asarray(weight, np.float64) for weight in decoder.weights}

    def dense(name: str, values: np.ndarray) -> np.ndarray:
        return np.asarray(values @ weights[f"{name}/kernel"] + weights[f"{name}/bias"])

    if decoder.standardize_embeddings:
        embeddings = np.clip((embeddings - weights["mean"]) / weights["deviation"], -6, 6)
    image = elu(dense("image_projection", embeddings))
    hidden = elu(dense("to_hidden", image))
    cell = elu(dense("to_cell", image)) if "to_cell/kernel" in weights else hidden
    shown = dense("image_gates", image) if "image_gates/kernel" in weights else 0
    vectors = weights["word_embedding/embeddings"]
    chosen_by = weights.get("logit_kernel", vectors.T)
    logits = []
    for column in words.T:
        gates = dense("word_gates", vectors[column]) + hidden @ weights["recurrent"] + shown
        enter, forget, leave, candidate = np.split(gates, 4, axis=1)
        cell = sigmoid(forget) * cell + sigmoid(enter) * np.tanh(candidate)
        hidden = sigmoid(leave) * np.tanh(cell)
        logits.append(elu(dense("output_projection", hidden)) @ chosen_by + weights["logit_bias"])
    return np.stack(logits, axis=1)


def sigmoid(values: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-values)))


def elu(values: np.ndarray) -> np.ndarray:
    return np.where(values > 0, values, np.expm1(np.minimum(values, 0)))


def standardised(decoder: Decoder, embeddings: np.ndarray) -> np.ndarray:
    """What the decoder makes of embeddings before anything else."""
    seen: dict[Place, np.ndarray] = {}

    def drop(values: Tensor, place: Place) -> Tensor:
        seen[place] = np.asarray(values)
        return values

    decoder.first_state(embeddings, drop)
    return seen["image"]


@every_configuration
def test_equals_the_reference_in_numpy(
    random_decoder: Decoders, random_embeddings: Embeddings, options: dict[str, bool]
) -> None:
    decoder, embeddings, words = random_decoder(1, **options), 3 * random_embeddings(2, 10), words_of(3, 10)
    logits = np.asarray(decoder((embeddings, words)))
    assert logits.shape == (10, STEPS, 8)
    np.testing.assert_allclose(logits, reference_logits(decoder, embeddings, words), rtol=1e-4, atol=1e-4)


@every_configuration
def test_word_by_word_equals_the_whole_caption(
    random_decoder: Decoders, random_embeddings: Embeddings, options: dict[str, bool]
) -> None:
    decoder, embeddings, words = random_decoder(4, **options), random_embeddings(5, 10), words_of(6, 10)
    state, steps = decoder.first_state(embeddings), []
    for column in words.T:
        outputs, state = decoder.step(column, state)
        logits = outputs @ decoder.table + decoder.logit_bias
        steps.append(np.asarray(logits))
    whole = np.asarray(decoder((embeddings, words)))
    np.testing.assert_allclose(np.stack(steps, axis=1), whole, atol=1e-5)
    from_outputs = decoder.outputs(embeddings, words.T) @ decoder.table + decoder.logit_bias
    np.testing.assert_allclose(np.reshape(from_outputs, (STEPS, 10, 8)), whole.transpose(1, 0, 2), atol=1e-5)


@given(seed=st.integers(0, 999), count=st.integers(2, 30), offset=st.floats(-5, 5), scale=st.floats(0.1, 5))
@settings(max_examples=15, derandomize=True)
def test_fitted_embeddings_have_mean_0_and_deviation_1(
    random_decoder: Decoders, random_embeddings: Embeddings, seed: int, count: int, offset: float, scale: float
) -> None:
    decoder = random_decoder(0, standardize_embeddings=True)
    embeddings = random_embeddings(seed, count) * np.float32(scale) + np.float32(offset)
    decoder.fit_embeddings(embeddings)
    found = standardised(decoder, embeddings)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(found.std(axis=0), 1, atol=1e-3)  # of 30 numbers none is 6 deviations from the mean


def test_a_number_that_never_changed_becomes_0_whatever_it_is_later(
    random_decoder: Decoders, random_embeddings: Embeddings
) -> None:
    decoder, embeddings = random_decoder(0, standardize_embeddings=True), random_embeddings(1, 50)
    embeddings[:, 2], embeddings[:, 4] = 0.1, 0
    decoder.fit_embeddings(embeddings)
    found = standardised(decoder, embeddings + 1000)
    assert not found[:, [2, 4]].any()
    assert found[:, [0, 1, 3]].all()
    decoder.fit_embeddings(embeddings[:1])  # all of one image's never change
    assert not standardised(decoder, embeddings).any()


def test_a_standardised_embedding_is_cut_off_at_six_deviations(
    random_decoder: Decoders, random_embeddings: Embeddings
) -> None:
    decoder = random_decoder(0, standardize_embeddings=True)
    decoder.fit_embeddings(random_embeddings(1, 50))
    far = standardised(decoder, np.array([[1e6] * 5, [-1e6] * 5], np.float32))
    assert far.tolist() == [[CLIP_SIGMA] * 5, [-CLIP_SIGMA] * 5] == [[6.0] * 5, [-6.0] * 5]
    within = np.asarray(decoder.mean) + 5.9 * np.asarray(decoder.deviation)
    np.testing.assert_allclose(standardised(decoder, within[None]), 5.9, rtol=1e-4)


both_ends = pytest.mark.parametrize(
    "options", [EVERY_CONFIGURATION[0], EVERY_CONFIGURATION[-1]], ids=["notebook", "all"]
)


@both_ends
def test_dropout_stands_at_three_places_once_each(
    random_decoder: Decoders, random_embeddings: Embeddings, options: dict[str, bool]
) -> None:
    decoder, embeddings, words = random_decoder(1, **options), random_embeddings(2, 5), words_of(3, 5).T
    calls: list[tuple[Place, tuple[int, ...]]] = []

    def watch(values: Tensor, place: Place) -> Tensor:
        calls.append((place, tuple(values.shape)))
        return values

    watched = decoder.outputs(embeddings, words, drop=watch)
    assert calls == [("image", (5, 5)), ("word", (STEPS * 5, 3)), ("output", (STEPS * 5, 4))]
    np.testing.assert_array_equal(watched, decoder.outputs(embeddings, words))


@both_ends
def test_what_is_dropped_has_no_influence(
    random_decoder: Decoders, random_embeddings: Embeddings, options: dict[str, bool]
) -> None:
    decoder, embeddings = random_decoder(1, **options), random_embeddings(2, 5)
    others, constant = np.roll(embeddings, 1, axis=0), np.full((STEPS, 5), 4)

    def without(gone: Place, embeddings: np.ndarray, words: np.ndarray) -> np.ndarray:
        return np.asarray(decoder.outputs(embeddings, words, drop=lambda v, place: 0 * v if place == gone else v))

    def is_same(gone: Place, embeddings: np.ndarray, words: np.ndarray) -> bool:
        return np.allclose(without(gone, embeddings, words), without(gone, others, constant), atol=1e-5)

    assert is_same("image", embeddings, constant)
    assert not is_same("image", others, constant + 1)
    assert is_same("word", others, constant + 1)
    assert not is_same("word", embeddings, constant)
    assert is_same("output", embeddings, words_of(3, 5).T)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_outputs_are_close_to_the_exact_ones_in_either_precision(
    random_decoder: Decoders, random_embeddings: Embeddings, precision: Precision
) -> None:
    decoder, embeddings, words = random_decoder(1), random_embeddings(2, 20), words_of(3, 20)
    exact = reference_logits(decoder, embeddings, words).transpose(1, 0, 2).reshape(-1, 8)
    found = decoder.outputs(embeddings, words.T, precision) @ decoder.table + decoder.logit_bias
    apart = np.linalg.norm(found - exact) / np.linalg.norm(exact)
    assert apart < 1e-6 if precision == "float32" else 1e-5 < apart < 0.02


def test_the_first_weights_neither_use_nor_move_the_random_numbers_of_the_process(toy: DecoderConfig) -> None:
    random.seed(1)
    before = random.getstate()
    first = build_decoder(toy, 9, 5).get_weights()
    assert random.getstate() == before
    random.seed(2)  # as another thread may, at any moment
    for one, other in zip(first, build_decoder(toy, 9, 5).get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_seed_decides_the_first_weights(toy: DecoderConfig) -> None:
    seeds = (0, 0, 1)
    first, same, other = (build_decoder(toy.model_copy(update={"seed": s}), 8, 5).get_weights() for s in seeds)
    assert all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    assert not any(a.shape == b.shape and np.array_equal(a, b) for a, b in pairwise(w for w in first if w.any()))


def test_the_forget_gate_starts_open_and_the_embedding_as_it_is(toy: DecoderConfig) -> None:
    decoder = build_decoder(toy, 8, 5)
    enter, keep, leave, candidate = np.split(np.asarray(decoder.word_gates.bias), 4)
    assert (keep == 1).all()
    assert not np.any([enter, leave, candidate])
    assert not np.any(decoder.mean)
    np.testing.assert_array_equal(decoder.deviation, 1)
    assert {"mean", "deviation"} == {weight.name for weight in decoder.non_trainable_variables}
