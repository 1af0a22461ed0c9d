"""The pictures of an evaluation, each a PNG: how it learned, what it writes, how well, and what temperature does."""

import math
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MODEL: Final = "#2563eb"
OTHER: Final = "#ea580c"
INK: Final = "#44403c"
PALE: Final = "#e7e5e4"

BANDS: Final = (50, 100, 200, 500, 1000, 2000, 5000)
"""The vocabulary by rank: how much of its first 50 words is used, of the next 50, and so on."""
TEMPERATURES: Final = (0.25, 0.5, 1.0, 1.5, 2.0)
SHOWN_WORDS: Final = 6
LONGEST: Final = 10
LAST_WORDS: Final = 4
"""Of the begin of a caption that a title has room for."""


def plot_loss(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Cross-entropy (nats a word) by epoch, on training and on validation captions.

    `history`: see `components.training.history`. An epoch without a measure leaves a gap.
    """
    with _figure(path) as axes:
        _plot_epochs(axes, history, {"loss": ("training", MODEL), "val_loss": ("validation", OTHER)})
        _dress(axes, "Loss", "epoch", "nats a word")


def plot_cider(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """CIDEr-D of greedy validation captions by epoch; `history` as for `plot_loss`."""
    with _figure(path) as axes:
        _plot_epochs(axes, history, {"val_cider": ("validation, greedy captions", OTHER)}, 100)
        _dress(axes, "CIDEr", "epoch", "× 100")


def _plot_epochs(
    axes: "Axes", history: Sequence[Mapping[str, float]], lines: Mapping[str, tuple[str, str]], scale: float = 1
) -> None:
    from matplotlib.ticker import MaxNLocator

    marker = "o" if len(history) <= 30 else None
    for measure, (label, colour) in lines.items():
        values = [scale * row.get(measure, math.nan) for row in history]
        epochs = [row["epoch"] for row in history]
        axes.plot(epochs, values, color=colour, label=label, marker=marker, markersize=4, linewidth=2)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def plot_lengths(captions: Sequence[str], references: Sequence[str], path: Path) -> None:
    """How many words captions and references have: shares of both."""
    with _figure(path) as axes:
        counts = [[len(text.split()) for text in texts] for texts in (captions, references)]
        longest = min(max(max(lengths, default=1) for lengths in counts), 30)
        places = np.arange(1, longest + 1)
        for lengths, label, colour, offset in zip(
            counts, ("model", "people"), (MODEL, OTHER), (-0.2, 0.2), strict=True
        ):
            found = np.bincount(np.minimum(lengths, longest), minlength=longest + 1)[1:]
            axes.bar(places + offset, found / max(len(lengths), 1), 0.4, color=colour, label=label)
        axes.set_xlim(min(min(lengths, default=1) for lengths in counts) - 0.8, longest + 0.8)
        axes.yaxis.set_major_formatter(_percent)
        _dress(axes, "Length", f"words in a caption{' (30: 30 or more)' if longest == 30 else ''}", "captions")


def plot_coverage(
    vocabulary: Sequence[str], captions: Collection[str], references: Collection[str], path: Path
) -> None:
    """How much of the vocabulary (the most frequent word first) captions and references use, by how frequent it is."""
    edges = [0, *(edge for edge in BANDS if edge < len(vocabulary)), len(vocabulary)]
    bands = list(pairwise(edges))
    with _figure(path) as axes:
        for texts, label, colour, offset in ((captions, "model", MODEL, -0.2), (references, "people", OTHER, 0.2)):
            used = {word for text in texts for word in text.split()}
            shares = [np.mean([word in used for word in vocabulary[start:end]]) for start, end in bands]
            axes.bar(np.arange(len(shares)) + offset, shares, 0.4, color=colour, label=label)
        axes.set_xticks(np.arange(len(bands)), [f"≤ {end:,}" for _, end in bands])
        axes.yaxis.set_major_formatter(_percent)
        _dress(axes, "Vocabulary coverage", "rank of the words, the most frequent first", "of them used")


def plot_scores(scores: np.ndarray, path: Path) -> None:
    """How the images' CIDEr (1 is what papers print as 100) is distributed, with its mean."""
    with _figure(path) as axes:
        axes.hist(100 * scores, bins=40, color=MODEL)
        axes.axvline(100 * scores.mean(), color=OTHER, linewidth=2, label=f"mean {100 * scores.mean():.1f}")
        _dress(axes, "CIDEr of each image", "CIDEr × 100", "images")


def plot_temperature(before: str, words: Sequence[str], probabilities: np.ndarray, path: Path) -> None:
    """What temperature does to the probabilities (words,) of what follows `before`, the begin of a real caption."""
    with np.errstate(divide="ignore"):
        logits = np.log(probabilities)
    shown = np.argsort(-probabilities, kind="stable")[:SHOWN_WORDS]
    with _figure(path) as axes:
        places, width = np.arange(len(shown) + 1), 0.8 / len(TEMPERATURES)
        for number, temperature in enumerate(TEMPERATURES):
            odds = np.exp((logits - logits.max()) / temperature)
            odds /= odds.sum()
            heights = [*odds[shown], 1 - odds[shown].sum()]
            offset, shade = (number - (len(TEMPERATURES) - 1) / 2) * width, 0.25 + 0.75 * number / len(TEMPERATURES)
            axes.bar(places + offset, heights, width, color=MODEL, alpha=shade, label=f"{temperature:g}")
        axes.set_xticks(places, [*(_shorten(words[word]) for word in shown), "any other"])
        axes.yaxis.set_major_formatter(_percent)
        end = " ".join(map(_shorten, before.split()[-LAST_WORDS:]))
        place = f"What may follow “… {end}”" if before else "What may come first"
        _dress(axes, place, "at temperatures", "probability")


@contextmanager
def _figure(path: Path) -> "Iterator[Axes]":
    """Axes, written to `path` as a PNG of 960 × 640 pixels: to be read on a phone too."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(6, 4), dpi=160, facecolor="white", layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
    axes = figure.subplots()
    yield axes
    labels = axes.get_legend_handles_labels()[1]
    if labels:
        figure.legend(frameon=False, fontsize=11, labelcolor=INK, loc="outside lower center", ncols=len(labels))
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Glyph .* missing"
        )  # of another script: boxes are drawn, the page has the text
        figure.savefig(path, format="png")


def _shorten(word: str) -> str:
    return word if len(word) <= LONGEST else f"{word[: LONGEST - 1]}…"


def _percent(value: float, _: object) -> str:
    return f"{100 * value:.3g} %"


def _dress(axes: "Axes", title: str, across: str, up: str) -> None:
    axes.set_title(title, loc="left", fontsize=13, fontweight="bold", color=INK, pad=10)
    axes.set_xlabel(across, fontsize=11, color=INK)
    axes.set_ylabel(up, fontsize=11, color=INK)
    axes.grid(axis="y", color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#a8a29e")
    axes.tick_params(colors=INK, length=0, labelsize=10)
