"""From an image file's bytes to the pixels an encoder sees.

This module is copied into every registered model, so it imports nothing of the project but the error.
"""

import io
import struct
import zlib
from functools import lru_cache
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from components.errors import BadImageError

Preprocessing = Literal["notebook", "antialias"]
"""How the centre square is resized; see `read_pixels`."""

PREPROCESSING: dict[Preprocessing, str] = {
    "notebook": "centre square, bilinear without antialiasing, 2",
    "antialias": "centre square, bilinear with antialiasing, 1",
}
"""Name and version of what `read_pixels` does; part of an encoder's fingerprint."""

MAX_BYTES = 100_000_000
"""Larger files are refused before they are read: a zip file can claim any size."""

MAX_PIXELS = 89_000_000
"""Larger pictures are refused before they are decoded: a small file can claim any size."""

MAX_SCANNED = 50 * MAX_PIXELS
"""Pixels times scans of a JPEG: each scan of a few bytes goes over all of them again, and a file has room for many."""
JPEG_SCAN = b"\xff\xda"

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")
"""What is decoded. Pillow's other readers are rarely needed, and one of them (EPS) starts a program."""

_DAMAGED = (
    # What Pillow's format readers raise on files that are damaged or too large.
    *(OSError, ValueError, SyntaxError, EOFError, LookupError, OverflowError, RuntimeError, TypeError),
    *(struct.error, zlib.error, Image.DecompressionBombWarning),
)


def read_pixels(data: bytes, size: int, preprocessing: Preprocessing) -> np.ndarray:
    """Decodes an image, crops the centre square and resizes it to `size`: uint8, (size, size, 3), RGB.

    `notebook` interpolates between the four nearest pixels, as `cv2.resize` does by default, which the notebook used;
    `antialias` averages over all the pixels that a smaller one covers. Raises `BadImageError` when the bytes are not
    a whole image, or too many (`MAX_BYTES`, `MAX_PIXELS`).
    """
    image = _decode(data)
    width, height = image.size
    side = min(width, height)
    # The odd pixel goes from the left or the top.
    left, top = (width - side + 1) // 2, (height - side + 1) // 2
    box = (left, top, left + side, top + side)
    square = image.crop(box)
    if preprocessing == "antialias":
        return np.asarray(square.resize((size, size), Image.Resampling.BILINEAR))
    return _interpolate(np.asarray(square), size)


def _interpolate(square: np.ndarray, size: int) -> np.ndarray:
    """Bilinear without antialiasing: pixel centres at half, edges repeated. Rows first, then columns.

    Pillow can do this too (`Image.transform`), in twice the time.
    """
    before, after, share = _taps(len(square), size)
    rows = square.reshape(len(square), -1)
    upper, lower = rows[before], rows[after]
    mixed = np.subtract(lower, upper, dtype=np.float32)
    mixed *= share[:, None]
    mixed += upper
    colours = np.arange(3)
    left = mixed.take((before[:, None] * 3 + colours).ravel(), axis=1)
    right = mixed.take((after[:, None] * 3 + colours).ravel(), axis=1)
    right -= left
    right *= share.repeat(3)
    right += left
    right += 0.5
    return np.asarray(right, np.uint8).reshape(size, size, 3)


@lru_cache(maxsize=64)
def _taps(side: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of `size` new pixels its neighbours among `side` old ones, and the second one's share."""
    place = np.clip((np.arange(size) + 0.5) * side / size - 0.5, 0, side - 1)
    before = np.floor(place).astype(np.intp)
    return before, np.minimum(before + 1, side - 1), (place - before).astype(np.float32)


def _decode(data: bytes) -> Image.Image:
    if not data:
        raise BadImageError("the file is empty")
    if len(data) > MAX_BYTES:
        raise BadImageError(f"{len(data):,} bytes are more than {MAX_BYTES:,}")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise BadImageError(f"{width} × {height} pixels are more than {MAX_PIXELS:,}")
            if image.format in ("JPEG", "MPO") and width * height * data.count(JPEG_SCAN) > MAX_SCANNED:
                raise BadImageError(f"{data.count(JPEG_SCAN):,} scans are too many for {width} × {height} pixels")
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return _to_rgb(image)
    except Image.DecompressionBombError as error:
        raise BadImageError(f"it claims more than {MAX_PIXELS:,} pixels") from error
    except UnidentifiedImageError as error:
        raise BadImageError("not an image of a known format") from error
    except _DAMAGED as error:
        raise BadImageError(f"the image cannot be decoded: {error}") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit greyscale: Pillow's own conversion would clip it to white
        scaled = np.asarray(image, dtype=np.float32) * (255 / 65535)
        image = Image.fromarray(np.clip(scaled + 0.5, 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image if image.mode == "RGB" else image.convert("RGB")
