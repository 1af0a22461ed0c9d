"""Images in a zip file, read one by one and never unpacked, and their names, which may be in any encoding."""

import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from components.archives.image_archive import UNKNOWN, Entry, ImageArchive, require_size
from components.archives.remote import client_errors
from components.errors import ConfigurationError, TransientImageError
from components.files import require_file

DAMAGED = (
    # KeyError, a LookupError: no such member; RuntimeError: encrypted; NotImplementedError: an unknown compression.
    *(LookupError, OSError, RuntimeError, NotImplementedError, ValueError, EOFError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
)
"""What `zipfile` raises on archives and members that are damaged; there is no common base."""
ENCODINGS = (
    *("cp932", "gb18030", "big5", "cp949", "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255"),
    *("cp1256", "cp1257", "cp1258", "cp850", "cp852", "cp866", "koi8-r", "mac-roman", "cp874"),
)
"""What programs of Japan, China, Taiwan, Korea, Europe, Russia, Turkey, Israel, Arabia, Vietnam and Thailand write."""

_UTF8 = 0x800
"""The flag that says a name is UTF-8."""
_UNICODE_PATH = 0x7075
"""Info-ZIP's extra field with the name in UTF-8 (APPNOTE 4.6.9)."""
ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")
"""A byte of a name that is not UTF-8, as a folder's listing escapes it."""


class ZipArchive(ImageArchive):
    """A zip file. The change mark is the member's CRC-32."""

    def __init__(self, path: Path | IO[bytes]) -> None:
        try:
            if isinstance(path, Path):
                require_file(path)
            self._zip = zipfile.ZipFile(path)
            members = [(_member_name(i), i) for i in self._zip.infolist() if not i.filename.endswith(("/", "\\"))]
            self._members = dict(members)  # the last of a name, as programs that update a zip file append it
            self.replaced = len(members) - len(self._members)
        except DAMAGED as error:
            raise ConfigurationError(
                f"cannot open the archive {path}: {error}. Put a whole one in its place; delete it if it was downloaded"
            ) from error

    def entries(self) -> list[Entry]:  # noqa: D102 - see ImageArchive
        return sorted(Entry(name, member.file_size, member.CRC) for name, member in self._members.items())

    def unlabelled(self) -> frozenset[str]:  # noqa: D102
        return frozenset(name for name, member in self._members.items() if _is_unlabelled(member))

    def mark(self, name: str) -> tuple[int, int]:  # noqa: D102
        entry = self._members.get(name)
        return (entry.file_size, entry.CRC) if entry else UNKNOWN

    def read(self, name: str, limit: int | None = None, first: int | None = None) -> bytes:  # noqa: D102
        try:
            entry = self._members[name]
            require_size(entry.file_size, limit)
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # `zipfile` unpacks the others without a limit, whatever size the entry says.
                raise NotImplementedError("it is neither stored nor deflated; pack it anew")
            with self._zip.open(entry) as member:
                return member.read(entry.file_size if first is None else first)
        except failures() as error:  # a zip may lie at an address
            raise TransientImageError(f"cannot be read from its zip file: {error}") from error

    def __exit__(self, *_: object) -> None:
        self._zip.close()


def failures() -> tuple[type[Exception], ...]:
    """What fsspec raises, and the clients that are loaded by now."""
    return (*client_errors(), *DAMAGED)


def _member_name(info: zipfile.ZipInfo) -> str:
    """A member's name: as its flag or its Unicode field says, in UTF-8 where it is valid, else in code page 437.

    macOS and many libraries write UTF-8 without the flag.
    """
    return info.filename if info.flag_bits & _UTF8 else _unicode_name(info) or info.filename


def _is_unlabelled(info: zipfile.ZipInfo) -> bool:
    """Whether nothing tells the encoding of a member's name. Code page 437, in which it is read, has a character for
    every byte, so `reencoded` can read it again.
    """
    return not info.flag_bits & _UTF8 and _unicode_name(info) is None


def _unicode_name(info: zipfile.ZipInfo) -> str | None:
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
        if kind == _UNICODE_PATH and field[:5] == struct.pack("<BI", 1, zlib.crc32(raw)):
            yield field[5:]


def reencoded(name: str, encoding: str) -> str | None:
    """A name read in code page 437, or with escaped bytes from a folder, in another encoding; none if it is invalid."""
    try:
        raw = name.encode("cp437") if not ESCAPED.search(name.encode()) else name.encode()
        return ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), raw).decode(encoding)
    except UnicodeError:
        return None
