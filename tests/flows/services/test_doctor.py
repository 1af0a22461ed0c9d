"""What the doctor finds, each thing by itself, in homes with a real MLflow database."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile

import mlflow
import pytest
from filelock import FileLock
from typer.testing import CliRunner

from components.registry import tracking
from components.registry.registration import add_version, challenge
from flows.commands import operations
from flows.services import doctor
from flows.services.doctor import Finding, run_checks
from flows.services.running import LOCK, RUNNING
from flows.settings import settings

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")  # its own imports warn
MODEL = Path(__file__).parents[2] / "components/registry/schema-4.zip"
SUBJECTS = ["python", "packages", "home", "prefect", "mlflow", "champion", "gpu", "java"]


@pytest.fixture
def home(migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home that is in use, with an empty registry."""
    for name in ("CAPTIONING_TRACKING_URI", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("CAPTIONING_HOME", str(folder))
    settings.cache_clear()
    shutil.copy(migrated, folder / "mlflow.db")
    tracking.connect(settings().mlflow, settings().model_files)
    yield folder
    settings.cache_clear()
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)


@pytest.fixture
def champion(home: Path, tmp_path: Path) -> Path:
    """The folder of a registered model of toy size, the champion."""
    with ZipFile(MODEL) as archive:
        archive.extractall(tmp_path / "model")
    with tracking.tracked_run("train", {}) as run_id:
        challenge("captioner", add_version(tmp_path / "model", "digest", "captioner", run_id, "a card"))
    return next((home / "artifacts").rglob("MLmodel")).parent


def examined(subject: str) -> list[Finding]:
    """What is found of a subject, after everything was looked at."""
    found = list(run_checks(settings()))
    assert {"python", "java"} <= {finding.subject for finding in found}  # from the first to the last
    return [finding for finding in found if finding.subject == subject]


def the(subject: str) -> Finding:
    (found,) = examined(subject)
    return found


class _Distribution(NamedTuple):
    name: str


@dataclass
class Packages:
    """What is installed, by what the package's metadata are made to say."""

    monkeypatch: pytest.MonkeyPatch

    def have(self, name: str, version: str | None) -> None:
        """The package in that version, or missing."""
        real = metadata.version

        def told(asked: str) -> str:
            if asked != name:
                return real(asked)
            if version is None:
                raise metadata.PackageNotFoundError(asked)
            return version

        self.monkeypatch.setattr(metadata, "version", told)

    def have_also(self, name: str) -> None:
        """One more package."""
        found = [*metadata.distributions(), _Distribution(name)]
        self.monkeypatch.setattr(metadata, "distributions", lambda: iter(found))

    def need(self, *requirements: str) -> None:
        """What the project says that it needs."""
        self.monkeypatch.setattr(metadata, "requires", lambda name: list(requirements))


@pytest.fixture
def packages(home: Path, monkeypatch: pytest.MonkeyPatch) -> Packages:
    return Packages(monkeypatch)


def test_a_new_home_is_healthy_and_lacks_a_champion(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    found = list(run_checks(settings()))
    assert [finding.subject for finding in found] == SUBJECTS
    states = {finding.subject: finding.state for finding in found if finding.state != "good"}
    assert states == {"champion": "notice", "java": "notice"}


def test_this_python_is_good_and_another_is_not(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert the("python") == Finding("python", "good", ".".join(map(str, sys.version_info[:3])))
    monkeypatch.setattr(sys, "version_info", (3, 14, 0, "final", 0))
    found = the("python")
    assert (found.state, found.message) == ("broken", "3.14.0")
    assert found.remedy == "use Python 3.11 to 3.13: 3.14 has no TensorFlow release"


def test_good_packages_are_told_in_a_line(packages: Packages) -> None:
    found = the("packages")
    assert found.state == "good"
    assert f"mlflow {metadata.version('mlflow')}" in found.message


@pytest.mark.parametrize(
    ("name", "version", "why"),
    [
        ("fastapi", "0.155.0", "Body() got an unexpected keyword argument 'min_items'"),
        ("sqlalchemy", "2.1.0", "no schedule of Prefect 3.8 ever fires"),
        ("sqlalchemy", "2.1.0b1", "no schedule of Prefect 3.8 ever fires"),
        ("prefect", "3.9.0", "lacks dependencies"),
        ("mlflow", "3.18.0", "lacks dependencies"),
    ],
)
def test_a_version_that_is_known_to_break_is_told_with_the_reason_and_the_remedy(
    packages: Packages, name: str, version: str, why: str
) -> None:
    needed = next(text for text in metadata.requires("captioning") or () if text.startswith(name))
    packages.need(needed)
    packages.have(name, version)
    found = the("packages")
    assert found.state == "broken"
    assert found.message.startswith(f"{name} {version}, not ")
    assert why in found.message
    assert found.remedy == f"pip install '{needed}'"


def test_a_missing_package_is_told_and_so_are_all_others(packages: Packages) -> None:
    packages.need("filelock>=3.20", "rich", "httpx>=999", "jinja2>=3", "absent>=1; python_version < '3'")
    packages.have("rich", None)
    assert examined("packages") == [
        Finding("packages", "broken", "rich missing, not there", "pip install 'rich'"),
        Finding("packages", "broken", f"httpx {metadata.version('httpx')}, not >=999", "pip install 'httpx>=999'"),
    ]


def test_a_prerelease_that_fits_is_good(packages: Packages) -> None:
    packages.need("rich>=14")
    packages.have("rich", "99.0rc1")
    assert the("packages").state == "good"


def test_what_only_an_extra_needs_may_be_missing(packages: Packages) -> None:
    packages.need("filelock>=3.20", "absent>=1; extra == 'spark'")
    assert the("packages").state == "good"


@pytest.mark.parametrize("name", ["tensorflow-cpu", "tensorflow_cpu"])  # its metadata have the second
def test_two_tensorflows_are_one_too_many(packages: Packages, name: str) -> None:
    packages.have_also(name)
    (found,) = (finding for finding in examined("packages") if finding.state == "broken")
    assert "tensorflow and tensorflow-cpu" in found.message
    assert found.remedy == "remove both, then install tensorflow"


def test_a_home_with_room_is_good_and_a_full_one_is_told_what_may_go(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(home)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=6e9))
    assert the("home") == Finding("home", "good", f"{home}, 6 GB free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=4e9))
    assert the("home") == Finding(
        "home", "notice", f"{home}, 4 GB free", "captioning clean --older-than 30 shows what may go"
    )


def test_a_home_of_somebody_else_is_broken(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode, **how: path != home and real(path, mode, **how))
    found = the("home")
    assert (found.state, found.remedy) == ("broken", "set CAPTIONING_HOME to a folder of yours")
    assert found.message.endswith("it cannot be written to")


def test_what_cannot_be_looked_at_is_broken_and_the_rest_is_looked_at(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder / LOCK))

    monkeypatch.setattr(doctor, "find_services", denied)  # as in a home of somebody else
    found = the("prefect")
    assert found.state == "broken"
    assert "Permission denied" in found.message


def test_a_moved_home_is_broken_until_it_is_relocated(
    home: Path, champion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert examined("place") == []
    mlflow.set_tracking_uri(None)
    moved = Path(shutil.move(home, tmp_path / "elsewhere"))
    monkeypatch.setenv("CAPTIONING_HOME", str(moved))
    settings.cache_clear()
    found = the("place")
    assert (found.state, found.remedy) == ("broken", "captioning relocate")
    assert found.message.startswith(f"{moved} was made in {home}")
    assert examined("champion") == []
    assert CliRunner().invoke(operations.app, [found.remedy.split()[1]]).exit_code == 0
    assert examined("place") == []
    assert the("champion").state == "good"


def test_a_database_that_is_none_is_broken(home: Path) -> None:
    mlflow.set_tracking_uri(None)
    (home / "mlflow.db").write_text("no database " * 100)
    found = the("place")
    assert found.state == "broken"
    assert "file is not a database" in found.message


def test_without_a_server_prefect_is_good(home: Path) -> None:
    found = the("prefect")
    assert found.state == "good"
    assert "no server is running" in found.message


def test_a_prefect_server_that_does_not_answer_is_broken(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    settings.cache_clear()
    found = the("prefect")
    assert (found.state, found.remedy) == ("broken", "start it, or unset PREFECT_API_URL")
    assert found.message.startswith("http://127.0.0.1:9/api does not answer: ")


def test_the_server_of_up_that_does_not_answer_is_looked_for_in_its_log(home: Path) -> None:
    answers = {"prefect": "http://127.0.0.1:9", "mlflow": "http://127.0.0.1:9", "logs": str(home / "logs")}
    (home / RUNNING).write_text(json.dumps(answers))
    with FileLock(home / LOCK):
        found = the("prefect")
    assert (found.state, found.remedy) == ("broken", "see logs/prefect-server.log")
    assert the("prefect").state == "good"  # nobody holds the lock: what it says is of the past


@pytest.fixture
def serve() -> Iterator[Callable[[dict[str, Any]], str]]:
    """Starts a server that gives an answer to each path, else 404. Returns its address."""
    servers = []

    def start(answers: dict[str, Any]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer = answers.get(self.path)
                self.send_response(404 if answer is None else 200)
                self.end_headers()
                self.wfile.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode())

            do_POST = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        servers.append(HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_server_that_is_not_prefect_is_broken(
    home: Path, serve: Callable[[dict[str, Any]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = b"<html>another server</html>"
    monkeypatch.setenv("PREFECT_API_URL", serve({"/health": page, "/deployments/filter": page}))
    settings.cache_clear()
    assert the("prefect").state == "broken"


@pytest.mark.parametrize(("state", "told"), [("FAILED", True), ("CRASHED", True), ("COMPLETED", False)])
def test_a_deployment_whose_last_run_failed_is_noticed(
    home: Path, serve: Callable[[dict[str, Any]], str], monkeypatch: pytest.MonkeyPatch, state: str, told: bool
) -> None:
    run = {"name": "red-fox", "state_type": state, "state_name": state.title(), "start_time": "2026-11-25T03:00:07Z"}
    deployments = [{"id": "1", "name": "nightly", "paused": False}]
    answers = {"/api/health": True, "/api/deployments/filter": deployments, "/api/flow_runs/filter": [run]}
    address = serve(answers | {"/api/work_pools/captioning/workers/filter": None})
    monkeypatch.setenv("PREFECT_API_URL", f"{address}/api")
    settings.cache_clear()
    found = [finding for finding in examined("last run") if finding.message.startswith("nightly: red-fox")]
    assert [(finding.state, "2026-11-25T03:00 UTC" in finding.message) for finding in found] == [
        ("notice", True)
    ] * told


@pytest.mark.parametrize(
    ("workers", "state", "told", "remedy"),
    [
        ([{"name": "mine", "status": "ONLINE"}], "good", "2 deployments, paused: nightly, workers mine", ""),
        ([{"name": "mine", "status": "OFFLINE"}], "notice", "no worker: nothing scheduled runs", "captioning worker"),
        (None, "notice", "no worker: nothing scheduled runs", "captioning worker"),  # nor a work pool
    ],
)
def test_a_prefect_server_without_a_worker_is_noticed(
    home: Path,
    serve: Callable[[dict[str, Any]], str],
    monkeypatch: pytest.MonkeyPatch,
    workers: list[dict[str, str]] | None,
    state: str,
    told: str,
    remedy: str,
) -> None:
    deployments = [{"id": "1", "name": "nightly", "paused": True}, {"id": "2", "name": "weekly", "paused": False}]
    answers = {"/api/health": True, "/api/deployments/filter": deployments, "/api/flow_runs/filter": []}
    address = serve(answers | {"/api/work_pools/captioning/workers/filter": workers})
    monkeypatch.setenv("PREFECT_API_URL", f"{address}/api")
    settings.cache_clear()
    found = the("prefect")
    assert (found.state, found.remedy) == (state, remedy)
    assert found.message.startswith(f"{address}/api, ")
    assert told in found.message


def test_an_mlflow_that_does_not_answer_is_broken_and_the_rest_is_looked_at(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("CAPTIONING_TRACKING_URI", "http://127.0.0.1:9")
    settings.cache_clear()
    found = the("mlflow")
    assert found.state == "broken"
    assert "CAPTIONING_TRACKING_URI" in found.message


def test_no_champion_is_noticed(home: Path) -> None:
    found = the("champion")
    assert (found.state, found.remedy) == ("notice", "captioning train --profile demo")
    assert "there is no model models:/captioner@champion" in found.message


def test_a_champion_is_good_and_broken_when_its_files_are_gone(champion: Path) -> None:
    assert the("champion") == Finding("champion", "good", "models:/captioner/1")
    shutil.rmtree(champion)
    found = the("champion")
    assert (found.state, found.remedy) == ("broken", "put them back from a backup, or captioning rollback")
    assert found.message.startswith("models:/captioner/1: ")


def run(name: str, error: type[BaseException] | None = None) -> None:
    """Makes a run of MLflow's, which fails."""
    with tracking.tracked_run(name, {}):
        if error:
            raise error


@pytest.mark.parametrize(
    ("error", "told", "remedy"),
    [
        (LookupError, "failed", "run it again"),
        (KeyboardInterrupt, "killed", "the same command goes on where it was"),
    ],
)
def test_a_last_run_that_failed_is_noticed(home: Path, error: type[BaseException], told: str, remedy: str) -> None:
    run("score today")
    with pytest.raises(error):
        run("train", error)
    score, train = sorted(examined("last run"), key=lambda finding: finding.message)
    assert score == Finding("last run", "good", "score today: finished, 0 minutes ago")
    assert (train.state, train.told) == ("notice", f"train: {told}, 0 minutes ago")
    assert remedy in train.remedy


def test_a_run_that_failed_before_one_that_did_not_is_of_the_past(home: Path) -> None:
    with pytest.raises(LookupError):
        run("train", LookupError)
    run("train")
    assert the("last run") == Finding("last run", "good", "train: finished, 0 minutes ago")


def test_no_java_is_noticed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    found = the("java")
    assert (found.state, "METEOR" in found.message) == ("notice", True)
    assert "openjdk-17-jre-headless" in found.remedy


@pytest.mark.parametrize(
    ("script", "state", "told"),
    [("echo 'openjdk 17' >&2", "good", "openjdk 17"), ("echo java 8; exit 1", "good", "java 8"), ("", "broken", "")],
)
def test_a_java_says_its_version(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, state: str, told: str
) -> None:
    java = tmp_path / "java"
    java.write_text(f"#!/bin/sh\n{script}\n")
    java.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(java) if name == "java" else None)
    found = the("java")
    assert found.state == state
    assert told in found.message


def test_a_gpu_that_tensorflow_does_not_see_is_broken(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    monkeypatch.setattr(shutil, "which", lambda name: f"/{name}" if name == "nvidia-smi" else None)
    seen: list[str] = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: seen)
    found = the("gpu")
    assert (found.state, found.remedy) == ("broken", "pip install 'captioning[gpu]'")
    seen.append("GPU:0")
    assert the("gpu") == Finding("gpu", "good", "1 seen by TensorFlow")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert the("gpu").state == "good"


def test_the_command_prints_every_finding_with_its_remedy(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    done = CliRunner().invoke(operations.app, ["doctor"])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "] == [
        subject for subject in SUBJECTS if subject not in ("champion", "java")
    ]
    told = next(number for number, line in enumerate(lines) if line.startswith("? champion"))
    assert lines[told + 1].strip() == "→ captioning train --profile demo"


def test_json_has_every_finding(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    done = CliRunner().invoke(operations.app, ["doctor", "--json"])
    found = json.loads(done.stdout)
    assert (done.exit_code, found["good"]) == (0, True)
    assert [finding["subject"] for finding in found["findings"]] == SUBJECTS
    assert {tuple(finding) for finding in found["findings"]} == {("subject", "state", "told", "remedy")}


def test_what_is_broken_is_marked_and_the_exit_code_is_1(packages: Packages) -> None:
    packages.need("httpx>=999")
    done = CliRunner().invoke(operations.app, ["doctor"])
    assert done.exit_code == 1
    assert "! packages   httpx" in done.stdout
    assert "→ pip install 'httpx>=999'" in done.stdout
    as_json = CliRunner().invoke(operations.app, ["doctor", "--json"])
    assert (as_json.exit_code, json.loads(as_json.stdout)["good"]) == (1, False)


def test_a_command_line_of_its_own_finds_what_is_broken_without_a_traceback(home: Path) -> None:
    environment = {**os.environ, "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    command = [sys.executable, "-m", "flows.commands.cli", "doctor", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (1, "")
    broken = [finding for finding in json.loads(done.stdout)["findings"] if finding["state"] == "broken"]
    assert [finding["subject"] for finding in broken] == ["prefect"]
