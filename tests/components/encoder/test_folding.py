"""Folding must not be seen in the outputs, only in the layers."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from components.encoder.folding import fold_batch_norm

Tensor = Any
SIZE = 9


def randomised(network: keras.Model) -> keras.Model:
    """The network with other weights than a new one has, biases and statistics among them."""
    rng = np.random.default_rng(0)
    for weight in network.weights:
        weight.assign(rng.uniform(0.3, 2, weight.shape) if "variance" in weight.path else rng.normal(size=weight.shape))
    return network


def model(body: Callable[[Tensor], Tensor]) -> keras.Model:
    pixels = keras.Input((SIZE, SIZE, 3))
    return randomised(keras.Model(pixels, body(pixels)))


def pixels() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(4, SIZE, SIZE, 3)).astype(np.float32)


def norms(network: keras.Model) -> int:
    return sum(isinstance(layer, layers.BatchNormalization) for layer in network.layers)


def assert_same_outputs(folded: keras.Model, network: keras.Model, images: np.ndarray) -> None:
    expected, found = np.asarray(network(images)), np.asarray(folded(images))
    assert found.shape == expected.shape
    assert np.linalg.norm(expected - expected.mean()) > 0
    assert np.linalg.norm(found - expected) <= 1e-5 * np.linalg.norm(expected)


def norm(x: Tensor, **options: Any) -> Tensor:
    return layers.BatchNormalization(**options)(x)


def convolution(x: Tensor, filters: int = 4, size: int = 3, **options: Any) -> Tensor:
    return layers.Conv2D(filters, size, padding="same", **options)(x)


def residual(x: Tensor) -> Tensor:
    shortcut = norm(convolution(x))
    y = layers.ReLU()(norm(convolution(layers.ReLU()(shortcut), use_bias=False)))
    return layers.Add()([norm(layers.DepthwiseConv2D(3, padding="same")(y)), shortcut])


FOLDED: dict[str, Callable[[Tensor], Tensor]] = {
    "convolution": lambda x: layers.ReLU()(norm(convolution(x, use_bias=False))),
    "convolution with bias": lambda x: layers.ReLU()(norm(convolution(x, bias_initializer="ones"))),
    "convolution with strides": lambda x: norm(layers.Conv2D(5, (1, 3), strides=2)(x)),
    "convolution in groups": lambda x: norm(convolution(x, 6, groups=3)),
    "dilated convolution": lambda x: norm(convolution(x, dilation_rate=2)),
    "depthwise": lambda x: norm(layers.DepthwiseConv2D(3, use_bias=False)(x)),
    "depthwise with bias": lambda x: norm(layers.DepthwiseConv2D(3, padding="same", strides=2)(x)),
    "depthwise with multiplier": lambda x: norm(layers.DepthwiseConv2D(3, depth_multiplier=2)(x)),
    "norm without scale": lambda x: norm(convolution(x), scale=False),
    "norm without centre": lambda x: norm(convolution(x), center=False),
    "norm with neither": lambda x: norm(convolution(x, use_bias=False), scale=False, center=False),
    "norm with a large epsilon": lambda x: norm(convolution(x), epsilon=0.5),
    "linear activation by name": lambda x: norm(convolution(x, activation="linear")),
    "norm with two consumers": residual,
}
KEPT: dict[str, Callable[[Tensor], Tensor]] = {
    "convolution with an activation": lambda x: norm(convolution(x, activation="relu")),
    "depthwise with an activation": lambda x: norm(layers.DepthwiseConv2D(3, activation="relu6")(x)),
    "convolution with two consumers": lambda x: layers.Add()([norm(y := convolution(x)), layers.ReLU()(y)]),
    "shared convolution": lambda x: layers.Add()([norm((y := layers.Conv2D(3, 3, padding="same"))(x)), y(y(x))]),
    "norm after an addition": lambda x: norm(layers.Add()([convolution(x), convolution(x)])),
    "norm after an activation": lambda x: norm(layers.ReLU()(convolution(x))),
    "norm of the input": lambda x: convolution(norm(x)),
    "separable convolution": lambda x: norm(layers.SeparableConv2D(4, 3)(x)),
    "transposed convolution": lambda x: norm(layers.Conv2DTranspose(4, 3)(x)),
    "dense": lambda x: norm(layers.Dense(4)(x)),
}


@pytest.mark.parametrize("body", FOLDED.values(), ids=FOLDED)
def test_a_batch_norm_after_a_linear_convolution_is_folded(body: Callable[[Tensor], Tensor]) -> None:
    network = model(body)
    folded = fold_batch_norm(network)
    assert_same_outputs(folded, network, pixels())
    assert norms(network) > 0
    assert norms(folded) == 0


@pytest.mark.parametrize("body", KEPT.values(), ids=KEPT)
def test_any_other_batch_norm_stays(body: Callable[[Tensor], Tensor]) -> None:
    network = model(body)
    folded = fold_batch_norm(network)
    assert_same_outputs(folded, network, pixels())
    assert norms(folded) == norms(network) == 1


def test_of_two_batch_norms_in_a_row_one_stays() -> None:
    network = model(lambda x: norm(norm(convolution(x))))
    folded = fold_batch_norm(network)
    assert_same_outputs(folded, network, pixels())
    assert norms(folded) == 1


def test_other_layers_keep_their_weights_and_the_network_is_not_changed() -> None:
    def body(x: Tensor) -> Tensor:
        y = layers.Dense(5, activation="gelu")(norm(convolution(x)))
        return layers.GlobalAveragePooling2D()(layers.LayerNormalization()(y))

    network = model(body)
    before, expected = network.get_weights(), np.asarray(network(pixels()))
    folded = fold_batch_norm(network)
    assert_same_outputs(folded, network, pixels())
    folded.set_weights([weight * 0 for weight in folded.get_weights()])
    assert all(np.array_equal(*pair) for pair in zip(network.get_weights(), before, strict=True))
    assert np.array_equal(network(pixels()), expected)


def test_a_whole_application_is_the_same_without_batch_norm() -> None:
    network = keras.applications.MobileNetV3Small(
        (64, 64, 3), include_top=False, pooling="avg", weights=None, include_preprocessing=False
    )
    images = np.random.default_rng(2).normal(size=(4, 64, 64, 3)).astype(np.float32)
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.0
    network(images, training=True)  # statistics as after training: of the images themselves
    folded = fold_batch_norm(network)
    assert_same_outputs(folded, network, images)
    assert norms(network) > 0
    assert norms(folded) == 0


@pytest.fixture
def bfloat16() -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(before)


@pytest.mark.usefixtures("bfloat16")
def test_the_last_pooling_is_in_float32_where_the_rest_is_in_bfloat16() -> None:
    network = model(lambda x: layers.GlobalAveragePooling2D()(layers.ReLU()(norm(convolution(x)))))
    folded = fold_batch_norm(network)
    assert network(pixels()).dtype.name == "bfloat16"
    found = np.asarray(folded(pixels()))
    assert found.dtype == np.float32
    assert [layer.compute_dtype for layer in folded.layers if layer.weights] == ["bfloat16"]
    expected = np.asarray(network(pixels())).astype(np.float32)
    assert np.linalg.norm(found - expected) <= 0.02 * np.linalg.norm(expected)
