"""What MLflow keeps of this project, and how its files are freed: MLflow itself only marks what it deletes.

The rows of what was freed stay, hidden, until `mlflow gc`.
"""

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from components.registry.addresses import EXPERIMENT, is_in_home, local_path
from components.registry.run_status import time_of
from components.registry.versions import DIGEST_TAG, require_connection
from components.retention import bytes_below


@dataclass(frozen=True)
class MlflowInventory:
    """MLflow's own objects."""

    versions: list[Any]
    registered: set[str]
    """Ids of the logged models that are some version, of whatever project."""
    models: list[Any]
    """Logged models."""
    families: dict[str, list[Any]]
    """Runs, with those nested in them, by the id of the outermost."""

    @classmethod
    def read(cls) -> "MlflowInventory":
        """Of the MLflow in use."""
        require_connection()
        client = MlflowClient()
        experiment = client.get_experiment_by_name(EXPERIMENT)
        ids = [experiment.experiment_id] if experiment else []
        versions = list(_pages(client.search_model_versions))
        runs = {run.info.run_id: run for run in (_pages(client.search_runs, experiment_ids=ids) if ids else ())}
        families = defaultdict(list)
        for run_id, run in runs.items():
            root = run_id
            while (parent := runs[root].data.tags.get(MLFLOW_PARENT_RUN_ID)) in runs:
                root = parent
            families[root].append(run)
        return cls(
            versions=[version for version in versions if DIGEST_TAG in version.tags],
            registered={model_id(version) for version in versions},
            models=list(_pages(client.search_logged_models, experiment_ids=ids)) if ids else [],
            families=dict(families),
        )

    @property
    def runs(self) -> Iterator[Any]:
        """All runs."""
        return (run for family in self.families.values() for run in family)

    def own_models(self, family: Iterable[Any]) -> list[Any]:
        """The logged models of these runs that are no version."""
        ids = {run.info.run_id for run in family}
        return [m for m in self.models if m.source_run_id in ids and m.model_id not in self.registered]

    def version_used(self, version: Any) -> datetime:
        """When a version last changed, or a run worked with it."""
        where = f"models:/{version.name}/{version.version}"
        uses = (run.info.start_time for run in self.runs if where in run.data.params.values())
        return time_of(max([version.creation_timestamp, version.last_updated_timestamp or 0, *uses]))


def model_id(version: Any) -> str:
    """Of the logged model that a version is."""
    return str(version.source or "").removeprefix("models:/")


def family_used(family: Iterable[Any]) -> datetime:
    """When the last of these runs began or ended."""
    return time_of(max(max(run.info.start_time, run.info.end_time or 0) for run in family))


def discard_model(model: Any) -> int:
    """Frees a logged model. Returns the bytes freed."""
    freed = delete_files(model.artifact_location)
    MlflowClient().delete_logged_model(model.model_id)
    return freed


def delete_files(place: str) -> int:
    """Frees what lies at an artifact address. Returns the bytes freed."""
    freed, path = bytes_at(place), local_path(place)
    if path is None:
        get_artifact_repository(place).delete_artifacts()
    elif path.exists():
        shutil.rmtree(path)  # not by MLflow, which decodes an address twice to delete, and once to read
        with suppress(OSError):  # MLflow's folder around it, if it is empty now
            path.parent.rmdir()
    return freed


def may_delete(place: str, home: Path) -> bool:
    """Whether an artifact address is of something in this home, or in a storage that is no folder, such as S3."""
    path = local_path(place)
    if path:
        return is_in_home(path, home)
    if place.startswith(("runs:", "models:")):  # wherever that is
        return False
    try:
        get_artifact_repository(place)
    except (MlflowException, ValueError):  # an address that MLflow cannot use
        return False
    return True


def bytes_at(place: str) -> int:
    """Of all files at an artifact address."""
    if path := local_path(place):
        return bytes_below(path)
    repository = get_artifact_repository(place)

    def below(folder: str | None) -> int:
        found = repository.list_artifacts(folder)
        return sum(below(entry.path) if entry.is_dir else entry.file_size or 0 for entry in found)

    return below(None)


def _pages(search: Callable[..., Any], **arguments: Any) -> Iterator[Any]:
    page = search(**arguments)
    yield from page
    while page.token:
        page = search(page_token=page.token, **arguments)
        yield from page
