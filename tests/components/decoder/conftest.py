"""Decoders small enough to be searched exhaustively."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from components.config import DecoderConfig
from components.decoder.model import Decoder, build_decoder
from data_contracts.schema import END

WORDS, DIMENSION = 8, 5


@pytest.fixture(scope="session")
def toy() -> DecoderConfig:
    """Four units, captions of at most five words."""
    return DecoderConfig(
        image_bottleneck=3,
        word_embedding=3,
        lstm_units=4,
        logit_bottleneck=3,
        max_length=7,
        batch_size=5,
        epochs=4,
        steps_per_epoch=None,
        learning_rate=0.02,
    )


@pytest.fixture(scope="session")
def random_decoder(toy: DecoderConfig) -> Callable[..., Decoder]:
    """A decoder of eight words for embeddings of five numbers, whose captions depend on image and seed.

    One network gets other weights at each call: use one decoder at a time.
    """

    @cache
    def network(separate_states: bool) -> Decoder:
        return build_decoder(toy.model_copy(update={"separate_states": separate_states}), WORDS, DIMENSION)

    def make(seed: int, *, separate_states: bool = False, end_bias: float = 0.0) -> Decoder:
        decoder, random = network(separate_states), np.random.default_rng(seed)
        decoder.set_weights([random.normal(size=w.shape).astype(np.float32) for w in decoder.get_weights()])
        decoder.logits.bias.assign_add(end_bias * np.eye(WORDS, dtype=np.float32)[END])
        return decoder

    return make


@pytest.fixture(scope="session")
def random_embeddings() -> Callable[[int, int], np.ndarray]:
    """Embeddings (count, 5), float32, for a seed."""
    return lambda seed, count: np.random.default_rng(seed).normal(size=(count, DIMENSION)).astype(np.float32)
