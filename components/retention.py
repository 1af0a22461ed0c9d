"""What can be deleted from the home folder: stages unused for long, what killed runs left, old logs.

Embeddings, downloads and predictions are never among it. A stage that is gone is made again when it is wanted: what a
cleaning costs is time. When a stage was used last its manifest's change time tells: `components.artifacts.run_stage`
sets it.
"""

import logging
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISREG
from typing import Literal

from filelock import FileLock, Timeout

from components.artifacts import MANIFEST

log = logging.getLogger(__name__)

Kind = Literal["stage", "partial", "log", "version", "model", "run"]
"""The first three lie in the home folder, the others in MLflow: see `components.registry.cleanup`."""


@dataclass(frozen=True)
class CleanupCandidate:
    """Something that can be deleted."""

    kind: Kind
    name: str
    where: str
    """A path, or an address of MLflow's: `models:/…`, `runs:/…`."""
    bytes: int
    """What its going would free; files that are linked elsewhere free nothing."""
    used: datetime
    """When anything was last known to use it."""
    why: str


def home_leftovers(home: Path, before: datetime) -> Iterator[CleanupCandidate]:
    """What in the home folder was not used since `before`. What another process works on is not among it."""
    finders: tuple[tuple[Kind, str, str], ...] = (
        ("stage", "stages", "no run used it since"),
        ("partial", "partial", "a run was killed, and none went on since"),
        ("log", "logs", "nothing was logged since"),
    )
    for kind, folder, why in finders:
        if not (home / folder).resolve().is_relative_to(home.resolve()):
            log.warning("%s stays: it is a link out of %s", home / folder, home)
            continue
        for path in sorted((home / folder).glob("*")):
            used = _used(kind, path)
            if used and used < before and not (kind != "log" and _is_locked(home, path.name)):
                yield CleanupCandidate(kind, path.name, str(path), bytes_below(path), used, why)


def free_in_home(leftover: CleanupCandidate) -> int:
    """Frees it, unless somebody used it since it was planned, or uses it now. Returns the bytes freed."""
    path = Path(leftover.where)
    if leftover.kind == "log":
        return _remove(leftover, path)
    try:
        with FileLock(_lock(path.parent.parent, leftover.name), timeout=0):
            return _remove(leftover, path)
    except Timeout:
        log.info("%s stays: a run is at work on it", path)
        return 0


def _remove(leftover: CleanupCandidate, path: Path) -> int:
    used = _used(leftover.kind, path)
    if used is None or used > leftover.used:
        return 0
    freed = bytes_below(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    return freed


def _used(kind: Kind, path: Path) -> datetime | None:
    """When it was last used; none when it is not there any more."""
    manifest = path / MANIFEST
    try:
        if path.is_symlink():
            return datetime.fromtimestamp(path.lstat().st_mtime, UTC)
        if kind == "stage" and manifest.exists():
            return datetime.fromtimestamp(manifest.stat().st_mtime, UTC)
        times = [path.stat().st_mtime, *(found.stat().st_mtime for found in path.rglob("*"))]
    except FileNotFoundError:
        return None
    return datetime.fromtimestamp(max(times), UTC)


def bytes_below(path: Path) -> int:
    """What freeing a file or a folder would free. Links are not followed; other names of a file keep its content."""
    found = 0
    for file in [path, *([] if path.is_symlink() else path.rglob("*"))]:
        with suppress(FileNotFoundError):
            status = file.lstat()
            # A shard of the pool's is linked into stages: without the stage it is still there.
            found += status.st_size if S_ISREG(status.st_mode) and status.st_nlink == 1 else 0
    return found


def _is_locked(home: Path, name: str) -> bool:
    lock = _lock(home, name)
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True


def _lock(home: Path, name: str) -> Path:
    """What `components.artifacts.run_stage` holds while it looks for the stage, or makes it."""
    return home / "locks" / f"{name}.lock"
