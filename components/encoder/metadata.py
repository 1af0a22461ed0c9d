"""What stands beside the pixels of an image file: the orientation is read, and everything else is left out.

Text, colour profiles, thumbnails, camera data and what programs append are large, broken or misleading often enough,
and none of it decides a pixel. A decoder that never sees it cannot fail on it. This module is copied into every
registered model.
"""

import re
import struct
import zlib
from typing import NamedTuple

UPRIGHT = 1
MAX_PROFILE = 1 << 20
"""Bytes of a compressed text in a PNG file that are unpacked to look for the orientation."""

_ORIENTATION = 0x0112
_NUMBERS = {1: "B", 3: "H", 4: "I", 5: "II", 6: "b", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d"}
"""TIFF's numeric types, as `struct` writes them; 5 and 10 are fractions."""
_MARKER = re.compile(rb"\xff+([\x01-\xfe])")
_AFTER_SCAN = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")
"""The next marker that is not inside compressed data: not a stuffed zero, nor a restart."""
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
"""JPEG markers that have no content."""
_START_OF_SCAN, _END_OF_IMAGE, _COMMENT = 0xDA, 0xD9, 0xFE
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
_EXIF_ITEM = re.compile(rb"(infe[\2\3].{3}.{4,6})Exif", re.DOTALL)
"""An entry of an AVIF file's list of items (ISO/IEC 14496-12, 8.11.6), which says that the item is EXIF data."""
MAX_HEAD = 1 << 16
"""Bytes of an AVIF file in which that list is looked for."""
_PNG_KEPT = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_TIFF_KEPT = frozenset(
    {254, *range(256, 260), 262, 266, 273, *range(277, 280), 284, 292, 293, 317, 320, *range(322, 326), 332, 338, 339}
    | {347, *range(512, 522), *range(529, 533)}
)
"""Tags that say how pixels are stored (TIFF 6.0 and its Technical Note 2)."""


class Essentials(NamedTuple):
    """What of an image file decides its pixels."""

    content: bytes
    """The file without the rest."""
    orientation: int = UPRIGHT
    """1 to 8, as EXIF counts: how the stored rows and columns are to be turned."""
    scans: int = 1
    """How often a JPEG goes over its pixels."""


def essentials(data: bytes) -> Essentials:
    """The part of an image file that decides its pixels. Never raises: what cannot be parsed is left to the decoder."""
    try:
        if data.startswith(b"\xff\xd8\xff"):
            return _of_jpeg(data)
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _of_png(data)
        if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return _of_tiff(data)
        if data[4:8] == b"ftyp":
            return Essentials(_EXIF_ITEM.sub(rb"\1free", data[:MAX_HEAD]) + data[MAX_HEAD:])
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return Essentials(data, _orientation_in_webp(data))
    except (struct.error, ValueError, OverflowError):
        pass
    return Essentials(data)


def orientation_in(exif: bytes, xmp: bytes = b"") -> int:
    """The orientation in EXIF data, or where there is none in XMP's; upright when neither has a valid one."""
    exif = exif.removeprefix(b"Exif\0\0")
    try:
        order = {b"II": "<", b"MM": ">"}[exif[:2]]
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (number,) = struct.unpack_from(order + "H", exif, start)
        for place in range(start + 2, min(start + 2 + number * 12, len(exif) - 11), 12):
            if struct.unpack_from(order + "H", exif, place)[0] == _ORIENTATION:
                return _value(exif[place : place + 12], order, exif)
    except (struct.error, KeyError):
        pass
    found = _XMP_ORIENTATION.search(xmp)
    return _valid(int(found[1])) if found else UPRIGHT


def _of_jpeg(data: bytes) -> Essentials:
    kept, exif, xmp, scans, place = [data[:2]], b"", b"", 0, 2
    while found := _MARKER.search(data, place):
        marker, place = found[1][0], found.end()
        if marker == _END_OF_IMAGE:
            kept.append(b"\xff\xd9")
            break
        if marker in _ALONE:
            continue
        end = place + int.from_bytes(data[place : place + 2])
        if end < place + 2:
            kept.append(data[found.start() :])
            break
        content = data[place + 2 : end]
        if marker == 0xE1 and content.startswith(b"Exif\0"):
            exif += content[6:]
        elif marker == 0xE1 and content.startswith(_XMP):
            xmp = xmp or content
        elif not (marker == _COMMENT or 0xE0 <= marker <= 0xEF) or _is_colour(marker, content):
            kept.append(b"\xff" + data[found.end() - 1 : end])
        place = end
        if marker == _START_OF_SCAN:
            scans += 1
            after = _AFTER_SCAN.search(data, end)
            place = after.start() if after else len(data)
            kept.append(data[end:place])
    return Essentials(b"".join(kept), orientation_in(exif, xmp), scans)


def _is_colour(marker: int, content: bytes) -> bool:
    """Whether an application's segment says how colours are stored: JFIF's does, and Adobe's."""
    owner = {0xE0: b"JFIF", 0xEE: b"Adobe"}.get(marker)
    return owner is not None and content.startswith(owner) and len(content) > 6


def _of_png(data: bytes) -> Essentials:
    kept, exif, xmp, place = [data[:8]], b"", b"", 8
    while place + 8 <= len(data):
        length, kind = int.from_bytes(data[place : place + 4]), data[place + 4 : place + 8]
        end = place + 12 + length
        content = data[place + 8 : end - 4]
        if kind in _PNG_KEPT:
            kept.append(data[place:end])
        elif kind == b"eXIf":
            exif = content
        elif content.startswith(b"Raw profile type exif\0"):
            exif = exif or _raw_profile(kind, content)
        elif kind == b"iTXt" and content.startswith(b"XML:com.adobe.xmp\0"):
            xmp = content
        place = end
        if kind == b"IEND":
            break
    return Essentials(b"".join(kept), orientation_in(exif, xmp))


def _raw_profile(kind: bytes, content: bytes) -> bytes:
    """The EXIF data in a text chunk, as ImageMagick writes it: a name, a length, and hexadecimal digits."""
    text = content.partition(b"\0")[2]
    try:
        if kind == b"zTXt":
            text = zlib.decompressobj().decompress(text[1:], MAX_PROFILE)
        digits = b"".join(text.split(b"\n")[3:])
        return bytes.fromhex(digits[: len(digits) // 2 * 2].decode("ascii"))
    except (ValueError, zlib.error):
        return b""


def _of_tiff(data: bytes) -> Essentials:
    """The first picture with the tags that say how it is stored, listed anew behind the file's own bytes."""
    order, big = ("<" if data[:1] == b"I" else ">"), data[2:4] in (b"+\0", b"\0+")
    pointer, count, size = ("Q", "Q", 20) if big else ("I", "H", 12)
    at = 8 if big else 4
    (start,) = struct.unpack_from(order + pointer, data, at)
    (number,) = struct.unpack_from(order + count, data, start)
    first = start + struct.calcsize(order + count)
    entries = [data[place : place + size] for place in range(first, min(first + number * size, len(data)), size)]
    tags = [struct.unpack_from(order + "H", entry)[0] for entry in entries]
    kept = [entry for tag, entry in zip(tags, entries, strict=True) if tag in _TIFF_KEPT]
    listed = struct.pack(order + count, len(kept)) + b"".join(kept) + struct.pack(order + pointer, 0)
    padding = bytes(-len(data) % 16)
    header = data[:at] + struct.pack(order + pointer, len(data) + len(padding))
    turned = [entry for tag, entry in zip(tags, entries, strict=True) if tag == _ORIENTATION]
    orientation = _value(turned[0], order, data, big=big) if turned else UPRIGHT
    return Essentials(header + data[len(header) :] + padding + listed, orientation)


def _orientation_in_webp(data: bytes) -> int:
    exif, xmp, place = b"", b"", 12
    while place + 8 <= len(data):
        kind, length = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        content = data[place + 8 : place + 8 + length]
        exif = content if kind == b"EXIF" else exif
        xmp = content if kind == b"XMP " else xmp
        place += 8 + length + length % 2
    return orientation_in(exif, xmp)


def _value(entry: bytes, order: str, data: bytes, *, big: bool = False) -> int:
    """The one number of a directory's entry, whatever its type, when it is an orientation; else upright."""
    kind, count = struct.unpack_from(order + ("HQ" if big else "HI"), entry, 2)
    form, place = _NUMBERS.get(kind, ""), 12 if big else 8
    if count != 1 or not form:
        return UPRIGHT
    if struct.calcsize(order + form) > len(entry) - place:  # then the entry says where the value is
        (place,) = struct.unpack_from(order + ("Q" if big else "I"), entry, place)
        entry = data
    try:
        number, *divisor = struct.unpack_from(order + form, entry, place)
        return _valid(number / divisor[0] if divisor else number)
    except (struct.error, ZeroDivisionError):
        return UPRIGHT


def _valid(number: float) -> int:
    return int(number) if number in range(1, 9) else UPRIGHT
