"""The generated demo data set: flat illustrations and their captions, in the layout of COCO's archives."""

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import chain
from random import Random
from typing import Final
from zipfile import ZipFile, ZipInfo

from PIL import Image, ImageDraw, ImageOps

from components.demo.scene_captions import KINDS, Scene, Thing, describe_scene, imagine_scene
from components.demo.scene_shapes import BACKDROPS, CLOUD, OBJECTS, PALETTE, ROWS, Backdrop, Shape, Stroke

_SUPERSAMPLING: Final = 3  # drawn this many times larger, then averaged: smooth edges
_JPEG_QUALITY: Final = 90
_SCALES: Final = {"small": 0.25, "big": 0.46}  # a thing's square, as a fraction of the picture
_ARCS: Final = {"oval": (0, 360), "dome": (180, 360), "bowl": (0, 180)}  # degrees, clockwise from three o'clock


def draw_archives(images: Mapping[str, int], seed: int, size: int = 224) -> dict[str, bytes]:
    """Draw `images[split]` captioned scenes of `size` x `size` pixels for each split, in COCO's layout: zips by name.

    `{split}.zip` holds `scenes_{split}/000000.jpg` and so on, `captions.zip` holds `annotations/captions_{split}.json`
    with five captions per image. A scene depends on `seed`, its split's name and its number, never on the other
    splits; its bytes on the builds of Python and Pillow, too.
    """
    texts, archives = BytesIO(), dict[str, bytes]()
    with ZipFile(texts, "w") as captions:
        for split, count in images.items():
            photographs = BytesIO()
            coco = _draw_split(photographs, split, count, seed, size)
            archives[f"{split}.zip"] = photographs.getvalue()
            # A bare ZipInfo tells nothing of when or where it was written.
            captions.writestr(ZipInfo(f"annotations/captions_{split}.json"), json.dumps(coco))
    return {"captions.zip": texts.getvalue(), **archives}


def _draw_split(file: BytesIO, split: str, count: int, seed: int, size: int) -> dict[str, object]:
    """Write the photographs to the zip `file`; return what COCO's captions file says of them."""
    first_id = zlib.crc32(split.encode()) % 2**24 * 1_000_000  # whatever other splits there are
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    with ZipFile(file, "w") as photographs:
        for number in range(count):
            rng = Random(f"{seed}/{split}/{number}")
            scene = imagine_scene(rng)
            name, image_id = f"{number:06d}.jpg", first_id + number
            images.append({"id": image_id, "file_name": name, "width": size, "height": size})
            annotations.extend(
                {"id": image_id * 10 + k, "image_id": image_id, "caption": caption}
                for k, caption in enumerate(describe_scene(scene, rng))
            )
            jpeg = BytesIO()
            _draw_scene(scene, size, rng).save(jpeg, "JPEG", quality=_JPEG_QUALITY)
            photographs.writestr(ZipInfo(f"scenes_{split}/{name}"), jpeg.getvalue())
    return {"images": images, "annotations": annotations}


def _draw_scene(scene: Scene, size: int, rng: Random) -> Image.Image:
    """Paint from back to front: the setting, then its things, the nearest last."""
    backdrop = BACKDROPS[scene.setting]
    shade = Image.linear_gradient("L").resize((size * _SUPERSAMPLING, size * _SUPERSAMPLING))
    image = ImageOps.colorize(shade, *backdrop.sky[:2])
    pen = ImageDraw.Draw(image, "RGBA")
    _paint_backdrop(pen, backdrop, rng)
    for thing, x, foot in reversed(_arrange(scene, rng)):
        _paint_thing(pen, thing, x, foot, rng)
    return image.reduce(_SUPERSAMPLING)


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


def _paint_thing(pen: ImageDraw.ImageDraw, thing: Thing, x: float, foot: float, rng: Random) -> None:
    scale, place = _SCALES[thing.size], KINDS[thing.kind].place
    if place != "sky":
        shadow = "#00000038" if place == "ground" else "#ffffff60"
        _fill(pen, "oval", shadow, (x - 0.5 * scale, foot - 0.04 * scale, x + 0.5 * scale, foot + 0.06 * scale))
    tones = dict(zip(("light", "main", "dark"), PALETTE[thing.colour], strict=True))
    _paint(pen, OBJECTS[thing.kind], tones, x, foot, rng.choice((-1, 1)) * scale, scale)


def _paint_backdrop(pen: ImageDraw.ImageDraw, backdrop: Backdrop, rng: Random) -> None:
    *_, orb, clouds = backdrop.sky
    x, y = rng.choice((rng.uniform(0.1, 0.25), rng.uniform(0.75, 0.9))), rng.uniform(0.1, 0.2)
    for radius, fill in ((0.11, orb + "50"), (0.07, orb)):
        _fill(pen, "oval", fill, (x - radius, y - radius, x + radius, y + radius))
    for _ in range(rng.randint(1, 3)):
        width = rng.uniform(0.09, 0.14)
        _paint(pen, CLOUD, {"main": clouds}, rng.uniform(0, 1), rng.uniform(0.08, 0.3), width, 0.8 * width)
    for outline, fill, height, swing in backdrop.layers:
        if outline == "waves":
            pace, phase = rng.uniform(0.5, 1.2), rng.uniform(0, 1)
            waves = ((i / 24, height + swing * math.sin(math.tau * (pace * i / 24 + phase))) for i in range(25))
            _fill(pen, "poly", fill, (0, 1, *chain(*waves), 1, 1))
            continue
        foot, x = height + swing, rng.uniform(-0.1, 0.1)
        _fill(pen, "box", fill, (0, foot, 1, 1))
        while x < 1.2:
            width = rng.uniform(0.25, 0.35)
            _paint(pen, ROWS[outline], {"main": fill}, x, foot, width, swing * rng.uniform(1.2, 2))
            x += width
    for fill, top, bottom, width, height in backdrop.specks:
        for _ in range(30):
            x, y = rng.uniform(0, 1), rng.uniform(top, bottom)
            _fill(pen, "oval", fill, (x, y, x + width, y + height))


def _paint(
    pen: ImageDraw.ImageDraw,
    strokes: Sequence[Stroke],
    tones: Mapping[str, str],
    x: float,
    foot: float,
    width: float,
    height: float,
) -> None:
    """Paint strokes with `x` in their middle and down to `foot`; with a negative width they look the other way."""
    for shape, tone, numbers in strokes:
        points = zip(numbers[::2], numbers[1::2], strict=True)
        corners = chain.from_iterable((x + across / 100 * width, foot + down / 100 * height) for across, down in points)
        _fill(pen, shape, tones.get(tone, tone), tuple(corners))


def _fill(pen: ImageDraw.ImageDraw, shape: Shape, fill: str, corners: Sequence[float]) -> None:
    """Fill a shape; whatever the pixels, x runs from 0 to 1 rightwards and y from 0 to 1 downwards."""
    scaled = [corner * pen.im.size[0] for corner in corners]
    if shape == "poly":
        pen.polygon(scaled, fill)
        return
    x0, top, x1, bottom = scaled
    box = (min(x0, x1), top, max(x0, x1), bottom)
    if shape == "box":
        pen.rectangle(box, fill)
    else:
        pen.pieslice(box, *_ARCS[shape], fill)
