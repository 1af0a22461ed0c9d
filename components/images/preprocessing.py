"""From an image file's bytes to the pixels an encoder sees.

This module is copied into every registered model.
"""

from functools import lru_cache
from typing import Literal

import numpy as np
from PIL import Image

from components.errors import TransientImageError
from components.images.decoding import decode

Preprocessing = Literal["notebook", "antialias"]
"""How the centre square is resized; see `read_pixels`."""

PREPROCESSING: dict[Preprocessing, str] = {
    "notebook": "centre square, bilinear without antialiasing, 2",
    "antialias": "centre square, bilinear with antialiasing, 1",
}
"""Name and version of what `read_pixels` does; part of an encoder's fingerprint."""


def read_pixels(data: bytes, size: int, preprocessing: Preprocessing) -> np.ndarray:
    """Decodes an image, crops the centre square and resizes it to `size`: uint8, (size, size, 3), RGB.

    `notebook` interpolates between the four nearest pixels, as `cv2.resize` does by default, which the notebook used;
    `antialias` averages over all the pixels that a smaller one covers. Raises what `components.images.decoding.decode`
    raises.
    """
    image = decode(data)
    try:
        width, height = image.size
        side = min(width, height)
        # The odd pixel goes from the left or the top.
        left, top = (width - side + 1) // 2, (height - side + 1) // 2
        box = (left, top, left + side, top + side)
        square = image.crop(box)
        if preprocessing == "antialias":
            return np.asarray(square.resize((size, size), Image.Resampling.BILINEAR))
        return _interpolate(np.asarray(square), size)
    except MemoryError as error:
        raise TransientImageError("this machine has too little memory to resize it") from error


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
