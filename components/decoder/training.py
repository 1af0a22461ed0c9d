"""Training the decoder: masked cross-entropy, a checkpoint each epoch, resume after a kill."""

import json
import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from components.artifacts import write_atomic
from components.config import DecoderConfig
from components.decoder.batches import TrainingSet, drawn_at
from components.decoder.history import History, describe, write_history
from components.decoder.model import Decoder, build_decoder
from components.errors import CaptioningError
from components.progress import track

log = logging.getLogger(__name__)

WEIGHTS_FILE = "decoder.weights.h5"
CHECKPOINT_FILE = "checkpoint.npz"

VALIDATION_CAPTIONS = 10_000
"""At most so many validation captions are scored each epoch, always the same ones."""


def train(
    config: DecoderConfig,
    training: TrainingSet,
    validation: TrainingSet,
    vocabulary_size: int,
    folder: Path,
    on_epoch: Callable[[Mapping[str, float]], None],
) -> History:
    """Trains from the last checkpoint in `folder`, or from scratch, and writes weights and history there.

    `on_epoch` hears every epoch's row, those of an earlier, killed attempt included. Raises `CaptioningError` when
    the loss is no longer a number.
    """
    decoder = build_decoder(config, vocabulary_size, training.embeddings.shape[1])
    decoder.compile(
        optimizer=keras.optimizers.Adam(config.learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight"),
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        # XLA gained nothing on a CPU (and compiles for seconds); JAX is slow without it.
        jit_compile=keras.backend.backend() == "jax",
    )
    decoder.optimizer.build(decoder.trainable_variables)
    history = _restore(decoder, folder / CHECKPOINT_FILE)
    for row in history:
        on_epoch(row)
    steps = config.steps_per_epoch or math.ceil(len(training) / config.batch_size)
    for epoch in range(len(history), config.epochs):
        row = {"epoch": epoch + 1} | _train_epoch(decoder, training, config, epoch * steps, steps)
        if not math.isfinite(row["loss"]):
            raise CaptioningError(
                f"training diverged in epoch {epoch + 1}: the loss is {row['loss']}. The last good checkpoint is of "
                f"epoch {epoch}, in {folder}; lower decoder.learning_rate"
            )
        row |= _validate(decoder, validation, config)
        log.info("epoch %d/%d: %s", epoch + 1, config.epochs, describe(row))
        history.append(row)
        _checkpoint(decoder, history, folder / CHECKPOINT_FILE)
        on_epoch(row)
    save_decoder(decoder, folder)
    write_history(history, folder)
    (folder / CHECKPOINT_FILE).unlink()
    return history


def save_decoder(decoder: Decoder, folder: Path) -> None:
    """Writes the weights alone, without the optimizer's state."""
    decoder.optimizer = None
    decoder.save_weights(folder / WEIGHTS_FILE)


def load_decoder(config: DecoderConfig, vocabulary_size: int, dimension: int, folder: Path) -> Decoder:
    """The trained decoder that `train` left in `folder`."""
    decoder = build_decoder(config, vocabulary_size, dimension)
    decoder.load_weights(folder / WEIGHTS_FILE)
    return decoder


def _train_epoch(
    decoder: Decoder, training: TrainingSet, config: DecoderConfig, first: int, steps: int
) -> dict[str, float]:
    decoder.reset_metrics()
    for step in track(range(first, first + steps), steps, f"epoch {first // steps + 1}/{config.epochs}, batches"):
        batch = training.batch(drawn_at(step, config.batch_size, len(training), config.seed))
        figures = decoder.train_on_batch(
            (batch.embeddings, batch.words), batch.targets, sample_weight=batch.weights, return_dict=True
        )
    return {"loss": float(figures["loss"]), "accuracy": float(figures["accuracy"])}


def _validate(decoder: Decoder, validation: TrainingSet, config: DecoderConfig) -> dict[str, float]:
    decoder.reset_metrics()
    count = min(len(validation), VALIDATION_CAPTIONS)
    chosen = drawn_at(0, count, len(validation), config.seed)
    for start in range(0, count, config.batch_size):
        batch = validation.batch(chosen[start : start + config.batch_size])
        figures = decoder.test_on_batch(
            (batch.embeddings, batch.words), batch.targets, sample_weight=batch.weights, return_dict=True
        )
    return {"val_loss": float(figures["loss"]), "val_accuracy": float(figures["accuracy"])}


def _checkpoint(decoder: Decoder, history: History, path: Path) -> None:
    state: dict[str, Any] = {f"weight_{i}": np.asarray(w) for i, w in enumerate(decoder.get_weights())}
    state |= {f"optimizer_{i}": np.asarray(v) for i, v in enumerate(decoder.optimizer.variables)}
    with write_atomic(path) as temporary, temporary.open("wb") as file:
        np.savez(file, history=np.array(json.dumps(history)), **state)


def _restore(decoder: Decoder, path: Path) -> History:
    if not path.exists():
        return []
    with np.load(path, allow_pickle=False) as state:
        decoder.set_weights([state[f"weight_{i}"] for i in range(len(decoder.get_weights()))])
        for i, variable in enumerate(decoder.optimizer.variables):
            variable.assign(state[f"optimizer_{i}"])
        history: History = json.loads(str(state["history"]))
    log.info("resuming after epoch %d", len(history))
    return history
