"""Training the decoder, phase by phase: every epoch is a checkpoint, the best one is kept, a kill changes nothing."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import h5py
import keras
import numpy as np

from components.artifacts import write_atomic
from components.decoder.backend import Objective, Tensor, compile_step, resident
from components.decoder.model import Decoder, Place, build_decoder
from components.errors import CaptioningError
from components.hardware import require_bfloat16
from components.progress import track
from components.training.batches import Batch, TrainingSet
from components.training.checkpoint import AVERAGE_EVERY, CHECKPOINT_FILE, State
from components.training.history import History, best_of, describe, is_stuck, rank, write_history
from components.training.phases import Phase, cross_entropy_phase, self_critical_phase
from components.training.validation import Validator, losses
from components.training_config import DecoderConfig, TrainingConfig
from components.vocabulary.vocabulary import Vocabulary

log = logging.getLogger(__name__)

WEIGHTS_FILE = "decoder.h5"
PHASE_FILE = "phase-{}.h5"
"""The best weights of a phase, while the training runs: a phase killed in its first epoch starts from them again."""

WORSE_THAN_GUESSING = 0.5
"""Nats by which the losses may exceed that of equal probabilities before training counts as diverged."""


def train(
    architecture: DecoderConfig,
    config: TrainingConfig,
    training: TrainingSet,
    validation: TrainingSet,
    vocabulary: Vocabulary,
    folder: Path,
    on_epoch: Callable[[Mapping[str, float]], None],
) -> History:
    """Trains from the last checkpoint in `folder`, or from scratch, and writes weights and history there.

    `on_epoch` hears every epoch's row, those of an earlier, killed attempt included. Raises `CaptioningError` when
    a loss is no longer a number, or the training and the validation loss are worse than a guess among all words.
    """
    if not len(training) or not len(validation):
        raise CaptioningError("no caption of an image with an embedding to train on, or none to validate on")
    if config.precision == "bfloat16":
        require_bfloat16("training.precision")
    decoder = build_decoder(architecture, len(vocabulary), training.vectors.dimension)
    if architecture.standardize_embeddings:
        decoder.fit_embeddings(training.embeddings)
    embeddings = resident(training.embeddings)
    phases = [cross_entropy_phase(config, training)]
    if config.self_critical:
        phases.append(self_critical_phase(config.self_critical, config, training, decoder, embeddings))
    state = State(decoder, keras.random.SeedGenerator(config.seed))
    state.restore([phase.optimizer for phase in phases], folder)
    for row in state.history:
        on_epoch(row)
    run = _Run(config, state, embeddings, Validator(decoder, validation, vocabulary), folder, on_epoch)
    for number, phase in enumerate(phases, start=1):
        run.phase(phase, number)
    write_history(state.history, folder)
    best = folder / PHASE_FILE.format(int(best_of(state.history)["phase"]))
    if best.exists():  # else it was killed below, and is resumed
        best.replace(folder / WEIGHTS_FILE)
    for number in range(1, len(phases) + 1):
        (folder / PHASE_FILE.format(number)).unlink(missing_ok=True)
    (folder / CHECKPOINT_FILE).unlink()
    return state.history


@dataclass(frozen=True)
class _Run:
    config: TrainingConfig
    state: State
    embeddings: Tensor
    validator: Validator
    folder: Path
    on_epoch: Callable[[Mapping[str, float]], None]

    def phase(self, phase: Phase, number: int) -> None:
        """What is left of the phase; the second starts from the best weights of the first."""
        state, done = self.state, sum(row["phase"] == number for row in self.state.history)
        if not done:
            if number > 1:
                read_weights(state.decoder, self.folder / PHASE_FILE.format(number - 1))
            state.start_average()
        step = compile_step(
            objective(state.decoder, state.dropout, self.config, phase.smoothing),
            phase.optimizer,
            state.decoder.trainable_variables,
            [state.dropout.state],
        )
        for epoch in range(done, phase.epochs):
            if self.config.patience and is_stuck(state.history, number, self.config.patience):
                log.info("%s: none of the last %d epochs was better; stopped", phase.name, self.config.patience)
                return
            started = time.monotonic()
            row = {"phase": float(number), "epoch": len(state.history) + 1.0, **self._epoch(phase, epoch, step)}
            state.history.append(row | self._validate(row, self.folder / PHASE_FILE.format(number)))
            state.save(phase.optimizer, self.folder)
            left = timedelta(seconds=round((phase.epochs - epoch - 1) * (time.monotonic() - started)))
            what = f"{phase.name}, epoch {epoch + 1}/{phase.epochs}"
            log.info("%s: %s; at most %s left", what, describe(state.history[-1]), left)
            self.on_epoch(state.history[-1])

    def _epoch(self, phase: Phase, epoch: int, step: Callable[..., list[float]]) -> dict[str, float]:
        """One epoch's steps. Returns the means of their figures, every target counting the same."""
        figures, targets, since = [], [], 0
        numbers = range(epoch * phase.steps, (epoch + 1) * phase.steps)
        for number in track(numbers, phase.steps, f"{phase.name}, epoch {epoch + 1}/{phase.epochs}, batches"):
            batch, metrics = phase.batch_at(number)
            loss, accuracy = step(self.embeddings, *batch)
            if not math.isfinite(loss):
                raise self._diverged(f"at step {number + 1} of {phase.name} the loss is {loss}")
            figures.append(metrics or {"loss": loss, "accuracy": accuracy})
            targets.append(np.count_nonzero(batch.targets))
            since += 1
            if self.config.weight_average and (since == AVERAGE_EVERY or number + 1 == numbers.stop):
                self.state.update_average(number + 1, since, self.config.weight_average)
                since = 0
        return {name: float(np.average([row[name] for row in figures], weights=targets)) for name in figures[0]}

    def _validate(self, row: Mapping[str, float], path: Path) -> dict[str, float]:
        """The validation figures of what would be the decoder now; the best so far is kept at `path`.

        `row` has the epoch's training figures: a bad validation loss beside a good training loss is overfitting.
        """
        state, averaged = self.state, self.config.weight_average > 0
        if averaged:
            state.swap_average()
        figures = self.validator.figures()
        if self.config.notebook_loss:
            figures["notebook_loss"] = self.validator.notebook_loss()
        guess = math.log(state.decoder.vocabulary_size) + WORSE_THAN_GUESSING
        if not figures["val_loss"] <= guess:
            fault = f"the validation loss is {figures['val_loss']:.3g}, worse than a guess among all words"
            if not math.isfinite(figures["val_loss"]) or row.get("loss", 0.0) > guess:
                raise self._diverged(fault)
            if "loss" in row:
                log.warning(
                    "%s, the training loss %.3g: the model overfits. The best epoch is kept; train on more captions, "
                    "or for fewer training.epochs",
                    fault,
                    row["loss"],
                )
        if rank(figures) > max(map(rank, state.history), default=(-math.inf, 0.0)):
            write_weights(state.decoder, path)
        if averaged:
            state.swap_average()
        return figures

    def _diverged(self, what: str) -> CaptioningError:
        epochs = len(self.state.history)
        kept = (
            f"the last good checkpoint, of epoch {epochs}, is in {self.folder}" if epochs else "there is no checkpoint"
        )
        return CaptioningError(f"training diverged: {what}; {kept}. Lower training.learning_rate")


def objective(
    decoder: Decoder, dropout: keras.random.SeedGenerator, config: TrainingConfig, smoothing: float
) -> Objective:
    """From all embeddings and a batch's arrays (see `Batch`) to its loss, and to its plain loss and accuracy."""
    rates = {"image": config.image_dropout, "word": config.word_dropout, "output": config.output_dropout}

    def drop(values: Tensor, place: Place) -> Tensor:
        return keras.random.dropout(values, rates[place], seed=dropout) if rates[place] else values

    def loss_of(embeddings: Tensor, *batch: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        loss, *metrics = losses(decoder, embeddings, Batch(*batch), smoothing, config.precision, drop)
        return loss, tuple(metrics)

    return loss_of


def write_weights(decoder: Decoder, path: Path) -> None:
    """Writes the weights by their names, without the optimizer's state."""
    with write_atomic(path) as temporary, h5py.File(temporary, "w") as file:
        for weight in decoder.weights:
            file[weight.path] = np.asarray(weight)


def read_weights(decoder: Decoder, path: Path) -> None:
    """Gives the decoder the weights that `write_weights` wrote."""
    with h5py.File(path) as file:
        for weight in decoder.weights:
            weight.assign(file[weight.path][()])


def load_decoder(config: DecoderConfig, vocabulary_size: int, dimension: int, folder: Path) -> Decoder:
    """The decoder that `train` left in `folder`: that of the best epoch."""
    decoder = build_decoder(config, vocabulary_size, dimension)
    read_weights(decoder, folder / WEIGHTS_FILE)
    return decoder
