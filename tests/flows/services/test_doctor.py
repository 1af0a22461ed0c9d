"""What the doctor finds, each thing by itself, in homes with a real MLflow database."""

import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import pytest
from filelock import FileLock
from typer.testing import CliRunner

from components.registry import tracking
from flows.commands import operations
from flows.services import doctor
from flows.services.doctor import Finding, run_checks
from flows.services.running import LOCK, RUNNING
from flows.settings import settings
from tests import commands, toy

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")  # its own imports warn
SUBJECTS = ["python", "packages", "home", "prefect", "mlflow", "champion", "gpu", "java"]
NOWHERE = "http://127.0.0.1:9"
Environment = Callable[..., None]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[Environment]:
    """Sets variables, which the settings are read from again."""

    def have(**values: object) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, str(value))
        settings.cache_clear()

    yield have
    settings.cache_clear()


@pytest.fixture
def home(use: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that is in use, with an empty registry; no Java and no GPU."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    return use(tmp_path / "home")


@pytest.fixture
def champion(home: Path, tmp_path: Path) -> Path:
    """The folder of a registered model of toy size, the champion."""
    toy.register(tmp_path / "model")
    return next((home / "artifacts").rglob("MLmodel")).parent


def examined(subject: str) -> list[Finding]:
    """What is found of a subject, after everything was looked at."""
    found = list(run_checks(settings()))
    assert {"python", "java"} <= {finding.subject for finding in found}  # from the first to the last
    return [finding for finding in found if finding.subject == subject]


def requires(subject: str, state: str, *words: str, remedy: str = "") -> None:
    """Checks the only finding of a subject: its state, words of its message, and of its remedy, if it has one."""
    (found,) = examined(subject)
    assert found.state == state, found
    assert all(word in found.message for word in words), found
    assert remedy in found.remedy, found
    assert bool(found.remedy) == bool(remedy), found


def test_a_new_home_is_healthy_and_lacks_a_champion(home: Path) -> None:
    found = list(run_checks(settings()))
    assert [finding.subject for finding in found] == SUBJECTS
    states = {finding.subject: finding.state for finding in found if finding.state != "good"}
    assert states == {"champion": "notice", "java": "notice"}
    requires("champion", "notice", "models:/captioner@champion", remedy="captioning train --profile demo")
    requires("java", "notice", "METEOR", remedy="openjdk-17-jre-headless")
    requires("packages", "good", f"mlflow {metadata.version('mlflow')}")
    requires("gpu", "good")


def test_this_python_is_good_and_another_is_not(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requires("python", "good", ".".join(map(str, sys.version_info[:3])))
    monkeypatch.setattr(sys, "version_info", (3, 14, 0, "final", 0))
    requires("python", "broken", "3.14.0", remedy="use Python 3.11 to 3.13")


@pytest.fixture
def pretend(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Changes what the project says that it needs, and which versions are installed."""
    real = metadata.version

    def installed(needed: list[str], **versions: str | None) -> None:
        def version(name: str) -> str:
            if (found := versions[name] if name in versions else real(name)) is None:
                raise metadata.PackageNotFoundError(name)
            return found

        monkeypatch.setattr(metadata, "requires", lambda name: needed)
        monkeypatch.setattr(metadata, "version", version)

    return installed


@pytest.mark.parametrize(
    ("name", "version", "why"),
    [
        ("fastapi", "0.155.0", "min_items"),
        ("sqlalchemy", "2.1.0", "no schedule"),
        ("sqlalchemy", "2.1.0b1", "no schedule"),
        ("prefect", "3.9.0", "lacks dependencies"),
        ("mlflow", "3.18.0", "lacks dependencies"),
    ],
)
def test_a_version_that_is_known_to_break_is_reported_with_the_reason_and_the_remedy(
    pretend: Callable[..., None], name: str, version: str, why: str
) -> None:
    needed = next(text for text in metadata.requires("captioning") or () if text.startswith(name))
    pretend([needed], **{name: version})
    requires("packages", "broken", f"{name} {version}", why, remedy=f"pip install '{needed}'")


def test_every_package_that_is_missing_or_does_not_fit_is_reported(pretend: Callable[..., None]) -> None:
    pretend(["filelock>=3.20", "rich", "httpx>=999", "jinja2>=3", "absent>=1; python_version < '3'"], rich=None)
    assert [(found.state, found.message.split()[0], found.remedy) for found in examined("packages")] == [
        ("broken", "rich", "pip install 'rich'"),
        ("broken", "httpx", "pip install 'httpx>=999'"),
    ]
    as_json = CliRunner().invoke(operations.app, ["doctor", "--json"])
    assert (as_json.exit_code, json.loads(as_json.stdout)["good"]) == (1, False)


def test_a_prerelease_that_fits_is_good_and_what_only_an_extra_needs_may_be_missing(
    pretend: Callable[..., None],
) -> None:
    pretend(["rich>=14", "absent>=1; extra == 'spark'"], rich="99.0rc1")
    requires("packages", "good")


class _Distribution(NamedTuple):
    name: str


@pytest.mark.parametrize("name", ["tensorflow-cpu", "tensorflow_cpu"])  # its metadata have the second
def test_two_tensorflows_are_one_too_many(home: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    found = [*metadata.distributions(), _Distribution(name)]
    monkeypatch.setattr(metadata, "distributions", lambda: iter(found))
    requires("packages", "broken", "tensorflow and tensorflow-cpu", remedy="remove both, then install tensorflow")


def test_a_home_with_room_is_good_and_a_full_one_is_noticed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(home)
    for free, state, remedy in ((6e9, "good", ""), (4e9, "notice", "captioning clean --older-than 30")):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: usage._replace(free=free))
        requires("home", state, str(home), f"{free / 1e9:.0f} GB free", remedy=remedy)


def test_a_home_of_somebody_else_is_broken(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode, **how: path != home and real(path, mode, **how))
    requires("home", "broken", "cannot be written to", remedy="CAPTIONING_HOME")


def test_what_cannot_be_looked_at_is_broken_and_the_rest_is_looked_at(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder / LOCK))

    monkeypatch.setattr(doctor, "find_services", denied)  # as in a home of somebody else
    requires("prefect", "broken", "Permission denied")


def test_a_moved_home_is_broken_until_it_is_relocated(
    home: Path, champion: Path, tmp_path: Path, environment: Environment
) -> None:
    assert examined("place") == []
    mlflow.set_tracking_uri(None)
    moved = Path(shutil.move(home, tmp_path / "elsewhere"))
    environment(CAPTIONING_HOME=moved)
    requires("place", "broken", f"{moved} was made in {home}", remedy="captioning relocate")
    assert examined("champion") == []
    assert CliRunner().invoke(operations.app, ["relocate"]).exit_code == 0
    assert examined("place") == []
    requires("champion", "good")


def test_a_database_that_is_none_is_broken(home: Path) -> None:
    mlflow.set_tracking_uri(None)
    (home / "mlflow.db").write_text("no database " * 100)
    requires("place", "broken", "file is not a database")


def test_a_prefect_server_that_does_not_answer_is_broken(home: Path, environment: Environment) -> None:
    requires("prefect", "good", "captioning up")
    answers = {"prefect": NOWHERE, "mlflow": NOWHERE, "logs": str(home / "logs")}
    (home / RUNNING).write_text(json.dumps(answers))
    with FileLock(home / LOCK):
        requires("prefect", "broken", NOWHERE, remedy="logs/prefect-server.log")
    requires("prefect", "good")  # nobody holds the lock: what it says is of the past
    environment(PREFECT_API_URL=f"{NOWHERE}/api")
    requires("prefect", "broken", f"{NOWHERE}/api does not answer: ", remedy="unset PREFECT_API_URL")


@pytest.fixture
def serve(environment: Environment) -> Iterator[Callable[..., str]]:
    """Has a Prefect server that gives an answer to each path, else 404. Returns its address."""
    servers = []

    def start(**answers: Any) -> str:
        known = {"health": True, "deployments/filter": [], "flow_runs/filter": []}
        known |= {name.replace("_filter", "/filter"): answer for name, answer in answers.items()}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer = known.get(self.path.removeprefix("/api/").removeprefix("work_pools/captioning/"))
                self.send_response(404 if answer is None else 200)
                self.end_headers()
                self.wfile.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode())

            do_POST = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        servers.append(HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{servers[-1].server_port}/api"
        environment(PREFECT_API_URL=address)
        return address

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_server_that_is_not_prefect_is_broken(home: Path, serve: Callable[..., str]) -> None:
    page = b"<html>another server</html>"
    serve(health=page, deployments_filter=page)
    requires("prefect", "broken")


@pytest.mark.parametrize("state", ["FAILED", "CRASHED", "COMPLETED"])
def test_a_deployment_whose_last_run_failed_is_noticed(home: Path, serve: Callable[..., str], state: str) -> None:
    run = {"name": "red-fox", "state_type": state, "state_name": state.title(), "start_time": "2026-11-25T03:00:07Z"}
    serve(deployments_filter=[{"id": "1", "name": "nightly", "paused": False}], flow_runs_filter=[run])
    if state == "COMPLETED":
        assert examined("last run") == []
    else:
        requires("last run", "notice", "nightly", "red-fox", "2026-11-25T03:00 UTC", remedy="/artifacts/key/failure")


@pytest.mark.parametrize(
    ("workers", "words", "remedy"),
    [
        ([{"name": "mine", "status": "ONLINE"}], "workers mine", ""),
        ([{"name": "mine", "status": "OFFLINE"}], "no worker", "captioning worker"),
        (None, "no worker", "captioning worker"),  # nor a work pool
    ],
)
def test_a_prefect_server_without_a_worker_is_noticed(
    home: Path, serve: Callable[..., str], workers: list[dict[str, str]] | None, words: str, remedy: str
) -> None:
    deployments = [{"id": "1", "name": "nightly", "paused": True}, {"id": "2", "name": "weekly", "paused": False}]
    address = serve(deployments_filter=deployments, workers_filter=workers)
    state = "notice" if remedy else "good"
    requires("prefect", state, address, "2 deployments, paused: nightly", words, remedy=remedy)


def test_an_mlflow_that_does_not_answer_is_broken_and_the_rest_is_looked_at(
    home: Path, environment: Environment
) -> None:
    environment(MLFLOW_HTTP_REQUEST_MAX_RETRIES=0, CAPTIONING_TRACKING_URI=NOWHERE)
    requires("mlflow", "broken", "CAPTIONING_TRACKING_URI")


def test_a_champion_is_good_and_broken_when_its_files_are_gone(champion: Path) -> None:
    requires("champion", "good", "models:/captioner/1")
    shutil.rmtree(champion)
    requires("champion", "broken", "models:/captioner/1", remedy="captioning rollback")


@pytest.mark.parametrize(
    ("error", "words", "remedy"),
    [(LookupError, "failed", "run it again"), (KeyboardInterrupt, "killed", "the same command resumes it")],
)
def test_a_last_run_that_failed_is_noticed_until_one_has_not(
    home: Path, error: type[BaseException], words: str, remedy: str
) -> None:
    with pytest.raises(error), tracking.tracked_run("train", {}):
        raise error
    requires("last run", "notice", f"train: {words}, 0 minutes ago", remedy=remedy)
    with tracking.tracked_run("train", {}):
        pass
    requires("last run", "good", "train: finished, 0 minutes ago")


@pytest.mark.parametrize(
    ("script", "state", "words"),
    [("echo 'openjdk 17' >&2", "good", "openjdk 17"), ("echo java 8; exit 1", "good", "java 8"), ("", "broken", "")],
)
def test_a_java_says_its_version(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, state: str, words: str
) -> None:
    java = tmp_path / "java"
    java.write_text(f"#!/bin/sh\n{script}\n")
    java.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(java) if name == "java" else None)
    requires("java", state, words)


def test_a_gpu_that_tensorflow_does_not_see_is_broken(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    monkeypatch.setattr(shutil, "which", lambda name: f"/{name}" if name == "nvidia-smi" else None)
    seen: list[str] = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: seen)
    requires("gpu", "broken", remedy="pip install 'captioning[gpu]'")
    seen.append("GPU:0")
    requires("gpu", "good", "1")


def test_the_command_prints_every_finding_with_its_remedy(home: Path) -> None:
    done = CliRunner().invoke(operations.app, ["doctor"])
    assert done.exit_code == 0, done.output
    for subject in SUBJECTS:
        mark = "?" if subject in ("champion", "java") else " "
        assert f"\n{mark} {subject} " in f"\n{done.stdout}"
    assert done.stdout.count("→") == 2
    as_json = CliRunner().invoke(operations.app, ["doctor", "--json"])
    found = json.loads(as_json.stdout)
    assert (as_json.exit_code, found["good"]) == (0, True)
    assert [finding["subject"] for finding in found["findings"]] == SUBJECTS
    assert {tuple(finding) for finding in found["findings"]} == {("subject", "state", "message", "remedy")}


def test_a_command_line_of_its_own_finds_what_is_broken_without_a_traceback(home: Path) -> None:
    done = commands.captioning(home, "doctor", environment={"PREFECT_API_URL": f"{NOWHERE}/api"})
    assert (done.returncode, done.stderr) == (1, "")
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("!")] == ["prefect"]
