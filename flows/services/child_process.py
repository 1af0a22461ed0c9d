"""A process that lives as long as the one that started it: a server, a worker. Its output goes to a file in `logs`."""

import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

STOP_SECONDS = 30


@contextmanager
def child_process(
    module: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs `python -m MODULE ARGUMENT…` for the block; then ends it and whatever it started."""
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "flows.services.child_process", *module]
    # Its own session: Ctrl-C must reach the run first, and its servers after it. Its standard input stays open as long
    # as this process lives.
    with (
        log.open("ab") as output,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True, env=environment
        ) as process,
    ):
        try:
            yield process
        finally:
            end_group(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
                _wait_for_group(process.pid)
            end_group(process.pid, signal.SIGKILL)


def _wait_for_group(group: int) -> None:
    """Gives what the process started five seconds to end by itself, and to say so."""
    for _ in range(50):
        try:
            os.killpg(group, 0)
        except (ProcessLookupError, PermissionError):
            return
        time.sleep(0.1)


def end_group(group: int, how: signal.Signals) -> None:
    """Sends the signal to a child process and whatever it started."""
    with suppress(ProcessLookupError, PermissionError):  # all of it has ended
        os.killpg(group, how)


def _end_with_parent() -> None:
    while os.read(0, 1):  # nothing, when the process that started this one is gone, however it went
        pass
    end_group(os.getpgid(0), signal.SIGTERM)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # who starts us in the background may ignore it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    name, *sys.argv[1:] = sys.argv[1:]
    runpy.run_module(name, run_name="__main__", alter_sys=True)
