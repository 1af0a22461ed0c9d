"""The line that runs by itself: real servers, a real worker, schedules that fire; a worker killed in the middle."""

import io
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any

import httpx
import mlflow
import numpy as np
import pandas as pd
import psutil
import pytest
from PIL import Image

from components.registry import tracking
from components.registry.relocation import relocate
from tests import toy

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")  # its own imports warn

BROKEN = b"this is no image"
HASTE = {
    "PREFECT_WORKER_QUERY_SECONDS": "1",
    "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "2",
    "PREFECT_SERVER_SERVICES_SCHEDULER_MIN_SCHEDULED_TIME": "PT1M",  # a minute's runs in advance, not an hour's
}
"""How often Prefect looks for what it is to do, and how far ahead; it decides nothing but how long a test waits."""


@dataclass(frozen=True)
class Line:
    """`captioning up` at work."""

    process: subprocess.Popen[bytes]
    environment: dict[str, str]
    home: Path
    prefect: str
    mlflow: str

    def captioning(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "flows.commands.cli", *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, timeout=300)

    def ask(self, path: str, **filters: Any) -> Any:
        """What Prefect's server answers to a filter."""
        return httpx.post(f"{self.prefect}/api/{path}/filter", json=filters, timeout=30).raise_for_status().json()

    def runs(self) -> list[dict[str, Any]]:
        """Prefect's flow runs that are at work or have ended, the first to start first."""
        started = {"flow_runs": {"start_time": {"is_null_": False}}}
        return self.ask("flow_runs", **started, sort="START_TIME_ASC")

    def state(self, run: dict[str, Any]) -> str:
        """What Prefect calls the run now."""
        found = httpx.get(f"{self.prefect}/api/flow_runs/{run['id']}", timeout=30).raise_for_status().json()
        return str(found["state_type"])

    def deployment(self, name: str) -> Any:
        (found,) = self.ask("deployments", deployments={"name": {"any_": [name]}})
        return found

    def run(self, name: str) -> Any:
        """A run of a deployment, now."""
        address = f"{self.prefect}/api/deployments/{self.deployment(name)['id']}/create_flow_run"
        return httpx.post(address, json={}, timeout=30).raise_for_status().json()

    def notes(self) -> Any:
        """What runs that failed have left."""
        return self.ask("artifacts", artifacts={"key": {"any_": ["failure"]}})

    def schedule(self, **times: Any) -> None:
        """Lets `score-nightly` run at these times instead."""
        found = self.deployment("score-nightly")
        address = f"{self.prefect}/api/deployments/{found['id']}/schedules/{found['schedules'][0]['id']}"
        body = {"schedule": {**times, "timezone": "UTC"}}

        def accepted() -> bool:
            try:  # a busy server answers 503, or not in time
                return httpx.patch(address, json=body, timeout=30).is_success
            except httpx.TimeoutException:
                return False

        until("another schedule", accepted, 120)

    def predictions(self) -> pd.DataFrame:
        folder = self.home / "predictions"
        return pd.read_parquet(folder) if folder.exists() and any(folder.glob("batch=*")) else pd.DataFrame()

    def processes(self, word: str) -> list[psutil.Process]:
        """Those that `up` started, or that these started, with the word in their command."""
        return [p for p in psutil.Process(self.process.pid).children(recursive=True) if word in _command(p)]


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def photograph_of(height: int, width: int) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()


def soon() -> str:
    return (datetime.now(UTC) + timedelta(seconds=5)).isoformat()


def until(told: str, happened: Callable[[], Any], seconds: float = 240) -> Any:
    """What `happened` returns as soon as that is something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := happened():
            return found
        time.sleep(0.5)
    raise AssertionError(f"not within {seconds} s: {told}")


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    home = tmp_path_factory.mktemp("a home")
    with socket.socket() as first, socket.socket() as second:
        for probe in (first, second):
            probe.bind(("127.0.0.1", 0))
        prefect, mlflow = (probe.getsockname()[1] for probe in (first, second))
    own = {"CAPTIONING_HOME": str(home), "CAPTIONING_PREFECT_PORT": str(prefect), "CAPTIONING_MLFLOW_PORT": str(mlflow)}
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")} | HASTE | own
    command = [sys.executable, "-m", "flows.commands.cli", "up"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout
    told = takewhile(lambda text: text != b"Ready. Ctrl-C ends it.\n", process.stdout)  # which ends if `up` does
    addresses = dict(text.decode().strip().split(maxsplit=1) for text in told)
    assert addresses.get("logs") == str(home / "logs"), "`captioning up` ended at its start"
    with process:
        yield Line(process, environment, home, addresses["prefect"], addresses["mlflow"])
        process.kill()


def test_servers_worker_and_deployments_are_there(line: Line) -> None:
    assert httpx.get(f"{line.mlflow}/health", timeout=30).is_success
    found = {deployment["name"]: deployment for deployment in line.ask("deployments")}
    crons = {name: [s["schedule"]["cron"] for s in deployment["schedules"]] for name, deployment in found.items()}
    assert crons == {
        "train-weekly": ["0 1 * * 6"],
        "score-nightly": ["0 3 * * *"],
        "evaluate-champion-daily": ["0 5 * * *"],
        "promote-on-demand": [],
    }
    assert {s["schedule"]["timezone"] for deployment in found.values() for s in deployment["schedules"]} == {"UTC"}
    assert {deployment["global_concurrency_limit"]["limit"] for deployment in found.values()} == {1}
    assert {name for name, deployment in found.items() if deployment["tags"] == ["gpu"]} == set(crons) - {
        "promote-on-demand"
    }
    assert found["train-weekly"]["parameters"] == {"profile": "demo"}


def test_the_schedules_of_a_copy_name_the_folders_of_the_copy(line: Line, tmp_path: Path) -> None:
    (tmp_path / "prefect").mkdir()
    for name in ("mlflow.db", "prefect/prefect.db"):
        with closing(sqlite3.connect(line.home / name)) as here, closing(sqlite3.connect(tmp_path / name)) as there:
            here.backup(there)
    assert relocate(tmp_path / "mlflow.db", tmp_path / "artifacts") == 1
    with closing(sqlite3.connect(tmp_path / "prefect/prefect.db")) as found:
        told = str(found.execute("SELECT parameters FROM deployment UNION SELECT parameters FROM flow_run").fetchall())
    assert str(tmp_path / "inbox") in told
    assert str(line.home) not in told


def test_the_servers_listen_on_loopback_and_answer_to_their_own_names_and_pages(line: Line) -> None:
    processes = [psutil.Process(line.process.pid), *line.processes("")]
    bound = {(c.laddr.ip, c.laddr.port) for p in processes for c in p.net_connections("inet") if c.status == "LISTEN"}
    assert {address for address, _ in bound} == {"127.0.0.1"}
    assert {f"http://{address}:{port}" for address, port in bound} >= {line.prefect, line.mlflow}
    for page, refused in ((f"{line.prefect}/api/admin/version", 400), (f"{line.mlflow}/api/2.0/mlflow/runs/get", 403)):
        port = page.split(":")[2].partition("/")[0]
        for name in ("evil.example", f"evil.example:{port}", "192.168.0.7", "127.0.0.1.evil.example"):
            assert httpx.get(page, headers={"Host": name}, timeout=30).status_code == refused, (page, name)
        asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
        for method in ("OPTIONS", "GET"):
            answer = httpx.request(method, page, headers=asked, timeout=30)
            assert "access-control-allow-origin" not in answer.headers, (page, method)
        assert httpx.get(page, headers={"Host": f"localhost:{port}"}, timeout=30).status_code in (200, 400)


def test_the_forms_of_the_parameters_are_validated(line: Line) -> None:
    found = {deployment["name"]: deployment for deployment in line.ask("deployments")}
    request = found["score-nightly"]["parameter_openapi_schema"]["definitions"]["ScoringRequest"]["properties"]
    assert "A folder, a zip file" in request["images"]["description"]
    wrong = {"parameters": {"request": {"images": "x", "out": "y", "beam": 0}}, "enforce_parameter_schema": True}
    answer = httpx.post(
        f"{line.prefect}/api/deployments/{found['score-nightly']['id']}/create_flow_run", json=wrong, timeout=30
    )
    assert answer.status_code == 409
    assert "beam" in answer.text


def test_a_second_one_is_refused_and_the_doctor_says_where_the_first_is(line: Line) -> None:
    done = line.captioning("up", "--check")
    assert done.returncode == 1
    assert f"`captioning up` runs already for {line.home}" in done.stderr
    examined = json.loads(line.captioning("doctor", "--json").stdout)
    told = {finding["subject"]: finding for finding in examined["findings"]}
    assert examined["good"]
    assert told["prefect"]["state"] == "good"
    assert line.prefect in told["prefect"]["message"]
    assert (told["champion"]["state"], told["champion"]["remedy"]) == ("notice", "captioning train --profile demo")


def test_a_run_that_fails_leaves_a_note_of_what_which_data_and_what_to_do(line: Line) -> None:
    run = line.run("score-nightly")
    until("the run to fail", lambda: line.state(run) == "FAILED", 120)
    (note,) = until("a note", line.notes, 60)
    assert note["flow_run_id"] == run["id"]
    assert "there is no model models:/captioner@champion" in note["data"]
    assert str(line.home / "inbox") in note["data"]
    assert "Run it again once that is fixed" in note["data"]
    examined = json.loads(line.captioning("doctor", "--json").stdout)["findings"]
    (told,) = (finding for finding in examined if finding["message"].startswith("score-nightly: "))
    assert (told["state"], run["name"] in told["message"]) == ("notice", True)


def make_champion(line: Line, folder: Path) -> None:
    """Registers a model of toy size with the line's MLflow."""
    tracking.connect(line.mlflow, line.home / "artifacts")
    try:
        toy.register(folder)
    finally:
        mlflow.set_tracking_uri(None)
        mlflow.set_registry_uri(None)


def test_a_schedule_fires_by_itself_and_scores_the_inbox(
    line: Line, photograph: Callable[[int], bytes], tmp_path: Path
) -> None:
    make_champion(line, tmp_path)
    before = len(line.runs())
    assert "does not become champion" in line.captioning("promote").stdout
    assert len(line.runs()) > before, "a command uses the servers that run"
    for number in range(4):
        (line.home / "inbox" / f"{number}.jpg").write_bytes(photograph(number))
    (line.home / "inbox" / "ümlaut.png").write_bytes(BROKEN)
    line.schedule(interval=30, anchor_date=soon())
    until("five rows", lambda: len(line.predictions()) == 5)
    line.schedule(cron="0 3 * * *")
    rows = line.predictions()
    assert sorted(rows["status"]) == ["ok"] * 4 + ["quarantined"]
    run = next(run for run in line.runs() if run["auto_scheduled"])
    until("the run to complete", lambda: line.state(run) == "COMPLETED", 60)
    search = {"experiment_ids": ["1"], "filter": "attributes.run_name LIKE 'score %'"}
    runs = httpx.post(f"{line.mlflow}/api/2.0/mlflow/runs/search", json=search, timeout=30).json()["runs"]
    metrics = {metric["key"]: metric["value"] for metric in runs[0]["data"]["metrics"]}
    assert (metrics["inputs"], metrics["captioned"], metrics["quarantined"]) == (5, 4, 1)


def test_a_worker_that_is_killed_in_the_middle_of_its_work_is_started_again(line: Line) -> None:
    # A part has 1,024 rows. The first is of one picture, embedded once; the kill comes while the second is at work.
    small, large = (photograph_of(*size) for size in ((240, 320), (960, 1280)))
    for number in range(1220):
        content = small if number < 1020 else large + str(number).encode()
        (line.home / "inbox" / f"many {number:04}.jpg").write_bytes(content)
    line.schedule(interval=60, anchor_date=soon())
    until("the first part of the work", lambda: any((line.home / "partial").glob("scoring-*/part-*")))
    killed = line.processes("prefect worker start")
    for process in [*killed, *(child for one in killed for child in one.children(recursive=True))]:
        process.kill()
    assert len(line.predictions()) == 5
    until("another worker", lambda: set(line.processes("prefect worker start")) - set(killed))


def test_a_run_whose_process_is_killed_leaves_a_note_too(line: Line) -> None:
    run = line.run("train-weekly")
    until("the run to be at work", lambda: line.state(run) == "RUNNING")
    (process,) = line.processes("prefect.engine")
    process.kill()
    until("the run to be called crashed", lambda: line.state(run) == "CRASHED", 60)
    notes = until("a note", lambda: [note for note in line.notes() if note["flow_run_id"] == run["id"]], 60)
    assert "exited with status code: -9" in notes[0]["data"]
    assert "profile: demo" in notes[0]["data"]
    assert "`captioning doctor` looks" in notes[0]["data"]


def test_what_a_killed_worker_left_is_finished_by_the_next_run_and_nothing_is_lost_or_twice(line: Line) -> None:
    until("all rows", lambda: len(line.predictions()) == 1225, 600)
    line.schedule(cron="0 3 * * *")
    rows = line.predictions()
    assert not rows["uri"].duplicated().any()
    assert rows["status"].value_counts().to_dict() == {"ok": 1224, "quarantined": 1}

    def ended() -> bool:
        states = [run["state_type"] for run in line.runs() if run["auto_scheduled"]]
        return states.count("CRASHED") == 1 and set(states) == {"CRASHED", "COMPLETED"}

    until("the killed run to be called crashed, and the others to complete", ended)


def test_ctrl_c_ends_everything(line: Line) -> None:
    ours = psutil.Process(line.process.pid).children(recursive=True)
    assert len(ours) >= 3
    line.process.send_signal(signal.SIGINT)
    assert line.process.wait(60) == 0
    gone, alive = psutil.wait_procs(ours, timeout=1)
    assert not alive
    assert len(gone) == len(ours)
    assert not (line.home / "up.json").exists()
