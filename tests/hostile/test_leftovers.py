"""What lies in the home folder beside stages and models: the note of `captioning up`, and MLflow's database."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import mlflow
import pytest
from filelock import FileLock

from components.errors import CaptioningError
from components.registry.relocation import moved_from
from components.registry.tracking import connect
from components.registry.versions import describe
from flows.services.running import LOCK, RUNNING, Services, find_services
from tests.hostile.fuzzer import damaged
from tests.hostile.watch import try_all

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")  # its own imports warn
HERE = "tests.hostile.test_leftovers"
NOTE = {"prefect": "http://127.0.0.1:4200", "mlflow": "http://127.0.0.1:5000", "logs": "logs"}


def services(content: bytes, home: Path) -> Services | None:
    (home / RUNNING).write_bytes(content)
    with FileLock(home / LOCK):
        return find_services(home)


def attempt_note(key: str, folder: Path) -> None:
    found = services(damaged([json.dumps(NOTE).encode()], int(key)), folder)
    assert found is None or {type(found.prefect), type(found.mlflow), type(found.logs)} == {str}


def test_damaged_notes(inputs: range) -> None:
    assert try_all(f"{HERE}:attempt_note", inputs) == {}


@pytest.mark.parametrize(
    "content", ["", "[", "[" * 100_000, "[1, 2, 3]", '"http"', "{}", '{"prefect": "http://x"}', "\0"]
)
def test_a_note_that_is_none_is_as_if_it_were_not_written_yet(content: str, tmp_path: Path) -> None:
    assert services(content.encode(), tmp_path) is None


def test_a_note_is_read_whatever_else_it_says(tmp_path: Path) -> None:
    assert services(json.dumps(NOTE | {"more": [1]}).encode(), tmp_path) == Services(**NOTE)


def look(database: Path) -> None:
    """What every command does first with the database."""
    try:
        moved_from(database, database.parent / "files")
        connect(f"sqlite:///{database}", database.parent / "files")
        describe("models:/captioner@champion")
    finally:
        mlflow.set_tracking_uri(None)
        mlflow.set_registry_uri(None)


def other(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('of another day')")


DEEDS: dict[str, Callable[[Path, bytes], object]] = {
    "no database": lambda path, _: path.write_bytes(b"no database" * 1000),
    "cut in its middle": lambda path, whole: path.write_bytes(whole[: len(whole) // 2]),
    "without its end": lambda path, whole: path.write_bytes(whole[:-9000]),
    "all zeros but its head": lambda path, whole: path.write_bytes(whole[:4096] + bytes(len(whole) - 4096)),
    "a folder": lambda path, _: path.mkdir(),
    "a link to itself": lambda path, _: path.symlink_to(path),
    "of another program": lambda path, _: other(path),
}


@pytest.mark.parametrize("deed", DEEDS)
def test_a_database_that_is_none_of_mlflow_is_named(deed: str, migrated: Path, tmp_path: Path) -> None:
    DEEDS[deed](tmp_path / "mlflow.db", migrated.read_bytes())
    with pytest.raises(CaptioningError, match=r"mlflow\.db"):
        look(tmp_path / "mlflow.db")


def test_damaged_databases(inputs: range, migrated: Path, tmp_path: Path) -> None:
    for seed in inputs[: len(inputs) // 8]:  # each opens MLflow's store; in a process of its own it would compile code
        database = tmp_path / f"{seed}.db"
        database.write_bytes(damaged([migrated.read_bytes()], seed))
        with suppress(CaptioningError):
            look(database)
