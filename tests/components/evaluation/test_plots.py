from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from components.evaluation.plots import (
    MODEL,
    OTHER,
    plot_cider,
    plot_coverage,
    plot_lengths,
    plot_loss,
    plot_scores,
    plot_temperature,
)

HISTORY = [
    {"phase": 1, "epoch": 1, "loss": 4.2, "accuracy": 0.2, "val_loss": 3.9, "val_accuracy": 0.25, "val_cider": 0.4},
    {"phase": 1, "epoch": 2, "loss": 3.1, "accuracy": 0.4, "val_loss": 3.3, "val_accuracy": 0.35, "val_cider": 0.7},
    {"phase": 1, "epoch": 3, "loss": 2.9, "accuracy": 0.4, "val_loss": 3.2, "val_accuracy": 0.36, "val_cider": 0.6},
]
TEXTS = ["a dog runs", "a cat sits on a mat", "two birds"]
TRUTHS = ["a brown dog is running", "the cat is on its mat", "birds", "two birds fly over the sea"]
WORDS = [f"w{rank}" for rank in range(700)]
ODDS = np.random.default_rng(0).dirichlet(np.full(len(WORDS), 0.05))
ONE = np.eye(len(WORDS))[7]

Plot = Callable[..., None]
ORDINARY: Sequence[tuple[Plot, tuple[object, ...], tuple[object, ...]]] = [
    (plot_loss, (HISTORY,), (HISTORY[:2],)),
    (plot_cider, (HISTORY,), ([HISTORY[0], HISTORY[2]],)),
    (plot_lengths, (TEXTS, TRUTHS), (TEXTS[:1], TRUTHS)),
    (plot_coverage, (WORDS, [" ".join(WORDS[:90])], WORDS), (WORDS, [" ".join(WORDS[:30])], WORDS)),
    (plot_scores, (np.array([0.1, 0.5, 2.0, 1.0]),), (np.array([0.1, 0.5, 2.0, 1.5]),)),
    (plot_temperature, ("a dog", WORDS, ODDS), ("a cat", WORDS, ODDS)),
    (plot_temperature, ("a dog", WORDS, ODDS), ("a dog", WORDS, ODDS[::-1])),
]
EXTREME: Sequence[tuple[Plot, tuple[object, ...]]] = [
    (plot_loss, (HISTORY[:1],)),
    (plot_loss, ([{"epoch": 1.0, "loss": 2.0}],)),
    (plot_loss, ([*HISTORY, {"phase": 2, "epoch": 4, "reward": 0.9, "val_cider": 0.8}],)),
    (plot_loss, ([{"epoch": 1, "reward": 0.5}],)),
    (plot_loss, ([{"epoch": epoch, "loss": 1 / epoch} for epoch in range(1, 200)],)),
    (plot_cider, (HISTORY[:1],)),
    (plot_cider, ([{"epoch": 1, "loss": 2.0}],)),
    (plot_lengths, (["a dog"], ["a cat"])),
    (plot_lengths, ([""], [""])),
    (plot_lengths, (["", "a dog"], ["a " * 80])),
    (plot_coverage, (["a", "dog", "runs"], ["a dog"], ["the dog"])),
    (plot_coverage, (WORDS[:50], [""], [""])),
    (plot_coverage, ([f"w{rank}" for rank in range(20_000)], ["w1"], ["w19999"])),
    (plot_scores, (np.array([1.0]),)),
    (plot_scores, (np.zeros(40),)),
    (plot_temperature, ("", WORDS, ODDS)),
    (plot_temperature, ("a dog", WORDS, ONE)),
    (plot_temperature, ("a dog and " * 60, WORDS, ODDS)),
    (plot_temperature, ("a" * 60, WORDS, ODDS)),
    (plot_temperature, ("", ["a", "dog", "runs"], np.array([0.5, 0.25, 0.25]))),
    (plot_temperature, ("", ["photographically" * 2] * 9, np.full(9, 1 / 9))),
]


def drawn(plot: Plot, figures: Sequence[object], folder: Path) -> Image.Image:
    """The picture, once it is found to be whole and of the right size."""
    path = folder / "plot.png"
    plot(*figures, path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.size == (960, 640)
        return image.convert("RGB")


def colours(image: Image.Image, pixels: int = 40) -> set[tuple[int, ...]]:
    return {colour for count, colour in image.getcolors(1_000_000) or [] if count >= pixels}


@pytest.mark.parametrize(("plot", "figures", "others"), ORDINARY)
def test_a_picture_is_of_its_figures(
    plot: Plot, figures: Sequence[object], others: Sequence[object], tmp_path: Path
) -> None:
    picture = drawn(plot, figures, tmp_path)
    assert any(max(colour) - min(colour) > 80 for colour in colours(picture)), "bars and lines are coloured"
    assert drawn(plot, figures, tmp_path).tobytes() == picture.tobytes()
    assert drawn(plot, others, tmp_path).tobytes() != picture.tobytes()


@pytest.mark.parametrize(("plot", "figures"), EXTREME)
def test_whatever_the_figures_there_is_a_picture(plot: Plot, figures: Sequence[object], tmp_path: Path) -> None:
    picture = drawn(plot, figures, tmp_path)
    assert len(colours(picture, pixels=1)) > 20, "more than a blank sheet"
    left, upper, right, lower = Image.eval(picture.convert("L"), lambda value: 255 - value).getbbox() or (0, 0, 0, 0)
    assert (right - left > 480, lower - upper > 320) == (True, True), "it fills its sheet"


@pytest.mark.parametrize(
    ("measures", "expected"),
    [
        ({"loss": 2.0, "val_loss": 2.5}, {MODEL, OTHER}),
        ({"loss": 2.0}, {MODEL}),
        ({"val_loss": 2.5}, {OTHER}),
        ({"loss": 2.5, "val_loss": 2.5}, {OTHER}),
    ],
)
def test_one_epoch_is_visible_and_a_measure_that_is_not_there_is_not(
    measures: Mapping[str, float], expected: set[str], tmp_path: Path
) -> None:
    picture = drawn(plot_loss, ([{"epoch": 1, **measures}],), tmp_path).crop((0, 0, 960, 540))  # without the legend
    assert {colour for colour in (MODEL, OTHER) if ImageColor.getrgb(colour) in colours(picture, 5)} == expected


def test_an_epoch_without_a_measure_leaves_a_gap(tmp_path: Path) -> None:
    def inked(history: Sequence[Mapping[str, float]]) -> int:
        picture = drawn(plot_cider, (history,), tmp_path)
        return sum(count for count, colour in picture.getcolors(1_000_000) or [] if colour == ImageColor.getrgb(OTHER))

    whole = [{"epoch": epoch, "val_cider": 0.5} for epoch in range(1, 6)]
    gap = [row if row["epoch"] != 3 else {"epoch": 3} for row in whole]
    assert inked(gap) < 0.75 * inked(whole)


@pytest.mark.parametrize("before", ["", "a dog on", "a dog and " * 60])
def test_the_title_of_a_temperature_plot_has_room(before: str, tmp_path: Path) -> None:
    picture = drawn(plot_temperature, (before, WORDS, ODDS), tmp_path)
    edge = picture.crop((945, 0, 960, 90))
    assert edge.getcolors() == [(15 * 90, (255, 255, 255))], "it ends before the sheet does"


def test_low_temperatures_insist_and_high_ones_dare(tmp_path: Path) -> None:
    picture = np.asarray(drawn(plot_temperature, ("", ["a", "the"], np.array([0.6, 0.4])), tmp_path)).astype(int)
    coloured = (picture[:520].max(axis=2) - picture[:520].min(axis=2)) > 20  # without the legend
    heights = coloured.sum(axis=0)[coloured.any(axis=0)]
    insisted, dared = 0.6**4 / (0.6**4 + 0.4**4), 0.4**0.5 / (0.6**0.5 + 0.4**0.5)  # at 1/4 and at 2
    assert heights[5] / heights[-5] == pytest.approx(insisted / dared, rel=0.03)
