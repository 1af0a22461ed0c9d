"""Every file below a folder, links followed, and what cannot be reached with the reason."""

import os
from collections.abc import Iterator
from heapq import heappop, heappush
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Literal, NamedTuple

NOT_REGULAR = "not a regular file"
"""The problem of pipes, sockets and devices."""


class Entry(NamedTuple):
    """A file that an archive lists."""

    name: str
    """Relative to the archive, parts divided by `/`; a folder that cannot be listed ends with one."""
    bytes: int
    mark: int
    """Changes when the content does; see `components.archives.archive.ImageArchive`."""
    problem: str = ""
    """Why it cannot be reached; empty when it can."""


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
