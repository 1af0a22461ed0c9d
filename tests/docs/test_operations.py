"""The guide's commands, run as they stand there."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Listener
from pathlib import Path
from threading import Thread

import mlflow
import pytest

from components.registry.tracking import connect
from flows.commands import cli
from tests import commands, toy

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")  # its own imports warn

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", GUIDE, re.M | re.S)
COMMAND = """#!{python}
import os, sys
from multiprocessing.connection import Client
with Client({address!r}) as test:
    test.send((sys.argv[1:], os.getcwd(), dict(os.environ)))
    code, out, errors = test.recv()
sys.stdout.write(out)
sys.stderr.write(errors)
sys.exit(code)
"""
"""Has the test run `captioning`, which can do so faster."""


@pytest.fixture
def place(tmp_path: Path, photograph: Callable[[int], bytes]) -> Path:
    """A folder with `mlruns`, a champion in it, and a photograph."""
    home = tmp_path / "mlruns"
    home.mkdir()
    connect(f"sqlite:///{home / 'mlflow.db'}", home / "artifacts")
    toy.register(tmp_path / "model")
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)
    (tmp_path / "photo.jpg").write_bytes(photograph(1))
    return tmp_path


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Path]:
    """A folder with `captioning`."""

    def answer() -> None:
        with suppress(OSError):  # the test is over
            while True:
                with listener.accept() as client:
                    arguments, folder, environment = client.recv()
                    done = commands.captioning(Path(folder), *arguments, environment=environment)
                    client.send((done.returncode, done.stdout, done.stderr))

    folder = tmp_path / "programs"
    folder.mkdir()
    with Listener() as listener:
        (folder / "captioning").write_text(COMMAND.format(python=sys.executable, address=listener.address))
        (folder / "captioning").chmod(0o755)
        Thread(target=answer, daemon=True).start()
        yield folder


def test_every_block_for_the_shell_works_in_its_order(place: Path, programs: Path) -> None:
    assert len(BLOCKS) == 5
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "CAPTIONING_HOME": str(place / "mlruns")}
    script = "set -ex\n" + "\n".join(BLOCKS)
    done = subprocess.run(
        ["bash", "-c", script], cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "photo.jpg" in done.stdout
    assert " addresses point to this folder now" in done.stdout


def test_every_command_that_is_told_of_exists() -> None:
    known = {(command.name or command.callback.__name__).replace("_", "-") for command in _commands()}
    told = set(re.findall(r"captioning ([a-z][a-z-]+)", GUIDE))
    assert told - known == set()
    assert {"up", "worker", "doctor", "export-model", "import-model", "relocate", "clean"} <= told


def _commands() -> list:
    return [*cli.app.registered_commands, *cli.operations.app.registered_commands]
