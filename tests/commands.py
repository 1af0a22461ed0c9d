"""`captioning`, as its own process, which is forked from one that has the large libraries."""

import atexit
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

context = multiprocessing.get_context("forkserver")


def captioning(
    home: Path, *arguments: str, environment: Mapping[str, str] | None = None, seconds: int = 400
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end in that home, which is also the current folder.

    Java, whose scores take ten seconds, is not on its PATH unless `environment` has one.
    """
    own = {
        "CAPTIONING_HOME": str(home),
        "PREFECT_HOME": str(home / "prefect"),
        "PATH": str(Path(sys.executable).parent),
    }
    with tempfile.TemporaryDirectory() as folder:
        out, errors = Path(folder) / "out", Path(folder) / "errors"
        given = (arguments, {**os.environ, **own, **(environment or {})}, home, out, errors)
        process = context.Process(target=_command, args=given)
        process.start()
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(arguments, seconds, out.read_text(), errors.read_text())
        return subprocess.CompletedProcess(
            arguments, process.exitcode, out.read_text(encoding="utf-8"), errors.read_text(encoding="utf-8")
        )


def _command(arguments: tuple[str, ...], environment: dict[str, str], folder: Path, out: Path, errors: Path) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, place in ((1, out), (2, errors)):
        os.dup2(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    sys.argv = ["captioning", *arguments]
    from flows.commands.cli import main

    try:
        main()
    finally:
        atexit._run_exitfuncs()  # which `multiprocessing` leaves out
