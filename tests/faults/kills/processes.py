"""Processes that are killed, and what they leave running."""

import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.kills import victim
from tests.faults.kills.victim import Fate

ROOT = Path(__file__).parents[3]
PATIENCE = 3600
"""Seconds after which a process is taken to hang."""
GRACE = 60
"""Seconds after which what a killed process started must have ended."""


@dataclass(frozen=True)
class Job:
    """What is to be killed: `captioning` with its arguments, or a function of the home in a process of its own.

    HOME in an argument is the home.
    """

    work: tuple[str, ...] | Callable[..., None]
    given: tuple[Any, ...] = ()
    """The function's other arguments."""
    after: str = ""
    """Kills come from this line of the log on, a regular expression."""
    ends: tuple[int, ...] = (0,)
    """Exit codes of a process that did all it had to."""


def run(job: Job, home: Path, write: int = 0, seconds: float | None = None) -> tuple[int, list[int]]:
    """Runs the job, and kills it. Returns its exit code, -9 for a killed one, and what it had started by then."""
    _journal(home).unlink(missing_ok=True)
    fate = Fate(str(_journal(home)), (str(home),), job.after, write)
    with log_of(home).open("ab") as log:
        process: Any
        if callable(job.work):
            context = multiprocessing.get_context("forkserver")
            process = context.Process(target=victim.call, args=(fate, job.work, home, *job.given))
            process.start()
            ended = lambda: process.exitcode  # noqa: E731
        else:
            environment = {**os.environ, "CAPTIONING_HOME": str(home), "PREFECT_HOME": str(home / "prefect")}
            words = [word.replace("HOME", str(home)) for word in job.work]
            command = [sys.executable, "-m", "tests.faults.kills.victim", victim.text_of(fate), *words]
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=ROOT)
            ended = process.poll
        deadline = time.monotonic() + PATIENCE
        if seconds is not None:
            while ended() is None and not _journal(home).exists() and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(seconds)
            children = _of_home(home)
            process.kill()
        while ended() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        code = ended()
        process.kill()
        process.wait() if isinstance(process, subprocess.Popen) else process.join()
        if seconds is None:
            children = _of_home(home)  # of one that killed itself: what outlives it
    assert code is not None, f"{job} hangs"
    return code, children


def _of_home(home: Path) -> list[int]:
    """The processes of commands in that home, whoever started them."""
    mark, found = f"CAPTIONING_HOME={home}\0".encode(), []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in environment.read_bytes():
                found.append(int(environment.parent.name))
        except OSError:
            continue  # it has ended, or is another's
    return found


def require_gone(processes: list[int]) -> None:
    """Gives these processes a minute to end by themselves."""
    deadline = time.monotonic() + GRACE
    while left := [number for number in processes if Path(f"/proc/{number}").exists()]:
        assert time.monotonic() < deadline, f"left behind by a killed process: {left}"
        time.sleep(0.05)


def _journal(home: Path) -> Path:
    return home.with_name(f"{home.name}.journal")


def note_of(home: Path) -> dict[str, float]:
    """What a process that ended by itself did since its line: `writes` and `seconds`."""
    note: dict[str, float] = json.loads(_journal(home).read_text(encoding="utf-8"))
    return note


def log_of(home: Path) -> Path:
    """Where commands in that home write."""
    return home.with_name(f"{home.name}.log")
