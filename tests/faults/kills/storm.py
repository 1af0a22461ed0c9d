"""The pattern of every test here: work that is killed again and again ends as it would have undisturbed.

`storm` runs some jobs in a calm home, and notes how long each takes and how often it writes. Then it runs them in other
homes, and kills each at a random moment or at a random write, until it ends by itself; and so on until there were
enough kills. After every kill what was there before is there still, and nothing that was started is left; at the
end of the jobs there is what is in the calm home, no more and no less.
"""

import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.faults.kills.campaign import FAILED, Kill
from tests.faults.kills.processes import Job, log_of, note_of, require_gone, run

Look = Callable[[Path], Mapping[str, Any]]
"""What there is in a home. Names that begin with `now` are of what may change; what others name stays as it is."""

Deaths = Iterator[tuple[int, float | None]]
"""The write at which a process dies (0: at none), or after how many seconds."""

CALM = 0.25
"""Chance of a process to end undisturbed: else all kills would come to the first homes' first jobs."""

told: list[str] = []
"""A line a storm, for the end of the test run."""


def storm(
    name: str,
    jobs: Sequence[Job],
    look: Look,
    kills: int,
    folder: Path,
    prepare: Callable[[Path], None] = Path.mkdir,
) -> None:
    """Kills the jobs that often, and by every kill of that storm that failed once; see above."""
    moments, started, known = random.Random(name), time.monotonic(), FAILED.get(name, ())
    calm = folder / "calm"
    prepare(calm)
    notes = []
    for job in jobs:
        code, _ = run(job, calm)
        assert code in job.ends, f"{job}: exit code {code}"
        notes.append(note_of(calm))
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


def _deaths(sure: Kill | None, job: int, note: Mapping[str, float], moments: random.Random, left: int) -> Deaths:
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


def _end_in_spite(job: Job, home: Path, look: Look, deaths: Deaths) -> int:
    """Starts the job until it ends by itself. Returns how often it was killed."""
    killed = 0
    while True:
        before = {what: found for what, found in look(home).items() if not what.startswith("now")}
        write, seconds = next(deaths, (0, None))
        code, children = run(job, home, write, seconds)
        require_gone(children)
        missing = before.items() - look(home).items()
        assert not missing, f"gone or changed after a kill at {write or seconds}: {missing}"
        if code != -signal.SIGKILL:
            assert code in job.ends, f"{job} after a kill: exit code {code}, see {log_of(home)}"
            return killed
        killed += 1
