"""A process that lives as long as another one."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flows.services import child_process as companions
from flows.services.child_process import child_process

MODULE = """
import os, signal, subprocess, sys, time
how = sys.argv[1]
if how == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
if how == "deaf child":
    started = subprocess.Popen([sys.executable, "-c", child])
else:
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("to standard error", sys.argv[1:], os.environ.get("FLAVOUR"), file=sys.stderr, flush=True)
print("started", os.getpid(), started.pid, flush=True)
if how != "brief":
    time.sleep(600)
started.kill()
"""
PARENT = """
import sys, time
from pathlib import Path
from flows.services.child_process import child_process
with child_process(["sleeper", "plain"], Path(sys.argv[1])):
    time.sleep(600)
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """One in which the module `sleeper` starts another process, tells of both and sleeps."""
    (tmp_path / "sleeper.py").write_text(MODULE)
    return {**os.environ, "PYTHONPATH": str(tmp_path)}


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """A log, whose processes are gone after the test whatever happens."""
    path = tmp_path / "logs" / "sleeper.log"
    yield path
    for process in processes(path) if path.exists() and "started" in path.read_text() else ():
        process.kill()


def processes(log: Path) -> list[psutil.Process]:
    """The companion and what it started, as soon as the log tells of them; those of them that are there."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for line in log.read_text().splitlines() if log.exists() else ():
            if line.startswith("started"):
                return [psutil.Process(int(pid)) for pid in line.split()[1:] if psutil.pid_exists(int(pid))]
        time.sleep(0.02)
    raise AssertionError("it never started")


def alive(found: list[psutil.Process], seconds: float = 10) -> list[psutil.Process]:
    """Those that still run after so long."""
    deadline = time.monotonic() + seconds
    while (left := [process for process in found if _runs(process)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)  # nobody may be there to reap an orphan
    except psutil.NoSuchProcess:
        return False


def test_it_runs_for_the_block_and_ends_with_everything_it_started(log: Path, environment: dict[str, str]) -> None:
    with child_process(["sleeper", "plain"], log, environment) as process:
        found = processes(log)
        assert found[0].pid == process.pid
        assert len(alive(found, 0)) == 2
    assert process.returncode is not None
    assert not alive(found)


def test_it_ends_when_the_block_fails(log: Path, environment: dict[str, str]) -> None:
    found: list[psutil.Process] = []
    with pytest.raises(LookupError), child_process(["sleeper", "plain"], log, environment):  # noqa: PT012
        found += processes(log)
        raise LookupError
    assert len(found) == 2
    assert not alive(found)


def test_what_it_started_ends_though_it_ignores_being_asked(log: Path, environment: dict[str, str]) -> None:
    with child_process(["sleeper", "deaf child"], log, environment):
        found = processes(log)
        while "deaf" not in log.read_text().splitlines():
            time.sleep(0.02)
    assert len(found) == 2
    assert not alive(found)


def test_one_that_ignores_being_asked_is_killed(
    log: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(companions, "STOP_SECONDS", 0.5)
    began = time.monotonic()
    with child_process(["sleeper", "stubborn"], log, environment) as process:
        found = processes(log)
    assert process.returncode == -9
    assert not alive(found)
    assert time.monotonic() - began < 20


def test_one_that_has_ended_by_itself_does_no_harm(log: Path, environment: dict[str, str]) -> None:
    with child_process(["sleeper", "brief"], log, environment) as process:
        assert process.wait(30) == 0
    assert process.returncode == 0


def test_its_output_is_added_to_the_log(log: Path, environment: dict[str, str]) -> None:
    log.parent.mkdir()
    log.write_text("of before\n")
    with child_process(["sleeper", "plain", "and more"], log, environment | {"FLAVOUR": "salt"}) as process:
        processes(log)
    before, *lines = log.read_text().splitlines()
    assert before == "of before"
    assert "to standard error ['plain', 'and more'] salt" in lines
    assert any(line.startswith(f"started {process.pid} ") for line in lines)


def test_an_error_of_the_module_is_in_the_log(log: Path) -> None:
    with child_process(["no_such_module"], log) as process:
        assert process.wait(30) == 1
    assert "No module named no_such_module" in log.read_text()


def test_it_ends_when_the_one_that_started_it_is_killed(log: Path, environment: dict[str, str]) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, str(log)], env=environment) as parent:
        found = processes(log)
        assert parent.pid == found[0].ppid()
        assert len(alive(found, 0)) == 2
        parent.kill()
    assert parent.returncode == -9
    assert not alive(found)
