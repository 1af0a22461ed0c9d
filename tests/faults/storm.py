"""The pattern of every test here: work that is killed again and again ends as it would have undisturbed.

`storm` runs some jobs in a calm home, and notes how long each takes and how often it writes. Then it runs them in other
homes, and kills each at a random moment or at a random write, until it ends by itself; and so on until there were
enough kills. After every kill what was there before is there still, and nothing that was started is left; at the
end of the jobs there is what is in the calm home, no more and no less.
"""

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults import victim
from tests.faults.victim import Fate

Look = Callable[[Path], Mapping[str, Any]]
"""What there is in a home. Names that begin with `now` are of what may change; what others name stays as it is."""

SHARES = {
    "download": 32,
    "extraction": 26,
    "cross-entropy": 20,
    "self-critical": 20,
    "package": 12,
    "registration": 26,
    "promotion": 36,
    "train": 14,
    "score": 12,
    "spark": 6,
    "promote": 8,
}
"""How the kills of a campaign are divided among its storms."""
COSTLY = ("package", "train", "score", "spark", "promote")
"""Each kill of these takes ten seconds and more: not in the short form."""
LONG = 100
"""Kills from which on a campaign is the long form."""
CALM = 0.25
"""Chance of a process to end undisturbed: else all kills would come to the first homes' first jobs."""
PATIENCE = 900
"""Seconds after which a process is taken to hang."""
GRACE = 60
"""Seconds after which what a killed process started must have ended."""

told: list[str] = []
"""A line a storm, for the end of the test run."""


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


@dataclass(frozen=True)
class Kill:
    """One that broke something once, to be tried for ever: of a job, by its number, at a write."""

    job: int
    write: int


def kills_of(name: str, total: int) -> int:
    """How many of the campaign's kills are for this storm."""
    if total < LONG and name in COSTLY:
        return 0
    among = sum(SHARES.values()) - (sum(SHARES[costly] for costly in COSTLY) if total < LONG else 0)
    return max(1, round(total * SHARES[name] / among))


def storm(
    name: str,
    jobs: Sequence[Job],
    look: Look,
    kills: int,
    folder: Path,
    prepare: Callable[[Path], None] = Path.mkdir,
    known: Sequence[Kill] = (),
) -> None:
    """Kills the jobs that often, and by every one of the known kills; see above."""
    moments, started = random.Random(name), time.monotonic()
    calm = folder / "calm"
    prepare(calm)
    notes = []
    for job in jobs:
        code, _ = run(job, calm)
        assert code in job.ends, f"{job}: exit code {code}"
        notes.append(json.loads(_journal(calm).read_text(encoding="utf-8")))
        assert notes[-1]["seconds"], f"{job.after!r} is not in the log"
    wanted, killed, homes, waiting = dict(look(calm)), 0, 0, list(known)
    assert wanted
    while killed < kills + len(known):
        homes += 1
        assert homes < 9 + 3 * kills, "the kills come too late"
        home = folder / f"home-{homes}"
        prepare(home)
        sure = waiting.pop() if waiting else None
        for number, (job, note) in enumerate(zip(jobs, notes, strict=True)):
            killed += _end_in_spite(job, home, look, _deaths(sure, number, note, moments, kills + len(known) - killed))
        found = look(home)
        wrong = {what: (found.get(what), wanted.get(what)) for what in found.keys() | wanted.keys()}
        wrong = {what: pair for what, pair in wrong.items() if pair[0] != pair[1]}
        assert not wrong, f"{home}, and as it should be: {wrong}"
        shutil.rmtree(home)
    assert not waiting
    told.append(f"{name}: {killed} kills, {homes} homes, {time.monotonic() - started:.0f} s")


def _deaths(sure: Kill | None, job: int, note: Mapping[str, float], moments: random.Random, left: int):
    """How each process of a job dies, as long as there are kills left: by a write or after some seconds."""
    if sure:
        yield from [(sure.write, None)] * (sure.job == job)
        return
    for _ in range(left):
        if moments.random() < CALM:
            return
        if note["writes"] and moments.random() < 0.5:
            yield moments.randint(1, int(note["writes"])), None
        else:
            yield 0, moments.uniform(0, note["seconds"])


def _end_in_spite(job: Job, home: Path, look: Look, deaths: Any) -> int:
    """Starts the job until it ends by itself. Returns how often it was killed."""
    killed = 0
    while True:
        before = {what: found for what, found in look(home).items() if not what.startswith("now")}
        write, seconds = next(deaths, (0, None))
        code, children = run(job, home, write, seconds)
        _require_gone(children)
        missing = before.items() - look(home).items()
        assert not missing, f"gone or changed after a kill at {write or seconds}: {missing}"
        if code != -signal.SIGKILL:
            assert code in job.ends, f"{job} after a kill: exit code {code}, see {_log(home)}"
            return killed
        killed += 1


def run(job: Job, home: Path, write: int = 0, seconds: float | None = None) -> tuple[int, list[int]]:
    """Runs the job, and kills it. Returns its exit code, -9 for a killed one, and what it had started by then."""
    _journal(home).unlink(missing_ok=True)
    fate = Fate(str(_journal(home)), (str(home),), job.after, write)
    with _log(home).open("ab") as log:
        process: Any
        if callable(job.work):
            context = multiprocessing.get_context("forkserver")
            process = context.Process(target=victim.call, args=(fate, job.work, home, *job.given))
            process.start()
            ended = lambda: process.exitcode  # noqa: E731
        else:
            environment = {**os.environ, "CAPTIONING_HOME": str(home), "PREFECT_HOME": str(home / "prefect")}
            words = [word.replace("HOME", str(home)) for word in job.work]
            command = [sys.executable, "-m", "tests.faults.victim", victim.text_of(fate), *words]
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=Path(__file__).parents[2])
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
        if seconds is None:
            children = _of_home(home)
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


def _require_gone(processes: list[int]) -> None:
    deadline = time.monotonic() + GRACE
    while left := [number for number in processes if Path(f"/proc/{number}").exists()]:
        assert time.monotonic() < deadline, f"left behind by a killed process: {left}"
        time.sleep(0.05)


def _journal(home: Path) -> Path:
    return home.with_name(f"{home.name}.journal")


def _log(home: Path) -> Path:
    return home.with_name(f"{home.name}.log")
