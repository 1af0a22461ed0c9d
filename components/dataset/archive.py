"""Photographs where they lie: in a zip file or a folder, read one by one and never unpacked."""

import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from stat import S_ISREG
from types import TracebackType
from typing import Protocol, Self

from components.errors import BadImageError, ConfigurationError

_DAMAGED = (
    # KeyError, a LookupError: no such member; RuntimeError: encrypted; NotImplementedError: an unknown compression.
    *(LookupError, OSError, RuntimeError, NotImplementedError, ValueError, EOFError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
)
"""What `zipfile` raises on archives and members that are damaged; there is no common base."""


class ImageArchive(Protocol):
    """A set of named files. Reading is safe from several threads."""

    def listing(self) -> list[tuple[str, int, int]]:
        """(name, bytes, change mark) of every file, sorted by name."""
        ...

    def read(self, name: str, limit: int | None = None) -> bytes:
        """The content of one file. Raises `BadImageError` when it cannot be read, or has more than `limit` bytes."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class ZipArchive:
    """A zip file. The change mark is the member's CRC-32."""

    def __init__(self, path: Path) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
        except _DAMAGED as error:
            raise ConfigurationError(
                f"cannot open the archive {path}: {error}. Put a whole one in its place; delete it if it was downloaded"
            ) from error

    def listing(self) -> list[tuple[str, int, int]]:  # noqa: D102 - see ImageArchive
        return sorted((i.filename, i.file_size, i.CRC) for i in self._zip.infolist() if not i.filename.endswith("/"))

    def read(self, name: str, limit: int | None = None) -> bytes:  # noqa: D102
        try:
            _require_size(self._zip.getinfo(name).file_size, limit)
            return self._zip.read(name)
        except _DAMAGED as error:
            raise BadImageError(f"cannot be read from its zip file: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()


class FolderArchive:
    """A folder and what is below it. The change mark is the modification time in nanoseconds."""

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise ConfigurationError(f"{path} is no zip file and no folder")
        self._path = path

    def listing(self) -> list[tuple[str, int, int]]:  # noqa: D102
        files = ((path, path.stat()) for path in self._path.rglob("*") if path.is_file())
        return sorted((p.relative_to(self._path).as_posix(), s.st_size, s.st_mtime_ns) for p, s in files)

    def read(self, name: str, limit: int | None = None) -> bytes:  # noqa: D102
        try:
            path = self._path / name
            status = path.stat()
            if not S_ISREG(status.st_mode):
                raise BadImageError("cannot be read: it is no file")
            _require_size(status.st_size, limit)
            return path.read_bytes()
        except (OSError, ValueError) as error:  # ValueError: a name with a null byte
            raise BadImageError(f"cannot be read: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _require_size(size: int, limit: int | None) -> None:
    if limit is not None and size > limit:
        raise BadImageError(f"{size:,} bytes are more than {limit:,}")


def whole_names(names: Iterable[str]) -> dict[str, str]:
    """Whole names by every way others may call them: the name, or its last part where that is unique."""
    names = list(names)
    bases: dict[str, list[str]] = {}
    for name in names:
        bases.setdefault(name.rpartition("/")[2], []).append(name)
    return {base: found[0] for base, found in bases.items() if len(found) == 1} | {name: name for name in names}


def open_archive(path: Path) -> ImageArchive:
    """The archive at `path`. Raises `ConfigurationError` when there is none or it is damaged."""
    return FolderArchive(path) if path.suffix.lower() != ".zip" or path.is_dir() else ZipArchive(path)
