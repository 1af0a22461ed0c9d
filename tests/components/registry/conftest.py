"""A whole captioner in a package, of toy size, and an MLflow registry to put it into."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

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
MAX_LENGTH = 7


@pytest.fixture(scope="session")
def toy_decoder() -> Decoder:
    """A decoder of eight words for embeddings of five numbers, whose captions depend on the image."""
    config = DecoderConfig(image_bottleneck=3, word_embedding=3, lstm_units=4, logit_bottleneck=3)
    decoder, random = build_decoder(config, 8, 5), np.random.default_rng(17)
    decoder.set_weights([random.normal(size=w.shape).astype(np.float32) for w in decoder.get_weights()])
    return decoder


@pytest.fixture(scope="session")
def make_package(toy_decoder: Decoder, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Packages of the toy decoder for captions of at most so many ids, START among them."""
    import keras

    network = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Rescaling(1 / 32),
            keras.layers.Conv2D(5, 3, kernel_initializer=keras.initializers.GlorotUniform(seed=1)),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    vocabulary = Vocabulary.build([["a", "red", "kite", "dog"]], min_count=1)

    def make(max_length: int) -> Path:
        folder = tmp_path_factory.mktemp("package")
        reference = Reference([0.5] * 5, [1.0] * 5, 2.0, 4.0)
        files = write_package(toy_decoder, vocabulary, network, CARD, reference, max_length, folder)
        assert files == sum(path.is_file() for path in folder.rglob("*"))
        return folder

    return make


@pytest.fixture(scope="session")
def package(make_package: Callable[[int], Path]) -> Path:
    """A package whose captions have at most five words."""
    return make_package(MAX_LENGTH)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database; making one takes seconds."""
    database = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{database}").search_experiments()
    return database


@pytest.fixture
def registry(migrated: Path, tmp_path: Path) -> Iterator[str]:
    """The address of an empty registry that is in use, with its files beside it."""
    address = f"sqlite:///{shutil.copy(migrated, tmp_path / 'mlflow.db')}"
    connect(address, tmp_path / "artifacts")
    yield address
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)
