"""Training the decoder: masked cross-entropy, a checkpoint each epoch, resume after a kill, the best epoch kept."""

import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from components.artifacts import write_atomic
from components.config import DecoderConfig
from components.decoder.batches import Batch, TrainingSet, drawn_at
from components.decoder.history import History, describe, write_history
from components.decoder.model import Decoder, build_decoder
from components.errors import CaptioningError
from components.progress import track

log = logging.getLogger(__name__)

WEIGHTS_FILE = "decoder.h5"
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
    if not len(training) or not len(validation):
        raise CaptioningError("no caption of an image with an embedding to train on, or none to validate on")
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
        row |= _validate(decoder, validation, config)
        if not math.isfinite(row["loss"] + row["val_loss"]):
            kept = f"The last good checkpoint is of epoch {epoch}, in {folder}" if epoch else "There is no checkpoint"
            raise CaptioningError(
                f"training diverged in epoch {epoch + 1}: the loss is {row['loss']}, in validation {row['val_loss']}. "
                f"{kept}; lower decoder.learning_rate"
            )
        history.append(row)
        if row["val_loss"] <= min(earlier["val_loss"] for earlier in history):
            save_decoder(decoder, folder)
        _checkpoint(decoder, history, folder / CHECKPOINT_FILE)
        log.info("epoch %d/%d: %s", epoch + 1, config.epochs, describe(row))
        on_epoch(row)
    write_history(history, folder)
    (folder / CHECKPOINT_FILE).unlink()
    return history


def save_decoder(decoder: Decoder, folder: Path) -> None:
    """Writes the weights by their names, without the optimizer's state."""
    with write_atomic(folder / WEIGHTS_FILE) as temporary, h5py.File(temporary, "w") as file:
        for weight in decoder.weights:
            file[weight.path] = np.asarray(weight)


def load_decoder(config: DecoderConfig, vocabulary_size: int, dimension: int, folder: Path) -> Decoder:
    """The trained decoder that `train` left in `folder`: that of the epoch with the lowest validation loss."""
    decoder = build_decoder(config, vocabulary_size, dimension)
    with h5py.File(folder / WEIGHTS_FILE) as file:
        for weight in decoder.weights:
            weight.assign(file[weight.path][()])
    return decoder


def _train_epoch(
    decoder: Decoder, training: TrainingSet, config: DecoderConfig, first: int, steps: int
) -> dict[str, float]:
    label = f"epoch {first // steps + 1}/{config.epochs}, batches"
    numbers = track(range(first, first + steps), steps, label)
    drawn = (drawn_at(step, config.batch_size, len(training), config.seed) for step in numbers)
    return _mean_over(decoder.train_on_batch, (training.batch(captions) for captions in drawn), "")


def _validate(decoder: Decoder, validation: TrainingSet, config: DecoderConfig) -> dict[str, float]:
    count, size = min(len(validation), VALIDATION_CAPTIONS), config.batch_size
    chosen = drawn_at(0, count, len(validation), config.seed)
    batches = (validation.batch(chosen[start : start + size]) for start in range(0, count, size))
    return _mean_over(decoder.test_on_batch, batches, "val_")


def _mean_over(step: Callable[..., dict[str, Any]], batches: Iterable[Batch], prefix: str) -> dict[str, float]:
    """Loss and accuracy of `step` over the batches, every word counting the same."""
    total = np.zeros(3)
    for batch in batches:
        words = batch.weights.sum()
        inputs = (batch.embeddings, batch.words)
        found = step(inputs, batch.targets, sample_weight=batch.weights, return_dict=True)
        total += [words * found["loss"], words * found["accuracy"], words]
    loss, accuracy, words = total
    return {f"{prefix}loss": float(loss / words), f"{prefix}accuracy": float(accuracy / words)}


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
