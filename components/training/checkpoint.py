"""What a training needs to go on as if it had never stopped, in one file that is whole or not there."""

import json
import logging
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from pydantic import TypeAdapter

from components.artifacts import write_atomic
from components.decoder.model import Decoder
from components.training.history import History

log = logging.getLogger(__name__)

CHECKPOINT_FILE = "checkpoint.npz"

DAMAGED = (
    *(OSError, ValueError, TypeError, LookupError, AttributeError, EOFError, MemoryError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)
"""What NumPy and JSON raise on a file that `State.save` did not write."""

_HISTORY = TypeAdapter(History)

AVERAGE_EVERY = 8
"""Steps between two updates of the running average."""


@dataclass
class State:
    """All that changes while a decoder is trained, but for the optimizer of the phase."""

    decoder: Decoder
    dropout: keras.random.SeedGenerator
    history: History = field(default_factory=list)
    average: list[np.ndarray] = field(default_factory=list)
    """Running averages of the trainable weights."""

    def start_average(self) -> None:
        """Begins the average anew, with the weights as they are."""
        self.average = [np.asarray(weight).copy() for weight in self.decoder.trainable_variables]

    def update_average(self, taken: int, since: int, keep: float) -> None:
        """Moves the average towards the weights, `taken` steps into a phase and `since` the last time.

        `keep` is the average's share a step.
        """
        young = (AVERAGE_EVERY + taken) / (10 * AVERAGE_EVERY + taken)  # its start is forgotten sooner
        keep = min(keep**since, young)
        for mean, weight in zip(self.average, self.decoder.trainable_variables, strict=True):
            mean += np.float32(1 - keep) * (np.asarray(weight) - mean)

    def swap_average(self) -> None:
        """Exchanges weights and average."""
        for place, weight in enumerate(self.decoder.trainable_variables):
            own = np.asarray(weight).copy()
            weight.assign(self.average[place])
            self.average[place] = own

    def save(self, optimizer: keras.Optimizer, folder: Path) -> None:
        """Writes the checkpoint over the one before."""
        groups = {
            "weight": self.decoder.weights,
            "optimizer": optimizer.variables,
            "average": self.average,
            "dropout": [self.dropout.state],
        }
        arrays: dict[str, Any] = {
            f"{name}_{i}": np.asarray(value) for name, group in groups.items() for i, value in enumerate(group)
        }
        with write_atomic(folder / CHECKPOINT_FILE) as temporary, temporary.open("wb") as file:
            np.savez(file, history=np.array(json.dumps(self.history)), **arrays)

    def restore(self, optimizers: Sequence[keras.Optimizer], folder: Path) -> None:
        """Takes up the checkpoint in `folder`, if there is one; `optimizers` are those of the phases."""
        path = folder / CHECKPOINT_FILE
        if not path.exists():
            return
        try:
            history, values, average = self._read(path, optimizers)
        except DAMAGED as error:
            log.warning("%s is damaged (%s); the training begins anew", path, error)
            path.unlink()
            return
        for variable, value in values:
            variable.assign(value)
        self.history, self.average = history, average
        log.info("resuming after epoch %d", len(self.history))

    def _read(
        self, path: Path, optimizers: Sequence[keras.Optimizer]
    ) -> tuple[History, list[tuple[Any, np.ndarray]], list[np.ndarray]]:
        """History, variables with their values, and average; nothing is changed before all of it was read."""
        with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
            if any(member.compress_type for member in saved.zip.infolist()):  # may be far larger than the file
                raise ValueError("compressed")
            history: History = _HISTORY.validate_json(str(saved["history"]))
            optimizer = optimizers[int(history[-1]["phase"]) - 1]
            optimizer.build(self.decoder.trainable_variables)
            trainable = self.decoder.trainable_variables
            groups = {"weight": self.decoder.weights, "optimizer": optimizer.variables, "dropout": [self.dropout.state]}
            values = [
                (variable, _fitting(saved[f"{name}_{i}"], variable))
                for name, variables in groups.items()
                for i, variable in enumerate(variables)
            ]
            return history, values, [_fitting(saved[f"average_{i}"], each) for i, each in enumerate(trainable)]


def _fitting(value: np.ndarray, variable: Any) -> np.ndarray:
    if value.shape != tuple(variable.shape) or value.dtype.kind not in "fiu":
        raise ValueError(f"{value.dtype} {value.shape} is no {variable.name}")
    return value
