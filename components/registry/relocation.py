"""Artifact addresses after a move: MLflow's SQLite database has them absolute, and they must follow their folder."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from components.errors import CaptioningError
from components.registry.tracking import EXPERIMENT

ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("trace_tags", "value"),  # of a trace, `mlflow.artifactLocation` among them
)
"""Every table and column in which MLflow stores where files are."""

_MODELS = """
    SELECT 'models:/' || name || '/' || version, storage_location FROM model_versions
    WHERE storage_location IS NOT NULL AND current_stage <> 'Deleted_Internal'
    UNION ALL
    SELECT 'logged model ' || name || ' ' || model_id, artifact_location FROM logged_models
    WHERE lifecycle_stage = 'active' AND status = 2
"""
"""What must have files: versions, and models that are ready; not those that MLflow only marks as deleted."""


@dataclass(frozen=True)
class _Address:
    table: str
    column: str
    row: int
    text: str
    path: Path


def moved_from(database: Path, artifacts: Path) -> Path | None:
    """The folder that the addresses point to, when it was moved to `artifacts`; none when they are right.

    They are right where files still are: a copy of the project, too, reads the original's as long as that is there.
    """
    if not database.is_file():
        return None
    with _opened(database) as connection:
        old, new = _stored_root(connection), artifacts.absolute()
        if old is None or old == new:
            return None
        paths = [address.path for address in _addresses(connection, old) if address.path != old]
    lost = any(not path.exists() and _moved(path, old, new).exists() for path in paths)
    return old if lost or not old.exists() else None


def relocate(database: Path, artifacts: Path) -> int:
    """Lets the addresses follow the folder they point to, which is `artifacts` now. Returns how many were rewritten.

    All or none are. The database before is kept beside it, as `NAME.before-TIME`.

    Raises:
        CaptioningError: files of a model that is known are not in `artifacts`; nothing was changed.
    """
    old, new = moved_from(database, artifacts), artifacts.absolute()
    if old is None:
        return 0
    with _opened(database) as connection:
        connection.execute("BEGIN IMMEDIATE")  # nobody writes between what is looked at and what is written
        _require_files(connection, old, new)
        addresses = _addresses(connection, old)
        _back_up(database)
        for address in addresses:
            path = _moved(address.path, old, new)
            text = path.as_uri() if address.text.startswith("file:") else str(path)
            connection.execute(
                f'UPDATE "{address.table}" SET "{address.column}" = ? WHERE rowid = ?', (text, address.row)
            )
        connection.execute("COMMIT")
    return len(addresses)


@contextmanager
def _opened(database: Path) -> Iterator[sqlite3.Connection]:
    """The database; what is not committed when the block ends is undone."""
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True, timeout=30)) as connection:
            connection.isolation_level = None
            yield connection
    except sqlite3.Error as error:
        raise CaptioningError(
            f"cannot use MLflow's database {database}: {error}. End what is using it; if it is damaged, restore it"
        ) from error


def _stored_root(connection: sqlite3.Connection) -> Path | None:
    """Where the project's experiment keeps its files, by the database."""
    found = connection.execute("SELECT artifact_location FROM experiments WHERE name = ?", (EXPERIMENT,)).fetchone()
    return _path_of(found[0]) if found else None


def _addresses(connection: sqlite3.Connection, root: Path) -> list[_Address]:
    """All that lie below `root`, or are it."""
    found = []
    for table, column in ADDRESSES:
        if not connection.execute("SELECT 1 FROM pragma_table_info(?) WHERE name = ?", (table, column)).fetchone():
            continue  # another version of MLflow's schema
        for row, text in connection.execute(f'SELECT rowid, "{column}" FROM "{table}"'):
            path = _path_of(text)
            if path and path.is_relative_to(root):
                found.append(_Address(table, column, row, text, path))
    return found


def _path_of(text: str | None) -> Path | None:
    """The path of a file:// URI or of an absolute path; none for any other address."""
    if text and text.startswith("file:"):
        return Path(unquote(urlsplit(text).path))
    return Path(text) if text and text.startswith("/") else None


def _moved(path: Path, old: Path, new: Path) -> Path:
    return new / path.relative_to(old)


def _require_files(connection: sqlite3.Connection, old: Path, new: Path) -> None:
    expected = {what: _path_of(text) for what, text in connection.execute(_MODELS)}
    there = {what: _moved(path, old, new) for what, path in expected.items() if path and path.is_relative_to(old)}
    missing = [f"{what} ({path})" for what, path in there.items() if not path.is_dir() or not any(path.iterdir())]
    if missing:
        raise CaptioningError(
            f"the addresses point to {old}, but {new} lacks files of {len(missing)} of {len(there)} models: "
            f"{', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}. Put them there (from a backup, or from {old} "
            "if they are still there), or delete those models in MLflow; nothing was changed"
        )


def _back_up(database: Path) -> None:
    copy = database.with_name(f"{database.name}.before-{time.strftime('%Y%m%d-%H%M%S')}")
    # By SQLite, which knows of what lies in files beside the database.
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
