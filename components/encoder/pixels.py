"""From an image file's bytes to the pixels an encoder sees, as the notebook prepares them.

This module is copied into every registered model, so it imports nothing of the project but the error.
"""

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from components.errors import BadImageError

MAX_PIXELS = 89_000_000
"""Larger pictures are refused before they are decoded: a small file can claim any size."""

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")
"""What is decoded. Pillow's other readers are rarely needed, and one of them (EPS) starts a program."""

PREPROCESSING = "centre-square, bilinear without antialiasing, 1"
"""Name and version of what `read_pixels` does; part of an encoder's fingerprint."""


_DAMAGED = (
    *(
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        LookupError,
        OverflowError,
        RuntimeError,
        TypeError,
        struct.error,
        zlib.error,
    ),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)
"""What Pillow's format readers raise on files that are damaged or too large."""


def read_pixels(data: bytes, size: int) -> np.ndarray:
    """Decodes an image, crops the centre square and resizes it to `size`: uint8, (size, size, 3), RGB.

    Bilinear without antialiasing, on 8-bit values: what `cv2.resize` does by default, which the notebook used.
    Raises `BadImageError` when the bytes are not a whole image, or one of more than `MAX_PIXELS`.
    """
    image = _decode(data)
    width, height = image.size
    side = min(width, height)
    left, top = (
        (width - side + 1) // 2,
        (height - side + 1) // 2,
    )  # the odd pixel goes from the left or the top
    box = (left, top, left + side, top + side)
    square = image.crop(box).transform(
        (size, size), Image.Transform.EXTENT, (0, 0, side, side), Image.Resampling.BILINEAR
    )
    return np.asarray(square, dtype=np.uint8)


def _decode(data: bytes) -> Image.Image:
    if not data:
        raise BadImageError("the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise BadImageError(f"{width} × {height} pixels are more than {MAX_PIXELS:,}")
            image.load()
            upright = ImageOps.exif_transpose(image)
            return _to_rgb(upright)
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
    return image.convert("RGB")
