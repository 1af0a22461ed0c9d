"""Photographs where they lie: in a zip file or a folder, read one by one and never unpacked."""

import errno
import lzma
import os
import re
import struct
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Container
from pathlib import Path
from stat import S_ISREG
from typing import IO, Self

from components.archives.folder import NOT_REGULAR, Entry, walk
from components.archives.remote import client_errors, file_system
from components.archives.url_files import ask_again, find_files, mark_of, server_of, why_failed
from components.archives.zip_names import is_unlabelled, member_name
from components.errors import BadImageError, CaptioningError, ConfigurationError, TransientImageError
from components.files import read_all, require_file

Location = Path | str
"""A path, or an address for fsspec (with ://)."""

DAMAGED = (
    # KeyError, a LookupError: no such member; RuntimeError: encrypted; NotImplementedError: an unknown compression.
    *(LookupError, OSError, RuntimeError, NotImplementedError, ValueError, EOFError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
)
"""What `zipfile` raises on archives and members that are damaged; there is no common base."""

_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")
ROW_SCHEMES = ("file", "memory", "http", "https", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")
"""Of addresses that a list's rows name: plain stores. Some of fsspec's others start programs."""


UNKNOWN = (-1, -1)
"""Bytes and change mark of a file that is not there, or that tells neither."""


class ImageArchive(ABC):
    """A set of named files. Reading is safe from several threads."""

    replaced = 0
    """Files that a later one of the same name has replaced."""

    @abstractmethod
    def entries(self) -> list[Entry]:
        """Every file, and what cannot be reached, sorted by name. Raises `CaptioningError` when nothing can."""

    def unlabelled(self) -> frozenset[str]:
        """The names whose encoding is not known (see `components.archives.zip_names`)."""
        return frozenset()

    @abstractmethod
    def mark(self, name: str) -> tuple[int, int]:
        """(bytes, change mark) of one file; `UNKNOWN` when it is not there."""

    @abstractmethod
    def read(self, name: str, limit: int | None = None) -> bytes:
        """The content of one file.

        Raises `TransientImageError` when it cannot be read, `BadImageError` when it has more than `limit` bytes.
        """

    @abstractmethod
    def head(self, name: str, size: int) -> bytes:
        """The first bytes of one file, at most `size`. Raises `TransientImageError` when it cannot be read."""

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
            members = [(member_name(i), i) for i in self._zip.infolist() if not i.filename.endswith(("/", "\\"))]
            self._members = dict(members)  # the last of a name, as programs that update a zip file append it
            self.replaced = len(members) - len(self._members)
        except DAMAGED as error:
            raise ConfigurationError(
                f"cannot open the archive {path}: {error}. Put a whole one in its place; delete it if it was downloaded"
            ) from error

    def entries(self) -> list[Entry]:  # noqa: D102 - see ImageArchive
        return sorted(Entry(name, member.file_size, member.CRC) for name, member in self._members.items())

    def unlabelled(self) -> frozenset[str]:  # noqa: D102
        return frozenset(name for name, member in self._members.items() if is_unlabelled(member))

    def mark(self, name: str) -> tuple[int, int]:  # noqa: D102
        try:
            entry = self._members[name]
        except KeyError:
            return UNKNOWN
        return entry.file_size, entry.CRC

    def read(self, name: str, limit: int | None = None) -> bytes:  # noqa: D102
        return self._read(name, limit, None)

    def head(self, name: str, size: int) -> bytes:  # noqa: D102
        return self._read(name, None, size)

    def _read(self, name: str, limit: int | None, size: int | None) -> bytes:
        try:
            entry = self._members[name]
            _require_size(entry.file_size, limit)
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # `zipfile` unpacks the others without a limit, whatever size the entry says.
                raise NotImplementedError("it is neither stored nor deflated; pack it anew")
            with self._zip.open(entry) as member:
                return member.read(entry.file_size if size is None else size)
        except _failures() as error:  # a zip may lie at an address
            raise TransientImageError(f"cannot be read from its zip file: {error}") from error

    def __exit__(self, *_: object) -> None:
        self._zip.close()


class FolderArchive(ImageArchive):
    """A folder and what is below it. The change mark is the modification time in nanoseconds."""

    def __init__(self, path: Path) -> None:
        if not is_folder(path):
            raise ConfigurationError(f"{path} is no zip file and no folder")
        self._path = path

    def entries(self) -> list[Entry]:  # noqa: D102
        try:
            found = walk(self._path)
        except OSError as error:
            raise CaptioningError(f"cannot list {self._path}: {error}. Make it readable, and run again") from error
        names = {entry.name for entry in found}
        return [entry._replace(name=_as_text(entry.name, names)) for entry in found]

    def _place(self, name: str) -> Path:
        """The file's path; bytes of its name that are not UTF-8 were escaped when it was listed."""
        path = self._path / name
        if "\\x" in name and not path.exists():
            raw = _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), name.encode())
            return self._path / os.fsdecode(raw)
        return path

    def mark(self, name: str) -> tuple[int, int]:  # noqa: D102
        if is_url(name):
            return _mark_row(name)
        try:
            status = self._place(name).stat()
        except (OSError, ValueError):
            return UNKNOWN
        return (status.st_size, status.st_mtime_ns) if S_ISREG(status.st_mode) else UNKNOWN

    def read(self, name: str, limit: int | None = None) -> bytes:  # noqa: D102
        if is_url(name):
            return _read_row(name, limit)
        try:
            path = self._place(name)
            _require_size(require_file(path), limit)
            with path.open("rb") as file:
                return read_all(file, limit)
        except (OSError, ValueError) as error:  # ValueError: a name with a null byte
            raise TransientImageError(f"cannot be read: {error}") from error

    def head(self, name: str, size: int) -> bytes:  # noqa: D102
        try:
            require_file(self._place(name))
            with self._place(name).open("rb") as file:
                return file.read(size)
        except OSError as error:
            raise TransientImageError(f"cannot be read: {error}") from error


class UrlArchive(ImageArchive):
    """What lies below an address of fsspec (s3://, gs://, …). The change mark is of the ETag or the date."""

    def __init__(self, url: str) -> None:
        self._files, self._root = file_system(url)
        self._url = url
        self._failures = _failures()

    def entries(self) -> list[Entry]:  # noqa: D102
        try:
            return sorted(find_files(self._files, self._root))
        except FileNotFoundError as error:
            raise ConfigurationError(f"cannot list {self._url}: {why_failed(error)}. Correct the address") from error
        except self._failures as error:
            raise CaptioningError(f"cannot list {self._url}: {why_failed(error)}. Run again") from error

    def mark(self, name: str) -> tuple[int, int]:  # noqa: D102
        if is_url(name):
            return _mark_row(name)
        try:
            self._files.invalidate_cache(self._path(name))
            return mark_of(ask_again(server_of(self._root), lambda: self._files.info(self._path(name))))
        except self._failures:
            return UNKNOWN

    def read(self, name: str, limit: int | None = None) -> bytes:  # noqa: D102
        if is_url(name):
            return _read_row(name, limit)

        def request() -> bytes:
            about = self._files.info(self._path(name))
            if about.get("type", "file") != "file":
                raise TransientImageError(f"cannot be read: {NOT_REGULAR}")
            _require_size(about.get("size") or 0, limit)
            with self._files.open(self._path(name), "rb") as file:
                return read_all(file, limit)

        return self._ask(request)

    def head(self, name: str, size: int) -> bytes:  # noqa: D102
        return self._ask(lambda: bytes(self._files.cat_file(self._path(name), start=0, end=size)))

    def _ask(self, request: Callable[[], bytes]) -> bytes:
        try:
            return ask_again(server_of(self._root), request)
        except self._failures as error:
            raise TransientImageError(f"cannot be read: {why_failed(error)}") from error

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}" if name else self._root


def _failures() -> tuple[type[Exception], ...]:
    """What fsspec raises, and the clients that are loaded by now."""
    return (*client_errors(), *DAMAGED)


def _as_text(name: str, taken: Container[str]) -> str:
    """The name, with what is not UTF-8 escaped: no table could hold it. If a file is called so, all is escaped."""
    raw = os.fsencode(name)
    text = raw.decode("utf-8", "backslashreplace")
    if text == name or text not in taken:
        return text
    return "".join(f"\\x{byte:02x}" for byte in raw)


def _mark_row(url: str) -> tuple[int, int]:
    try:
        return _open_row(url).mark("")
    except BadImageError:
        return UNKNOWN


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
        raise TransientImageError(str(error)) from error


def _require_size(size: int, limit: int | None) -> None:
    if limit is not None and size > limit:
        raise BadImageError(f"{size:,} bytes are more than {limit:,}")


def is_url(location: Location) -> bool:
    """Whether it is fsspec's, and not a path of this machine."""
    return "://" in str(location)


def is_there(path: Path) -> bool:
    """Whether there is such a file or folder. Raises `CaptioningError` when that cannot be found out."""
    try:
        return path.exists()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise CaptioningError(f"cannot look for {path}: {error}. Make its folder readable, and run again") from error


def is_folder(path: Path) -> bool:
    """Whether it is a folder. Raises as `is_there` does."""
    return is_there(path) and path.is_dir()


def parent_of(location: Location) -> Location:
    """Where it lies."""
    return str(location).rpartition("/")[0] if is_url(location) else Path(location).parent


def open_archive(location: Location) -> ImageArchive:
    """The archive at a path or an address. Raises `ConfigurationError` when there is none or it is damaged."""
    if is_url(location):
        url = str(location)
        if url.startswith("file://") and is_folder(place := Path(file_system(url)[1])):
            return FolderArchive(place)
        return ZipArchive(open_file(url)) if url.lower().endswith(".zip") else UrlArchive(url)
    path = Path(location)
    return FolderArchive(path) if path.suffix.lower() != ".zip" or is_folder(path) else ZipArchive(path)


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
