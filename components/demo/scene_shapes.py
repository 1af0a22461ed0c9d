"""The shapes and colours the demo's scenes are drawn with: values only."""

from typing import Final, Literal, NamedTuple

Shape = Literal["poly", "box", "oval", "dome", "bowl"]
"""A dome is an oval's upper half, a bowl its lower; all but a "poly" are given by two opposite corners."""
Stroke = tuple[Shape, str, tuple[float, ...]]
"""Shape, colour or tone, and x, y of each corner in percent: x from the middle, y up from the foot is negative."""

PALETTE: Final = {
    "red": ("#f0706a", "#dc2f2f", "#a51d27"),
    "orange": ("#fbb069", "#f58220", "#c75d10"),
    "yellow": ("#fde57c", "#fbd12b", "#dba114"),
    "green": ("#74cb85", "#2fa84f", "#1d7a3a"),
    "blue": ("#6f9bec", "#2463d6", "#17449c"),
    "purple": ("#ab7ed6", "#7b3fb5", "#572786"),
    "pink": ("#fabbdb", "#f485bd", "#d0598f"),
}
"""Colour → its "light", "main" and "dark" tone."""

OBJECTS: Final[dict[str, tuple[Stroke, ...]]] = {
    "house": (
        ("box", "dark", (18, -98, 30, -60)),
        ("box", "main", (-40, -56, 40, 0)),
        ("poly", "dark", (-50, -54, 0, -98, 50, -54)),
        ("box", "#fff6dc", (-10, -34, 10, 0)),
        ("box", "#cfefff", (-32, -42, -17, -25)),
        ("box", "#cfefff", (17, -42, 32, -25)),
    ),
    "tree": (
        ("poly", "#7a4e2b", (-8, 0, -5, -50, 5, -50, 8, 0)),
        ("oval", "dark", (-42, -72, 42, -22)),
        ("oval", "main", (-37, -84, 15, -34)),
        ("oval", "main", (-12, -82, 39, -32)),
        ("oval", "main", (-26, -100, 26, -50)),
        ("oval", "light", (-17, -95, 9, -72)),
    ),
    "car": (
        ("poly", "main", (-32, -32, -20, -54, 16, -54, 32, -32)),
        ("poly", "#d6f1ff", (-23, -33, -16, -48, -4, -48, -4, -33)),
        ("poly", "#d6f1ff", (1, -33, 1, -48, 13, -48, 23, -33)),
        ("poly", "main", (-50, -12, -49, -28, -42, -34, 42, -34, 49, -28, 50, -12)),
        ("oval", "#2b2b33", (-38, -22, -14, 2)),
        ("oval", "#2b2b33", (14, -22, 38, 2)),
        ("oval", "#d9dde3", (-31, -15, -21, -5)),
        ("oval", "#d9dde3", (21, -15, 31, -5)),
    ),
    "tent": (
        ("poly", "dark", (12, -72, 50, 0, -20, 0)),
        ("poly", "main", (-6, -78, -50, 0, 30, 0)),
        ("poly", "light", (-6, -78, -20, 0, -50, 0)),
        ("poly", "#4a3426", (-6, -50, -16, 0, 6, 0)),
    ),
    "umbrella": (
        ("box", "#8a5a34", (-2, -100, 2, 0)),
        ("dome", "main", (-50, -96, 50, -10)),
        ("dome", "#fffaf0", (-30, -96, 30, -10)),
        ("dome", "main", (-12, -96, 12, -10)),
    ),
    "lighthouse": (
        ("poly", "main", (-20, 0, -13, -72, 13, -72, 20, 0)),
        ("poly", "#fffaf0", (-18, -20, -16, -38, 16, -38, 18, -20)),
        ("poly", "#fffaf0", (-15, -55, -13, -68, 13, -68, 15, -55)),
        ("box", "#4a4a55", (-18, -74, 18, -70)),
        ("box", "#ffe27a", (-10, -87, 10, -74)),
        ("dome", "main", (-14, -100, 14, -74)),
    ),
    "sailboat": (
        ("box", "#6b4a2b", (-3, -100, 0, -15)),
        ("poly", "main", (2, -98, 2, -24, 48, -24)),
        ("poly", "light", (-5, -86, -5, -24, -42, -24)),
        ("poly", "#7a4e2b", (-50, -20, 50, -20, 34, 0, -36, 0)),
    ),
    "duck": (
        ("poly", "main", (-50, -52, -44, -26, -20, -10, -10, -34)),
        ("bowl", "main", (-46, -72, 38, 0)),
        ("poly", "main", (-20, -36, 0, -60, 36, -50, 38, -36)),
        ("oval", "main", (-6, -92, 40, -44)),
        ("bowl", "dark", (-30, -48, 12, -8)),
        ("poly", "#f2711c", (36, -74, 52, -63, 35, -57)),
        ("oval", "#22222a", (20, -79, 28, -70)),
    ),
    "balloon": (
        ("poly", "#5a4030", (-20, -36, 20, -36, 10, -14, -10, -14)),
        ("oval", "main", (-38, -100, 38, -30)),
        ("poly", "main", (-33, -50, 33, -50, 13, -27, -13, -27)),
        ("oval", "light", (-24, -100, 24, -27)),
        ("oval", "main", (-10, -100, 10, -27)),
        ("box", "#c79256", (-12, -17, 12, 0)),
    ),
    "kite": (
        ("poly", "main", (0, -100, 42, -64, 0, -22, -42, -64)),
        ("poly", "light", (0, -100, -42, -64, 0, -64)),
        ("poly", "dark", (0, -22, 42, -64, 0, -64)),
        ("poly", "#ffffff", (0, -22, 10, -12, 4, -2, 16, 8, 6, -2, 12, -12)),
        ("poly", "main", (0, -19, 2, -7, 18, -17, 20, -5)),
        ("poly", "dark", (-4, -5, -3, 7, 15, -6, 14, 6)),
    ),
    "airplane": (
        ("poly", "dark", (-2, -50, -26, -76, -14, -76, 18, -50)),
        ("poly", "main", (-36, -46, -50, -78, -38, -78, -20, -50)),
        ("oval", "main", (-46, -56, 10, -30)),
        ("oval", "main", (-10, -57, 50, -29)),
        ("box", "main", (-20, -56, 20, -30)),
        ("box", "#d6f1ff", (-24, -50, 19, -43)),
        ("poly", "#d6f1ff", (30, -53, 40, -50, 46, -45, 30, -45)),
        ("poly", "dark", (10, -40, -30, -10, -16, -10, 28, -40)),
    ),
}
"""Each object in a square of its own, as wide and high as the object's size."""

CLOUD: Final[tuple[Stroke, ...]] = (
    ("oval", "main", (-100, -45, 0, 30)),
    ("oval", "main", (-60, -80, 60, 30)),
    ("oval", "main", (0, -60, 100, 30)),
)

ROWS: Final[dict[str, tuple[Stroke, ...]]] = {
    "peaks": (("poly", "main", (-70, 0, 0, -100, 70, 0)), ("poly", "#fbfdff", (-20, -71, 0, -100, 20, -71, 0, -78))),
    "mesas": (("poly", "main", (-45, 0, -28, -100, 28, -100, 45, 0)),),
    "blocks": (
        ("box", "main", (-48, -100, -5, 0)),
        ("box", "main", (-3, -80, 48, 0)),
        *(("box", "#ffd97a", (x, y, x + 8, y + 8)) for x in (-40, -23, 4, 20, 36) for y in (-70, -40) if x + y != -60),
    ),
}
"""What a layer of a backdrop may be a row of."""


class Backdrop(NamedTuple):
    """A setting, from the sky down."""

    sky: tuple[str, str, str, str]
    """Its colour at the top and at the bottom, that of sun or moon, and that of the clouds."""
    layers: tuple[tuple[str, str, float, float], ...]
    """Bands down to the picture's foot: "waves" or a row of ROWS, colour, height (0: top, 1: foot), swing about it."""
    specks: tuple[tuple[str, float, float, float, float], ...]
    """Small ovals: colour, the two heights they are strewn between, width and height of one."""


BACKDROPS: Final = {
    "meadow": Backdrop(
        ("#5fb4f0", "#eaf7fc", "#ffe98a", "#ffffff"),
        (("waves", "#97cdb0", 0.54, 0.05), ("waves", "#7cc45a", 0.62, 0.04), ("waves", "#62b044", 0.76, 0.03)),
        (("#ffffff", 0.66, 0.98, 0.012, 0.012), ("#ffe34d", 0.66, 0.98, 0.01, 0.01)),
    ),
    "beach": Backdrop(
        ("#35aeea", "#e8f8fb", "#fff3a6", "#ffffff"),
        (("waves", "#1899b3", 0.5, 0), ("waves", "#ffffff", 0.695, 0.012), ("waves", "#f3dca2", 0.72, 0.012)),
        (("#ffffffa0", 0.52, 0.66, 0.06, 0.006), ("#d9b877", 0.78, 0.98, 0.012, 0.008)),
    ),
    "snow": Backdrop(
        ("#9fb8d6", "#f3f7fb", "#fdf6e3", "#dfe8f2"),
        (("peaks", "#a9bfd8", 0.48, 0.14), ("waves", "#dfe9f3", 0.64, 0.04), ("waves", "#f7fafd", 0.74, 0.03)),
        (("#ffffff", 0, 0.98, 0.014, 0.014), ("#ffffff", 0, 0.98, 0.022, 0.022)),
    ),
    "desert": Backdrop(
        ("#f79a4b", "#fff0cd", "#fff2cf", "#fbc88c"),
        (("mesas", "#c9683f", 0.5, 0.12), ("waves", "#dd9850", 0.63, 0.04), ("waves", "#eab66c", 0.75, 0.04)),
        (("#c98d4a", 0.8, 0.98, 0.05, 0.006), ("#b57a3c", 0.8, 0.98, 0.014, 0.01)),
    ),
    "city": Backdrop(
        ("#0d1335", "#4a4590", "#fdf6d8", "#1d2148"),
        (("blocks", "#2b2c5c", 0.45, 0.16), ("blocks", "#191a3d", 0.6, 0.12), ("waves", "#2c5a5c", 0.74, 0.02)),
        (("#ffffff", 0, 0.3, 0.008, 0.008), ("#4f8f86", 0.78, 0.98, 0.012, 0.012)),
    ),
    "lake": Backdrop(
        ("#86caef", "#fdf1e2", "#fff1b0", "#ffffff"),
        (("peaks", "#7f8fb0", 0.42, 0.16), ("waves", "#3f7d5d", 0.54, 0.025), ("waves", "#3d86b8", 0.59, 0)),
        (("#ffffff70", 0.62, 0.98, 0.09, 0.007), ("#2c6f9f90", 0.62, 0.98, 0.12, 0.007)),
    ),
}
