"""Photographs where they lie: in a zip file or a folder, read one by one and never unpacked."""

import lzma
import struct
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from stat import S_ISREG
from typing import IO, Any, Self

from components.dataset.remote import client_errors
from components.errors import BadImageError, ConfigurationError

Location = Path | str
"""A path, or an address for fsspec (with ://)."""

DAMAGED = (
    # KeyError, a LookupError: no such member; RuntimeError: encrypted; NotImplementedError: an unknown compression.
    *(LookupError, OSError, RuntimeError, NotImplementedError, ValueError, EOFError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
)
"""What `zipfile` raises on archives and members that are damaged; there is no common base."""


class ImageArchive(ABC):
    """A set of named files. Reading is safe from several threads."""

    @abstractmethod
    def listing(self) -> list[tuple[str, int, int]]:
        """(name, bytes, change mark) of every file, sorted by name."""

    @abstractmethod
    def mark(self, name: str) -> tuple[int, int]:
        """(bytes, change mark) of one file; (-1, -1) when it is not there."""

    @abstractmethod
    def read(self, name: str, limit: int | None = None) -> bytes:
        """The content of one file. Raises `BadImageError` when it cannot be read, or has more than `limit` bytes."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:  # noqa: B027 - most have nothing to close
        pass


class ZipArchive(ImageArchive):
    """A zip file. The change mark is the member's CRC-32."""

    def __init__(self, path: Path | IO[bytes]) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
        except DAMAGED as error:
            raise ConfigurationError(
                f"cannot open the archive {path}: {error}. Put a whole one in its place; delete it if it was downloaded"
            ) from error

    def listing(self) -> list[tuple[str, int, int]]:  # noqa: D102 - see ImageArchive
        return sorted((i.filename, i.file_size, i.CRC) for i in self._zip.infolist() if not i.filename.endswith("/"))

    def mark(self, name: str) -> tuple[int, int]:  # noqa: D102
        try:
            entry = self._zip.getinfo(name)
        except KeyError:
            return -1, -1
        return entry.file_size, entry.CRC

    def read(self, name: str, limit: int | None = None) -> bytes:  # noqa: D102
        try:
            _require_size(self._zip.getinfo(name).file_size, limit)
            return self._zip.read(name)
        except DAMAGED as error:
            raise BadImageError(f"cannot be read from its zip file: {error}") from error

    def __exit__(self, *_: object) -> None:
        self._zip.close()


class FolderArchive(ImageArchive):
    """A folder and what is below it. The change mark is the modification time in nanoseconds."""

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise ConfigurationError(f"{path} is no zip file and no folder")
        self._path = path

    def listing(self) -> list[tuple[str, int, int]]:  # noqa: D102
        files = ((path, path.stat()) for path in self._path.rglob("*") if path.is_file())
        return sorted((p.relative_to(self._path).as_posix(), s.st_size, s.st_mtime_ns) for p, s in files)

    def mark(self, name: str) -> tuple[int, int]:  # noqa: D102
        if is_url(name):
            return UrlArchive(name).mark("")
        try:
            status = (self._path / name).stat()
        except (OSError, ValueError):
            return -1, -1
        return status.st_size, status.st_mtime_ns

    def read(self, name: str, limit: int | None = None) -> bytes:  # noqa: D102
        if is_url(name):
            return UrlArchive(name).read("", limit)
        try:
            path = self._path / name
            status = path.stat()
            if not S_ISREG(status.st_mode):
                raise BadImageError("cannot be read: it is no file")
            _require_size(status.st_size, limit)
            return path.read_bytes()
        except (OSError, ValueError) as error:  # ValueError: a name with a null byte
            raise BadImageError(f"cannot be read: {error}") from error


class UrlArchive(ImageArchive):
    """What lies below an address of fsspec (s3://, gs://, …). The change mark is of the ETag or the date."""

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        try:
            self._files, self._root = url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise ConfigurationError(f"cannot open {url}: {error}") from error
        self._url = url
        self._failures: tuple[type[Exception], ...] = (*client_errors(), *DAMAGED)

    def listing(self) -> list[tuple[str, int, int]]:  # noqa: D102
        try:
            found = self._files.find(self._root, detail=True)
        except self._failures as error:
            raise ConfigurationError(f"cannot list {self._url}: {error}") from error
        root = self._root.rstrip("/") + "/"
        return sorted((path.removeprefix(root), *_mark(entry)) for path, entry in found.items())

    def mark(self, name: str) -> tuple[int, int]:  # noqa: D102
        if is_url(name):
            return UrlArchive(name).mark("")
        try:
            return _mark(self._files.info(self._path(name)))
        except self._failures:
            return -1, -1

    def read(self, name: str, limit: int | None = None) -> bytes:  # noqa: D102
        if is_url(name):
            return UrlArchive(name).read("", limit)
        try:
            size = self._files.info(self._path(name)).get("size")
            _require_size(size or 0, limit)
            content: bytes = self._files.cat_file(self._path(name))
        except self._failures as error:
            raise BadImageError(f"cannot be read: {error or type(error).__name__}") from error
        return content

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}" if name else self._root


def _mark(entry: Mapping[str, Any]) -> tuple[int, int]:
    signs = [str(entry[key]) for key in ("ETag", "etag", "md5Hash", "LastModified", "mtime", "created") if key in entry]
    return int(entry.get("size") or 0), int.from_bytes(sha256(" ".join(signs).encode()).digest()[:6])


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


def is_url(location: Location) -> bool:
    """Whether it is fsspec's, and not a path of this machine."""
    return "://" in str(location)


def parent_of(location: Location) -> Location:
    """Where it lies."""
    return str(location).rpartition("/")[0] if is_url(location) else Path(location).parent


def open_archive(location: Location) -> ImageArchive:
    """The archive at a path or an address. Raises `ConfigurationError` when there is none or it is damaged."""
    if is_url(location):
        url = str(location)
        return ZipArchive(_opened(url)) if url.lower().endswith(".zip") else UrlArchive(url)
    path = Path(location)
    return FolderArchive(path) if path.suffix.lower() != ".zip" or path.is_dir() else ZipArchive(path)


def _opened(url: str) -> IO[bytes]:
    import fsspec

    try:
        file: IO[bytes] = fsspec.open(url, "rb").open()
    except (ImportError, *DAMAGED) as error:
        raise ConfigurationError(f"cannot open {url}: {error}") from error
    return file
