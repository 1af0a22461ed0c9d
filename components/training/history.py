"""The figures of a training, epoch by epoch."""

import json
from collections.abc import Mapping
from pathlib import Path

HISTORY_FILE = "history.json"

History = list[dict[str, float]]
"""A row an epoch: `phase` and `epoch` (both from 1, the epoch over all phases); `loss` (nats a word) and `accuracy`, or
in the self-critical phase `reward`; and the figures of `components.training.validation`."""


def write_history(history: History, folder: Path) -> None:
    """Writes the epochs of a finished training."""
    (folder / HISTORY_FILE).write_text(json.dumps(history, indent=1), encoding="utf-8")


def read_history(folder: Path) -> History:
    """Reads what `write_history` wrote."""
    history: History = json.loads((folder / HISTORY_FILE).read_text(encoding="utf-8"))
    return history


def rank(row: Mapping[str, float]) -> tuple[float, float]:
    """What epochs are compared by, the best highest: CIDEr-D of the validation captions, then the validation loss."""
    return row["val_cider"], -row["val_loss"]


def best_of(history: History) -> dict[str, float]:
    """The row of the epoch whose decoder was kept: the first of the best."""
    return max(history, key=rank)


def is_stuck(history: History, phase: float, patience: int) -> bool:
    """Whether the last `patience` epochs of the phase brought no better decoder."""
    latest = history[-patience:]
    mine = len(latest) == patience and all(row["phase"] == phase for row in latest)
    return mine and best_of(history) not in latest


def describe(row: Mapping[str, float]) -> str:
    """An epoch's figures in a few words."""
    learnt = f"reward {row['reward']:.3f}" if "reward" in row else f"loss {row['loss']:.3f}"
    return f"{learnt}; validation loss {row['val_loss']:.3f}, CIDEr {row['val_cider']:.3f}"
