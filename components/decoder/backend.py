"""Compiled by TensorFlow: a training step, and functions that only compute.

Autograph is off: no function here branches on tensors, and rewriting their Python takes longer than tracing them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

Tensor = Any
Objective = Callable[..., tuple[Tensor, tuple[Tensor, ...]]]
"""From a batch's arrays to the loss and to figures to report."""


def compile_step(
    objective: Objective, optimizer: keras.Optimizer, weights: Sequence[keras.Variable]
) -> Callable[..., list[float]]:
    """A function that moves `weights` one step down the objective's gradient and returns its figures.

    It is compiled once for each shape of its arguments.
    """
    optimizer.build(list(weights))

    @tf.function(reduce_retracing=False, autograph=False)  # type: ignore[untyped-decorator]
    def step(*batch: Tensor) -> tuple[Tensor, ...]:
        with tf.GradientTape() as tape:
            loss, figures = objective(*batch)
        # Looked-up vectors have sparse gradients, which TensorFlow applies slower than dense ones.
        gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, [w.value for w in weights])]
        optimizer.apply(gradients, weights)
        return figures

    return lambda *batch: [float(figure) for figure in step(*batch)]


def compile_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, which changes nothing, compiled; it returns NumPy arrays."""
    compiled = tf.function(function, autograph=False)
    return lambda *arrays: tf.nest.map_structure(np.asarray, compiled(*arrays))


def resident(array: np.ndarray) -> Tensor:
    """The array where TensorFlow computes, to be handed to compiled functions again and again."""
    return tf.convert_to_tensor(array)
