import asyncio
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from unittest import mock

import mlflow
import psutil
import pytest
from mlflow.entities import Run

from components.registry.tracking import (
    EXPERIMENT,
    connect,
    flatten,
    log_dict,
    log_file,
    log_metrics,
    page_of,
    tracked_run,
)

pytestmark = [
    pytest.mark.usefixtures("registry"),
    pytest.mark.filterwarnings("ignore:::mlflow"),  # its own imports warn
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
    ("error", "status"),
    [
        (BrokenError, "FAILED"),
        (KeyboardInterrupt, "KILLED"),
        (asyncio.CancelledError, "KILLED"),
        (SystemExit, "FAILED"),
    ],
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


def system_metrics(run_id: str) -> set[str]:
    return {name for name in mlflow.get_run(run_id).data.metrics if name.startswith("system/")}


def monitors() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "SystemMetricsMonitor"]


def wait_until(happened: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.fixture
def often() -> Iterator[None]:
    """MLflow looks at the machine many times a second, not every ten."""
    with mock.patch.dict(os.environ):
        mlflow.set_system_metrics_sampling_interval(0.05)
        yield


@pytest.mark.usefixtures("often")
def test_a_run_has_the_load_of_the_machine() -> None:
    with tracked_run("a run", {}) as run_id:
        wait_until(lambda: len(system_metrics(run_id)) > 3, "no system metrics")
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= system_metrics(run_id)
    history = mlflow.MlflowClient().get_metric_history(run_id, "system/cpu_utilization_percentage")
    assert [metric.step for metric in history] == [*range(len(history))]
    assert mlflow.get_run(run_id).info.status == "FINISHED"


@pytest.mark.usefixtures("often")
def test_the_load_is_beside_the_runs_own_figures() -> None:
    with tracked_run("a run", {}) as run_id:
        for step in range(20):
            log_metrics(run_id, {"loss": float(step)}, step)
        wait_until(lambda: system_metrics(run_id), "no system metrics")
    assert len(mlflow.MlflowClient().get_metric_history(run_id, "loss")) == 20


@pytest.mark.parametrize("error", [None, BrokenError, KeyboardInterrupt, SystemExit])
def test_nothing_watches_the_machine_after_a_run_however_it_ends(error: type[BaseException] | None) -> None:
    before = monitors()
    expectation = pytest.raises(error) if error else nullcontext()
    started = time.monotonic()
    with expectation, tracked_run("a run", {}):
        assert len(monitors()) == len(before) + 1
        if error:
            raise error
    assert monitors() == before
    assert time.monotonic() - started < 5, "the end waited for the next look at the machine"


def test_nothing_watches_the_machine_after_a_run_whose_parameters_cannot_be_logged() -> None:
    before = monitors()
    with pytest.raises(mlflow.MlflowException), tracked_run("a run", {"not a { key": 1}):
        pytest.fail("the block is not to be run")
    assert monitors() == before


def test_a_run_on_a_machine_that_cannot_be_watched_does_not_stay_running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "net_io_counters", lambda: None)  # as where there is no network at all
    with suppress(Exception), tracked_run("a run", {}):
        pass
    assert last_run().info.status != "RUNNING"
    assert monitors() == []


def test_two_runs_at_once_have_their_own_ends() -> None:
    with tracked_run("outer", {}) as outer:
        with tracked_run("inner", {}) as inner:
            assert len(monitors()) == 2
        assert len(monitors()) == 1
        assert [mlflow.get_run(run_id).info.status for run_id in (outer, inner)] == ["RUNNING", "FINISHED"]
    assert mlflow.get_run(outer).info.status == "FINISHED"


def test_a_files_page_is_the_file_or_mlflows_page_of_it(
    registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tracked_run("run", {}) as run_id:
        log_file(run_id, Path(__file__), "evaluation")
    link = page_of(run_id, f"evaluation/{Path(__file__).name}")
    assert Path(link.removeprefix("file://")).read_bytes() == Path(__file__).read_bytes()
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "http://mlflow:5000/")
    experiment = mlflow.MlflowClient(registry).get_run(run_id).info.experiment_id
    assert page_of(run_id, "a.html") == f"http://mlflow:5000/#/experiments/{experiment}/runs/{run_id}/artifacts/a.html"
