"""Compiling for the backend that Keras runs on: a training step, and functions that only compute.

TensorFlow traces a graph and changes variables in place; JAX wants functions of all their values. Autograph is off: JAX
needs functions without branches on tensors anyway; rewriting their Python takes longer than tracing them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

Tensor = Any
Objective = Callable[..., tuple[Tensor, tuple[Tensor, ...]]]
"""From a batch's arrays to the loss and to figures to report."""


def compile_step(
    objective: Objective,
    optimizer: keras.Optimizer,
    weights: Sequence[keras.Variable],
    others: Sequence[keras.Variable],
) -> Callable[..., list[float]]:
    """A function that moves `weights` one step down the objective's gradient and returns its figures.

    `others` are the variables that the objective reads or changes by itself, such as the state of a random generator.
    It is compiled once for each shape of its arguments.
    """
    optimizer.build(list(weights))
    compiled = {"tensorflow": _tensorflow_step, "jax": _jax_step}[keras.backend.backend()]
    step = compiled(objective, optimizer, list(weights), list(others))
    return lambda *batch: [float(figure) for figure in step(*batch)]


def compile_function(function: Callable[..., Any], variables: Sequence[keras.Variable]) -> Callable[..., Any]:
    """`function`, which reads `variables` and changes nothing, compiled; it returns NumPy arrays."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        compiled = tf.function(function, autograph=False)
        return lambda *arrays: tf.nest.map_structure(np.asarray, compiled(*arrays))
    import jax

    @jax.jit  # type: ignore[untyped-decorator]
    def run(values: list[Tensor], *arrays: Tensor) -> Any:
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return function(*arrays)

    return lambda *arrays: jax.tree.map(np.asarray, run([v.value for v in variables], *arrays))


def resident(array: np.ndarray) -> Tensor:
    """The array where the backend computes, to be handed to compiled functions again and again."""
    return keras.ops.convert_to_tensor(array)


def _tensorflow_step(
    objective: Objective, optimizer: keras.Optimizer, weights: list[keras.Variable], _: list[keras.Variable]
) -> Callable[..., tuple[Tensor, ...]]:
    import tensorflow as tf

    @tf.function(reduce_retracing=False, autograph=False)  # type: ignore[untyped-decorator]
    def step(*batch: Tensor) -> tuple[Tensor, ...]:
        with tf.GradientTape() as tape:
            loss, figures = objective(*batch)
        # Looked-up vectors have sparse gradients, which TensorFlow applies slower than dense ones.
        gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, [w.value for w in weights])]
        optimizer.apply(gradients, weights)
        return figures

    found: Callable[..., tuple[Tensor, ...]] = step
    return found


def _jax_step(
    objective: Objective, optimizer: keras.Optimizer, weights: list[keras.Variable], others: list[keras.Variable]
) -> Callable[..., tuple[Tensor, ...]]:
    import jax

    @jax.jit  # type: ignore[untyped-decorator]
    def step(values: list[Tensor], rest: list[Tensor], state: list[Tensor], *batch: Tensor) -> Any:
        def loss_of(values: list[Tensor]) -> Any:
            mapping = [*zip(weights, values, strict=True), *zip(others, rest, strict=True)]
            with keras.StatelessScope(state_mapping=mapping) as scope:
                loss, figures = objective(*batch)
            return loss, (figures, [scope.get_current_value(variable) for variable in others])

        gradients, (figures, moved) = jax.grad(loss_of, has_aux=True)(values)
        values, state = optimizer.stateless_apply(state, gradients, values)
        return figures, values, moved, state

    def run(*batch: Tensor) -> tuple[Tensor, ...]:
        groups = (weights, others, optimizer.variables)
        figures, *results = step(*([variable.value for variable in group] for group in groups), *batch)
        for group, values in zip(groups, results, strict=True):
            for variable, value in zip(group, values, strict=True):
                variable.assign(value)
        found: tuple[Tensor, ...] = figures
        return found

    return run
