"""Every file below a folder, links followed, and what cannot be reached with the reason."""

import os
from collections import deque
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Literal, NamedTuple


class Entry(NamedTuple):
    """A file that an archive lists."""

    name: str
    """Relative to the archive, parts divided by `/`; a folder that cannot be listed ends with one."""
    bytes: int
    mark: int
    """Changes when the content does; see `components.dataset.archive.ImageArchive`."""
    problem: str = ""
    """Why it cannot be reached; empty when it can."""


def walk(root: Path) -> list[Entry]:
    """The files below `root`, sorted by name; the mark is the modification time in nanoseconds.

    Every folder is listed once, by its own place where it has one below `root`, so links that lead in circles end.
    What disappears meanwhile is left out. Raises `OSError` when `root` itself cannot be listed.
    """
    found: list[Entry] = []
    seen: set[tuple[int, int]] = set()
    folders, links = deque([(root, "")]), deque[tuple[Path, str]]()
    while folders or links:
        path, name = folders.popleft() if folders else links.popleft()
        try:
            inside = _list_once(path, seen)
        except OSError as error:
            if not name:
                raise
            if not isinstance(error, FileNotFoundError):
                found.append(Entry(f"{name}/", -1, -1, _reason(error)))
            continue
        for each in inside:
            whole = f"{name}/{each.name}" if name else each.name
            entry = _look_at(each, whole)
            if entry:
                found.append(entry)
            elif entry is None:
                (links if each.is_symlink() else folders).append((Path(each.path), whole))
    return sorted(found)


def _list_once(path: Path, seen: set[tuple[int, int]]) -> list[os.DirEntry[str]]:
    """What is in a folder; nothing when it was listed before."""
    status = path.stat()
    if (status.st_dev, status.st_ino) in seen:
        return []
    seen.add((status.st_dev, status.st_ino))
    with os.scandir(path) as entries:
        return list(entries)


def _look_at(each: os.DirEntry[str], name: str) -> Entry | Literal[False] | None:
    """The file; none for a folder, false for what has disappeared."""
    try:
        status = each.stat()
    except OSError as error:
        gone = isinstance(error, FileNotFoundError) and not each.is_symlink()
        return False if gone else Entry(name, -1, -1, _reason(error))
    if S_ISDIR(status.st_mode):
        return None
    if S_ISREG(status.st_mode):
        return Entry(name, status.st_size, status.st_mtime_ns)
    return Entry(name, -1, -1, "not a regular file")


def _reason(error: OSError) -> str:
    path = Path(error.filename)
    return f"{error.strerror}{f' (a link to {path.readlink()})' if path.is_symlink() else ''}"
