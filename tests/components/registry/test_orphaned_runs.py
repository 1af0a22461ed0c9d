import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from components.registry.orphaned_runs import PROCESS_TAG, end_abandoned, this_process
from components.registry.tracking import EXPERIMENT, tracked_run

pytestmark = [
    pytest.mark.usefixtures("registry"),
    pytest.mark.filterwarnings("ignore:::mlflow"),  # its own imports warn
]

MACHINE, NUMBER, STARTED = this_process().split("/")
DIED = f"{MACHINE}/{NUMBER}/{int(STARTED) - 3600}"
"""A process whose number is another's now."""


def make_run(**tags: str) -> str:
    experiment = MlflowClient().get_experiment_by_name(EXPERIMENT).experiment_id
    return MlflowClient().create_run(experiment, tags=tags).info.run_id


def status(run_id: str) -> str:
    return mlflow.get_run(run_id).info.status


def test_a_run_whose_process_is_gone_ends_as_killed_when_the_next_begins_and_its_phases_with_it() -> None:
    killed = make_run(**{PROCESS_TAG: DIED})
    phase = make_run(**{MLFLOW_PARENT_RUN_ID: killed})
    with tracked_run("the next", {}) as run_id:
        assert [status(each) for each in (killed, phase, run_id)] == ["KILLED", "KILLED", "RUNNING"]


def test_runs_at_work_those_of_other_machines_and_those_that_ended_stay_as_they_are() -> None:
    elsewhere, unknown = make_run(**{PROCESS_TAG: f"not-{DIED}"}), make_run()
    done = make_run(**{PROCESS_TAG: DIED})
    MlflowClient().set_terminated(done, "FINISHED")
    with tracked_run("at work", {}) as run_id:
        end_abandoned(MlflowClient(), mlflow.get_run(run_id).info.experiment_id)
        found = [status(each) for each in (run_id, elsewhere, unknown, done)]
    assert found == ["RUNNING", "RUNNING", "RUNNING", "FINISHED"]
