"""Whole captioners in packages, of toy size, and an MLflow registry to put them into."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from components.config import DecoderConfig
from components.decoder.model import Decoder, build_decoder
from components.encoder.pool import EncoderCard
from components.registry.package import write_package
from components.registry.reference import Reference
from components.registry.tracking import connect
from components.vocabulary.vocabulary import Vocabulary

CARD = EncoderCard("toy", "0123456789abcdef", 5, 8, "notebook", "float32")
SMALL = EncoderCard("small", "aaaaaaaaaaaaaaaa", 3, 8, "notebook", "float32")
LARGE = EncoderCard("large", "bbbbbbbbbbbbbbbb", 2, 12, "antialias", "float32")
MAX_LENGTH = 7
HISTORY = [{"phase": 1.0, "epoch": 1.0, "loss": 2.0, "val_loss": 1.5, "val_cider": 0.25}]


def network_of(card: EncoderCard) -> Any:
    """A convolution for the card's photographs and embeddings, always the same."""
    import keras

    return keras.Sequential(
        [
            keras.Input((card.input_size, card.input_size, 3)),
            keras.layers.Rescaling(1 / 32),
            keras.layers.Conv2D(card.dimension, 3, kernel_initializer=keras.initializers.GlorotUniform(seed=1)),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )


def decoder_of(seed: int, **options: bool) -> Decoder:
    """A decoder of eight words for embeddings of five numbers, whose captions depend on the image."""
    config = DecoderConfig.model_validate(
        {"image_bottleneck": 3, "word_embedding": 3, "lstm_units": 4, "logit_bottleneck": 3, **options}
    )
    decoder, random = build_decoder(config, 8, 5), np.random.default_rng(seed)
    decoder.set_weights([random.normal(size=w.shape).astype(np.float32) for w in decoder.get_weights()])
    return decoder


@pytest.fixture(scope="session")
def toy_decoder() -> Decoder:
    """As small as the notebook's layers go."""
    return decoder_of(37)


@pytest.fixture(scope="session")
def strong_decoder() -> Decoder:
    """One that makes use of every option. The last number of an embedding never changed in its training."""
    embeddings = np.random.default_rng(4).normal(size=(50, 5)).astype(np.float32)
    embeddings[:, 4] = 1.5
    decoder = decoder_of(37, standardise=True, separate_states=True, image_at_every_step=True, tied=True)
    decoder.fit_embeddings(embeddings)
    return decoder


def written(decoder: Decoder, cards: list[EncoderCard], max_length: int, folder: Path, *, bundled: bool = True) -> Path:
    vocabulary = Vocabulary.build([["a", "red", "kite", "dog"]], min_count=1)
    reference = Reference([0.5] * 5, [1.0] * 5, 2.0, 4.0)
    networks = [network_of(card) for card in cards] if bundled else []
    files = write_package(decoder, vocabulary, networks, cards, reference, HISTORY, max_length, folder)
    assert files == sum(path.is_file() for path in folder.rglob("*"))
    return folder


@pytest.fixture(scope="session")
def package_without_encoder(toy_decoder: Decoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package for embeddings only."""
    return written(toy_decoder, [CARD], MAX_LENGTH, tmp_path_factory.mktemp("bare"), bundled=False)


@pytest.fixture(scope="session")
def make_package(toy_decoder: Decoder, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Packages of the toy decoder for captions of at most so many ids, START among them."""
    return lambda max_length: written(toy_decoder, [CARD], max_length, tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="session")
def package(make_package: Callable[[int], Path]) -> Path:
    """A package whose captions have at most five words."""
    return make_package(MAX_LENGTH)


@pytest.fixture(scope="session")
def pair(strong_decoder: Decoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of two encoders, which see photographs of different sizes."""
    return written(strong_decoder, [SMALL, LARGE], MAX_LENGTH, tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="session")
def networks() -> list[Any]:
    """The networks of the encoders in `pair`."""
    return [network_of(SMALL), network_of(LARGE)]


@pytest.fixture
def registry(migrated: Path, tmp_path: Path) -> Iterator[str]:
    """The address of an empty registry that is in use, with its files beside it."""
    address = f"sqlite:///{shutil.copy(migrated, tmp_path / 'mlflow.db')}"
    connect(address, tmp_path / "artifacts")
    yield address
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)
