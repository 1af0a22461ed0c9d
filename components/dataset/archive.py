"""Photographs where they lie: in a zip file or a folder, read one by one and never unpacked."""

import lzma
import os
import struct
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, Self

from components.dataset.remote import client_errors, file_system
from components.errors import BadImageError, ConfigurationError
from components.files import read_all, require_file

Location = Path | str
"""A path, or an address for fsspec (with ://)."""

DAMAGED = (
    # KeyError, a LookupError: no such member; RuntimeError: encrypted; NotImplementedError: an unknown compression.
    *(LookupError, OSError, RuntimeError, NotImplementedError, ValueError, EOFError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
)
"""What `zipfile` raises on archives and members that are damaged; there is no common base."""

ROW_SCHEMES = ("file", "memory", "http", "https", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")
"""Of addresses that a list's rows name: plain stores. Some of fsspec's others start programs."""


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
            if isinstance(path, Path):
                require_file(path)
            self._zip = zipfile.ZipFile(path)
        except DAMAGED as error:
            raise ConfigurationError(
                f"cannot open the archive {path}: {error}. Put a whole one in its place; delete it if it was downloaded"
            ) from error

    def listing(self) -> list[tuple[str, int, int]]:  # noqa: D102 - see ImageArchive
        entries = {i.filename: i for i in self._zip.infolist() if not i.filename.endswith("/")}  # of twins the last
        return sorted((name, entry.file_size, entry.CRC) for name, entry in entries.items())

    def mark(self, name: str) -> tuple[int, int]:  # noqa: D102
        try:
            entry = self._zip.getinfo(name)
        except KeyError:
            return -1, -1
        return entry.file_size, entry.CRC

    def read(self, name: str, limit: int | None = None) -> bytes:  # noqa: D102
        try:
            entry = self._zip.getinfo(name)
            _require_size(entry.file_size, limit)
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # `zipfile` unpacks the others without a limit, whatever size the entry says.
                raise NotImplementedError("it is neither stored nor deflated; pack it anew")
            with self._zip.open(entry) as member:
                return member.read(entry.file_size)
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
        try:
            return sorted((_as_text(p.relative_to(self._path)), s.st_size, s.st_mtime_ns) for p, s in files)
        except OSError as error:
            raise ConfigurationError(f"cannot list {self._path}: {error}") from error

    def mark(self, name: str) -> tuple[int, int]:  # noqa: D102
        if is_url(name):
            return _mark_row(name)
        try:
            status = (self._path / name).stat()
        except (OSError, ValueError):
            return -1, -1
        return status.st_size, status.st_mtime_ns

    def read(self, name: str, limit: int | None = None) -> bytes:  # noqa: D102
        if is_url(name):
            return _read_row(name, limit)
        try:
            path = self._path / name
            _require_size(require_file(path), limit)
            with path.open("rb") as file:
                return read_all(file, limit)
        except (OSError, ValueError) as error:  # ValueError: a name with a null byte
            raise BadImageError(f"cannot be read: {error}") from error


class UrlArchive(ImageArchive):
    """What lies below an address of fsspec (s3://, gs://, …). The change mark is of the ETag or the date."""

    def __init__(self, url: str) -> None:
        self._files, self._root = file_system(url)
        self._url = url
        self._failures = _failures()

    def listing(self) -> list[tuple[str, int, int]]:  # noqa: D102
        try:
            found = self._files.find(self._root, detail=True)
        except self._failures as error:
            raise ConfigurationError(f"cannot list {self._url}: {error}") from error
        root = self._root.rstrip("/") + "/"
        return sorted((path.removeprefix(root), *_mark(entry)) for path, entry in found.items())

    def mark(self, name: str) -> tuple[int, int]:  # noqa: D102
        if is_url(name):
            return _mark_row(name)
        try:
            return _mark(self._files.info(self._path(name)))
        except self._failures:
            return -1, -1

    def read(self, name: str, limit: int | None = None) -> bytes:  # noqa: D102
        if is_url(name):
            return _read_row(name, limit)
        try:
            about = self._files.info(self._path(name))
            if about.get("type", "file") != "file":
                raise BadImageError("cannot be read: It is no file")
            _require_size(about.get("size") or 0, limit)
            with self._files.open(self._path(name), "rb") as file:
                return read_all(file, limit)
        except self._failures as error:
            raise BadImageError(f"cannot be read: {error or type(error).__name__}") from error

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}" if name else self._root


def _failures() -> tuple[type[Exception], ...]:
    """What fsspec raises, and the clients that are loaded by now."""
    return (*client_errors(), *DAMAGED)


def _mark(entry: Mapping[str, Any]) -> tuple[int, int]:
    signs = [str(entry[key]) for key in ("ETag", "etag", "md5Hash", "LastModified", "mtime", "created") if key in entry]
    return int(entry.get("size") or 0), int.from_bytes(sha256(" ".join(signs).encode()).digest()[:6])


def _as_text(path: Path) -> str:
    """The path, with what is not UTF-8 escaped: no table could hold it. The file is not found by that name."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


def _mark_row(url: str) -> tuple[int, int]:
    try:
        return _open_row(url).mark("")
    except BadImageError:
        return -1, -1


def _read_row(url: str, limit: int | None) -> bytes:
    return _open_row(url).read("", limit)


def _open_row(url: str) -> UrlArchive:
    """What a list's row names by a whole address. Raises `BadImageError`: a bad row is no wrong usage."""
    scheme = url.partition("://")[0].lower()
    if scheme not in ROW_SCHEMES:
        raise BadImageError(f"cannot be read: a list's addresses are of {', '.join(ROW_SCHEMES)}")
    try:
        return UrlArchive(url)
    except ConfigurationError as error:
        raise BadImageError(str(error)) from error


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
        return ZipArchive(open_file(url)) if url.lower().endswith(".zip") else UrlArchive(url)
    path = Path(location)
    return FolderArchive(path) if path.suffix.lower() != ".zip" or path.is_dir() else ZipArchive(path)


def open_file(location: Location) -> IO[bytes]:
    """The file at a path or an address. Raises `ConfigurationError` when there is none, or it is a pipe or a device."""
    try:
        if not is_url(location):
            require_file(Path(location))
            return Path(location).open("rb")
        files, path = file_system(str(location))
        file: IO[bytes] = files.open(path, "rb")
    except _failures() as error:
        raise ConfigurationError(f"cannot open {location}: {error}") from error
    return file
