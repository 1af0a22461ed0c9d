"""A Prefect or an MLflow server that goes, and comes back, while a training runs."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from flows.services.child_process import child_process

if TYPE_CHECKING:
    from tests.faults.conftest import Ended, Home

AwaitEnd = Callable[[subprocess.Popen], "Ended"]
pytestmark = pytest.mark.usefixtures("long_form")


@contextmanager
def server(command: list[str], health: str, log: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """A server that answers, for the block."""
    with child_process(command, log, environment) as process:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            try:
                if httpx.get(health, timeout=5).is_success:
                    break
            except httpx.HTTPError:
                time.sleep(0.2)
            assert process.poll() is None, log.read_text(encoding="utf-8")
        yield


def until_it_says(process: subprocess.Popen, word: str) -> None:
    assert process.stderr
    while line := process.stderr.readline():
        if word in line:
            return


@pytest.mark.parametrize("seconds", [0, None], ids=["and comes back", "for good"])
@pytest.mark.parametrize("kind", ["PREFECT", "MLFLOW"])
def test_a_server_that_goes(
    calm: "Home",
    home: "Home",
    tmp_path: Path,
    train_command: tuple[str, ...],
    free_ports: dict[str, str],
    await_end: AwaitEnd,
    kind: str,
    seconds: float | None,
) -> None:
    port = free_ports[f"CAPTIONING_{kind}_PORT"]
    address = f"http://127.0.0.1:{port}"
    files = {"PREFECT_HOME": str(tmp_path / "prefect"), "PATH": str(Path(sys.executable).parent)}
    if kind == "PREFECT":
        command, health = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", port], f"{address}/api/health"
        environment = {"PREFECT_API_URL": f"{address}/api"}
    else:
        command = ["mlflow", "server", "--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db", "--port", port]
        command += ["--default-artifact-root", (tmp_path / "artifacts").as_uri(), "--no-serve-artifacts"]
        command, health = [*command, "--workers", "1"], f"{address}/health"
        environment = {"CAPTIONING_TRACKING_URI": address}
    log = tmp_path / "server.log"
    with server(command, health, log, files):
        process = home.start(*train_command, environment=environment)
        until_it_says(process, "check-captions: ")
    if seconds is None:
        done = await_end(process)
        if done.code != 0:
            done.has_said(address, "run again" if kind == "MLFLOW" else "The same command goes on")
    with server(command, health, log, files):
        if seconds is not None:
            done = await_end(process)
            if done.code != 0:
                done.has_said(address)
        home.train(environment)
        tracking = address if kind == "MLFLOW" else ""
        assert home.versions(tracking) == [1]
    assert home.stages() == calm.stages()
