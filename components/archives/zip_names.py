"""The names of a zip file's members, whose encoding older programs did not record."""

import re
import struct
from collections.abc import Iterator
from zipfile import ZipInfo
from zlib import crc32

ENCODINGS = (
    *("cp932", "gb18030", "big5", "cp949", "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255"),
    *("cp1256", "cp1257", "cp1258", "cp850", "cp852", "cp866", "koi8-r", "mac-roman", "cp874"),
)
"""What programs of Japan, China, Taiwan, Korea, Europe, Russia, Turkey, Israel, Arabia, Vietnam and Thailand write."""

_UTF8 = 0x800
"""The flag that says a name is UTF-8."""
_UNICODE_PATH = 0x7075
"""Info-ZIP's extra field with the name in UTF-8 (APPNOTE 4.6.9)."""
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")


def member_name(info: ZipInfo) -> str:
    """A member's name: as its flag or its Unicode field says, in UTF-8 where it is valid, else in code page 437.

    macOS and many libraries write UTF-8 without the flag.
    """
    return info.filename if info.flag_bits & _UTF8 else _unicode_name(info) or info.filename


def is_unlabelled(info: ZipInfo) -> bool:
    """Whether nothing tells the encoding of a member's name. Code page 437, in which it is read, has a character for
    every byte, so `reencoded` can read it again.
    """
    return not info.flag_bits & _UTF8 and _unicode_name(info) is None


def _unicode_name(info: ZipInfo) -> str | None:
    if info.orig_filename.isascii():
        return info.filename
    raw = info.orig_filename.partition("\0")[0].encode("cp437")
    for name in (*_unicode_paths(info.extra, raw), raw):
        try:
            return name.decode("utf-8")
        except UnicodeDecodeError:
            continue
    return None


def _unicode_paths(extra: bytes, raw: bytes) -> Iterator[bytes]:
    """The name in the Unicode field, if it is of the name `raw`: programs that rename members leave the field."""
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == _UNICODE_PATH and field[:5] == struct.pack("<BI", 1, crc32(raw)):
            yield field[5:]


def reencoded(name: str, encoding: str) -> str | None:
    """A name read in code page 437, or with escaped bytes from a folder, in another encoding; none if it is invalid."""
    try:
        raw = name.encode("cp437") if not _ESCAPED.search(name.encode()) else name.encode()
        return _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), raw).decode(encoding)
    except UnicodeError:
        return None
