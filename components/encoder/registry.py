"""The encoders by name, and the fingerprint that ties embeddings and models to one of them."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from components.artifacts import file_digest
from components.config import EncoderConfig
from components.encoder import efficientnet_lite
from components.encoder.pixels import PREPROCESSING
from components.errors import ConfigurationError

Network = Any
"""A `keras.Model`: pixels 0–255 (batch, size, size, 3), RGB → float32 embeddings (batch, dimension)."""


@dataclass(frozen=True)
class Encoder:
    """What is known of an encoder before its network is built."""

    name: str
    input_size: int
    """Pixels a side."""
    dimension: int
    """Numbers an embedding."""
    weights: str
    """Identity of the weights: a digest, or the release."""
    build: Callable[[], Network]

    @property
    def fingerprint(self) -> str:
        """Digest of architecture, weights and preprocessing, 16 hex digits. Embeddings of another do not mix."""
        parts = [self.name, self.input_size, self.dimension, self.weights, PREPROCESSING]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def find_encoder(config: EncoderConfig) -> Encoder:
    """The encoder a profile names. Raises `ConfigurationError` for an unknown name or weights that are not there."""
    match config.name, config.weights:
        case "efficientnet_lite0", "package":
            return Encoder(
                name=config.name,
                input_size=efficientnet_lite.INPUT_SIZE,
                dimension=efficientnet_lite.DIMENSION,
                weights=efficientnet_lite.WEIGHTS_SHA256,
                build=efficientnet_lite.efficientnet_lite0,
            )
        case "efficientnet_lite0", weights:
            raise ConfigurationError(f"encoder.weights: efficientnet_lite0 has `package` only, not {weights!r}")
        case "inception_v3", "imagenet":
            release = "keras.applications imagenet without top"
            return Encoder(config.name, 299, 2048, release, lambda: _inception_v3("imagenet"))
        case "inception_v3", weights:
            path = Path(weights).expanduser()
            if not path.is_file():
                raise ConfigurationError(f"encoder.weights: there is no file {path}; give one, or `imagenet`")
            return Encoder(config.name, 299, 2048, file_digest(path), lambda: _inception_v3(path))
        case name, _:
            raise ConfigurationError(f"encoder.name: {name!r} is not one of efficientnet_lite0, inception_v3")


@lru_cache(maxsize=2)
def load_network(config: EncoderConfig) -> Network:
    """The encoder's network with its weights, built once a process."""
    return find_encoder(config).build()


def _inception_v3(weights: str | Path) -> Network:
    import keras

    pixels = keras.Input((299, 299, 3))
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1)(pixels)
    release = weights if isinstance(weights, str) else None
    network = keras.applications.InceptionV3(include_top=False, weights=release, pooling="avg")
    if isinstance(weights, Path):
        try:
            network.load_weights(weights)
        except (OSError, ValueError, KeyError) as error:
            raise ConfigurationError(f"encoder.weights: {weights} does not fit InceptionV3: {error}") from error
    return keras.Model(pixels, network(scaled), name="inception_v3")
