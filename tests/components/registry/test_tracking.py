import json
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run

from components.registry.tracking import (
    EXPERIMENT,
    connect,
    flatten,
    log_dict,
    log_file,
    log_metrics,
    tracked_run,
)

pytestmark = [
    pytest.mark.usefixtures("registry"),
    pytest.mark.filterwarnings("ignore:::mlflow"),  # its own imports warn, and its use of SQLAlchemy 2.1
]


class BrokenError(Exception):
    """Work that fails."""


def last_run() -> Run:
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    return client.search_runs([experiment.experiment_id], max_results=1)[0]


def test_connecting_again_changes_nothing(registry: str, tmp_path: Path) -> None:
    before = mlflow.get_experiment_by_name(EXPERIMENT)
    connect(registry, tmp_path / "elsewhere")
    after = mlflow.get_experiment_by_name(EXPERIMENT)
    assert after.experiment_id == before.experiment_id
    assert after.artifact_location == before.artifact_location == (tmp_path / "artifacts").as_uri()
    assert (mlflow.get_tracking_uri(), mlflow.get_registry_uri()) == (registry, registry)


def test_a_run_ends_finished_with_its_parameters() -> None:
    with tracked_run("a run", {"profile": {"name": "toy", "splits": ["a", "b"]}, "beam": 3}) as run_id:
        assert mlflow.get_run(run_id).info.status == "RUNNING"
    run = mlflow.get_run(run_id)
    assert (run.info.run_name, run.info.status) == ("a run", "FINISHED")
    assert run.data.params == {"profile.name": "toy", "profile.splits": "['a', 'b']", "beam": "3"}
    parameters = json.loads(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/parameters.json"))
    assert parameters == {"profile": {"name": "toy", "splits": ["a", "b"]}, "beam": 3}


@pytest.mark.parametrize(
    ("error", "status"), [(BrokenError, "FAILED"), (KeyboardInterrupt, "KILLED"), (SystemExit, "FAILED")]
)
def test_a_run_that_breaks_off_says_how(error: type[BaseException], status: str) -> None:
    with pytest.raises(error), tracked_run("a run", {}):
        raise error
    assert last_run().info.status == status


def test_a_run_whose_parameters_cannot_be_logged_does_not_stay_running() -> None:
    with pytest.raises(mlflow.MlflowException), tracked_run("a run", {"not a { key": 1}):
        pytest.fail("the block is not to be run")
    assert last_run().info.status == "FAILED"


def test_figures_and_files_are_the_runs(tmp_path: Path) -> None:
    (tmp_path / "gallery.html").write_text("<html>", encoding="utf-8")
    with tracked_run("a run", {}) as run_id:
        for step, loss in ((1, 3.0), (2, 2.5)):
            log_metrics(run_id, {"loss": loss}, step)
        log_file(run_id, tmp_path / "gallery.html", "evaluation")
        log_dict(run_id, {"passed": True}, "contracts/captions.json")
    history = mlflow.MlflowClient().get_metric_history(run_id, "loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 3.0), (2, 2.5)]
    address = mlflow.get_run(run_id).info.artifact_uri
    assert mlflow.artifacts.load_text(f"{address}/evaluation/gallery.html") == "<html>"
    assert mlflow.artifacts.load_dict(f"{address}/contracts/captions.json") == {"passed": True}


def test_nested_parameters_are_named_by_their_path() -> None:
    nested = {"a": {"b": {"c": 1, "d": [2]}, "e": None}, "f": "x", "empty": {}}
    assert flatten(nested) == {"a.b.c": 1, "a.b.d": [2], "a.e": None, "f": "x"}
