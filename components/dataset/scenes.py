"""The generated demo data set: flat illustrations and their captions, in the layout of COCO's archives."""

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Final
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from PIL import Image, ImageDraw, ImageOps

from components.dataset.scene_captions import KINDS, Scene, Thing, describe_scene, imagine_scene
from components.dataset.scene_shapes import BACKDROPS, OBJECTS, PALETTE, Backdrop, Layer

_SUPERSAMPLING: Final = 3  # drawn this many times larger, then averaged: smooth edges
_JPEG_QUALITY: Final = 90
_SCALES: Final = {"small": 0.25, "big": 0.46}  # a thing's square, as a fraction of the picture


def draw_dataset(folder: Path, images: Mapping[str, int], seed: int, size: int) -> None:
    """Write `images[split]` captioned scenes of `size` x `size` pixels for each split, in COCO's layout.

    `folder/{split}.zip` holds `scenes_{split}/000000.jpg` and so on, `folder/captions.zip` holds
    `annotations/captions_{split}.json` with five captions an image. A scene depends on `seed`, its split's
    name and its number, never on the other splits; its bytes on the builds of Python and Pillow, too.
    """
    with ZipFile(folder / "captions.zip", "w") as captions:
        for split, count in images.items():
            layout = _draw_split(folder / f"{split}.zip", split, count, seed, size)
            _add(captions, f"annotations/captions_{split}.json", json.dumps(layout).encode())


def _draw_split(path: Path, split: str, count: int, seed: int, size: int) -> dict[str, object]:
    """Write the photographs to the zip file `path`; return what COCO's captions file says of them."""
    first_id = zlib.crc32(split.encode()) % 2**24 * 1_000_000  # whatever other splits there are
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    with ZipFile(path, "w") as photographs:
        for number in range(count):
            rng = Random(f"{seed}/{split}/{number}")
            scene = imagine_scene(rng)
            name, image_id = f"{number:06d}.jpg", first_id + number
            images.append({"id": image_id, "file_name": name, "width": size, "height": size})
            annotations.extend(
                {"id": image_id * 10 + k, "image_id": image_id, "caption": caption}
                for k, caption in enumerate(describe_scene(scene, rng))
            )
            _add(photographs, f"scenes_{split}/{name}", _jpeg(_draw_scene(scene, size, rng)))
    info = {"description": f"Drawn scenes, split {split}, seed {seed}", "version": "1"}
    return {"info": info, "licenses": [], "images": images, "annotations": annotations}


def _add(archive: ZipFile, member: str, content: bytes) -> None:
    """Store a member with nothing in its header that tells when or where it was written."""
    entry = ZipInfo(member, date_time=(1980, 1, 1, 0, 0, 0))
    entry.create_system, entry.external_attr, entry.compress_type = 3, 0o644 << 16, ZIP_STORED
    archive.writestr(entry, content)


def _jpeg(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()


class _Easel:
    """A square canvas; whatever its pixels, x runs from 0 to 1 rightwards and y from 0 to 1 downwards."""

    def __init__(self, image: Image.Image) -> None:
        self.image = image
        self._draw = ImageDraw.Draw(image, "RGBA")

    def polygon(self, points: Sequence[tuple[float, float]], fill: str) -> None:
        self._draw.polygon([(x * self.image.width, y * self.image.width) for x, y in points], fill)

    def box(self, left: float, top: float, right: float, bottom: float, fill: str) -> None:
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], fill)

    def oval(
        self, left: float, top: float, right: float, bottom: float, fill: str, start: int = 0, end: int = 360
    ) -> None:
        """Fill an oval, or its slice between two angles (degrees, clockwise from three o'clock)."""
        corners = tuple(value * self.image.width for value in (left, top, right, bottom))
        self._draw.pieslice(corners, start, end, fill)


def _draw_scene(scene: Scene, size: int, rng: Random) -> Image.Image:
    """Paint from back to front: the setting, then its things, the nearest last."""
    backdrop = BACKDROPS[scene.setting]
    shade = Image.linear_gradient("L").resize((size * _SUPERSAMPLING, size * _SUPERSAMPLING))
    easel = _Easel(ImageOps.colorize(shade, *backdrop.sky))
    _paint_backdrop(easel, backdrop, rng)
    for thing, x, foot in reversed(_arrange(scene, rng)):
        _paint_thing(easel, thing, x, foot, rng)
    return easel.image.reduce(_SUPERSAMPLING)


def _arrange(scene: Scene, rng: Random) -> list[tuple[Thing, float, float]]:
    """Say where each thing is: x of its middle, y of its foot."""
    places = [KINDS[thing.kind].place for thing in scene.things]
    if len(places) == 1:
        spread = rng.uniform(-0.15, 0.15)
    elif places[0] == places[1]:
        spread = rng.choice((-1, 1)) * 0.24
    else:
        spread = rng.choice((-1, 1)) * (0.08 if places[0] == "sky" else 0.15)
    arranged = []
    for thing, place, side in zip(scene.things, places, (1, -1), strict=False):
        scale = _SCALES[thing.size]
        if place == "sky":
            foot = scale + rng.uniform(0.03, 0.06 if len(places) == 2 else 0.16)
        elif place == "water" and scene.setting == "beach":
            foot = rng.uniform(0.63, 0.67)
        else:
            foot = 0.78 + 0.3 * scale + rng.uniform(0, 0.04)  # what is big is near
        arranged.append((thing, 0.5 + side * spread + rng.uniform(-0.02, 0.02), foot))
    return arranged


def _paint_thing(easel: _Easel, thing: Thing, x: float, foot: float, rng: Random) -> None:
    tones = dict(zip(("light", "main", "dark"), PALETTE[thing.colour], strict=True))
    scale = _SCALES[thing.size]
    facing = rng.choice((-1, 1))
    if KINDS[thing.kind].place != "sky":
        shadow = "#00000038" if KINDS[thing.kind].place == "ground" else "#ffffff60"
        easel.oval(x - 0.5 * scale, foot - 0.04 * scale, x + 0.5 * scale, foot + 0.06 * scale, shadow)
    for shape, tone, numbers in OBJECTS[thing.kind]:
        fill = tones.get(tone, tone)
        points = [
            (x + facing * across * scale, foot + up * scale)
            for across, up in zip(numbers[::2], numbers[1::2], strict=True)
        ]
        if shape == "poly":
            easel.polygon(points, fill)
            continue
        (x0, top), (x1, bottom) = points
        if shape == "box":
            easel.box(x0, top, x1, bottom, fill)
        else:
            start, end = {"dome": (180, 360), "bowl": (0, 180)}.get(shape, (0, 360))
            easel.oval(min(x0, x1), top, max(x0, x1), bottom, fill, start, end)


def _paint_backdrop(easel: _Easel, backdrop: Backdrop, rng: Random) -> None:
    x, y = rng.choice((rng.uniform(0.1, 0.25), rng.uniform(0.75, 0.9))), rng.uniform(0.1, 0.2)
    for radius, fill in ((0.11, backdrop.orb + "50"), (0.07, backdrop.orb)):
        easel.oval(x - radius, y - radius, x + radius, y + radius, fill)
    for _ in range(rng.randint(1, 3)):
        x, y, width = rng.uniform(0, 1), rng.uniform(0.08, 0.3), rng.uniform(0.07, 0.11)
        for shift, height in ((-0.8, 0.45), (0, 0.8), (0.7, 0.6)):
            middle, reach = x + shift * width, width * (0.5 + height / 2)
            top, bottom = y - height * width, y + 0.3 * width
            easel.oval(middle - reach, top, middle + reach, bottom, backdrop.clouds)
    for layer in backdrop.layers:
        _paint_layer(easel, layer, rng)
    for speck in backdrop.specks:
        for _ in range(30):
            x, y = rng.uniform(0, 1), rng.uniform(speck.top, speck.bottom)
            easel.oval(x, y, x + speck.width, y + speck.height, speck.fill)


def _paint_layer(easel: _Easel, layer: Layer, rng: Random) -> None:
    """Paint the layer's outline, row of hills or houses, and all below it."""
    if layer.outline == "waves":
        pace, phase = rng.uniform(0.5, 1.2), rng.uniform(0, 1)
        waves = [(i / 24, layer.y + layer.swing * math.sin(math.tau * (pace * i / 24 + phase))) for i in range(25)]
        easel.polygon([(0, 1), *waves, (1, 1)], layer.fill)
        return
    foot = layer.y + layer.swing
    easel.box(0, foot, 1, 1, layer.fill)
    left = 1 if layer.outline == "flat" else rng.uniform(-0.2, -0.05)
    while left < 1:
        top = layer.y - rng.uniform(0.2, 1) * layer.swing
        match layer.outline:
            case "peaks":
                right = left + rng.uniform(0.35, 0.5)
                _paint_peak(easel, left, top, right, foot, layer.fill)
                left += 0.7 * (right - left)
            case "mesas":
                right = left + rng.uniform(0.25, 0.35)
                edge = 0.2 * (right - left)
                easel.polygon([(left, foot), (left + edge, top), (right - edge, top), (right, foot)], layer.fill)
                left = right + rng.uniform(0, 0.2)
            case "blocks":
                right = left + rng.uniform(0.1, 0.14)
                easel.box(left, top, right, foot, layer.fill)
                _light_windows(easel, left, top, right, foot, rng)
                left = right + 0.006


def _paint_peak(easel: _Easel, left: float, top: float, right: float, foot: float, fill: str) -> None:
    middle, half = (left + right) / 2, (right - left) / 2
    easel.polygon([(left, foot), (middle, top), (right, foot)], fill)
    snow_line = top + 0.3 * (foot - top)
    notch = (middle, top + 0.22 * (foot - top))
    cap = [(middle, top), (middle - 0.3 * half, snow_line), notch, (middle + 0.3 * half, snow_line)]
    easel.polygon(cap, "#fbfdff")


def _light_windows(easel: _Easel, left: float, top: float, right: float, foot: float, rng: Random) -> None:
    width = right - left
    for row in range(int((foot - top) / 0.04)):
        for column in range(3):
            if rng.random() < 0.55:
                x, y = left + width * (0.16 + 0.26 * column), top + 0.02 + 0.04 * row
                easel.box(x, y, x + 0.14 * width, y + 0.018, "#ffd97a")
