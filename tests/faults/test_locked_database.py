"""A database that another process keeps locked: waited for, and told of when it lasts."""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from components.errors import CaptioningError
from components.registry import tracking

if TYPE_CHECKING:
    from tests.faults.conftest import Home

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")  # its own imports warn
LOCK = """
import sqlite3, sys, time
with sqlite3.connect(sys.argv[1], isolation_level=None) as held:
    held.execute("BEGIN EXCLUSIVE")
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
    held.execute("ROLLBACK")
"""


@contextmanager
def lock(database: Path, seconds: float = 3600) -> Iterator[None]:
    """A process keeps the database to itself, for so long or the block."""
    command = [sys.executable, "-c", LOCK, str(database), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        try:
            yield
        finally:
            process.kill()


def names_of_runs(database: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(database)) as found:
        return found.execute("SELECT name, status FROM runs").fetchall()


def test_a_database_that_is_locked_for_seconds_is_waited_for(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    tracking.connect(f"sqlite:///{database}", tmp_path / "artifacts")
    with lock(database, 7), tracking.tracked_run("waits", {"number": 1}):
        pass
    assert names_of_runs(database) == [("waits", "FINISHED")]


def test_a_database_that_stays_locked_is_told_of(
    long_form: None, trained: "Home", tmp_path: Path, train_command: tuple[str, ...]
) -> None:
    before, database = trained.stages(), trained.path / "mlflow.db"
    began = time.monotonic()
    with lock(database):
        done = trained.run(*train_command)
    done.has_said("locked", "Another process")
    assert time.monotonic() - began < 600
    trained.train()
    assert trained.stages() == before
    assert trained.versions() == [1]


def test_a_message_names_the_database_and_what_to_do(tmp_path: Path, migrated: Path) -> None:
    told = r"mlflow\.db cannot be used: .*locked[\s\S]*Another process"
    with lock(migrated), pytest.raises(CaptioningError, match=told):
        tracking.connect(f"sqlite:///{migrated}", tmp_path / "artifacts")
