"""What lies below an address of fsspec: listed without hiding what fails, asked for again after a short failure."""

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from hashlib import sha256
from typing import Any, TypeVar

from components.archives.image_archive import NOT_REGULAR, UNKNOWN, Entry, ImageArchive, is_url, require_size
from components.archives.remote import TRANSIENT, file_system
from components.archives.zip_archive import failures
from components.errors import BadImageError, CaptioningError, ConfigurationError, TransientImageError, causes
from components.files import read_all

Result = TypeVar("Result")

PAUSES = (0.5, 1.0)
"""Seconds before a request is made again: after an answer such as 503, or a connection that broke."""
GIVE_UP, LEAVE_ALONE = 20, 30.0
"""Requests in a row that a server did not serve, after which it is asked only once in so many seconds: a list of
100,000 files on a server that is down must not take days."""

ROW_SCHEMES = ("file", "memory", "http", "https", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")
"""Of addresses that a list's rows name: plain stores. Some of fsspec's others start programs."""

_outages: dict[str, tuple[int, float, str]] = {}
"""Of servers that did not serve the last request: how many in a row, when the last was, and what was told of it."""


class UrlArchive(ImageArchive):
    """What lies below an address of fsspec (s3://, gs://, …). The change mark is of the ETag or the date."""

    def __init__(self, url: str) -> None:
        self._files, self._root = file_system(url)
        self._url = url
        self._failures = failures()

    def entries(self) -> list[Entry]:  # noqa: D102
        try:
            return sorted(find_files(self._files, self._root))
        except FileNotFoundError as error:
            raise ConfigurationError(f"cannot list {self._url}: {why_failed(error)}. Correct the address") from error
        except self._failures as error:
            raise CaptioningError(f"cannot list {self._url}: {why_failed(error)}. Run again") from error

    def mark(self, name: str) -> tuple[int, int]:  # noqa: D102
        if is_url(name):
            return mark_row(name)
        try:
            self._files.invalidate_cache(self._path(name))
            return mark_of(ask_again(server_of(self._root), lambda: self._files.info(self._path(name))))
        except self._failures:
            return UNKNOWN

    def read(self, name: str, limit: int | None = None, first: int | None = None) -> bytes:  # noqa: D102
        if is_url(name):
            return open_row(name).read("", limit, first)

        def request() -> bytes:
            path = self._path(name)
            if first is not None:
                return bytes(self._files.cat_file(path, start=0, end=first))
            about = self._files.info(path)
            if about.get("type", "file") != "file":
                raise TransientImageError(f"cannot be read: {NOT_REGULAR}")
            require_size(about.get("size") or 0, limit)
            with self._files.open(path, "rb") as file:
                return read_all(file, limit)

        try:
            return ask_again(server_of(self._root), request)
        except self._failures as error:
            raise TransientImageError(f"cannot be read: {why_failed(error)}") from error

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}" if name else self._root


def mark_row(url: str) -> tuple[int, int]:
    """The mark of what a list's row names by a whole address."""
    try:
        return open_row(url).mark("")
    except BadImageError:
        return UNKNOWN


def open_row(url: str) -> UrlArchive:
    """What a list's row names by a whole address. Raises `BadImageError`: a bad row is no wrong usage."""
    scheme = url.partition("://")[0].lower()
    if scheme not in ROW_SCHEMES:
        raise BadImageError(f"cannot be read: a list's addresses are of {', '.join(ROW_SCHEMES)}")
    try:
        return UrlArchive(url)
    except ConfigurationError as error:
        raise TransientImageError(str(error)) from error


def find_files(files: Any, root: str) -> Iterator[Entry]:
    """Every file below `root` of fsspec's file system `files`; folders that cannot be listed, with their trouble.

    Raises what the client raises when `root` itself cannot be listed.
    """
    from fsspec.asyn import AsyncFileSystem
    from fsspec.spec import AbstractFileSystem

    files.invalidate_cache()
    own, below = type(files), root.rstrip("/") + "/"
    is_async = issubclass(own, AsyncFileSystem)
    walks = own._find is AsyncFileSystem._find if is_async else own.find is AbstractFileSystem.find
    if not walks:  # a store's own, which lists all keys at once, and raises what goes wrong
        found = files.find(root, detail=True).items()
        yield from (_found(name.removeprefix(below), entry) for name, entry in found if _is_file(entry))
        return
    # fsspec's own walk passes over the folders that it cannot list.
    folders, seen = [root], {root.rstrip("/")}
    while folders:
        folder = folders.pop()
        try:
            entries = ask_again(server_of(folder), partial(files.ls, folder, detail=True))
        except Exception as error:  # of any client
            if folder == root:
                raise
            yield Entry(folder.rstrip("/").removeprefix(below) + "/", -1, -1, why_failed(error))
            continue
        for entry in entries:
            name = entry["name"].rstrip("/")
            if _is_file(entry):
                if not name.rpartition("/")[2].startswith(("?", "#")):  # links of an index to itself, otherwise sorted
                    yield _found(name.removeprefix(below), entry)
            elif name not in seen and name.startswith(below):
                seen.add(name)
                folders.append(entry["name"])


def server_of(path: str) -> str:
    """What serves a path of fsspec: a host over HTTP, else the bucket."""
    return "/".join(path.split("/")[: 3 if "://" in path else 1])


def mark_of(entry: Mapping[str, Any]) -> tuple[int, int]:
    """The size, and a number that changes with the ETag or the date."""
    signs = [str(entry[key]) for key in ("ETag", "etag", "md5Hash", "LastModified", "mtime", "created") if key in entry]
    return int(entry.get("size") or 0), int.from_bytes(sha256(" ".join(signs).encode()).digest()[:6])


def ask_again(server: str, request: Callable[[], Result]) -> Result:
    """The request's result; it is made up to three times when the server is busy or hangs up.

    Raises what the client raises, and `OSError` for a server that is left alone (see `GIVE_UP`).
    """
    missed, last, reason = _outages.get(server, (0, 0.0, ""))
    if missed >= GIVE_UP and time.monotonic() - last < LEAVE_ALONE:
        raise OSError(reason)
    pauses = list(PAUSES) if missed < GIVE_UP else []
    while True:
        try:
            result = request()
        except Exception as error:  # of any client
            if pauses and _is_short(error):
                time.sleep(pauses.pop(0))
                continue
            if _is_out(error):
                _outages[server] = missed + 1, time.monotonic(), why_failed(error)
            raise
        _outages.pop(server, None)
        return result


def why_failed(error: BaseException) -> str:
    """What a client raised, in words. fsspec says "not found" of every failure, and keeps the cause behind it."""
    status, behind = _answer(error)
    if status:
        return f"the server answers {status} {getattr(behind, 'message', '')}".rstrip()
    if isinstance(error, FileNotFoundError):
        behind = error.__cause__ or error
        return f"there is no {error}" if isinstance(behind, FileNotFoundError) else str(behind) or type(behind).__name__
    return str(error) or type(error).__name__


def _is_short(error: BaseException) -> bool:
    return _is_busy(error) or _has_cause(error, "Disconnected", "ConnectionReset")


def _is_out(error: BaseException) -> bool:
    return _is_busy(error) or _has_cause(error, "Connect", "Timeout")


def _is_busy(error: BaseException) -> bool:
    status, _ = _answer(error)
    return status >= 500 or status in TRANSIENT


def _has_cause(error: BaseException, *names: str) -> bool:
    """Whether an error, or one that it came from, is called so: the clients' own classes are not all installed."""
    return any(name in type(cause).__name__ for cause in causes(error) for name in names)


def _answer(error: BaseException) -> tuple[int, BaseException]:
    """The HTTP status behind an error, 0 when there is none, and what has it."""
    found = ((cause, getattr(cause, "status", None)) for cause in causes(error))
    return next(((status, cause) for cause, status in found if isinstance(status, int)), (0, error))


def _is_file(entry: Mapping[str, Any]) -> bool:
    return entry.get("type", "file") != "directory" and not entry["name"].endswith("/")


def _found(name: str, entry: Mapping[str, Any]) -> Entry:
    return Entry(name, *(mark_of(entry) if entry.get("size") is not None else (-1, -1)))
