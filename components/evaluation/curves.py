"""The learning curves of a training run as a picture."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from components.errors import CaptioningError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRAIN: Final = "#2563eb"
VALIDATION: Final = "#ea580c"
INK: Final = "#44403c"


def plot_curves(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Writes loss and next-word accuracy by epoch, training and validation, as a PNG of 1,650 × 600 pixels.

    `history` has one row an epoch: `epoch`, and any of `loss`, `accuracy`, `val_loss`, `val_accuracy`; loss
    in nats a word, accuracy as a fraction. An epoch without a measure leaves a gap.

    Raises:
        CaptioningError: the history is empty.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    if not history:
        raise CaptioningError(f"No epoch to plot in {path.name}: the history is empty. Train at least one epoch.")
    figure = Figure(figsize=(11, 4), dpi=150, facecolor="white", layout=ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.12))
    loss, accuracy = figure.subplots(1, 2)
    _draw(loss, history, "loss", "Loss (nats a word)")
    _draw(accuracy, history, "accuracy", "Next-word accuracy")
    accuracy.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    figure.savefig(path, format="png")


def _draw(axes: "Axes", history: Sequence[Mapping[str, float]], measure: str, title: str) -> None:
    from matplotlib.ticker import MaxNLocator

    epochs = [row["epoch"] for row in history]
    for key, label, colour in ((measure, "training", TRAIN), (f"val_{measure}", "validation", VALIDATION)):
        values = [row.get(key, math.nan) for row in history]
        if all(map(math.isnan, values)):
            continue
        marker = "o" if len(history) <= 30 else None
        axes.plot(epochs, values, color=colour, label=label, marker=marker, markersize=4, linewidth=2)
    axes.set_title(title, loc="left", fontsize=13, fontweight="bold", color=INK, pad=10)
    axes.set_xlabel("epoch", fontsize=11, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(axis="y", color="#e7e5e4", linewidth=0.8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#a8a29e")
    axes.tick_params(colors=INK, length=0, labelsize=10)
    axes.legend(frameon=False, fontsize=11, labelcolor=INK)
