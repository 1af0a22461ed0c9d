"""Images in a folder: every file below it, links followed, and what cannot be reached with the reason."""

import os
from collections.abc import Container, Iterator
from heapq import heappop, heappush
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Literal

from components.archives.image_archive import NOT_REGULAR, UNKNOWN, Entry, ImageArchive, is_url, require_size
from components.archives.url_archive import mark_row, open_row
from components.archives.zip_archive import ESCAPED
from components.errors import CaptioningError, TransientImageError
from components.files import read_all, require_file


class FolderArchive(ImageArchive):
    """A folder and what is below it. The change mark is the modification time in nanoseconds."""

    def __init__(self, path: Path) -> None:
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
            raw = ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), name.encode())
            return self._path / os.fsdecode(raw)
        return path

    def mark(self, name: str) -> tuple[int, int]:  # noqa: D102
        if is_url(name):
            return mark_row(name)
        try:
            status = self._place(name).stat()
        except (OSError, ValueError):
            return UNKNOWN
        return (status.st_size, status.st_mtime_ns) if S_ISREG(status.st_mode) else UNKNOWN

    def read(self, name: str, limit: int | None = None, first: int | None = None) -> bytes:  # noqa: D102
        if is_url(name):
            return open_row(name).read("", limit, first)
        try:
            path = self._place(name)
            require_size(require_file(path), limit)
            with path.open("rb") as file:
                return read_all(file, limit) if first is None else file.read(first)
        except (OSError, ValueError) as error:  # ValueError: a name with a null byte
            raise TransientImageError(f"cannot be read: {error}") from error


def _as_text(name: str, taken: Container[str]) -> str:
    """The name, with what is not UTF-8 escaped: no table could hold it. If a file is called so, all is escaped."""
    raw = os.fsencode(name)
    text = raw.decode("utf-8", "backslashreplace")
    if text == name or text not in taken:
        return text
    return "".join(f"\\x{byte:02x}" for byte in raw)


def walk(root: Path) -> list[Entry]:
    """The files below `root`, sorted by name; the mark is the modification time in nanoseconds.

    Every folder is listed once, so links that lead in circles end: by its own place below `root` where it has one,
    else by the link whose name sorts first. A link to a folder around `root` is not followed. What disappears meanwhile
    is left out. Raises `OSError` when `root` itself cannot be listed.
    """
    found: list[Entry] = []
    seen: set[tuple[int, int]] = set()
    folders, links = [""], list[str]()
    while folders or links:
        name = folders.pop() if folders else heappop(links)
        try:
            for each in _list_once(root / name, seen):
                whole = f"{name}/{each.name}" if name else each.name
                entry = _look_at(each, whole)
                if entry:
                    found.append(entry)
                elif entry is None and each.is_symlink():
                    if not root.resolve().is_relative_to(Path(each.path).resolve()):  # a folder around this one
                        heappush(links, whole)
                elif entry is None:
                    folders.append(whole)
        except OSError as error:
            if not name:
                raise
            if not isinstance(error, FileNotFoundError):
                found.append(Entry(f"{name}/", -1, -1, _reason(error, root / name)))
    return sorted(found)


def _list_once(path: Path, seen: set[tuple[int, int]]) -> Iterator[os.DirEntry[str]]:
    """What is in a folder; nothing when it was listed before."""
    status = path.stat()
    identity = status.st_dev, status.st_ino
    if identity in seen:
        return
    if status.st_ino:  # 0 where the file system has no such numbers: there, too long a path ends a circle
        seen.add(identity)
    with os.scandir(path) as entries:
        yield from entries


def _look_at(each: os.DirEntry[str], name: str) -> Entry | Literal[False] | None:
    """The file; none for a folder, false for what has disappeared."""
    try:
        status = each.stat()
    except OSError as error:
        gone = isinstance(error, FileNotFoundError) and not os.path.lexists(each.path)
        return False if gone else Entry(name, -1, -1, _reason(error, Path(each.path)))
    if S_ISDIR(status.st_mode):
        return None
    if S_ISREG(status.st_mode):
        return Entry(name, status.st_size, status.st_mtime_ns)
    return Entry(name, -1, -1, NOT_REGULAR)


def _reason(error: OSError, path: Path) -> str:
    try:
        return f"{error.strerror} (a link to {path.readlink()})"
    except OSError:
        return str(error.strerror)
