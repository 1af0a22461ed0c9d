"""Stages by themselves, each a function of a home: small processes, so that many can be killed."""

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from components.archives.download import download as fetch
from components.artifacts import Stage, run_stage
from components.config import EncoderConfig
from components.encoder.encoders import describe_encoder
from components.encoder.extract import embed_shards, load_engine, plan_shards
from components.encoder.pool import EmbeddingPool, EncoderCard
from components.encoder.store import EmbeddingStore, write_store
from components.images.photographs import read_photographs
from components.training_config import SelfCriticalConfig
from components.vocabulary.vocabulary import Vocabulary
from data_contracts.schema import PHOTOGRAPHS
from tests.recipes import notebook_decoder, notebook_training

CARD = EncoderCard("toy", "0123456789abcdef", 5, 8, "notebook", "float32")
TOY = notebook_decoder(image_projection=3, word_embedding=3, lstm_units=4, output_projection=3, max_length=7)
WORDS = ["a", "red", "kite", "dog"]
NAME = "captioner"


def download(home: Path, url: str) -> None:
    fetch([url], home / "downloads" / url.rpartition("/")[2])


def extract(home: Path, archive: Path) -> None:
    config = EncoderConfig(name="efficientnet_lite0", weights="package", batch_size=2, shard_size=4)
    pool = EmbeddingPool.of(home / "embeddings", describe_encoder(config))
    names = sorted(zipfile.ZipFile(archive).namelist())
    images = pd.DataFrame({"image_id": range(len(names)), "archive": "photos", "file_name": names})
    engine = load_engine(config)
    engine.encode(np.zeros((1, 224, 224, 3), np.uint8))  # compiled before the first kill comes

    def work(folder: Path) -> int:
        photographs = read_photographs(images, {"photos": archive})
        shards = plan_shards(photographs, pool.find(photographs["digest"].tolist()), config.shard_size)
        embed_shards(shards, {"photos": archive}, engine, pool)
        return write_store(folder, photographs, pool)

    run_stage(home, Stage(f"embeddings-of-{archive.stem}"), work)


def train(home: Path) -> None:
    """Three epochs, then two of the second phase."""
    from components.training.batches import TrainingSet
    from components.training.train import train

    config = notebook_training(
        batch_size=8,
        epochs=3,
        steps_per_epoch=30,
        cosine=True,
        word_dropout=0.3,
        output_dropout=0.4,
        weight_average=0.99,
        self_critical=SelfCriticalConfig(epochs=2, images=8, samples=2),
    )
    vocabulary, random = Vocabulary.build([WORDS], min_count=1), np.random.default_rng(5)
    pool = EmbeddingPool(home / "embeddings", CARD)
    if not pool.has("0"):
        pool.write("0", [str(i) for i in range(40)], random.normal(size=(40, 5)), {})
    photographs = [(i, "photos", f"{i}.jpg", 1, str(i), "") for i in range(40)]
    captions = pd.DataFrame(
        {"image_id": range(40), "tokens": [" ".join(np.roll(WORDS, i)[: 2 + i % 3]) for i in range(40)]}
    )

    def work(folder: Path) -> int:
        write_store(folder, pd.DataFrame(photographs, columns=list(PHOTOGRAPHS)).astype(PHOTOGRAPHS), pool)
        store = EmbeddingStore.open(folder)
        sets = [TrainingSet.build(captions[i::2], vocabulary, store, TOY.max_length) for i in (0, 1)]
        return len(train(TOY, config, *sets, vocabulary, folder, lambda row: None))

    run_stage(home, Stage("decoder"), work, resumable=True)


def package(home: Path, seed: int = 1) -> None:
    """A toy captioner with an encoder in it."""
    import keras

    from components.decoder.model import build_decoder
    from components.model.package import write_package
    from components.model.reference import Reference

    def work(folder: Path) -> int:
        decoder, random = build_decoder(TOY, 4 + len(WORDS), CARD.dimension), np.random.default_rng(seed)
        decoder.set_weights([random.normal(size=w.shape).astype(np.float32) for w in decoder.get_weights()])
        network = keras.Sequential(
            [
                keras.Input((CARD.input_size, CARD.input_size, 3)),
                keras.layers.Conv2D(CARD.dimension, 3, kernel_initializer=keras.initializers.GlorotUniform(seed=1)),
                keras.layers.GlobalAveragePooling2D(),
            ]
        )
        history = [{"phase": 1.0, "epoch": 1.0, "loss": 2.0, "val_loss": 1.5, "val_cider": 0.25}]
        words, reference = Vocabulary.build([WORDS], min_count=1), Reference([0.5] * 5, [1.0] * 5, 2.0, 4.0)
        return write_package(decoder, words, [network], [CARD], reference, history, TOY.max_length, folder)

    run_stage(home, Stage(f"package-of-{seed}"), work)


def open_database(home: Path) -> None:
    """MLflow's, which is made when it is not there."""
    from components.registry import tracking

    tracking.connect(f"sqlite:///{home}/mlflow.db", home / "artifacts")


def register(home: Path, package: Path, digest: str) -> None:
    from components.registry import tracking
    from components.registry.promotion import record_evaluation
    from components.registry.registration import register

    open_database(home)
    with tracking.tracked_run(f"train {digest}", {"digest": digest}) as run:
        model = register(package, digest, NAME, run, {"scores": {}}, f"the card of {digest}", None)
        record_evaluation(model, "0123", run, "evaluation")


def promote(home: Path, version: str) -> None:
    from components.registry import promotion
    from components.registry.versions import describe

    open_database(home)
    champion = promotion.find_champion(NAME)
    if champion is None or champion.version != version:
        promotion.promote(describe(f"models:/{NAME}/{version}"), champion)


def roll_back(home: Path, version: str) -> None:
    """As somebody does who looks first whether it was done."""
    from components.registry import promotion

    open_database(home)
    champion = promotion.find_champion(NAME)
    if champion and champion.version == version:
        promotion.roll_back(NAME)
