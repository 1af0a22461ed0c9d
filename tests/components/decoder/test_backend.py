import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from components.decoder.backend import Tensor, compile_function, compile_step, resident

needs_jax = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")


def test_a_step_goes_down_the_gradient_and_tells_figures() -> None:
    place = keras.Variable(np.array([3.0, -1.0], np.float32))

    def distance(target: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        apart = place - target
        return ops.sum(apart**2), (ops.sum(apart**2), ops.max(ops.abs(apart)))

    step = compile_step(distance, keras.optimizers.SGD(0.25), [place], [])
    figures = step(np.array([1.0, 1.0], np.float32))
    assert figures == pytest.approx([8, 2])  # of the weights before the step
    assert all(type(figure) is float for figure in figures)
    np.testing.assert_allclose(place, [2, 0])
    assert step(np.array([2.0, 0.0], np.float32)) == pytest.approx([0, 0])
    np.testing.assert_allclose(place, [2, 0])


def test_a_step_takes_batches_of_other_shapes_and_looks_up_rows() -> None:
    table = keras.Variable(np.arange(8, dtype=np.float32).reshape(4, 2))
    step = compile_step(
        lambda rows: (ops.sum(ops.take(table, rows, axis=0)), (ops.sum(table),)), keras.optimizers.SGD(1.0), [table], []
    )
    step(np.array([0, 0, 3]))
    np.testing.assert_allclose(table, [[-2, -1], [2, 3], [4, 5], [5, 6]])
    assert step(np.array([1])) == [22]
    np.testing.assert_allclose(table[1], [1, 2])


def test_what_an_objective_changes_by_itself_stays_changed() -> None:
    place, seeds = keras.Variable(np.ones(4, np.float32)), keras.random.SeedGenerator(3)

    def noise() -> tuple[Tensor, tuple[Tensor, ...]]:
        return ops.sum(place), (keras.random.uniform((), seed=seeds),)

    step = compile_step(noise, keras.optimizers.SGD(0.1), [place], [seeds.state])
    drawn = [step()[0] for _ in range(3)]
    assert len(set(drawn)) == 3
    seeds.state.assign(keras.random.SeedGenerator(3).state)
    assert [step()[0] for _ in range(3)] == drawn


def test_a_function_reads_the_variables_as_they_are_and_returns_arrays() -> None:
    factor = keras.Variable(2.0)
    function = compile_function(lambda values, more: (values * factor, {"sum": ops.sum(more)}), [factor])
    values = resident(np.array([1.0, 2.0], np.float32))
    doubled, named = function(values, np.array([4, 5], np.int32))
    assert isinstance(doubled, np.ndarray)
    assert doubled.tolist() == [2, 4]
    assert named["sum"] == 9
    factor.assign(-1.0)
    assert function(values, np.array([1], np.int32))[0].tolist() == [-1, -2]


@needs_jax
def test_training_is_the_same_on_jax_as_on_tensorflow(tmp_path: Path) -> None:
    def run(backend: str) -> dict[str, Any]:
        environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join(sys.path)}
        script = Path(__file__).with_name("train_on_backend.py")
        told = tmp_path / f"{backend}.json"
        subprocess.run([sys.executable, script, told], env=environment, check=True, timeout=300)
        found: dict[str, Any] = json.loads(told.read_text())
        assert found["backend"] == backend
        return found

    jax, tensorflow = run("jax"), run("tensorflow")
    for part in ("cross_entropy", "self_critical", "bfloat16"):
        tolerance = 0.02 if part == "bfloat16" else 1e-3
        np.testing.assert_allclose(jax[part], tensorflow[part], rtol=tolerance, atol=tolerance, err_msg=part)
    for found in (jax, tensorflow):  # with first weights, dropout and samples of their own
        assert [row["epoch"] for row in found["history"]] == [1, 2, 3, 4]
        assert found["history"] == found["resumed"]
        assert found["history"][0]["loss"] > found["history"][1]["loss"]
