"""Clocks that jump and time zones that change: what is reused, what may go, and what time a row says."""

import os
import time
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from components.artifacts import Stage, run_stage
from components.retention import free_in_home, home_leftovers
from components.scoring.inputs import fingerprint, list_images

if TYPE_CHECKING:
    from tests.faults.conftest import Home

ZONES = ("Pacific/Kiritimati", "America/Adak", "Europe/Berlin", "UTC")
"""From 14 hours before UTC to 10 behind it."""
JUMP = """
import os, time
now, by = time.time, float(os.environ.get("CLOCK_JUMP", "0"))
time.time = lambda: now() + by
time.time_ns = lambda: int(time.time() * 1e9)
"""


@pytest.fixture
def set_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    def change(zone: str) -> None:
        monkeypatch.setenv("TZ", zone)
        time.tzset()

    yield change
    monkeypatch.undo()
    time.tzset()


def make(home: Path, name: str = "numbers") -> bool:
    """Whether the stage had to be made."""

    def work(folder: Path) -> int:
        (folder / "numbers").write_text("1 2 3", encoding="utf-8")
        return 3

    return not run_stage(home, Stage(name), work).reused


def test_a_folder_and_a_zip_are_the_same_in_every_time_zone(
    tmp_path: Path, photograph: Callable[[int], bytes], set_zone: Callable[[str], None]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "1.jpg").write_bytes(photograph(1))
    os.utime(folder / "1.jpg", (1792888200, 1792888200))  # in an hour that Berlin has twice
    with zipfile.ZipFile(tmp_path / "folder.zip", "w") as archive:
        archive.write(folder / "1.jpg", "1.jpg")
    found = set()
    for zone in ZONES:
        set_zone(zone)
        found.add(tuple(fingerprint(list_images(path)) for path in (folder, tmp_path / "folder.zip")))
    assert len(found) == 1


@pytest.mark.parametrize("days", [-10_000, 0, 10_000])
def test_a_stage_is_reused_whatever_the_time_of_its_files(
    tmp_path: Path, days: int, set_zone: Callable[[str], None]
) -> None:
    assert make(tmp_path)
    then = time.time() + days * 86400
    for path in tmp_path.rglob("*"):
        os.utime(path, (then, then))
    for zone in ZONES:
        set_zone(zone)
        assert not make(tmp_path)


def test_what_may_go_is_told_by_the_hour_also_when_an_hour_comes_twice(
    tmp_path: Path, set_zone: Callable[[str], None]
) -> None:
    (tmp_path / "logs").mkdir()
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)  # half past two in Berlin, as an hour later
    for number in (0, 1):
        path, then = tmp_path / "logs" / f"{number}.log", (first + timedelta(hours=number)).timestamp()
        path.write_text("a line", encoding="utf-8")
        os.utime(path, (then, then))
    for zone in ZONES:
        set_zone(zone)
        assert [left.name for left in home_leftovers(tmp_path, first + timedelta(minutes=30))] == ["0.log"]


def test_after_a_jump_back_nothing_goes_that_is_younger_than_now(tmp_path: Path) -> None:
    make(tmp_path, "of-tomorrow")
    make(tmp_path, "of-last-year")
    now = datetime.now(UTC)
    for name, days in (("of-tomorrow", 1), ("of-last-year", -365)):
        (manifest,) = tmp_path.glob(f"stages/{name}-*/manifest.json")
        then = (now + timedelta(days=days)).timestamp()
        os.utime(manifest, (then, then))
    plan = list(home_leftovers(tmp_path, now))
    assert [left.name.rpartition("-")[0] for left in plan] == ["of-last-year"]
    make(tmp_path, "of-last-year")  # somebody uses it after it was planned
    assert [free_in_home(left) for left in plan] == [0]


def test_runs_on_other_clocks_reuse_everything_and_rows_tell_the_true_time(
    long_form: None, trained: "Home", tmp_path: Path, train_command: tuple[str, ...]
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(JUMP, encoding="utf-8")
    before, began = trained.stages(), datetime.now(UTC)
    images = str(next(trained.path.glob("downloads/scenes+*")) / "dev.zip")
    clocks = [
        {"TZ": zone, "CLOCK_JUMP": str(jump), "PYTHONPATH": str(tmp_path / "site")}
        for zone, jump in (("Pacific/Kiritimati", 0), ("America/Adak", -5 * 86400), ("Europe/Berlin", 3600))
    ]
    for environment in clocks:
        done = trained.run(*train_command, environment=environment)
        assert done.code == 0, done.told
        assert done.told.count(" rows, reused") == len(before) + 1, done.told
    assert trained.stages() == before
    assert trained.versions() == [1]
    for environment in clocks:
        scored = trained.run("score", "--images", images, "--out", str(tmp_path / "out"), environment=environment)
        assert scored.code == 0, scored.told
    rows = pd.read_parquet(tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 1
    assert len(rows) == rows["uri"].nunique() == 12
    assert rows["scored_at"].between(began, datetime.now(UTC)).all()
