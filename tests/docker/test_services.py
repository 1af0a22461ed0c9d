"""The services of compose.yaml as plain processes, on loopback: PostgreSQL is real, S3 is moto's."""

import base64
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pandas as pd
import psutil
import psycopg2
import pytest

from tests import toy

DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
PROGRAMS = os.pathsep.join([*map(str, DEBIAN[-1:]), os.environ["PATH"]])

pytestmark = pytest.mark.skipif(shutil.which("initdb", path=PROGRAMS) is None, reason="no PostgreSQL is installed")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(address: str, body: dict[str, Any] | None = None, host: str | None = None) -> tuple[int, bytes]:
    headers = {"Content-Type": "application/json"} | ({"Host": host} if host else {})
    content = None if body is None else json.dumps(body).encode()
    try:
        with urlopen(Request(address, content, headers), timeout=120) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        return error.code, error.read()


@dataclass
class Stack:
    """The services' commands, with their hosts and ports on loopback and their folders in `folder`."""

    services: dict[str, Any]
    folder: Path
    tools: Path
    ports: dict[str, int] = field(
        default_factory=lambda: {p: free_port() for p in ("5432", "8333", "4200", "5000", "8080")}
    )
    hosts: tuple[str, ...] = ("postgres", "s3", "prefect", "mlflow")

    def here(self, text: str, binds: dict[str, str] | None = None) -> str:
        """The container's text for this machine. Which hosts a server answers to stays as it is."""
        if text.startswith("--allowed-hosts"):
            return text
        text = re.sub(rf"\b({'|'.join(self.hosts)}):(?=\d)", "127.0.0.1:", text.replace("0.0.0.0", "127.0.0.1"))
        text = re.sub(rf"(?<!\d)({'|'.join(self.ports)})(?!\d)", lambda found: str(self.ports[found[1]]), text)
        text = re.sub("^/(tmp|data|inbox)(?=/|$)", lambda found: str(self.folder / found[1]), text)
        return (binds or {}).get(text, text)

    def environment(self, name: str) -> dict[str, str]:
        own = {key: self.here(value) for key, value in self.services[name].get("environment", {}).items()}
        path = os.pathsep.join([str(self.tools), PROGRAMS])
        return {
            "PATH": path,
            "HOME": str(self.folder / "tmp"),
            "DO_NOT_TRACK": "1",
            "MLFLOW_DISABLE_TELEMETRY": "1",
            **own,
        }

    def command(self, name: str) -> list[str]:
        mounts = self.services[name].get("volumes", [])
        binds = {mount["target"]: mount["source"] for mount in mounts if mount["type"] == "bind"}
        return [self.here(word, binds) for word in self.services[name]["command"]]

    def run(self, command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=300, cwd=self.folder, env=environment
        )

    def is_healthy(self, name: str) -> bool:
        """Whether the service's own health check passes."""
        kind, *command = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        return self.run([self.here(word) for word in command], **self.environment(name)).returncode == 0

    @contextmanager
    def process(
        self, name: str, command: list[str], ready: Callable[[], bool], end: int = signal.SIGTERM, **how: Any
    ) -> Iterator[None]:
        """The command, for the block from when it is ready; none of its processes is left."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            how = {"cwd": self.folder, "stdout": output, "stderr": output, **how}
            # A shell's background job ignores SIGINT, and so would what it starts; Prefect's worker ends by it.
            started = subprocess.Popen(command, preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL), **how)
        try:
            yield from self._until(started, ready, log)
        finally:
            family = [psutil.Process(started.pid)] if started.poll() is None else []
            family += [child for process in family for child in process.children(recursive=True)]
            started.send_signal(end)
            _, left = psutil.wait_procs(family, timeout=40)
            for process in left:
                process.kill()
            started.wait()
        assert not left, f"{name} left {left}"

    @staticmethod
    def _until(started: subprocess.Popen[bytes], ready: Callable[[], bool], log: Path) -> Iterator[None]:
        deadline = time.monotonic() + 120
        while not ready():
            assert started.poll() is None, log.read_text(errors="replace")
            assert time.monotonic() < deadline, log.read_text(errors="replace")
            time.sleep(0.5)  # a health check is a Python of its own
        yield

    def serve(self, name: str) -> Any:
        command, environment = self.command(name), self.environment(name)
        return self.process(name, command, lambda: self.is_healthy(name), env=environment)

    def query(self, database: str, statement: str, user: str | None = None) -> list[tuple[Any, ...]]:
        owner = user or database
        password = self.services["postgres"]["environment"][f"{owner.upper()}_DB_PASSWORD"]
        address = {"host": "127.0.0.1", "port": self.ports["5432"], "dbname": database}
        connection = psycopg2.connect(**address, user=owner, password=password)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall()
        finally:
            connection.close()


@contextmanager
def postgres(stack: Stack, docker_folder: Path) -> Iterator[None]:
    """A PostgreSQL server on a new cluster, in which the project's script made its databases."""
    environment = stack.environment("postgres")
    identity: dict[str, Any] = {}
    if os.getuid() == 0:  # as which PostgreSQL refuses to run
        names = {user.pw_name for user in pwd.getpwall()}
        who = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
        identity = {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:
        folder = Path(name)
        if identity:
            os.chown(folder, identity["user"], identity["group"])
        options = ["--auth-local=trust", "--auth-host=scram-sha-256", "--username=postgres", "--encoding=UTF8"]
        (folder / "password").write_text(environment["POSTGRES_PASSWORD"], encoding="utf-8")
        command = ["initdb", "--no-sync", *options, f"--pwfile={folder / 'password'}", str(folder / "data")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, env=environment, **identity)
        port = str(stack.ports["5432"])
        command = ["postgres", "-D", str(folder / "data"), "-h", "127.0.0.1", "-p", port, "-k", str(folder), "-F"]
        how = {"cwd": folder, "env": environment, "end": signal.SIGINT, **identity}
        with stack.process("postgres", command, lambda: stack.is_healthy("postgres"), **how):
            inside = environment | {"PGHOST": str(folder), "PGPORT": port}
            done = stack.run([str(docker_folder / "databases.sh")], **inside)
            assert done.returncode == 0, done.stderr
            yield


@pytest.fixture(scope="module")
def stack(
    compose: dict[str, Any], docker_folder: Path, tools: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    running = Stack(compose["services"], tmp_path_factory.mktemp("services"), tools)
    for name in ("tmp", "data", "inbox"):
        (running.folder / name).mkdir()
    with ExitStack() as services:
        services.enter_context(postgres(running, docker_folder))
        address = f"http://127.0.0.1:{running.ports['8333']}"
        moto = [str(tools / "moto_server"), "-H", "127.0.0.1", "-p", str(running.ports["8333"])]
        services.enter_context(running.process("s3", moto, lambda: accepts(running.ports["8333"])))
        for _ in range(2):  # it is run at every start
            done = running.run(running.command("bucket"), **running.environment("bucket"))
            assert done.returncode == 0, done.stderr
            assert ask(f"{address}/mlflow")[0] == 200
        services.enter_context(running.serve("prefect"))
        services.enter_context(running.serve("mlflow"))
        yield running


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def captioning(stack: Stack, *arguments: str) -> dict[str, Any]:
    """A command in the worker's environment, without Java, whose scores take ten seconds."""
    environment = stack.environment("worker") | {"PATH": str(stack.tools)}
    done = stack.run(["captioning", *arguments, "--json"], **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def trained(stack: Stack) -> dict[str, Any]:
    return captioning(stack, "train", *toy.demo({"training.steps_per_epoch": 20}))


@pytest.fixture(scope="module")
def photo(stack: Stack, trained: dict[str, Any]) -> Path:
    dataset = next((stack.folder / "data" / "downloads").glob("scenes+*"))
    with zipfile.ZipFile(dataset / "dev.zip") as archive:
        (stack.folder / "inbox" / "photo.jpg").write_bytes(archive.read(archive.namelist()[0]))
    return stack.folder / "inbox" / "photo.jpg"


def test_each_database_is_its_server_s_alone(stack: Stack) -> None:
    for database, other in (("prefect", "mlflow"), ("mlflow", "prefect")):
        assert stack.query(database, "select current_user") == [(database,)]
        with pytest.raises(psycopg2.OperationalError, match="permission denied"):
            stack.query(database, "select 1", user=other)


def test_mlflow_answers_only_to_its_names(stack: Stack) -> None:
    address = f"http://127.0.0.1:{stack.ports['5000']}/api/2.0/mlflow/experiments/get?experiment_id=0"
    assert ask(address)[0] == 200
    assert ask(address, host="mlflow:5000")[0] == 200
    assert ask(address, host="elsewhere.example")[0] == 403


def test_the_prefect_server_has_its_pages(stack: Stack) -> None:
    status, page = ask(f"http://127.0.0.1:{stack.ports['4200']}/")
    assert status == 200
    assert b"<html" in page
    assert (stack.folder / "tmp" / "prefect-ui").is_dir()


def test_the_demo_is_trained_against_the_servers(stack: Stack, trained: dict[str, Any]) -> None:
    assert trained["model_uri"] == "models:/captioner/1"
    assert stack.query("prefect", "select state_type from flow_run") == [("COMPLETED",)]
    runs = dict(stack.query("mlflow", "select run_uuid, status from runs"))
    assert set(runs.values()) == {"FINISHED"}
    assert trained["run_id"] in runs
    _, listing = ask(f"http://127.0.0.1:{stack.ports['8333']}/mlflow?list-type=2")
    assert b"/artifacts/captioner/saved_model/saved_model.pb</Key>" in listing
    assert not (stack.folder / "data" / "artifacts").exists()


def test_the_champion_captions_a_photograph(stack: Stack, photo: Path) -> None:
    found = captioning(stack, "caption", str(photo))
    ((caption,),) = [row["captions"] for row in found["photos"]]
    assert caption["caption"].split()


def test_the_scoring_image_serves_the_champion(stack: Stack, docker_folder: Path, photo: Path) -> None:
    stage = re.split(r"(?m)^FROM \S+ AS ", (docker_folder / "Dockerfile").read_text(encoding="utf-8"))
    (score,) = [body for body in stage if body.startswith("score\n")]
    check, command = (
        [stack.here(word) for word in json.loads(found)] for found in re.findall(r"(?m)CMD (\[.*\])$", score)
    )
    environment = stack.environment("score")
    ready = lambda: stack.run(check, **environment).returncode == 0  # noqa: E731
    with stack.process("score", command, ready, env=environment):
        image = base64.b64encode(photo.read_bytes()).decode()
        address = f"http://127.0.0.1:{stack.ports['8080']}/invocations"
        status, content = ask(address, {"dataframe_records": [{"image": image}]})
        assert status == 200, content
        (row,) = json.loads(content)["predictions"]
        assert row["caption"]
        assert row["error"] == ""


def test_the_worker_captions_the_inbox(stack: Stack, docker_folder: Path, photo: Path) -> None:
    check, environment = ["python", str(docker_folder / "health.py")], stack.environment("worker")
    assert stack.run(check, **environment).returncode == 1
    ready = lambda: stack.run(check, **environment).returncode == 0  # noqa: E731
    api, haste = environment["PREFECT_API_URL"], {"PREFECT_WORKER_QUERY_SECONDS": "1"}
    with stack.process("worker", stack.command("worker"), ready, env=environment | haste):
        deployment = json.loads(ask(f"{api}/deployments/name/score-images/score-nightly")[1])["id"]
        run = json.loads(ask(f"{api}/deployments/{deployment}/create_flow_run", {})[1])["id"]
        ended = f"select state_type from flow_run where id = '{run}' and end_time is not null"
        deadline = time.monotonic() + 120
        while not (states := stack.query("prefect", ended)):
            assert time.monotonic() < deadline, (stack.folder / "worker.log").read_text(errors="replace")
            time.sleep(0.2)
        assert states == [("COMPLETED",)], (stack.folder / "worker.log").read_text(errors="replace")
    (row,) = pd.read_parquet(environment["CAPTIONING_PREDICTIONS"]).to_dict("records")
    assert row["uri"].endswith("photo.jpg")
    assert row["caption"]
