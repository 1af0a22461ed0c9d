"""Stages and what they leave behind: content keys, one atomic commit, an integrity check on reuse.

A stage's key is the digest of everything its output depends on. Its output is written into a partial folder that
survives a kill (a stage that can resume finds its finished parts there) and becomes final by one rename.
"""

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import BaseModel, TypeAdapter

from components.errors import CaptioningError, find_remedy
from components.provenance import commit

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
"""Raised when the meaning of stored artefacts changes, so that none of the old ones is reused."""

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Artifact:
    """A finished stage's output: a folder with a manifest. Small; this is what travels between tasks."""

    stage: str
    key: str
    path: Path
    digest: str
    """SHA-256 over the names and contents of the folder's files."""
    rows: int
    parents: tuple[str, ...]
    """Digests of the artefacts this one was made from."""
    seconds: float = 0.0
    """What this run spent on it."""
    reused: bool = False
    """Whether this run found it finished."""
    complete: bool = True
    """Whether later runs may reuse it; see `Incomplete`."""


class Incomplete(int):
    """Rows of a stage some of whose inputs could not be reached: this run goes on with them, the next one tries again.

    The artefact is then kept under a key of its content too, so that no other run finds it or has it replaced under
    its hands. The next attempt finds a copy of its files in its folder, when the stage is resumable.
    """


_ARTIFACT = TypeAdapter(Artifact)


@dataclass(frozen=True)
class Stage:
    """What a stage is made from; decides its key."""

    name: str
    config: BaseModel | Mapping[str, Any] | None = None
    """The slice of the profile that the output depends on."""
    parents: Sequence[Artifact] = ()
    inputs: Sequence[str] = ()
    """Digests of inputs that are not artefacts, such as archives read in place."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Digest of each piece of code and data file that does the work; see `components.provenance.sources_of`."""

    @cached_property
    def key(self) -> str:
        """Digest of all of the above, 64 hex digits."""
        parts = {
            "stage": self.name,
            "schema": SCHEMA_VERSION,
            "config": self.values,
            "parents": [parent.digest for parent in self.parents],
            "inputs": list(self.inputs),
            "sources": dict(self.sources),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def values(self) -> Mapping[str, Any] | None:
        """The config as JSON has it."""
        return self.config.model_dump(mode="json") if isinstance(self.config, BaseModel) else self.config


def run_stage(home: Path, stage: Stage, work: Callable[[Path], int], *, resumable: bool = False) -> Artifact:
    """The stage's artefact: the stored one when it is intact, else what `work` writes.

    `work` gets the partial folder and returns the number of rows it wrote. When `resumable`, the folder may hold
    what an earlier, killed attempt at the same key left. Two processes that want the same artefact take turns.
    Raises `CaptioningError` when the machine is why it cannot be made, such as a full disk.
    """
    started = time.monotonic()
    name = f"{stage.name}-{stage.key[:16]}"
    final, partial = home / "stages" / name, home / "partial" / name
    with exclusive_lock(home / "locks" / f"{name}.lock", f"makes {name}"):
        artifact = find_artifact(final)
        wanted = (stage.key, tuple(parent.digest for parent in stage.parents))
        if artifact is not None and (artifact.key, artifact.parents) != wanted:
            log.warning("%s has a manifest of another key; it is made again", final)
            _discard(final)
        elif artifact is not None:
            os.utime(final / MANIFEST)  # when it was last used
            return replace(artifact, seconds=time.monotonic() - started, reused=True)
        if not resumable or partial.is_symlink() or partial.is_file():
            _discard(partial)
        with _telling_where(stage, partial):
            partial.mkdir(parents=True, exist_ok=True)
            rows = work(partial)
            artifact = _commit(stage, partial, final, rows)
            if resumable and not artifact.complete:
                copy = partial.with_name(f"{partial.name}.tmp")
                _discard(copy)
                shutil.copytree(artifact.path, copy, ignore=shutil.ignore_patterns(MANIFEST))
                copy.rename(partial)
        return replace(artifact, seconds=time.monotonic() - started)


@contextmanager
def exclusive_lock(lock: Path, what: str) -> Iterator[None]:
    """Holds the lock file for the block; waits, and says so, while another process has it, which does `what`."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    file = FileLock(lock)
    try:
        file.acquire(timeout=0)
    except Timeout:
        log.info("waiting for another process, which %s", what)
        file.acquire()
    try:
        yield
    finally:
        file.release()


@contextmanager
def _telling_where(stage: Stage, folder: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if isinstance(error, CaptioningError) or not (remedy := find_remedy(error)):
            raise
        raise CaptioningError(f"stage {stage.name} cannot be finished in {folder}: {error}. {remedy}") from error


def find_artifact(folder: Path) -> Artifact | None:
    """The artefact in `folder` when it is finished and intact, else none; a damaged folder is removed."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        fields = {**manifest["artifact"], "path": folder, "parents": tuple(manifest["artifact"]["parents"])}
        artifact = _ARTIFACT.validate_python(fields)
        if folder.is_symlink() or folder.name != f"{artifact.stage}-{artifact.key[:16]}":
            raise ValueError("its manifest is of another folder")
        if digest_of(file_digests(folder)) != artifact.digest:
            raise ValueError("its files are not those of its manifest")
        return artifact
    except FileNotFoundError:
        pass
    except (ValueError, KeyError, TypeError, RecursionError, IsADirectoryError, NotADirectoryError) as error:
        log.warning("%s is damaged (%s); it is made again", folder, error)
    except OSError as error:
        raise CaptioningError(f"cannot read {folder}: {error}. Make it readable, or delete it") from error
    _discard(folder)
    return None


def _discard(folder: Path) -> None:
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def write_atomic(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`, which becomes `path` when the block ends without an error."""
    temporary = path.with_name(path.name + ".tmp")
    yield temporary
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def _commit(stage: Stage, partial: Path, final: Path, rows: int) -> Artifact:
    for leftover in partial.rglob("*.tmp"):
        leftover.unlink()
    files = file_digests(partial)
    digest, key, complete = digest_of(files), stage.key, not isinstance(rows, Incomplete)
    if not complete:
        key = hashlib.sha256(f"{key} {digest}".encode()).hexdigest()
        final = final.with_name(f"{stage.name}-{key[:16]}")
    artifact = Artifact(
        stage=stage.name,
        key=key,
        path=final,
        digest=digest,
        rows=rows,
        parents=tuple(parent.digest for parent in stage.parents),
        complete=complete,
    )
    if not complete and find_artifact(final):  # an earlier attempt came to the same
        os.utime(final / MANIFEST)
        _discard(partial)
        return artifact
    fields = {k: v for k, v in asdict(artifact).items() if k not in ("path", "seconds", "reused")}
    made_by = {"config": stage.values, "sources": dict(stage.sources), "commit": commit()}
    with write_atomic(partial / MANIFEST) as temporary:
        manifest = {"artifact": fields, "files": files, "made_by": made_by}
        temporary.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    final.parent.mkdir(parents=True, exist_ok=True)
    partial.rename(final)
    return artifact


def file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 by name of every file in a folder but its manifest."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}


def file_digest(path: Path) -> str:
    """SHA-256 of a file's contents, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_bytes(folder: Path) -> int:
    """Size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def digest_of(files: Mapping[str, str]) -> str:
    """One digest of files' names and digests."""
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def made_by(artifact: Artifact) -> dict[str, Any]:
    """What made an artefact, as its manifest records it: `config`, `sources` (digests of code) and `commit`."""
    manifest = json.loads((artifact.path / MANIFEST).read_text(encoding="utf-8"))
    return dict(manifest.get("made_by", {}))
