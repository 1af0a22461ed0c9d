"""The figures of a training, epoch by epoch."""

import json
from collections.abc import Mapping
from pathlib import Path

HISTORY_FILE = "history.json"

History = list[dict[str, float]]
"""A row an epoch: epoch (from 1), loss (nats a word), accuracy, val_loss, val_accuracy."""


def write_history(history: History, folder: Path) -> None:
    """Writes the epochs of a finished training."""
    (folder / HISTORY_FILE).write_text(json.dumps(history, indent=1), encoding="utf-8")


def read_history(folder: Path) -> History:
    """Reads what `write_history` wrote."""
    history: History = json.loads((folder / HISTORY_FILE).read_text(encoding="utf-8"))
    return history


def describe(row: Mapping[str, float]) -> str:
    """An epoch's figures in a few words."""
    return (
        f"loss {row['loss']:.3f}, accuracy {row['accuracy']:.3f}; "
        f"validation {row['val_loss']:.3f}, {row['val_accuracy']:.3f}"
    )
