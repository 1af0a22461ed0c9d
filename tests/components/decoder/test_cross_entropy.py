import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from components.decoder.cross_entropy import cross_entropy

Arrays = list[tf.Tensor]

few = settings(max_examples=30, derandomize=True)
seeds = st.integers(0, 999)
sizes = st.tuples(st.integers(1, 7), st.integers(1, 4), st.integers(2, 9))
smoothings = st.sampled_from([0.0, 0.1, 0.5, 0.9])


def drawn(seed: int, size: tuple[int, int, int]) -> tuple[Arrays, np.ndarray, np.ndarray]:
    """Random hidden, table and bias, targets, and weights of either sign, some 0, of (tokens, width, vocabulary)."""
    random, (tokens, width, words) = np.random.default_rng(seed), size
    arrays = [random.normal(size=shape).astype(np.float32) for shape in ((tokens, width), (width, words), (words,))]
    weights = random.choice([-1.5, -0.2, 0.0, 0.3, 1.0], tokens).astype(np.float32)
    return [tf.constant(array) for array in arrays], random.integers(0, words, tokens).astype(np.int32), weights


def keras_loss(arrays: Arrays, targets: np.ndarray, weights: np.ndarray, smoothing: float) -> tf.Tensor:
    hidden, table, bias = arrays
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing, reduction="none")
    return tf.reduce_sum(weights * loss(tf.one_hot(targets, table.shape[1]), hidden @ table + bias))


@given(seed=seeds, size=sizes, smoothing=smoothings)
@few
def test_it_equals_keras_in_value_and_gradient_whatever_the_weights(
    seed: int, size: tuple[int, int, int], smoothing: float
) -> None:
    arrays, targets, weights = drawn(seed, size)
    with tf.GradientTape() as tape:
        tape.watch(arrays)
        expected = keras_loss(arrays, targets, weights, smoothing)
    wanted = tape.gradient(expected, arrays)
    with tf.GradientTape() as tape:
        tape.watch(arrays)
        found, _, _ = cross_entropy(*arrays, targets, weights, smoothing, "float32")
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    for name, own, theirs in zip(("hidden", "table", "bias"), tape.gradient(found, arrays), wanted, strict=True):
        np.testing.assert_allclose(own, theirs, rtol=1e-4, atol=1e-5, err_msg=name)


@given(seed=seeds, size=sizes, smoothing=smoothings)
@few
def test_plain_loss_and_right_guesses_are_told_whatever_the_smoothing(
    seed: int, size: tuple[int, int, int], smoothing: float
) -> None:
    arrays, targets, weights = drawn(seed, size)
    hidden, table, bias = (np.asarray(array, np.float64) for array in arrays)
    logits = hidden @ table + bias
    logprobs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    _, plain, right = cross_entropy(*arrays, targets, weights, smoothing, "float32")
    assert float(plain) == pytest.approx(-weights @ logprobs[np.arange(len(targets)), targets], rel=1e-4, abs=1e-5)
    assert float(right) == pytest.approx(weights @ (logits.argmax(axis=1) == targets), rel=1e-5, abs=1e-6)


def test_the_gradient_of_a_multiple_is_the_multiple_of_the_gradient_and_compiling_changes_nothing() -> None:
    arrays, targets, weights = drawn(1, (5, 3, 6))

    def gradient(factor: float) -> Arrays:
        with tf.GradientTape() as tape:
            tape.watch(arrays)
            loss = factor * cross_entropy(*arrays, targets, weights, 0.1, "float32")[0]
        found: Arrays = tape.gradient(loss, arrays)
        return found

    for once, thrice, compiled in zip(gradient(1.0), gradient(-3.0), tf.function(gradient)(1.0), strict=True):
        np.testing.assert_allclose(-3 * once, thrice, rtol=1e-5)
        np.testing.assert_allclose(once, compiled, rtol=1e-5, atol=1e-7)


def test_only_the_smoothed_loss_has_a_gradient() -> None:
    arrays, targets, weights = drawn(4, (5, 3, 6))
    with tf.GradientTape() as tape:
        tape.watch(arrays)
        _, plain, right = cross_entropy(*arrays, targets, weights, 0.1, "float32")
        told = plain + right
    assert not any(np.any(gradient) for gradient in tape.gradient(told, arrays))


def test_enormous_logits_give_numbers() -> None:
    table, bias = tf.eye(3) * 1e4, tf.zeros(3)
    with tf.GradientTape() as tape:
        tape.watch(table)
        loss, plain, right = cross_entropy(tf.eye(3), table, bias, np.array([0, 1, 0]), np.ones(3), 0.1, "float32")
    assert float(plain) == pytest.approx(1e4)
    assert float(right) == 2
    assert np.isfinite(loss)
    assert np.isfinite(tape.gradient(loss, table)).all()


@pytest.mark.parametrize("seed", range(3))
def test_bfloat16_is_close_to_float32(seed: int) -> None:
    arrays, targets, weights = drawn(seed, (40, 24, 60))
    found = []
    for precision in ("float32", "bfloat16"):
        with tf.GradientTape() as tape:
            tape.watch(arrays)
            sums = cross_entropy(*arrays, targets, np.abs(weights), 0.1, precision)
        found.append([tf.stack(sums[:2]), *tape.gradient(sums[0], arrays)])
    for exact, rounded in zip(*found, strict=True):
        assert rounded.dtype == tf.float32
        apart = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
        assert 1e-6 < apart < 0.02
