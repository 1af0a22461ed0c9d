"""A calm run to compare with, the command in a process of its own, a small disk: what the tests of faults share."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from components.artifacts import file_digest
from tests import toy

TRAIN = ("train", *toy.demo())
ROOT = Path(__file__).parents[2]
SECONDS = 900
"""That a command may take, on a machine that is busy with others."""


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    told: str
    """Standard error."""
    result: str
    """Standard output."""

    def has_said(self, *words: str, code: int = 1) -> None:
        """Checks that it failed with a message that has the words, and no traceback."""
        assert self.code == code, self.told
        assert "Traceback" not in self.told
        told = self.told[self.told.index("error: ") :]
        assert all(word in told for word in words), told


@dataclass(frozen=True)
class Home:
    """A home folder, and the command at work in it."""

    path: Path

    def start(self, *arguments: str, environment: Mapping[str, str] | None = None, **how: object) -> subprocess.Popen:
        """Starts the command, without Java, whose scores take ten seconds."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
        without_java = {"PATH": str(Path(sys.executable).parent)}
        own = without_java | {"CAPTIONING_HOME": str(self.path), **(environment or {})}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        command = [sys.executable, "-m", "flows.commands.cli", *arguments]
        return subprocess.Popen(command, env=inherited | own, cwd=ROOT, start_new_session=True, **pipes, **how)

    def run(self, *arguments: str, environment: Mapping[str, str] | None = None, **how: object) -> Ended:
        """Runs the command to its end."""
        return ended(self.start(*arguments, environment=environment, **how))

    def train(self, environment: Mapping[str, str] | None = None) -> None:
        """Trains to the end, which must be good."""
        done = self.run(*TRAIN, environment=environment)
        assert done.code == 0, done.told

    def stages(self) -> dict[str, str]:
        """Digests of the finished stages, by name; each there once.

        Not of the package, whose files TensorFlow writes anew every time, and of the page of its evaluation; of that,
        the predictions.
        """
        found = sorted(path for path in self.path.glob("stages/*") if (path / "manifest.json").exists())
        names = [path.name.rpartition("-")[0] for path in found]
        assert len(names) == len(set(names)), names
        digests = {
            name: json.loads((path / "manifest.json").read_text(encoding="utf-8"))["artifact"]["digest"]
            for name, path in zip(names, found, strict=True)
        }
        (evaluation,) = self.path.glob("stages/evaluation-*/predictions.parquet")
        assert digests.pop("package")
        return digests | {"evaluation": file_digest(evaluation)}

    def versions(self, tracking: str = "") -> list[int]:
        """Of the registered model."""
        import mlflow

        client = mlflow.MlflowClient(*[tracking or f"sqlite:///{self.path}/mlflow.db"] * 2)
        return sorted(int(found.version) for found in client.search_model_versions("name = 'captioner'"))


def ended(process: subprocess.Popen) -> Ended:
    """What a started command comes to."""
    result, told = process.communicate(timeout=SECONDS)
    return Ended(process.returncode, told, result)


@pytest.fixture
def await_end() -> Callable[[subprocess.Popen], Ended]:
    """Waits for a started command."""
    return ended


@pytest.fixture
def train_command() -> tuple[str, ...]:
    """Of a training that takes seconds."""
    return TRAIN


@pytest.fixture(scope="session")
def long_form(pytestconfig: pytest.Config) -> None:
    """Skips the test in `make test`."""
    if pytestconfig.getoption("kills") < 10:
        pytest.skip("takes a minute or more: make faults")


@pytest.fixture(scope="session")
def calm(long_form: None, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Where an undisturbed training has been."""
    home = Home(tmp_path_factory.mktemp("calm"))
    home.train()
    return home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home folder where nothing has been yet."""
    return Home(tmp_path / "home")


@pytest.fixture
def trained(calm: Home, home: Home) -> Home:
    """A home folder like that of the undisturbed training, whose model lies there."""
    shutil.copytree(calm.path, home.path)
    return home


@pytest.fixture
def left_behind() -> Callable[[Home], list[str]]:
    """Commands of processes that still work for a home folder, after some seconds in which they may end."""

    def find(home: Home) -> list[str]:
        for _ in range(60):
            found = [p.info["cmdline"] for p in psutil.process_iter(["cmdline", "environ"]) if _is_of(p, home)]
            if not found:
                break
            time.sleep(0.5)
        return [" ".join(command or []) for command in found]

    return find


def _is_of(process: psutil.Process, home: Home) -> bool:
    environment = process.info["environ"] or {}
    return environment.get("CAPTIONING_HOME") == str(home.path) and process.status() != psutil.STATUS_ZOMBIE


@dataclass(frozen=True)
class Disk:
    """A small file system of its own."""

    path: Path

    def remount(self, options: str) -> None:
        """Changes its size, or whether it can be written."""
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.path)], check=True)

    def fill(self, left: int) -> None:
        """Leaves so many bytes free."""
        (self.path / "ballast").write_bytes(bytes(shutil.disk_usage(self.path).free - left))

    def empty(self) -> None:
        """Takes out what `fill` has put in."""
        (self.path / "ballast").unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"a small disk needs the right to mount: {done.stderr.strip()}")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def interrupt() -> Callable[[subprocess.Popen, signal.Signals], None]:
    """Sends a signal as a terminal does: to the command and all that shares its group."""

    def send(process: subprocess.Popen, number: signal.Signals) -> None:
        os.killpg(process.pid, number)

    return send


@pytest.fixture
def free_ports() -> dict[str, str]:
    """The settings of servers, with ports that nobody has."""
    with socket.socket() as first, socket.socket() as second:
        for probe in (first, second):
            probe.bind(("127.0.0.1", 0))
        prefect, mlflow = (str(probe.getsockname()[1]) for probe in (first, second))
    return {"CAPTIONING_PREFECT_PORT": prefect, "CAPTIONING_MLFLOW_PORT": mlflow}
