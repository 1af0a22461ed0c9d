"""Runs in MLflow: one run a flow run, with the profile, the figures and the reports."""

import logging
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT
from sqlalchemy.exc import SQLAlchemyError

from components.artifacts import exclusive_lock, write_atomic
from components.errors import CaptioningError, find_remedy
from components.provenance import commit
from components.redaction import without_login
from components.registry.addresses import EXPERIMENT as EXPERIMENT
from components.registry.addresses import database_of
from components.registry.relocation import require_database, require_own_files
from components.registry.run_status import PROCESS_TAG, end_abandoned, this_process

log = logging.getLogger(__name__)
logging.getLogger("mlflow.system_metrics").setLevel(logging.WARNING)  # a notebook shows what it logs

FAULTS = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")
"""What MLflow calls that its server or its database fails."""


def connect(tracking_uri: str, artifacts: Path, *, create: bool = True) -> None:
    """Uses the MLflow server or database at `tracking_uri`; a new experiment keeps its files under `artifacts`.

    A server keeps them where it was told to. Without `create` nothing is written: to read, a database must be there.

    Raises:
        ConfigurationError: the database beside `artifacts` came from another home, and still points there.
        CaptioningError: there is no such server or database, or it cannot be used.
    """
    database = database_of(tracking_uri)
    if database and database.parent.resolve() == artifacts.parent.resolve():
        require_own_files(database, artifacts)
    if database and not create:
        require_database(database)
    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_registry_uri(tracking_uri)
    try:
        if database and create:
            make_database(database, artifacts)
        elif database:
            _make_or_look_into(database)
        if mlflow.get_experiment_by_name(EXPERIMENT) is None and create:
            mlflow.create_experiment(EXPERIMENT)
    except Exception as error:  # of MLflow, SQLAlchemy, SQLite, Alembic: whatever it is, the database cannot be used
        if getattr(error, "error_code", "") == "RESOURCE_ALREADY_EXISTS":  # another run was faster
            return
        advice = find_remedy(error) or (
            "Start it, or set CAPTIONING_TRACKING_URI to another (unset: a database in the project's home, which a "
            "backup brings back when it is damaged)"
        )
        raise CaptioningError(f"MLflow at {tracking_uri} cannot be used: {_told(error)}\n{advice}") from error


def _told(error: Exception) -> str:
    """Without the SQL."""
    return str(error).partition("\n")[0]


def make_database(path: Path, artifacts: Path) -> None:
    """MLflow's database, unless it is there; with an experiment, by which the home knows where it was made."""
    with exclusive_lock(path.with_name(f"{path.name}.lock"), f"opens {path}"):
        _make_or_look_into(path)
        client = MlflowClient(f"sqlite:///{path}", f"sqlite:///{path}")
        if client.get_experiment_by_name(EXPERIMENT) is None:
            client.create_experiment(EXPERIMENT, artifacts.absolute().as_uri())


def _make_or_look_into(database: Path) -> None:
    """A new database is there whole: MLflow makes it in many steps, and what ended in their middle it cannot mend.

    Raises SQLite's error for a file that is no database of its; MLflow would try for minutes.
    """
    if database.exists() or database.is_symlink():
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA schema_version")
        return
    with write_atomic(database) as temporary:
        for leftover in (temporary, temporary.with_name(f"{temporary.name}-journal")):
            leftover.unlink(missing_ok=True)
        MlflowClient(f"sqlite:///{temporary}", f"sqlite:///{temporary}").search_experiments()


@contextmanager
def tracked_run(name: str, params: Mapping[str, Any]) -> Iterator[str]:
    """A run that ends finished, or failed when the block raises, with the machine's load and the commit. Gives its id.

    Runs that were killed on this machine end as such when the next one begins. Raises `CaptioningError` when MLflow
    fails meanwhile.
    """
    client = MlflowClient()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    end_abandoned(client, experiment.experiment_id)
    tags = {PROCESS_TAG: this_process()} | ({MLFLOW_GIT_COMMIT: commit()} if commit() else {})
    run = client.create_run(experiment.experiment_id, run_name=name, tags=tags)
    run_id: str = run.info.run_id
    status = "FAILED"
    try:
        client.log_batch(run_id, params=[Param(key, str(value)) for key, value in flatten(params).items()])
        client.log_dict(run_id, dict(params), "parameters.json")
        with _watched(run_id):
            yield run_id
        status = "FINISHED"
        client.set_terminated(run_id, status)
    except (MlflowException, SQLAlchemyError) as error:
        if getattr(error, "error_code", FAULTS[0]) not in FAULTS:  # ours
            raise
        raise CaptioningError(
            f"MLflow at {mlflow.get_tracking_uri()} failed: {_told(error)}\n"
            f"{find_remedy(error) or 'Look after it'}, and run again: finished stages are reused"
        ) from error
    except BaseException as error:
        status = status_after(type(error))
        raise
    finally:
        if status != "FINISHED":
            _end(run_id, status)


def status_after(error: type[BaseException]) -> str:
    """What MLflow calls a run that ended by this: KILLED after Ctrl-C, SIGTERM, and what Prefect makes of them."""
    return "FAILED" if issubclass(error, Exception | SystemExit) else "KILLED"


def _end(run_id: str, status: str) -> None:
    """Ends the run when MLflow lets us: what went wrong before it is what people shall hear of."""
    try:
        MlflowClient().set_terminated(run_id, status)
    except (MlflowException, SQLAlchemyError) as error:
        log.warning("MLflow could not be told that its run %s ended: %s", run_id, _told(error))


@contextmanager
def _watched(run_id: str) -> Iterator[None]:
    monitor = SystemMetricsMonitor(run_id)
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()


def log_metrics(run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
    """Figures of the run at a step (an epoch)."""
    now = int(time.time() * 1000)
    MlflowClient().log_batch(run_id, [Metric(key, value, now, step) for key, value in metrics.items()])


def log_file(run_id: str, path: Path, folder: str | None = None) -> None:
    """A file of the run, such as a report."""
    MlflowClient().log_artifact(run_id, str(path), folder)


def log_dict(run_id: str, content: Mapping[str, Any], name: str) -> None:
    """A JSON file of the run."""
    MlflowClient().log_dict(run_id, dict(content), name)


def log_text(run_id: str, text: str, name: str) -> None:
    """A text file of the run, such as a page."""
    MlflowClient().log_text(run_id, text, name)


def page_of(run_id: str, file: str) -> str:
    """Where people can look at a file of the run: MLflow's page when it is a server, else the file itself."""
    address, run = mlflow.get_tracking_uri(), MlflowClient().get_run(run_id).info
    if address.startswith("http"):
        return f"{without_login(address).rstrip('/')}/#/experiments/{run.experiment_id}/runs/{run_id}/artifacts/{file}"
    return f"{run.artifact_uri}/{file}"


def flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` → `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in params.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
