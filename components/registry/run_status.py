"""What a look at MLflow tells: whether a model's files are there, and how the last runs ended."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import mlflow
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from components.registry.mlflow_inventory import is_live
from components.registry.orphaned_runs import has_died
from components.registry.tracking import EXPERIMENT, require_connection
from components.registry.versions import RegisteredModel

SILENT = timedelta(minutes=5)
"""A run at work tells of the machine's load every ten seconds."""


@dataclass(frozen=True)
class LastRun:
    """The last of the runs that do the same."""

    name: str
    status: str
    """MLflow's: FINISHED, FAILED, KILLED or RUNNING; KILLED also when it only runs by its word: no sign of life."""
    started: datetime


def has_files(model: RegisteredModel) -> bool:
    """Whether the files of a registered model can be found where MLflow says that they are."""
    try:
        parts = mlflow.models.get_model_info(model.uri).flavors["python_function"]["artifacts"].values()
        return all(mlflow.artifacts.list_artifacts(f"{model.uri}/{part['path']}") for part in parts)
    except Exception:  # noqa: BLE001 - of a damaged description almost anything
        return False


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
        name, started = str(run.info.run_name), datetime.fromtimestamp(run.info.start_time / 1000, UTC)
        silent = run.info.status == "RUNNING" and (has_died(run) or not is_live(run, SILENT))
        found.setdefault(name.split(" ")[0], LastRun(name, "KILLED" if silent else run.info.status, started))
    return list(found.values())
