"""Runs of processes that were killed: for MLflow they are at work for ever, unless somebody says otherwise."""

import platform
from contextlib import suppress
from typing import Any

import psutil
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

PROCESS_TAG = "captioning.process"
"""Of a run: machine, number and start of the process that is at work on it."""
SAME = 60.0
"""Seconds by which a process's start may differ when it is told again: clocks are set."""


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
