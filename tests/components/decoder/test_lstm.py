import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from components.decoder import lstm
from components.decoder.lstm import Precision

Arguments = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

few = settings(max_examples=25, derandomize=True)
shapes = st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(1, 5))


def arguments(seed: int, shape: tuple[int, int, int]) -> Arguments:
    """Random gates, recurrent weights, hidden and cell state, of (steps, batch, units)."""
    random, (steps, batch, units) = np.random.default_rng(seed), shape
    sizes = [(steps, batch, 4 * units), (units, 4 * units), (batch, units), (batch, units)]
    gates, recurrent, hidden, cell = (random.normal(size=size).astype(np.float32) for size in sizes)
    return gates, recurrent, hidden, cell


def reference(gates: np.ndarray, recurrent: np.ndarray, hidden: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """The LSTM of Hochreiter & Schmidhuber with forget gates, in float64: gates in, forget, out, then candidate."""
    states = []
    for inputs in gates.astype(np.float64):
        enter, forget, leave, candidate = np.split(inputs + hidden @ recurrent, 4, axis=1)
        cell = sigmoid(forget) * cell + sigmoid(enter) * np.tanh(candidate)
        hidden = sigmoid(leave) * np.tanh(cell)
        states.append(hidden)
    return np.stack(states)


def sigmoid(values: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-values)))


def unroll(values: Arguments, precision: Precision = "float32") -> tf.Tensor:
    gates, recurrent, hidden, cell = values
    return lstm.unroll(gates, recurrent, (hidden, cell), precision)


def step_by_step(values: Arguments) -> tf.Tensor:
    gates, recurrent, *state = values
    states = []
    for inputs in tf.unstack(gates):
        state = lstm.step(inputs, recurrent, tuple(state))
        states.append(state[0])
    return tf.stack(states)


@given(seed=st.integers(0, 999), shape=shapes)
@few
def test_unrolled_it_is_the_lstm_of_the_literature(seed: int, shape: tuple[int, int, int]) -> None:
    values = arguments(seed, shape)
    states = np.asarray(unroll(values))
    assert states.shape == shape
    assert states.dtype == np.float32
    np.testing.assert_allclose(states, reference(*values), atol=1e-5)


@given(seed=st.integers(0, 999), shape=shapes)
@few
def test_its_own_gradient_is_the_automatic_one_of_its_steps(seed: int, shape: tuple[int, int, int]) -> None:
    values = [tf.constant(value) for value in arguments(seed, shape)]
    upstream = np.random.default_rng(seed + 1).normal(size=shape).astype(np.float32)
    found = []
    for run in (unroll, step_by_step):
        with tf.GradientTape() as tape:
            tape.watch(values)
            loss = tf.reduce_sum(run(values) * upstream)
        found.append(tape.gradient(loss, values))
    for name, own, automatic in zip(("gates", "recurrent", "hidden", "cell"), *found, strict=True):
        assert np.abs(automatic).max() > 0
        np.testing.assert_allclose(own, automatic, rtol=1e-4, atol=1e-5, err_msg=name)


def test_it_is_the_same_compiled_and_with_a_variable_for_weights() -> None:
    gates, recurrent, hidden, cell = arguments(3, (4, 2, 3))
    variable = tf.Variable(recurrent)

    @tf.function
    def compiled() -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            states = lstm.unroll(tf.constant(gates), variable, (tf.constant(hidden), tf.constant(cell)), "float32")
            loss = tf.reduce_sum(states**2)
        return states, tape.gradient(loss, variable)

    with tf.GradientTape() as tape:
        expected = step_by_step((gates, variable, hidden, cell))
        loss = tf.reduce_sum(expected**2)
    states, gradient = compiled()
    np.testing.assert_allclose(states, expected, atol=1e-6)
    np.testing.assert_allclose(gradient, tape.gradient(loss, variable), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_bfloat16_is_close_to_float32_in_values_and_gradients(seed: int) -> None:
    values = [tf.constant(value) for value in arguments(seed, (8, 6, 16))]
    values[1] = values[1] / 4  # so that gates are not all open or shut
    found = []
    for precision in ("float32", "bfloat16"):
        with tf.GradientTape() as tape:
            tape.watch(values)
            states = unroll(values, precision)
            loss = tf.reduce_sum(states * np.sin(np.arange(8 * 6 * 16)).reshape(8, 6, 16))
        found.append([states, *tape.gradient(loss, values)])
    for name, exact, rounded in zip(("states", "gates", "recurrent", "hidden", "cell"), *found, strict=True):
        assert rounded.dtype == tf.float32
        apart = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
        assert 1e-6 < apart < 0.03, name
