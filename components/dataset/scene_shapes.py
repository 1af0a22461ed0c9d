"""The shapes and colours the demo's scenes are drawn with: values only."""

from dataclasses import dataclass
from typing import Final, Literal

Shape = Literal["poly", "box", "oval", "dome", "bowl"]
"""A dome is an oval's upper half, a bowl its lower; all but a "poly" are given by two opposite corners."""
Stroke = tuple[Shape, str, tuple[float, ...]]
"""Shape, tone, and x, y of each corner."""

PALETTE: Final = {
    "red": ("#f0706a", "#dc2f2f", "#a51d27"),
    "orange": ("#fbb069", "#f58220", "#c75d10"),
    "yellow": ("#fde57c", "#fbd12b", "#dba114"),
    "green": ("#74cb85", "#2fa84f", "#1d7a3a"),
    "blue": ("#6f9bec", "#2463d6", "#17449c"),
    "purple": ("#ab7ed6", "#7b3fb5", "#572786"),
    "pink": ("#fabbdb", "#f485bd", "#d0598f"),
}
"""Colour → its light, main and dark tone."""

# Each object in its own square: x from -0.5 to 0.5, y from -1 (top) to 0 (where it stands). The tones "main",
# "light" and "dark" are those of the object's colour.
OBJECTS: Final[dict[str, tuple[Stroke, ...]]] = {
    "house": (
        ("box", "dark", (0.18, -0.98, 0.3, -0.6)),
        ("box", "main", (-0.4, -0.56, 0.4, 0)),
        ("poly", "dark", (-0.5, -0.54, 0, -0.98, 0.5, -0.54)),
        ("box", "#fff6dc", (-0.1, -0.34, 0.1, 0)),
        ("box", "#cfefff", (-0.32, -0.42, -0.17, -0.25)),
        ("box", "#cfefff", (0.17, -0.42, 0.32, -0.25)),
        ("oval", "#6b4a2b", (0.04, -0.19, 0.075, -0.155)),
    ),
    "tree": (
        ("poly", "#7a4e2b", (-0.08, 0, -0.05, -0.5, 0.05, -0.5, 0.08, 0)),
        ("oval", "dark", (-0.42, -0.72, 0.1, -0.24)),
        ("oval", "dark", (-0.1, -0.7, 0.42, -0.22)),
        ("oval", "main", (-0.37, -0.84, 0.15, -0.34)),
        ("oval", "main", (-0.12, -0.82, 0.39, -0.32)),
        ("oval", "main", (-0.26, -1, 0.26, -0.5)),
        ("oval", "light", (-0.17, -0.95, 0.09, -0.72)),
    ),
    "car": (
        ("poly", "main", (-0.3, -0.3, -0.18, -0.52, 0.14, -0.52, 0.3, -0.3)),
        ("poly", "#d6f1ff", (-0.23, -0.31, -0.14, -0.47, -0.04, -0.47, -0.04, -0.31)),
        ("poly", "#d6f1ff", (0.01, -0.31, 0.01, -0.47, 0.11, -0.47, 0.22, -0.31)),
        ("oval", "main", (-0.5, -0.34, -0.3, -0.08)),
        ("oval", "main", (0.28, -0.34, 0.5, -0.08)),
        ("box", "main", (-0.42, -0.32, 0.42, -0.1)),
        ("box", "dark", (-0.47, -0.15, 0.47, -0.09)),
        ("oval", "#fff3b0", (0.42, -0.27, 0.49, -0.18)),
        ("oval", "#2b2b33", (-0.38, -0.2, -0.16, 0.02)),
        ("oval", "#2b2b33", (0.16, -0.2, 0.38, 0.02)),
        ("oval", "#d9dde3", (-0.315, -0.135, -0.225, -0.045)),
        ("oval", "#d9dde3", (0.225, -0.135, 0.315, -0.045)),
    ),
    "tent": (
        ("poly", "dark", (0.12, -0.72, 0.5, 0, -0.2, 0)),
        ("poly", "main", (-0.06, -0.78, -0.5, 0, 0.3, 0)),
        ("poly", "light", (-0.06, -0.78, -0.2, 0, -0.5, 0)),
        ("poly", "#4a3426", (-0.06, -0.5, -0.16, 0, 0.06, 0)),
        ("poly", "#7a4e2b", (-0.075, -0.86, -0.045, -0.86, -0.05, -0.72, -0.07, -0.72)),
    ),
    "umbrella": (
        ("box", "#8a5a34", (-0.02, -0.7, 0.02, 0)),
        ("dome", "main", (-0.5, -0.96, 0.5, -0.1)),
        ("dome", "#fffaf0", (-0.3, -0.96, 0.3, -0.1)),
        ("dome", "main", (-0.12, -0.96, 0.12, -0.1)),
        ("oval", "dark", (-0.03, -1, 0.03, -0.93)),
    ),
    "lighthouse": (
        ("oval", "#8d8578", (-0.34, -0.12, 0.34, 0.06)),
        ("poly", "main", (-0.2, -0.03, -0.13, -0.72, 0.13, -0.72, 0.2, -0.03)),
        ("poly", "#fffaf0", (-0.182, -0.2, -0.164, -0.38, 0.164, -0.38, 0.182, -0.2)),
        ("poly", "#fffaf0", (-0.147, -0.55, -0.134, -0.68, 0.134, -0.68, 0.147, -0.55)),
        ("box", "#4a4a55", (-0.18, -0.74, 0.18, -0.7)),
        ("box", "#ffe27a", (-0.1, -0.87, 0.1, -0.74)),
        ("box", "#4a4a55", (-0.015, -0.87, 0.015, -0.74)),
        ("dome", "main", (-0.14, -1, 0.14, -0.74)),
    ),
    "sailboat": (
        ("box", "#6b4a2b", (-0.03, -1, 0, -0.15)),
        ("poly", "main", (0.02, -0.98, 0.02, -0.24, 0.48, -0.24)),
        ("poly", "light", (-0.05, -0.86, -0.05, -0.24, -0.42, -0.24)),
        ("poly", "#7a4e2b", (-0.5, -0.2, 0.5, -0.2, 0.34, 0, -0.36, 0)),
        ("poly", "#a9764a", (-0.5, -0.2, 0.5, -0.2, 0.475, -0.15, -0.475, -0.15)),
    ),
    "duck": (
        ("poly", "main", (-0.5, -0.52, -0.44, -0.26, -0.2, -0.1, -0.1, -0.34)),
        ("bowl", "main", (-0.46, -0.72, 0.38, 0)),
        ("poly", "main", (-0.2, -0.36, 0, -0.6, 0.36, -0.5, 0.38, -0.36)),
        ("oval", "main", (-0.06, -0.92, 0.4, -0.44)),
        ("bowl", "dark", (-0.3, -0.48, 0.12, -0.08)),
        ("poly", "#f2711c", (0.36, -0.74, 0.52, -0.63, 0.35, -0.57)),
        ("oval", "#ffffff", (0.18, -0.82, 0.29, -0.68)),
        ("oval", "#22222a", (0.215, -0.79, 0.28, -0.71)),
    ),
    "balloon": (
        ("poly", "#5a4030", (-0.2, -0.36, -0.17, -0.36, -0.08, -0.16, -0.1, -0.16)),
        ("poly", "#5a4030", (0.2, -0.36, 0.17, -0.36, 0.08, -0.16, 0.1, -0.16)),
        ("oval", "main", (-0.38, -1, 0.38, -0.3)),
        ("poly", "main", (-0.33, -0.5, 0.33, -0.5, 0.13, -0.27, -0.13, -0.27)),
        ("oval", "light", (-0.24, -1, 0.24, -0.27)),
        ("oval", "main", (-0.1, -1, 0.1, -0.27)),
        ("box", "dark", (-0.13, -0.31, 0.13, -0.26)),
        ("box", "#9a6a3c", (-0.11, -0.17, 0.11, 0)),
        ("box", "#c79256", (-0.12, -0.17, 0.12, -0.13)),
    ),
    "kite": (
        ("poly", "main", (0, -1, 0.42, -0.64, 0, -0.64)),
        ("poly", "light", (0, -1, -0.42, -0.64, 0, -0.64)),
        ("poly", "dark", (0, -0.22, 0.42, -0.64, 0, -0.64)),
        ("poly", "main", (0, -0.22, -0.42, -0.64, 0, -0.64)),
        ("poly", "#ffffff", (0, -0.22, 0.1, -0.12, 0.04, -0.02, 0.16, 0.08, 0.06, -0.02, 0.12, -0.12)),
        ("poly", "main", (0.09, -0.12, 0.0, -0.19, 0.02, -0.07)),
        ("poly", "main", (0.09, -0.12, 0.2, -0.17, 0.18, -0.05)),
        ("poly", "dark", (0.05, -0.01, -0.04, -0.05, -0.03, 0.07)),
        ("poly", "dark", (0.05, -0.01, 0.15, -0.06, 0.14, 0.06)),
    ),
    "airplane": (
        ("poly", "dark", (-0.02, -0.5, -0.26, -0.76, -0.14, -0.76, 0.18, -0.5)),
        ("poly", "main", (-0.36, -0.46, -0.5, -0.78, -0.38, -0.78, -0.2, -0.5)),
        ("oval", "main", (-0.46, -0.56, 0.1, -0.3)),
        ("oval", "main", (-0.1, -0.57, 0.5, -0.29)),
        ("box", "main", (-0.2, -0.56, 0.2, -0.3)),
        ("poly", "#d6f1ff", (0.3, -0.53, 0.4, -0.5, 0.46, -0.45, 0.3, -0.45)),
        *(("oval", "#d6f1ff", (x, -0.5, x + 0.07, -0.43)) for x in (-0.24, -0.12, 0, 0.12)),
        ("poly", "dark", (0.1, -0.4, -0.3, -0.1, -0.16, -0.1, 0.28, -0.4)),
    ),
}


@dataclass(frozen=True)
class Layer:
    """A band of a backdrop, from an outline that swings about `y` (0: top, 1: foot) to the picture's foot."""

    outline: Literal["flat", "waves", "peaks", "mesas", "blocks"]
    fill: str
    y: float
    swing: float = 0


@dataclass(frozen=True)
class Speck:
    """Small ovals strewn between two heights, in fractions of the picture."""

    fill: str
    top: float
    bottom: float
    width: float
    height: float


@dataclass(frozen=True)
class Backdrop:
    """A setting's colours and layers, from the sky (top and bottom colour, sun or moon, clouds) down."""

    sky: tuple[str, str]
    orb: str
    clouds: str
    layers: tuple[Layer, ...]
    specks: tuple[Speck, ...]


BACKDROPS: Final = {
    "meadow": Backdrop(
        sky=("#5fb4f0", "#eaf7fc"),
        orb="#ffe98a",
        clouds="#ffffff",
        layers=(
            Layer("waves", "#97cdb0", 0.54, 0.05),
            Layer("waves", "#7cc45a", 0.62, 0.04),
            Layer("waves", "#62b044", 0.76, 0.03),
        ),
        specks=(Speck("#ffffff", 0.66, 0.98, 0.012, 0.012), Speck("#ffe34d", 0.66, 0.98, 0.01, 0.01)),
    ),
    "beach": Backdrop(
        sky=("#35aeea", "#e8f8fb"),
        orb="#fff3a6",
        clouds="#ffffff",
        layers=(
            Layer("flat", "#1899b3", 0.5),
            Layer("flat", "#35b8c4", 0.57),
            Layer("waves", "#ffffff", 0.695, 0.012),
            Layer("waves", "#f3dca2", 0.72, 0.012),
        ),
        specks=(Speck("#ffffffa0", 0.52, 0.66, 0.06, 0.006), Speck("#d9b877", 0.78, 0.98, 0.012, 0.008)),
    ),
    "snow": Backdrop(
        sky=("#9fb8d6", "#f3f7fb"),
        orb="#fdf6e3",
        clouds="#dfe8f2",
        layers=(
            Layer("peaks", "#a9bfd8", 0.48, 0.14),
            Layer("waves", "#dfe9f3", 0.64, 0.04),
            Layer("waves", "#f7fafd", 0.74, 0.03),
        ),
        specks=(Speck("#ffffff", 0, 0.98, 0.014, 0.014), Speck("#ffffff", 0, 0.98, 0.022, 0.022)),
    ),
    "desert": Backdrop(
        sky=("#f79a4b", "#fff0cd"),
        orb="#fff2cf",
        clouds="#fbc88c",
        layers=(
            Layer("mesas", "#c9683f", 0.5, 0.12),
            Layer("waves", "#dd9850", 0.63, 0.04),
            Layer("waves", "#eab66c", 0.75, 0.04),
        ),
        specks=(Speck("#c98d4a", 0.8, 0.98, 0.05, 0.006), Speck("#b57a3c", 0.8, 0.98, 0.014, 0.01)),
    ),
    "city": Backdrop(
        sky=("#0d1335", "#4a4590"),
        orb="#fdf6d8",
        clouds="#1d2148",
        layers=(
            Layer("blocks", "#2b2c5c", 0.45, 0.16),
            Layer("blocks", "#191a3d", 0.6, 0.12),
            Layer("waves", "#2c5a5c", 0.74, 0.015),
            Layer("waves", "#234a4d", 0.82, 0.02),
        ),
        specks=(Speck("#ffffff", 0, 0.3, 0.008, 0.008), Speck("#4f8f86", 0.78, 0.98, 0.012, 0.012)),
    ),
    "lake": Backdrop(
        sky=("#86caef", "#fdf1e2"),
        orb="#fff1b0",
        clouds="#ffffff",
        layers=(
            Layer("peaks", "#7f8fb0", 0.42, 0.16),
            Layer("waves", "#3f7d5d", 0.54, 0.025),
            Layer("flat", "#3d86b8", 0.59),
            Layer("flat", "#4f9ccb", 0.73),
        ),
        specks=(Speck("#ffffff70", 0.62, 0.98, 0.09, 0.007), Speck("#2c6f9f90", 0.62, 0.98, 0.12, 0.007)),
    ),
}
