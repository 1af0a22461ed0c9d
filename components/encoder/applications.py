"""The networks of keras.applications as encoders: their classifier cut off, their last feature map averaged."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.encoder.folding import fold_batch_norm
from components.encoder.hdf5 import require_harmless
from components.errors import CaptioningError, ConfigurationError

if TYPE_CHECKING:
    import keras

APPLICATIONS: dict[str, tuple[str, int, int]] = {
    "ConvNeXtBase": ("convnext", 224, 1024),
    "ConvNeXtLarge": ("convnext", 224, 1536),
    "ConvNeXtSmall": ("convnext", 224, 768),
    "ConvNeXtTiny": ("convnext", 224, 768),
    "ConvNeXtXLarge": ("convnext", 224, 2048),
    "DenseNet121": ("densenet", 224, 1024),
    "DenseNet169": ("densenet", 224, 1664),
    "DenseNet201": ("densenet", 224, 1920),
    "EfficientNetB0": ("efficientnet", 224, 1280),
    "EfficientNetB1": ("efficientnet", 240, 1280),
    "EfficientNetB2": ("efficientnet", 260, 1408),
    "EfficientNetB3": ("efficientnet", 300, 1536),
    "EfficientNetB4": ("efficientnet", 380, 1792),
    "EfficientNetB5": ("efficientnet", 456, 2048),
    "EfficientNetB6": ("efficientnet", 528, 2304),
    "EfficientNetB7": ("efficientnet", 600, 2560),
    "EfficientNetV2B0": ("efficientnet_v2", 224, 1280),
    "EfficientNetV2B1": ("efficientnet_v2", 240, 1280),
    "EfficientNetV2B2": ("efficientnet_v2", 260, 1408),
    "EfficientNetV2B3": ("efficientnet_v2", 300, 1536),
    "EfficientNetV2L": ("efficientnet_v2", 480, 1280),
    "EfficientNetV2M": ("efficientnet_v2", 480, 1280),
    "EfficientNetV2S": ("efficientnet_v2", 384, 1280),
    "InceptionResNetV2": ("inception_resnet_v2", 299, 1536),
    "InceptionV3": ("inception_v3", 299, 2048),
    "MobileNet": ("mobilenet", 224, 1024),
    "MobileNetV2": ("mobilenet_v2", 224, 1280),
    "MobileNetV3Large": ("mobilenet_v3", 224, 960),
    "MobileNetV3Small": ("mobilenet_v3", 224, 576),
    "NASNetLarge": ("nasnet", 331, 4032),
    "NASNetMobile": ("nasnet", 224, 1056),
    "ResNet101": ("resnet", 224, 2048),
    "ResNet101V2": ("resnet_v2", 224, 2048),
    "ResNet152": ("resnet", 224, 2048),
    "ResNet152V2": ("resnet_v2", 224, 2048),
    "ResNet50": ("resnet", 224, 2048),
    "ResNet50V2": ("resnet_v2", 224, 2048),
    "VGG16": ("vgg16", 224, 512),
    "VGG19": ("vgg19", 224, 512),
    "Xception": ("xception", 299, 2048),
}
"""Name → module with its `preprocess_input`, pixels a side that it was trained on, numbers an embedding.

Written down so that an encoder's dimension is known without importing Keras; a test holds it against Keras.
"""


def find(name: str) -> str | None:
    """The application's name as Keras spells it: `inception_v3` is `InceptionV3`."""
    spelled = {known.lower(): known for known in APPLICATIONS}
    return spelled.get(name.replace("_", "").lower())


def build(name: str, weights: Path | str | None) -> "keras.Model":
    """The frozen network: RGB pixels 0 to 255, (batch, size, size, 3), to embeddings (batch, dimension), float32.

    `weights`: a file, or `imagenet` (Keras downloads them at first use), or none (random).
    Raises `ConfigurationError` when they do not fit the network.
    """
    import keras

    module, size, _ = APPLICATIONS[name]
    release = weights if isinstance(weights, str) else None
    make = partial(getattr(keras.applications, name), include_top=False, pooling="avg", input_shape=(size, size, 3))
    try:
        network = make(weights=release)
    except Exception as error:  # Keras raises nothing narrower when a download fails
        if release is None:
            raise
        raise CaptioningError(
            f"the weights `imagenet` of {name} cannot be had: {error}. Run again when the network is there, or "
            "download the file that it names and give it as encoder.weights"
        ) from error
    if isinstance(weights, Path):
        read_weights(network, weights)
    prepare: Any = getattr(keras.applications, module).preprocess_input
    pixels = keras.Input((size, size, 3), name="pixels")
    model = keras.Model(pixels, fold_batch_norm(network)(prepare(pixels)), name=name)
    model.trainable = False
    return model


def read_weights(network: "keras.Model", path: Path) -> None:
    """Gives the network the weights in a file that Keras wrote.

    Raises `ConfigurationError` when they do not fit it, or are no numbers.
    """
    require_harmless(path)
    try:
        network.load_weights(path)
    except Exception as error:  # Keras and HDF5 have no common base for what they raise on a damaged file
        raise ConfigurationError(
            f"encoder.weights: {path} does not fit {network.name}: {error}. Give the file that Keras wrote for it"
        ) from error
    for weight in network.weights:
        if not np.isfinite(weight).all():
            raise ConfigurationError(f"encoder.weights: {path} has numbers that are not finite, in {weight.path}")
