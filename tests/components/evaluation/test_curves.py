from pathlib import Path

import pytest
from PIL import Image, ImageColor

from components.errors import CaptioningError
from components.evaluation.curves import TRAIN, VALIDATION, plot_curves

HISTORY = [
    {"epoch": 1, "loss": 4.2, "accuracy": 0.2, "val_loss": 3.9, "val_accuracy": 0.25},
    {"epoch": 2, "loss": 3.1, "accuracy": 0.4, "val_loss": 3.3, "val_accuracy": 0.35},
]


def drawn(history: list[dict[str, float]], path: Path) -> set[str]:
    """The colours of the curves found in both panels, below their legends."""
    plot_curves(history, path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.size == (1650, 600)
        panels = [image.convert("RGB").crop((left, 200, left + 825, 600)) for left in (0, 825)]
    shown = [{colour for _, colour in panel.getcolors(1_000_000) or []} for panel in panels]
    return {curve for curve in (TRAIN, VALIDATION) if all(ImageColor.getrgb(curve) in panel for panel in shown)}


def test_both_splits_are_drawn(tmp_path: Path) -> None:
    assert drawn(HISTORY, tmp_path / "curves.png") == {TRAIN, VALIDATION}


def test_one_epoch_is_visible_and_a_missing_split_is_left_out(tmp_path: Path) -> None:
    assert drawn([{"epoch": 1, "loss": 4.2, "accuracy": 0.2}], tmp_path / "one.png") == {TRAIN}


def test_validation_has_its_own_values(tmp_path: Path) -> None:
    worse = [row | {"val_loss": row["loss"], "val_accuracy": row["accuracy"]} for row in HISTORY]
    assert drawn(worse, tmp_path / "same.png") == {VALIDATION}, "drawn over the equal training curve"


def test_an_empty_history_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaptioningError, match="at least one epoch"):
        plot_curves([], tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()
