"""Bytes that are called a photograph."""

import io
import struct
import zlib
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from components.encoder.pixels import read_pixels
from tests.hostile.fuzzer import damaged
from tests.hostile.watch import try_all

HERE = "tests.hostile.test_images"


def image(mode: str, size: tuple[int, int] = (23, 17)) -> Image.Image:
    noise = np.random.default_rng(7).integers(0, 256, (size[1], size[0], 4)).astype(np.uint8)
    if mode in ("I;16", "I", "F"):
        return Image.fromarray(noise[:, :, 0].astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]) * 200)
    return Image.fromarray(noise, "CMYK") if mode == "CMYK" else Image.fromarray(noise, "RGBA").convert(mode)


def saved(mode: str, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image(mode).save(file, kind, **options)
    return file.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "a description"
    exif.get_ifd(0x8769)[0x9286] = b"a comment"
    exif.get_ifd(0x8825)[2] = (0.5, 30.0, 1.0)
    return exif


@cache
def samples() -> tuple[bytes, ...]:
    """Every format and kind that is read."""
    more = [image("RGB"), image("RGB").rotate(90)]
    return (
        *(saved(mode, "JPEG") for mode in ("L", "RGB", "CMYK")),
        saved("RGB", "JPEG", progressive=True, exif=turned(6)),
        saved("RGB", "JPEG", exif=turned(8), comment=b"a comment", dpi=(72, 72)),
        *(saved(mode, "PNG") for mode in ("1", "L", "P", "LA", "RGB", "RGBA", "I;16")),
        saved("P", "PNG", transparency=0),
        saved("RGB", "PNG", transparency=(1, 2, 3), exif=turned(3), dpi=(300, 300)),
        saved("RGB", "PNG", save_all=True, append_images=more),
        interlaced(),
        saved("P", "GIF"),
        saved("P", "GIF", save_all=True, append_images=more, duration=10, loop=0, transparency=3),
        *(saved(mode, "BMP") for mode in ("1", "L", "P", "RGB", "RGBA")),
        saved("RGB", "WEBP", exif=turned(5)),
        saved("RGBA", "WEBP", lossless=True),
        saved("RGB", "WEBP", save_all=True, append_images=more),
        *(saved(mode, "TIFF") for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F")),
        *(saved("RGB", "TIFF", compression=name) for name in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg", "zstd")),
        saved("1", "TIFF", compression="group4"),
        saved("RGB", "TIFF", big_tiff=True, save_all=True, append_images=more),
        saved("RGB", "MPO", save_all=True, append_images=more),
    )


def png(
    width: int, height: int, depth: int = 8, colour: int = 2, interlace: int = 0, *chunks: tuple[bytes, bytes]
) -> bytes:
    """A PNG with any header."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    whole = ((b"IHDR", header), *chunks, (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in whole
    )


def interlaced() -> bytes:
    """8 × 8 grey, Adam7: seven passes."""
    rows = b"".join(
        b"\0" + bytes(range(w)) for w, h in ((1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4)) for _ in range(h)
    )
    return png(8, 8, 8, 0, 1, (b"IDAT", zlib.compress(rows)))


def decode_damaged(seed: str, folder: Path) -> None:
    read_pixels(damaged(samples(), int(seed)), 16, ("notebook", "antialias")[int(seed) % 2])


def test_damaged_images_are_read_or_refused(inputs: range) -> None:
    assert try_all(f"{HERE}:decode_damaged", inputs) == {}
