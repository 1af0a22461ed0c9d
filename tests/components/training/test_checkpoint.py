from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from components.decoder.model import Decoder, build_decoder
from components.training.checkpoint import AVERAGE_EVERY, CHECKPOINT_FILE, State
from components.training_config import DecoderConfig

Decoders = Callable[..., Decoder]


def moved(decoder: Decoder, by: float) -> None:
    for weight in decoder.trainable_variables:
        weight.assign_add(np.full(weight.shape, by, np.float32))


def values(variables: list[keras.Variable]) -> list[np.ndarray]:
    return [np.asarray(variable).copy() for variable in variables]


def assert_same(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def optimizer_after_a_step(decoder: Decoder) -> keras.Optimizer:
    optimizer = keras.optimizers.Adam(0.1)
    weights = decoder.trainable_variables
    optimizer.apply([np.ones(weight.shape, np.float32) for weight in weights], weights)
    return optimizer


@pytest.fixture
def state(random_decoder: Decoders) -> State:
    """A state in the middle of a second phase, with an average unlike the weights."""
    state = State(
        random_decoder(1), keras.random.SeedGenerator(1), [{"phase": 1, "epoch": 1}, {"phase": 2, "epoch": 2}]
    )
    state.start_average()
    moved(state.decoder, 1.0)
    keras.random.uniform((2,), seed=state.dropout)
    return state


@pytest.fixture
def fresh(toy: DecoderConfig) -> State:
    """A state that is as at the start of a training."""
    return State(build_decoder(toy, 8, 5), keras.random.SeedGenerator(0))


def test_the_average_moves_a_bounded_share_of_the_way_for_every_step_since_it_last_did(
    random_decoder: Decoders,
) -> None:
    decoder = random_decoder(0)
    state = State(decoder, keras.random.SeedGenerator(0))
    state.start_average()
    start = values(decoder.trainable_variables)
    moved(decoder, 1.0)
    left, taken, found, expected = 1.0, 0, [], []
    for since in [AVERAGE_EVERY, AVERAGE_EVERY, 3] * 10:
        taken += since
        left *= min(0.99**since, (1 + taken / AVERAGE_EVERY) / (10 + taken / AVERAGE_EVERY))
        expected.append(1 - left)
        state.update_average(taken, since, 0.99)
        found.append(float((state.average[0] - start[0]).mean()))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    for mean, weight in zip(state.average, start, strict=True):
        np.testing.assert_allclose(mean, weight + expected[-1], atol=1e-4)


def test_an_average_that_keeps_nothing_is_the_weights(random_decoder: Decoders) -> None:
    state = State(random_decoder(0), keras.random.SeedGenerator(0))
    state.start_average()
    moved(state.decoder, 0.5)
    state.update_average(AVERAGE_EVERY, AVERAGE_EVERY, 0.0)
    for mean, weight in zip(state.average, state.decoder.trainable_variables, strict=True):
        np.testing.assert_allclose(mean, weight, atol=1e-6)


def test_weights_and_average_change_places_and_back(state: State) -> None:
    weights, average = values(state.decoder.trainable_variables), [mean.copy() for mean in state.average]
    state.swap_average()
    assert_same(values(state.decoder.trainable_variables), average)
    assert_same(state.average, weights)
    state.swap_average()
    assert_same(values(state.decoder.trainable_variables), weights)
    assert_same(state.average, average)


def test_a_checkpoint_brings_back_all_that_training_changes(state: State, tmp_path: Path, fresh: State) -> None:
    optimizer = optimizer_after_a_step(state.decoder)
    state.save(optimizer, tmp_path)
    untouched, resumed = keras.optimizers.Adam(0.1), keras.optimizers.Adam(0.1)
    fresh.restore([untouched, resumed], tmp_path)
    assert fresh.history == state.history
    assert_same(values(fresh.decoder.weights), values(state.decoder.weights))
    assert_same(values(resumed.variables), values(optimizer.variables))
    assert_same(fresh.average, state.average)
    assert not untouched.built  # the checkpoint is of the second phase
    drawn = [np.asarray(keras.random.uniform((3,), seed=one.dropout)) for one in (fresh, state)]
    np.testing.assert_array_equal(*drawn)


def test_without_a_checkpoint_nothing_changes(tmp_path: Path, fresh: State) -> None:
    before = values(fresh.decoder.weights)
    fresh.restore([keras.optimizers.Adam(0.1)], tmp_path)
    assert not fresh.history
    assert_same(values(fresh.decoder.weights), before)


def test_a_checkpoint_that_is_not_written_to_the_end_leaves_the_one_before(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimizer = optimizer_after_a_step(state.decoder)
    state.save(optimizer, tmp_path)
    before = (tmp_path / CHECKPOINT_FILE).read_bytes()

    def broken(file: object, **arrays: np.ndarray) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez", broken)
    with pytest.raises(OSError, match="no space"):
        state.save(optimizer, tmp_path)
    assert (tmp_path / CHECKPOINT_FILE).read_bytes() == before
