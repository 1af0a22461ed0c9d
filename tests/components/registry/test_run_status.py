import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from components.registry.registration import register
from components.registry.run_status import PROCESS_TAG, LastRun, end_abandoned, last_runs, this_process
from components.registry.tracking import EXPERIMENT, tracked_run
from components.registry.versions import RegisteredModel, has_files

pytestmark = [
    pytest.mark.usefixtures("registry"),
    pytest.mark.filterwarnings("ignore:::mlflow"),  # its own imports warn
]
MakeRun = Callable[..., str]

MACHINE, NUMBER, STARTED = this_process().split("/")
DIED = f"{MACHINE}/{NUMBER}/{int(STARTED) - 3600}"
"""A process whose number is another's now."""


@pytest.fixture
def registered(package: Path, registry: str) -> RegisteredModel:
    with tracked_run("train", {}) as run_id:
        return register(package, "digest-1", "captioner", run_id, {}, "a card", None)


@pytest.fixture
def make_run(registry: str) -> MakeRun:
    """Makes a run that began at a second of 2030, with a status and, when it is given, a parent."""
    experiment = MlflowClient().get_experiment_by_name(EXPERIMENT).experiment_id

    def make(name: str, second: int, status: str = "FINISHED", parent: str = "") -> str:
        started = datetime(2030, 1, 1, 0, 0, second, tzinfo=UTC).timestamp() * 1000
        tags = {"mlflow.parentRunId": parent} if parent else {}
        run = MlflowClient().create_run(experiment, int(started), tags, name)
        MlflowClient().set_terminated(run.info.run_id, status)
        return str(run.info.run_id)

    return make


def test_a_model_has_its_files_until_they_are_gone(registered: RegisteredModel, tmp_path: Path) -> None:
    assert has_files(registered)
    shutil.move(tmp_path / "artifacts", tmp_path / "elsewhere")
    assert not has_files(registered)
    shutil.move(tmp_path / "elsewhere", tmp_path / "artifacts")
    assert has_files(registered)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "MLmodel").unlink(),
        lambda folder: (folder / "MLmodel").write_text("{:"),
        lambda folder: shutil.rmtree(folder / "artifacts" / "captioner"),
    ],
    ids=["without its description", "its description damaged", "without its network"],
)
def test_a_damaged_model_has_no_files(registered: RegisteredModel, damage: Callable[[Path], object]) -> None:
    damage(Path(mlflow.artifacts.download_artifacts(registered.uri)))
    assert not has_files(registered)


def test_a_version_that_is_not_registered_has_no_files(registry: str) -> None:
    assert not has_files(RegisteredModel("captioner", "7", "models:/captioner/7", (), ""))


def test_the_last_run_of_each_kind_is_told_the_latest_first(make_run: MakeRun) -> None:
    make_run("score 2030-01-01", 3, "FAILED")
    make_run("train", 4, "KILLED")
    make_run("train", 1)
    make_run("score 2030-01-02", 2)
    start = datetime(2030, 1, 1, tzinfo=UTC)
    assert last_runs() == [
        LastRun("train", "KILLED", start + timedelta(seconds=4)),
        LastRun("score 2030-01-01", "FAILED", start + timedelta(seconds=3)),
    ]


def test_parts_of_a_run_are_not_told(make_run: MakeRun) -> None:
    whole = make_run("train", 1)
    make_run("phase 1", 2, "FAILED", parent=whole)
    assert [run.name for run in last_runs()] == ["train"]


def test_a_run_that_was_deleted_is_not_told(make_run: MakeRun) -> None:
    make_run("train", 1)
    MlflowClient().delete_run(make_run("train", 2, "FAILED"))
    assert [run.status for run in last_runs()] == ["FINISHED"]


def test_a_run_at_work_is_running(registry: str) -> None:
    with tracked_run("train", {}):
        (found,) = last_runs()
    assert found.status == "RUNNING"
    assert abs(datetime.now(UTC) - found.started) < timedelta(minutes=1)


def test_a_run_whose_process_is_gone_is_told_as_killed_at_once(registry: str) -> None:
    experiment = MlflowClient().get_experiment_by_name(EXPERIMENT).experiment_id
    MlflowClient().create_run(experiment, run_name="train", tags={PROCESS_TAG: this_process()})
    MlflowClient().create_run(experiment, run_name="score", tags={PROCESS_TAG: DIED})
    assert {run.name: run.status for run in last_runs()} == {"train": "RUNNING", "score": "KILLED"}


def test_without_runs_or_an_experiment_nothing_is_told(registry: str) -> None:
    assert last_runs() == []
    client = MlflowClient()
    client.rename_experiment(client.get_experiment_by_name(EXPERIMENT).experiment_id, "another")
    assert last_runs() == []


def begin(**tags: str) -> str:
    experiment = MlflowClient().get_experiment_by_name(EXPERIMENT).experiment_id
    return MlflowClient().create_run(experiment, tags=tags).info.run_id


def status(run_id: str) -> str:
    return mlflow.get_run(run_id).info.status


def test_a_run_whose_process_is_gone_ends_as_killed_when_the_next_begins_and_its_phases_with_it() -> None:
    killed = begin(**{PROCESS_TAG: DIED})
    phase = begin(**{MLFLOW_PARENT_RUN_ID: killed})
    with tracked_run("the next", {}) as run_id:
        assert [status(each) for each in (killed, phase, run_id)] == ["KILLED", "KILLED", "RUNNING"]


def test_runs_at_work_those_of_other_machines_and_those_that_ended_stay_as_they_are() -> None:
    elsewhere, unknown = begin(**{PROCESS_TAG: f"not-{DIED}"}), begin()
    done = begin(**{PROCESS_TAG: DIED})
    MlflowClient().set_terminated(done, "FINISHED")
    with tracked_run("at work", {}) as run_id:
        end_abandoned(MlflowClient(), mlflow.get_run(run_id).info.experiment_id)
        found = [status(each) for each in (run_id, elsewhere, unknown, done)]
    assert found == ["RUNNING", "RUNNING", "RUNNING", "FINISHED"]
