"""What can be deleted from the home folder and from MLflow, a plan first; the champion and all that it needs stay.

Of MLflow's, these stay whatever their age: every version with an alias, the champions before the champion, the runs
that made those versions or evaluated them, with all that is nested in these; and what other projects keep there.
Nothing that was used since the oldest run began that is at work now goes, so that none loses what it stands on.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from components.registry import mlflow_inventory
from components.registry.mlflow_inventory import MlflowInventory
from components.registry.promotion import BEFORE_TAG, EVALUATION_TAG
from components.registry.run_status import is_live, time_of
from components.registry.versions import CHAMPION
from components.retention import CleanupCandidate, free_in_home, home_leftovers

log = logging.getLogger(__name__)

MAX_ROWS = 3
"""Addresses outside the home that are named."""
SILENT = timedelta(days=1)
"""A run that has not ended and was not heard of for so long was killed: one at work tells of its machine's load."""


def plan_cleaning(home: Path, age: timedelta) -> list[CleanupCandidate]:
    """What was not used for so long, and is needed by nothing that stays: in `home`, and in the MLflow in use.

    What MLflow keeps in folders outside the home is not among it, and is logged.
    """
    found = MlflowInventory.read()
    live = [time_of(run.info.start_time) for run in found.runs if is_live(run, SILENT)]
    before = min([datetime.now(UTC) - age, *live])
    elsewhere: list[str] = []
    leftovers = list(_leftovers(found, before, home, elsewhere))
    if elsewhere:
        message = f"{', '.join(elsewhere[:MAX_ROWS])}{' …' if len(elsewhere) > MAX_ROWS else ''}"
        log.warning("%d of MLflow's entries stay: their files lie outside %s: %s", len(elsewhere), home, message)
    return [*home_leftovers(home, before), *leftovers]


def clean(plan: Iterable[CleanupCandidate]) -> int:
    """Frees what the plan lists, but for what was used or is needed since. Returns the bytes freed.

    What cannot be freed is logged, and stays; what is gone already is fine.
    """
    freed, of_mlflow = 0, {"version": _free_version, "model": lambda one: _free_model(one.where), "run": _free_family}
    # Versions before the runs, which they need.
    for leftover in sorted(plan, key=lambda leftover: leftover.kind != "version"):
        try:
            freed += of_mlflow.get(leftover.kind, free_in_home)(leftover)
        except (MlflowException, OSError) as error:
            log.warning("%s %s stays: %s", leftover.kind, leftover.where, error)
    return freed


def _leftovers(
    found: MlflowInventory, before: datetime, home: Path, elsewhere: list[str]
) -> Iterator[CleanupCandidate]:
    """What can be deleted; the addresses of what would, were it in the home, are added to `elsewhere`."""

    def may_go(places: list[str]) -> bool:
        outside = [place for place in places if not mlflow_inventory.may_delete(place, home)]
        elsewhere.extend(outside[:1])
        return not outside

    in_use = {name: _versions_in_use(name) for name in {version.name for version in found.versions}}
    models, staying = {model.model_id: model for model in found.models}, []
    for version in found.versions:
        used = found.version_used(version)
        if used >= before or str(version.version) in in_use[version.name]:
            staying.append(version)
            continue
        model, where = models.get(mlflow_inventory.model_id(version)), f"models:/{version.name}/{version.version}"
        if model and not may_go([model.artifact_location]):
            staying.append(version)
            continue
        size = mlflow_inventory.bytes_at(model.artifact_location) if model else 0
        yield CleanupCandidate("version", where, where, size, used, "it has no alias, and no rollback leads to it")
    needed, going = _runs_of(staying), set[str]()
    for root, family in found.families.items():
        ids, used = {run.info.run_id: run.info.run_name for run in family}, mlflow_inventory.family_used(family)
        if used < before and not needed & ids.keys():
            places = [run.info.artifact_uri for run in family]
            places += [model.artifact_location for model in found.own_models(family)]
            if not may_go(places):
                continue
            going |= ids.keys()
            size = sum(mlflow_inventory.bytes_at(place) for place in places)
            yield CleanupCandidate(
                "run", ids[root], f"runs:/{root}", size, used, "it made or evaluated no version that stays"
            )
    for model in found.models:
        used = time_of(model.last_updated_timestamp)
        orphan = model.model_type == "captioner" and model.model_id not in found.registered
        unused = orphan and used < before and model.source_run_id not in going
        if unused and may_go([model.artifact_location]):
            where, size = f"models:/{model.model_id}", mlflow_inventory.bytes_at(model.artifact_location)
            yield CleanupCandidate("model", model.name, where, size, used, "it is no version, or is none any more")


def _versions_in_use(name: str) -> set[str]:
    """Those with an alias, and the champion's way back."""
    client = MlflowClient()
    aliases = client.get_registered_model(name).aliases
    found, version = set[str](), str(aliases.get(CHAMPION, ""))
    while version and version not in found:
        found.add(version)
        with suppress(MlflowException):  # somebody deleted it: the way ends there
            version = str(client.get_model_version(name, version).tags.get(BEFORE_TAG, ""))
    return found | {str(version) for version in aliases.values()}


def _runs_of(versions: Iterable[Any]) -> set[str]:
    """The runs that made the versions or evaluated them."""
    needed = set()
    for version in versions:
        evaluations = [where for tag, where in version.tags.items() if tag.startswith(EVALUATION_TAG)]
        needed |= {version.run_id, *(where.partition("/")[0] for where in evaluations)}
    return needed


def _free_version(leftover: CleanupCandidate) -> int:
    name, _, number = leftover.where.removeprefix("models:/").rpartition("/")
    found = MlflowInventory.read()
    version = next((v for v in found.versions if (v.name, str(v.version)) == (name, number)), None)
    if version is None or found.version_used(version) > leftover.used or number in _versions_in_use(name):
        return 0
    MlflowClient().delete_model_version(name, number)  # first: nobody shall find half a model
    return _free_model(str(version.source))


def _free_model(address: str) -> int:
    """Frees a logged model, unless it is a version, of which several may be the same model."""
    found = MlflowInventory.read()
    gone = [m for m in found.models if address == f"models:/{m.model_id}" and m.model_id not in found.registered]
    return sum(mlflow_inventory.discard_model(model) for model in gone)


def _free_family(leftover: CleanupCandidate) -> int:
    found = MlflowInventory.read()
    family = found.families.get(leftover.where.removeprefix("runs:/"), [])
    ids = {run.info.run_id for run in family}
    if not family or mlflow_inventory.family_used(family) > leftover.used or ids & _runs_of(found.versions):
        return 0
    freed = sum(mlflow_inventory.discard_model(model) for model in found.own_models(family))
    for run in family:
        freed += mlflow_inventory.delete_files(run.info.artifact_uri)
        MlflowClient().delete_run(run.info.run_id)  # last: after a kill the next cleaning finds it again
    return freed
