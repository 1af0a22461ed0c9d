"""What stands beside the pixels of an image file: the orientation is read, and everything else is left out.

Text, colour profiles, thumbnails, camera data and what programs append are large, broken or misleading often enough,
and none of it decides a pixel. A decoder that never sees it cannot fail on it. This module is copied into every
registered model.
"""

import binascii
import re
import struct
import zlib
from typing import NamedTuple

UPRIGHT = 1
MAX_PROFILE = 1 << 20
"""Bytes of a compressed text in a PNG file that are unpacked to look for the orientation."""

_ORIENTATION, _XMP_TAG = 0x0112, 700
_NUMBERS = {1: "B", 3: "H", 4: "I", 5: "II", 6: "b", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d"}
"""TIFF's numeric types, as `struct` writes them; 5 and 10 are fractions."""
_MARKER = re.compile(rb"\xff([\x01-\xfe])")
_MARKER_AMONG_SCANS = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
"""Not a zero behind a 255 of compressed data, nor a restart."""
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})
"""JPEG markers that have no content and change nothing before the first scan: the next marker follows."""
_START_OF_IMAGE, _END_OF_IMAGE, _START_OF_SCAN, _COMMENT = 0xD8, 0xD9, 0xDA, 0xFE
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_NO_DIGITS = re.compile(rb"[^0-9a-fA-F]")
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
_OTHER_ITEM = re.compile(
    rb"(infe(?:\x02.{7}|\x03.{9}))(?!hvc1|av01|grid|iden|iovl|tmap|mski|jpeg|j2k1|avc1|vvc1|unci)....", re.DOTALL
)
"""An entry of a HEIF file's list of items (ISO/IEC 14496-12, 8.11.6) that is no picture: EXIF, XMP, or damage."""
_PNG_KEPT = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
_TRANSPARENCY_BYTES = {b"\0": 2, b"\2": 6, b"\3": 1}
"""Colour type of a PNG file → bytes that its transparency has at least (PNG 3, 11.3.1.1)."""
_PNG_XMP, _PNG_EXIF = b"XML:com.adobe.xmp", b"Raw profile type exif"
_WEBP_KEPT = frozenset({b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"})
_WEBP_HAS_METADATA = 0x20 | 0x08 | 0x04
"""Flags of an extended WebP file: a colour profile, EXIF or XMP data."""
_TIFF_KEPT = frozenset(
    {*range(256, 260), 262, 266, 273, *range(277, 280), 284, 292, 293, 317, 320, *range(322, 326), 332, 338, 339}
    | {347, *range(512, 522), *range(529, 533)}
)
"""Tags that say how pixels are stored (TIFF 6.0 and its Technical Note 2)."""


class Essentials(NamedTuple):
    """What of an image file decides its pixels."""

    content: bytes
    """The file without the rest."""
    orientation: int = UPRIGHT
    """1 to 8, as EXIF counts: how the stored rows and columns are to be turned."""


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
            return _of_heif(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _of_webp(data)
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


def count_scans(jpeg: bytes) -> int:
    """How often a JPEG file goes over its pixels. What lies behind its end, such as a phone's video, does not count."""
    scans, place = 0, 2
    while found := _MARKER_AMONG_SCANS.search(jpeg, place):
        marker, place = found[1][0], found.end()
        if marker == _END_OF_IMAGE:
            break
        scans += marker == _START_OF_SCAN
        if marker not in (0x01, _START_OF_IMAGE):
            place += int.from_bytes(jpeg[place : place + 2])
    return scans


def _of_jpeg(data: bytes) -> Essentials:
    kept, exif, xmp, place = [data[:2]], b"", b"", 2
    while found := _MARKER.search(data, place):
        marker, place = found[1][0], found.end()
        if marker in _ALONE and data[place : place + 1] == b"\xff":
            continue
        end = place + int.from_bytes(data[place : place + 2])
        if marker < 0xC0 or _START_OF_IMAGE <= marker <= _START_OF_SCAN or not place + 2 <= end <= len(data):
            kept.append(data[found.start() :])  # pixels, or damage: the decoder sees it as it is
            break
        content, place = data[place + 2 : end], end
        if marker == 0xE1 and content.startswith(b"Exif\0"):
            exif += content[6:]
        elif marker == 0xE1 and content.startswith(_XMP):
            xmp = content
        elif not (marker == _COMMENT or 0xE0 <= marker <= 0xEF) or _is_colour(marker, content):
            kept.append(data[found.start() : end])
    return Essentials(b"".join(kept), orientation_in(exif, xmp))


def _is_colour(marker: int, content: bytes) -> bool:
    """Whether an application's segment says how colours are stored: JFIF's does, and Adobe's."""
    owner = {0xE0: b"JFIF", 0xEE: b"Adobe"}.get(marker)
    return owner is not None and content.startswith(owner) and len(content) > 6


def _of_png(data: bytes) -> Essentials:
    kept, chunks, header, place = [data[:8]], dict[bytes, bytes](), b"", 8
    while place + 8 <= len(data):
        length, kind = int.from_bytes(data[place : place + 4]), data[place + 4 : place + 8]
        end = place + 12 + length
        content = data[place + 8 : end - 4]
        header = header or content
        if kind in _PNG_KEPT or (kind == b"tRNS" and _is_transparency(content, header[9:10], data[end - 4 : end])):
            kept.append(data[place:end])
        elif kind == b"eXIf":
            chunks[b"exif"] = content
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            name, _, text = content.partition(b"\0")
            if name in (_PNG_EXIF, _PNG_XMP, b"exif"):
                chunks[name] = _unpacked(kind, text)
        place = end
        if kind == b"IEND":
            break
    raw = b"".join(chunks.get(_PNG_EXIF, b"").split(b"\n")[3:])  # as ImageMagick writes it: name, length, hexadecimal
    digits = _NO_DIGITS.sub(b"", raw)
    exif = chunks.get(b"exif") or binascii.unhexlify(digits[: len(digits) // 2 * 2])
    return Essentials(b"".join(kept), orientation_in(exif, chunks.get(_PNG_XMP, b"")))


def _is_transparency(content: bytes, colour: bytes, checksum: bytes) -> bool:
    """Whether it is sound. libpng leaves a damaged one out, too, and not the picture."""
    needed = _TRANSPARENCY_BYTES.get(colour, len(content) + 1)
    return len(content) >= needed and zlib.crc32(b"tRNS" + content).to_bytes(4) == checksum


def _unpacked(kind: bytes, text: bytes) -> bytes:
    """What a PNG's text says behind its name; nothing when it is damaged."""
    packed = kind == b"zTXt" or (kind == b"iTXt" and text[:1] == b"\1")
    if kind == b"iTXt":
        text = text[2:].split(b"\0", 2)[-1]
    elif kind == b"zTXt":
        text = text[1:]
    try:
        return zlib.decompressobj().decompress(text, MAX_PROFILE) if packed else text
    except zlib.error:
        return b""


def _of_tiff(data: bytes) -> Essentials:
    """The first picture's list of tags without the others. The file keeps its length: one that is cut off still is."""
    order, big = ("<" if data[:1] == b"I" else ">"), data[2:4] in (b"+\0", b"\0+")
    pointer, count, size = ("Q", "Q", 20) if big else ("I", "H", 12)
    (start,) = struct.unpack_from(order + pointer, data, 8 if big else 4)
    (number,) = struct.unpack_from(order + count, data, start)
    first = start + struct.calcsize(order + count)
    if first + number * size > len(data):
        return Essentials(data)  # without the tags that are cut off pixels may mean something else
    tags: dict[int, bytes] = {}
    for place in range(first, first + number * size, size):
        entry = data[place : place + size]
        tags.setdefault(struct.unpack_from(order + "H", entry)[0], entry)  # of two the first, as Pillow has it
    kept = [entry for tag, entry in tags.items() if tag in _TIFF_KEPT]
    listed = struct.pack(order + count, len(kept)) + b"".join(kept) + struct.pack(order + pointer, 0)
    content = data[:start] + listed + data[start + len(listed) :]
    if _ORIENTATION in tags:
        return Essentials(content, _value(tags[_ORIENTATION], order, data, big=big))
    xmp = b""
    if _XMP_TAG in tags:
        length, place = struct.unpack_from(order + ("QQ" if big else "II"), tags[_XMP_TAG], 4)
        xmp = data[place : place + length]
    return Essentials(content, orientation_in(b"", xmp))


def _of_heif(data: bytes) -> Essentials:
    """The file with a name for items of metadata that decoders do not know. How it is turned they see to themselves."""
    place = 0
    while place + 16 <= len(data):
        length, kind = int.from_bytes(data[place : place + 4]), data[place + 4 : place + 8]
        if length == 1:  # a long one
            length = int.from_bytes(data[place + 8 : place + 16])
        end = place + length if length else len(data)
        if kind == b"meta":
            return Essentials(data[:place] + _OTHER_ITEM.sub(rb"\1free", data[place:end]) + data[end:])
        if end < place + 8:
            break
        place = end
    return Essentials(data)


def _of_webp(data: bytes) -> Essentials:
    kept, chunks, place = list[bytes](), dict[bytes, bytes](), 12
    while place + 8 <= len(data):
        kind, length = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        content, end = data[place + 8 : place + 8 + length], place + 8 + length + length % 2
        whole = kept and kept[-1][:4] in (b"VP8 ", b"VP8L")  # the one picture of a file that does not move
        if kind == b"VP8X" and content:
            kept.append(data[place : place + 8] + bytes([content[0] & ~_WEBP_HAS_METADATA]) + data[place + 9 : end])
        elif kind in _WEBP_KEPT and not whole:
            kept.append(data[place:end])
        elif kind in (b"EXIF", b"XMP ") and kept and kept[0][:4] == b"VP8X":  # simple files have none
            chunks.setdefault(kind, content)
        place = end
    body = b"WEBP" + b"".join(kept)
    content = b"RIFF" + len(body).to_bytes(4, "little") + body
    return Essentials(content, orientation_in(chunks.get(b"EXIF", b""), chunks.get(b"XMP ", b"")))


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
