"""A registered model in one file, to be carried into another registry: all that it captions and is compared by.

The archive (`components.model.model_archive`) has `model/`, MLflow's folder as it is, and for each evaluation of the
version `evaluations/NUMBER/evaluation` (summary and predictions) and `…/contracts` (reports), which a promotion on the
other side compares. A model is code: import only what somebody whom you trust has exported.
"""

import logging
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from pydantic import BaseModel, Field, NonNegativeInt

from components.errors import CaptioningError, ConfigurationError, find_remedy
from components.evaluation.summary import PREDICTIONS_FILE, SUMMARY_FILE
from components.model.integrity import require_model
from components.model.model_archive import read_model_archive, write_model_archive
from components.registry.promotion import EVALUATION_TAG, read_evaluation, record_evaluation
from components.registry.registration import add_version, challenge, find_version
from components.registry.tracking import tracked_run
from components.registry.versions import RegisteredModel, describe

log = logging.getLogger(__name__)

MODEL, EVALUATIONS, EVALUATION, CONTRACTS = "model", "evaluations", "evaluation", "contracts"
NAME = r"^[^/:@'\"\\\x00-\x1f]{1,200}$"
"""What a model may be called: MLflow's URIs and filters have no way to quote the rest."""

_Digest = Annotated[str, Field(pattern=r"^[0-9A-Za-z_-]{1,128}$")]


@dataclass(frozen=True)
class ExportedModel:
    """An archive with a model in it."""

    path: Path
    model: RegisteredModel
    evaluations: int
    files: int
    bytes: int


class _Evaluated(BaseModel, frozen=True):
    data: _Digest
    """Of the images and references; what the evaluation's tag ends with."""
    started: NonNegativeInt
    """Milliseconds since 1970: of several evaluations the last counts."""


class _Contents(BaseModel, frozen=True):
    name: Annotated[str, Field(pattern=NAME)]
    version: str
    digest: _Digest
    description: str
    evaluations: tuple[_Evaluated, ...]


def export_model(uri: str, target: Path) -> ExportedModel:
    """Writes the version that `models:/name/version` or `models:/name@alias` means into one file, `target`.

    The same version with the same evaluations makes the same file. An evaluation whose run has lost its files is left
    out, with a warning: the other side can evaluate the model again.
    """
    model, client = describe(uri), MlflowClient()
    if not model.digest:
        raise CaptioningError(f"{model.uri} is no captioner that `captioning train` registered: export another version")
    version = client.get_model_version(model.name, model.version)
    with TemporaryDirectory() as parts:
        folder = Path(parts)
        _download(model.uri, folder / MODEL)
        (folder / MODEL / "registered_model_meta").unlink(missing_ok=True)  # MLflow's note on this registry
        for compiled in list((folder / MODEL).rglob("__pycache__")):  # whoever served the model where it lies left it
            shutil.rmtree(compiled)
        evaluations = tuple(_collect_evaluations(version.tags, folder / EVALUATIONS))
        contents = _Contents(
            name=model.name,
            version=model.version,
            digest=model.digest,
            description=version.description or "",
            evaluations=evaluations,
        )
        files = write_model_archive(folder, contents.model_dump(mode="json"), target)
    return ExportedModel(target, model, len(evaluations), files, target.stat().st_size)


def import_model(zip_path: Path, name: str | None = None) -> RegisteredModel:
    """Registers what `export_model` wrote, under `name` or its own, as the next version.

    It becomes the challenger, and the champion when there is none. Nothing is registered before everything is checked.
    A package that is registered already is not registered again; it gets the evaluations that it lacks.
    """
    if name is not None and not re.fullmatch(NAME, name):
        raise ConfigurationError(f"a model cannot be called {name!r}: no slashes, colons, quotes or @, and not nothing")
    with TemporaryDirectory() as parts:
        folder = Path(parts)
        contents = unpack_model(zip_path, folder)
        return _register(folder, contents, name or contents.name)


def unpack_model(zip_path: Path, folder: Path) -> _Contents:
    """Unpacks into `folder` what `export_model` wrote, and checks all of it. Runs nothing, and registers nothing.

    Raises `CaptioningError`.
    """
    listed = read_model_archive(zip_path, folder)
    try:
        contents = _Contents.model_validate(listed)
        _require_complete(folder, contents)
    except (ValueError, CaptioningError) as error:
        raise CaptioningError(f"{zip_path} is no exported model: {error}. Export the model again") from error
    return contents


def _collect_evaluations(tags: dict[str, str], folder: Path) -> Iterator[_Evaluated]:
    """Puts the evaluations that a version's tags point to below `folder`, each into the folder of its number."""
    number = 0
    for data, where in sorted(
        (tag.removeprefix(EVALUATION_TAG), w) for tag, w in tags.items() if EVALUATION_TAG in tag
    ):
        (run_id, _, name), place = where.partition("/"), folder / str(number)
        try:
            started = MlflowClient().get_run(run_id).info.start_time
            for file in (SUMMARY_FILE, PREDICTIONS_FILE):
                _download(f"runs:/{run_id}/{name}/{file}", place / EVALUATION)
            _download(f"runs:/{run_id}/{CONTRACTS}", place)
        except (MlflowException, CaptioningError) as error:
            log.warning("the evaluation on %s stays behind: the run %s has lost its files (%s)", data, run_id, error)
            shutil.rmtree(place, ignore_errors=True)
            continue
        yield _Evaluated(data=data, started=started)
        number += 1


def _download(uri: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        mlflow.artifacts.download_artifacts(uri, dst_path=str(folder))
    except (MlflowException, OSError) as error:
        advice = find_remedy(error) or "Are its files still where they were?"
        raise CaptioningError(f"cannot read {uri}: {error}. {advice}") from error


def _require_complete(folder: Path, contents: _Contents) -> None:
    """Raises `ValueError` or `CaptioningError` when something lacks, or is damaged, that model or promotion needs."""
    require_model(folder / MODEL)
    for number, evaluated in enumerate(contents.evaluations):
        place = folder / EVALUATIONS / str(number)
        data = read_evaluation(place / EVALUATION, place / CONTRACTS).data
        if data != evaluated.data:
            raise ValueError(f"its evaluation {number} is on {data}, not on {evaluated.data}")
        if not (place / CONTRACTS).is_dir():
            raise ValueError(f"its evaluation {number} lacks contracts")


def _register(folder: Path, contents: _Contents, name: str) -> RegisteredModel:
    version = find_version(name, contents.digest)
    tags = MlflowClient().get_model_version(name, version).tags if version else {}
    missing = {
        n: evaluated for n, evaluated in enumerate(contents.evaluations) if EVALUATION_TAG + evaluated.data not in tags
    }
    if version is None or missing:
        origin = contents.model_dump(include={"name", "version", "digest"})
        with tracked_run(f"import {name}", {"exported": origin}) as run_id:
            version = version or add_version(folder / MODEL, contents.digest, name, run_id, contents.description)
            for number, evaluated in missing.items():
                logged = _log_evaluation(folder / EVALUATIONS / str(number), evaluated, run_id)
                record_evaluation(describe(f"models:/{name}/{version}"), evaluated.data, logged, EVALUATION)
    return challenge(name, version)


def _log_evaluation(folder: Path, evaluated: _Evaluated, parent: str) -> str:
    """A run nested in the import, of the time of the evaluation: a run has one folder of contracts."""
    client = MlflowClient()
    experiment = client.get_run(parent).info.experiment_id
    tags = {MLFLOW_PARENT_RUN_ID: parent}
    run = client.create_run(experiment, evaluated.started, tags, f"imported evaluation on {evaluated.data[:16]}")
    client.log_artifacts(run.info.run_id, str(folder))
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)
