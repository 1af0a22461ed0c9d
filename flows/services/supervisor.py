"""The whole line on this machine: a Prefect server, an MLflow server and a worker, on loopback, until Ctrl-C."""

import json
import logging
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import httpx
from filelock import FileLock, Timeout

from components.errors import CaptioningError
from components.registry.relocation import require_own_files
from flows.errors import end_at_sigterm
from flows.services import worker
from flows.services.child_process import child_process, end_group
from flows.services.prefect_server import START_SECONDS, server_command
from flows.services.running import LOCK, RUNNING, Services
from flows.settings import Settings

log = logging.getLogger(__name__)

PREFECT = {
    # The places that runs hold survive a restart of the server; that of a run that never began is free after a minute.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION": "60",
}
MLFLOW = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # nobody needs them, and they are eight processes
SHORT_SECONDS = 10.0
"""What ends so soon after its start would end again."""


class Supervisor:
    """The processes that run, by name, in the order of their start; they end in the reverse."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self._ends = ExitStack()
        self._commands: dict[str, tuple[list[str], Mapping[str, str]]] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._started: dict[str, float] = {}

    def start(self, name: str, command: list[str], environment: Mapping[str, str]) -> None:
        """Runs `python -m COMMAND`; its output goes to `logs`."""
        self._commands[name], self._started[name] = (command, environment), time.monotonic()
        process = child_process(command, self.logs / f"{name}.log", environment)
        self._running[name] = self._ends.enter_context(process)

    def wait(self, name: str, ready: Callable[[], bool]) -> None:
        """Returns when the process is ready. Raises `CaptioningError` when it ends, or is not in two minutes."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if (code := self._running[name].poll()) is not None:
                raise CaptioningError(f"{name} ended with {code} at its start; see {self.logs / name}.log")
            with suppress(httpx.HTTPError):
                if ready():
                    return
            time.sleep(0.2)
        raise CaptioningError(f"{name} does not answer after {START_SECONDS:.0f} s; see {self.logs / name}.log")

    def watch(self) -> None:
        """Starts again what ends, until Ctrl-C. Raises `CaptioningError` when that ends as soon as it was started."""
        with suppress(KeyboardInterrupt):
            while True:
                for name, process in list(self._running.items()):
                    if process.poll() is None:
                        continue
                    message = f"{name} ended with {process.returncode}; see {self.logs / name}.log"
                    if time.monotonic() - self._started[name] < SHORT_SECONDS:
                        raise CaptioningError(message)
                    log.warning("%s; it is started again", message)
                    end_group(process.pid, signal.SIGKILL)  # what it left may hold its port
                    self.start(name, *self._commands[name])
                time.sleep(0.5)

    def end(self) -> None:
        """Ends everything, whoever presses Ctrl-C again."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        self._ends.close()


@contextmanager
def services(settings: Settings) -> Iterator[tuple[Services, Supervisor]]:
    """Starts both servers and a worker, and waits until they are ready. Ends them, the worker first, Prefect last.

    Raises `CaptioningError` when they run already, a port is taken, or one of them does not come up.
    """
    found = Services(
        prefect=f"http://127.0.0.1:{settings.prefect_port}",
        mlflow=f"http://127.0.0.1:{settings.mlflow_port}",
        logs=str(settings.logs),
    )
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the shell that started us had it do
    end_at_sigterm()
    require_own_files(settings.database, settings.model_files)
    with _alone(settings.home):
        for port, server in ((settings.prefect_port, "PREFECT"), (settings.mlflow_port, "MLFLOW")):
            _require_free(port, f"CAPTIONING_{server}_PORT")
        os.environ |= {"PREFECT_API_URL": f"{found.prefect}/api", "CAPTIONING_TRACKING_URI": found.mlflow}
        line = Supervisor(settings.logs)
        try:
            line.start("prefect-server", server_command(settings.prefect_port), os.environ | PREFECT)
            from components.registry.tracking import make_database  # imported while Prefect's server starts

            make_database(settings.database, settings.model_files)
            line.start("mlflow-server", _mlflow_server(settings), os.environ | MLFLOW)
            line.wait("prefect-server", lambda: httpx.get(f"{found.prefect}/api/health", timeout=5).is_success)
            worker.deploy(settings)
            line.wait("mlflow-server", lambda: httpx.get(f"{found.mlflow}/health", timeout=5).is_success)
            name = f"{socket.gethostname()}-{os.getpid()}"
            line.start("worker", worker.command([], name), worker.environment(settings))
            line.wait("worker", lambda: worker.is_online(name))
            (settings.home / RUNNING).write_text(json.dumps(asdict(found)), encoding="utf-8")
            yield found, line
        finally:
            (settings.home / RUNNING).unlink(missing_ok=True)
            line.end()


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    lock = FileLock(home / LOCK)
    try:
        lock.acquire(timeout=1)
    except Timeout as error:
        raise CaptioningError(f"`captioning up` runs already for {home}; `captioning doctor` says where") from error
    try:
        yield
    finally:
        lock.release()


def _mlflow_server(settings: Settings) -> list[str]:
    """Of an MLflow server over the database and files in `home`: the same that commands without a server use."""
    command = ["mlflow", "server", "--backend-store-uri", f"sqlite:///{settings.database}"]
    command += ["--no-serve-artifacts", "--default-artifact-root", settings.model_files.as_uri()]
    command += ["--allowed-hosts", "127.0.0.1:*,localhost:*"]  # else those of private networks, too
    return [*command, "--host", "127.0.0.1", "--port", str(settings.mlflow_port), "--workers", "1"]


def _require_free(port: int, setting: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise CaptioningError(f"port {port} is taken: end what has it, or set {setting} to another") from error
