"""How runs are doing: which are at work, which were killed, and how the last of each kind ended.

For MLflow the run of a killed process is at work for ever, unless somebody says otherwise.
"""

import platform
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from components.registry.addresses import EXPERIMENT
from components.registry.versions import require_connection

PROCESS_TAG = "captioning.process"
"""Of a run: machine, number and start of the process that is at work on it."""
SAME = 60.0
"""Seconds by which a process's start may differ when it is told again: clocks are set."""
SILENT = timedelta(minutes=5)
"""A run at work tells of the machine's load every ten seconds."""
_HEARTBEAT = "system/cpu_utilization_percentage"


@dataclass(frozen=True)
class LastRun:
    """The last of the runs that do the same."""

    name: str
    status: str
    """MLflow's: FINISHED, FAILED, KILLED or RUNNING; KILLED also when it is RUNNING without a heartbeat."""
    started: datetime


def this_process() -> str:
    """What `PROCESS_TAG` says of a run of this process."""
    process = psutil.Process()
    return f"{platform.node()}/{process.pid}/{process.create_time():.0f}"


def end_abandoned(client: MlflowClient, experiment_id: str) -> None:
    """Ends as killed each run whose process was on this machine and is no more, and those nested in it."""
    running = client.search_runs([experiment_id], "attributes.status = 'RUNNING'")
    dead = {run.info.run_id for run in running if has_died(run)}
    parts = [run for run in running if run.data.tags.get(MLFLOW_PARENT_RUN_ID) in dead]
    for run_id in [*(part.info.run_id for part in parts), *dead]:  # by its parent a part is found
        client.set_terminated(run_id, "KILLED")


def has_died(run: Any) -> bool:
    """Whether the process at work on a run was on this machine, and is no more."""
    machine, _, process = run.data.tags.get(PROCESS_TAG, "").partition("/")
    if not process or machine != platform.node():
        return False
    number, _, started = process.partition("/")
    with suppress(psutil.NoSuchProcess):
        return bool(abs(psutil.Process(int(number)).create_time() - float(started)) > SAME)
    return True


def is_live(run: Any, silent: timedelta) -> bool:
    """Whether a run is at work now: it has not ended, and was heard of within that time."""
    if run.info.status != "RUNNING":
        return False
    heard = [metric.timestamp for metric in MlflowClient().get_metric_history(run.info.run_id, _HEARTBEAT)]
    return datetime.now(UTC) - time_of(max([run.info.start_time, *heard])) < silent


def time_of(milliseconds: int) -> datetime:
    """MLflow's times."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def last_runs() -> list[LastRun]:
    """The last run of each kind (`train`, `score` …), the latest first, of the last 100 runs."""
    require_connection()
    client = MlflowClient()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return []
    runs = client.search_runs([experiment.experiment_id], max_results=100, order_by=["start_time DESC"])
    found: dict[str, LastRun] = {}
    for run in runs:
        if MLFLOW_PARENT_RUN_ID in run.data.tags:  # a part of another
            continue
        name = str(run.info.run_name)
        silent = run.info.status == "RUNNING" and (has_died(run) or not is_live(run, SILENT))
        status = "KILLED" if silent else run.info.status
        found.setdefault(name.split(" ")[0], LastRun(name, status, time_of(run.info.start_time)))
    return list(found.values())
