"""A home that was copied or moved: MLflow has its artifact addresses absolute, so they still point to the first home.

The address of the project's experiment says where a home was made. Unless its folder is the home itself, everything
that MLflow reads, writes and deletes lies in the other one; `relocate` points the copy to its own files.
"""

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from components.errors import CaptioningError, ConfigurationError, find_remedy
from components.registry.addresses import DATABASE, EXPERIMENT, local_path

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

_SCHEDULED = {"deployment": "TRUE", "flow_run": "state_type IN ('SCHEDULED', 'PENDING', 'PAUSED')"}
"""Prefect's tables, and their rows that lead to work. The parameters name the inbox and the predictions of a home."""


def moved_from(database: Path, artifacts: Path) -> Path | None:
    """The folder that the addresses point to, when it is not in the home of `artifacts`; else none.

    A home that is mounted or linked at a second path is the same home.
    """
    if not database.is_file():
        return None
    with _opened(database) as connection:
        old = _stored_root(connection)
    return None if old is None or (old.name != ".." and _same(old.parent, artifacts.parent)) else old


def describe_move(old: Path, artifacts: Path) -> str:
    """What happened to the home of `artifacts`, whose addresses point to `old`."""
    home, origin = artifacts.parent.absolute(), old.parent
    with suppress(PermissionError):  # that home may be somebody else's
        if (origin / DATABASE).exists():
            return f"{home} is a copy of {origin}: its database still points to the models and runs there"
    return f"{home} was made in {origin}: its database still points to models and runs there"


def require_own_files(database: Path, artifacts: Path) -> None:
    """Raises `ConfigurationError` when the addresses point to another home: everything would happen there."""
    old = moved_from(database, artifacts)
    if old:
        raise ConfigurationError(
            f"{describe_move(old, artifacts)}. Run `captioning relocate`, and it uses its own. Nothing was changed"
        )


def require_database(path: Path) -> None:
    """Raises `CaptioningError` when MLflow's database is not there: to ask for it, MLflow would make an empty one."""
    if not path.exists():
        raise CaptioningError(
            f"there is no MLflow database {path}: nothing was trained there yet. Run `captioning train`, or set "
            "CAPTIONING_HOME to the home that has your models"
        )


def relocate(database: Path, artifacts: Path) -> int:
    """Points the addresses of a home that was copied or moved to its own `artifacts`. Returns how many were rewritten.

    All or none are. The database before is kept beside it, as `NAME.before-TIME`. Prefect's deployments, and its runs
    that have not started, follow, too.

    Raises:
        CaptioningError: files of a known model are not in `artifacts`, or the copy shares files with the other home;
            nothing was changed.
    """
    old, new = moved_from(database, artifacts), artifacts.absolute()
    if old is None:
        return 0
    _require_separate(database, old.parent)
    old = Path(os.path.normpath(old))
    with _opened(database) as connection:
        connection.execute("BEGIN IMMEDIATE")  # nobody writes between what is looked at and what is written
        _require_files(connection, old, new)
        _back_up(database)
        rewritten = _rewrite(connection, old, new)
        _relocate_schedules(new.parent / "prefect" / "prefect.db", old.parent, new.parent)
        connection.execute("COMMIT")
    return rewritten


@contextmanager
def _opened(database: Path, owner: str = "MLflow") -> Iterator[sqlite3.Connection]:
    """The database; what is not committed when the block ends is undone."""
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True, timeout=30)) as connection:
            connection.isolation_level = None
            yield connection
    except sqlite3.Error as error:
        raise CaptioningError(
            f"cannot use {owner}'s database {database}: {error}. "
            + (find_remedy(error) or "End what is using it; if it is damaged, restore it")
        ) from error


def _stored_root(connection: sqlite3.Connection) -> Path | None:
    """Where the project's experiment keeps its files, by the database."""
    if not _has_column(connection, "experiments", "artifact_location"):
        return None  # MLflow has not made its tables yet
    found = connection.execute("SELECT artifact_location FROM experiments WHERE name = ?", (EXPERIMENT,)).fetchone()
    return local_path(found[0]) if found else None


def _has_column(connection: sqlite3.Connection, table: str, column: str) -> bool:
    found = connection.execute("SELECT 1 FROM pragma_table_info(?) WHERE name = ?", (table, column))
    return found.fetchone() is not None


def _rewrite(connection: sqlite3.Connection, old: Path, new: Path) -> int:
    """Points all addresses below `old`, or of it, to `new`. Returns how many there were."""
    rewritten = 0
    for table, column in ADDRESSES:
        if not _has_column(connection, table, column):
            continue  # another version of MLflow's schema
        for row, text in connection.execute(f'SELECT rowid, "{column}" FROM "{table}"').fetchall():
            path = _normal_path(text)
            if path and path.is_relative_to(old):
                moved = _moved(path, old, new)
                address = moved.as_uri() if text.startswith("file:") else str(moved).replace("%", "%25")
                connection.execute(f'UPDATE "{table}" SET "{column}" = ? WHERE rowid = ?', (address, row))
                rewritten += 1
    return rewritten


def _normal_path(text: str | None) -> Path | None:
    """The path of an address without `..`, by which addresses are compared: one folder is written in several ways."""
    path = local_path(text)
    return path and Path(os.path.normpath(path))


def _moved(path: Path, old: Path, new: Path) -> Path:
    return new / path.relative_to(old)


def _same(one: Path, other: Path) -> bool:
    """Whether both paths lead to one file or folder; links and mounts are followed."""
    with suppress(OSError):
        return one.samefile(other)
    return False


def _require_separate(database: Path, origin: Path) -> None:
    """Raises when the copy has anything in common with the other home: a change in one would be a change in both."""
    shared = [path for path in sorted(database.parent.iterdir()) if _same(path, origin / path.name)]
    if not shared and database.stat().st_nlink > 1:  # with a file that is nobody knows where
        shared = [database]
    if shared:
        raise CaptioningError(
            f"a link makes {', '.join(map(str, shared))} part of another home, too: what changes in one changes in the "
            "other. Make a full copy (`cp -aL`, no hard links) and relocate that; nothing was changed"
        )


def _require_files(connection: sqlite3.Connection, old: Path, new: Path) -> None:
    expected = {what: _normal_path(text) for what, text in connection.execute(_MODELS)}
    there = {what: path for what, path in expected.items() if path and path.is_relative_to(old)}
    missing = [f"{what} ({path})" for what, path in there.items() if not _has_own_files(path, _moved(path, old, new))]
    if missing:
        raise CaptioningError(
            f"the addresses point to {old}, but {new} lacks files of {len(missing)} of {len(there)} models: "
            f"{', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}. Put them there (from a backup, or from {old} "
            "if they are still there), or delete those models in MLflow; nothing was changed"
        )


def _has_own_files(old: Path, new: Path) -> bool:
    return new.is_dir() and any(new.iterdir()) and not _same(old, new)


def _back_up(database: Path) -> None:
    copy = database.with_name(f"{database.name}.before-{time.strftime('%Y%m%d-%H%M%S')}")
    # By SQLite, which knows of what lies in files beside the database.
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def _relocate_schedules(database: Path, old: Path, new: Path) -> None:
    """A nightly run that is late starts as soon as a worker does: with the inbox and predictions of the other home."""

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: moved(part) for key, part in value.items()}
        if isinstance(value, list):
            return [moved(part) for part in value]
        if isinstance(value, str) and Path(value).is_relative_to(old):
            return str(_moved(Path(value), old, new))
        return value

    if not database.is_file():
        return
    with _opened(database, "Prefect") as connection:
        connection.execute("BEGIN IMMEDIATE")
        for table, chosen in _SCHEDULED.items():
            if not _has_column(connection, table, "parameters"):
                continue  # another version of Prefect's schema
            rows = connection.execute(f"SELECT rowid, parameters FROM {table} WHERE {chosen}").fetchall()
            for row, parameters in rows:
                text = json.dumps(moved(json.loads(parameters)))
                connection.execute(f"UPDATE {table} SET parameters = ? WHERE rowid = ?", (text, row))
        connection.execute("COMMIT")
