"""Trains toy decoders on the backend that Keras is told to use, and writes what came out of it as JSON.

Run by `test_backend`. Weights and random numbers are NumPy's, so figures of different backends can be compared.
"""

import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import keras
import numpy as np

from components.decoder.backend import compile_step, resident
from components.decoder.lstm import Precision
from components.decoder.model import build_decoder
from components.encoder.pool import Vectors
from components.training.batches import TrainingSet
from components.training.history import History
from components.training.phases import cross_entropy_phase, self_critical_phase
from components.training.train import load_decoder, objective, train
from components.training.validation import Validator
from components.training_config import SelfCriticalConfig
from components.vocabulary.vocabulary import Vocabulary
from data_contracts.schema import END, PAD, START
from tests.recipes import notebook_decoder, notebook_training

VOCABULARY = Vocabulary.build([["a", "dog", "kite", "red"]], min_count=1)
ARCHITECTURE = notebook_decoder(
    standardize_embeddings=True,
    image_projection=3,
    separate_states=True,
    image_at_every_step=True,
    word_embedding=3,
    lstm_units=4,
    output_projection=3,
    tie_embeddings=True,
    max_length=6,
)
SELF_CRITICAL = SelfCriticalConfig(epochs=2, images=4, samples=3, learning_rate=0.02)
CONFIG = notebook_training(batch_size=8, epochs=2, learning_rate=0.05, label_smoothing=0.1, clip_norm=1.0)


def toy_set() -> TrainingSet:
    ids = np.full((16, 6), PAD, np.int32)
    for number, row in enumerate(ids):
        row[:5] = [START, 4 + number % 4, 4 + number // 4, 7, END]
    vectors = np.random.default_rng(0).normal(size=(16, 5)).astype(np.float32)
    return TrainingSet(Vectors([vectors], np.zeros(16, int), np.arange(16), 5), np.arange(16), ids[:, 1:], ids)


def figures_of_steps(
    data: TrainingSet, *, self_critical: bool = False, precision: Precision = "float32"
) -> list[float]:
    """Of some steps from weights that are the same on each backend, then of the validation."""
    config = CONFIG.model_copy(update={"precision": precision})
    decoder, random = build_decoder(ARCHITECTURE, len(VOCABULARY), 5), np.random.default_rng(1)
    decoder.set_weights([random.normal(size=weight.shape) for weight in decoder.get_weights()])
    decoder.fit_embeddings(data.embeddings)
    embeddings, dropout = resident(data.embeddings), keras.random.SeedGenerator(0)
    if self_critical:
        phase = self_critical_phase(SELF_CRITICAL, config, data, decoder, embeddings)
    else:
        phase = cross_entropy_phase(config, data)
    step = compile_step(
        objective(decoder, dropout, config, phase.smoothing),
        phase.optimizer,
        decoder.trainable_variables,
        [dropout.state],
    )
    figures = []
    for number in range(phase.epochs * phase.steps):
        batch, told = phase.batch_at(number)
        figures += [*step(embeddings, *batch), *told.values()]
    return [*figures, *Validator(decoder, data, VOCABULARY).figures().values()]


def history_of_everything(data: TrainingSet, interruptions: Collection[int] = ()) -> History:
    """Of a training in two phases that is stopped after these epochs, and then goes on."""
    config = CONFIG.model_copy(
        update={"image_dropout": 0.2, "word_dropout": 0.2, "output_dropout": 0.2, "weight_average": 0.5, "cosine": True}
        | {"self_critical": SELF_CRITICAL, "steps_per_epoch": 10}
    )

    def stop_at(epoch: int) -> Callable[[Mapping[str, float]], None]:
        def on_epoch(row: Mapping[str, float]) -> None:
            if row["epoch"] == epoch:
                raise KeyboardInterrupt

        return on_epoch

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for epoch in interruptions:
            with contextlib.suppress(KeyboardInterrupt):
                train(ARCHITECTURE, config, data, data, VOCABULARY, folder, stop_at(epoch))
        history = train(ARCHITECTURE, config, data, data, VOCABULARY, folder, lambda row: None)
        load_decoder(ARCHITECTURE, len(VOCABULARY), 5, folder)
    return history


def main() -> None:
    data = toy_set()
    found = {
        "backend": keras.backend.backend(),
        "cross_entropy": figures_of_steps(data),
        "self_critical": figures_of_steps(data, self_critical=True),
        "bfloat16": figures_of_steps(data, precision="bfloat16")[:6],
        "history": history_of_everything(data),
        "resumed": history_of_everything(data, interruptions=(3,)),
    }
    Path(sys.argv[1]).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
