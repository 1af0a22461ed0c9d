"""Photographs made small, for pages."""

import base64
import io

from PIL import Image


def jpeg(image: Image.Image, side: int, quality: int) -> bytes:
    """A JPEG file of the image, whose longest side has at most `side` pixels."""
    small, encoded = image.copy(), io.BytesIO()
    small.thumbnail((side, side))
    small.save(encoded, "JPEG", quality=quality, optimize=True)
    return encoded.getvalue()


def data_uri(content: bytes, subtype: str) -> str:
    """An image of type `image/subtype` as an address that holds it."""
    return f"data:image/{subtype};base64,{base64.b64encode(content).decode('ascii')}"
