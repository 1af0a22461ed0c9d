"""The encoders by name, and the fingerprint that ties embeddings and models to one of them."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

from components.artifacts import file_digest
from components.config import EncoderConfig
from components.encoder import applications, efficientnet_lite
from components.encoder.earlier_code import earliest
from components.encoder.pool import EncoderCard
from components.errors import ConfigurationError
from components.hardware import require_bfloat16
from components.images import preprocessing
from components.images.preprocessing import PREPROCESSING
from components.provenance import sources_of
from components.source_code import closure, digests

Network = Any
"""A `keras.Model`: pixels 0–255 (batch, size, size, 3), RGB → float32 embeddings (batch, dimension)."""

LITE = "efficientnet_lite0"


@dataclass(frozen=True)
class Encoder:
    """What is known of an encoder before its network is built."""

    name: str
    input_size: int
    """Pixels per side."""
    dimension: int
    """Numbers per embedding."""
    weights: str
    """Identity of the weights: a digest, or the release."""
    module: str
    """The module that builds the network."""
    build: Callable[[], Network] = field(compare=False)


def find_encoders(configs: Sequence[EncoderConfig]) -> list[Encoder]:
    """The encoders a profile names. Raises what `find_encoder` does."""
    return [find_encoder(config) for config in configs]


def find_encoder(config: EncoderConfig) -> Encoder:
    """The encoder a profile names. Raises `ConfigurationError` for an unknown name or weights that are not there."""
    if config.name == LITE:
        if config.weights != "package":
            raise ConfigurationError(f"encoder.weights: {LITE} has `package` only, not {config.weights!r}")
        return Encoder(
            LITE,
            efficientnet_lite.INPUT_SIZE,
            efficientnet_lite.DIMENSION,
            efficientnet_lite.WEIGHTS_SHA256,
            efficientnet_lite.__name__,
            efficientnet_lite.efficientnet_lite0,
        )
    name = applications.find(config.name)
    if name is None:
        spelled = {name.replace("_", "").lower(): name for name in [LITE, *applications.APPLICATIONS]}
        near = get_close_matches(config.name.replace("_", "").lower(), spelled, n=1)
        hint = f"did you mean {spelled[near[0]]}?" if near else f"there is {LITE}, and every name in keras.applications"
        raise ConfigurationError(f"encoder.name: {config.name!r} is no encoder; {hint}")
    _, size, dimension = applications.APPLICATIONS[name]
    module = applications.__name__
    if config.weights == "imagenet":
        release = "keras.applications imagenet without top"
        return Encoder(name, size, dimension, release, module, lambda: applications.build(name, "imagenet"))
    if config.weights == "package":
        raise ConfigurationError(f"encoder.weights: `package` is for {LITE} only; give `imagenet`, or a weights file")
    path = Path(config.weights).expanduser()
    if not path.is_file():
        raise ConfigurationError(f"encoder.weights: there is no file {path}; give one, or `imagenet`")
    return Encoder(name, size, dimension, file_digest(path), module, lambda: applications.build(name, path))


def describe_encoder(config: EncoderConfig) -> EncoderCard:
    """The card of the embeddings this encoder makes; its fingerprint is over all that decides their values."""
    encoder = find_encoder(config)
    code = earliest(sources_of(_build.__wrapped__) | digests(closure([encoder.module, preprocessing.__name__])))
    parts = [encoder.name, encoder.weights, PREPROCESSING[config.preprocessing], config.precision, config.storage, code]
    return EncoderCard(
        name=encoder.name,
        fingerprint=hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16],
        dimension=encoder.dimension,
        input_size=encoder.input_size,
        preprocessing=config.preprocessing,
        storage=config.storage,
    )


def load_network(config: EncoderConfig) -> Network:
    """The encoder's network with its weights, built once a process."""
    return _build(find_encoder(config), config.precision)


@lru_cache(maxsize=4)
def _build(encoder: Encoder, precision: str) -> Network:
    import keras

    if precision != "float32":
        require_bfloat16()
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        return encoder.build()
    finally:
        keras.config.set_dtype_policy(policy)
