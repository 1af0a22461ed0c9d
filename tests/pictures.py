"""Small pictures with any metadata beside their pixels."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
"""TIFF's types and their bytes."""


def scene() -> Image.Image:
    """A picture whose corners differ, and that survives a lossy format."""
    corners = np.array([[[250, 10, 10], [10, 250, 10]], [[10, 10, 250], [240, 240, 240]]], np.uint8)
    return Image.fromarray(corners).resize((24, 16), Image.Resampling.BILINEAR)


def saved(kind: str, image: Image.Image | None = None, **options: object) -> bytes:
    file = io.BytesIO()
    (image or scene()).save(file, kind, **options)
    return file.getvalue()


def exif(entries: list[tuple[int, int, int, bytes]], order: str = "<") -> bytes:
    """A TIFF directory of (tag, type, count, value); values of more than four bytes lie behind it."""
    place, listed, behind = 8 + 2 + 12 * len(entries) + 4, b"", b""
    for tag, kind, count, value in entries:
        listed += struct.pack(order + "HHI", tag, kind, count)
        if len(value) <= 4:
            listed += value.ljust(4, b"\0")
        else:
            listed += struct.pack(order + "I", place + len(behind))
            behind += value
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8)
    return head + struct.pack(order + "H", len(entries)) + listed + struct.pack(order + "I", 0) + behind


def turned(orientation: int, order: str = "<") -> tuple[int, int, int, bytes]:
    return 0x0112, 3, 1, struct.pack(order + "H", orientation)


def in_jpeg(data: bytes) -> bytes:
    plain = saved("JPEG", quality=95)
    return plain[:2] + segment(0xE1, b"Exif\0\0" + data) + plain[2:]


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def chunk(kind: bytes, content: bytes, crc: int | None = None) -> bytes:
    crc = zlib.crc32(kind + content) if crc is None else crc
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)


def in_png(*chunks: bytes) -> bytes:
    plain = saved("PNG")
    return plain[:33] + b"".join(chunks) + plain[33:]


def in_webp(*chunks: tuple[bytes, bytes]) -> bytes:
    plain = saved("WEBP", lossless=True)
    flags = struct.pack("<I", 0x0C) + (23).to_bytes(3, "little") + (15).to_bytes(3, "little")
    packed = [(b"VP8X", flags), (plain[12:16], plain[20 : 20 + struct.unpack("<I", plain[16:20])[0]]), *chunks]
    body = b"WEBP" + b"".join(k + struct.pack("<I", len(c)) + c + bytes(len(c) % 2) for k, c in packed)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def profile(data: bytes, kind: bytes) -> bytes:
    """EXIF data in a text of a PNG, as ImageMagick writes it."""
    text = f"\nexif\n{len(data) + 6:8}\n{(b'Exif' + bytes(2) + data).hex()}\n".encode()
    name = b"Raw profile type exif\0"
    return chunk(kind, name + (b"\0" + zlib.compress(text) if kind == b"zTXt" else text))


def xmp(orientation: int) -> bytes:
    return f'<x:xmpmeta><rdf:Description tiff:Orientation="{orientation}"/></x:xmpmeta>'.encode()


HOLDERS: dict[str, Callable[[bytes], bytes]] = {
    "JPEG": in_jpeg,
    "PNG": lambda data: in_png(chunk(b"eXIf", data)),
    "PNG text": lambda data: in_png(profile(data, b"tEXt")),
    "PNG compressed text": lambda data: in_png(profile(data, b"zTXt")),
    "WebP": lambda data: in_webp((b"EXIF", data)),
    "WebP with prefix": lambda data: in_webp((b"EXIF", b"Exif\0\0" + data)),
}


TRAILERS = {
    "scans": b"\xff\xda" * 400,
    "a video": b"\0\0\0\x18ftypmp42" + bytes(2000),
    "a second picture": saved("JPEG"),
    "zeros": bytes(5000),
    "text": b"\n<xml>appended</xml>",
}
