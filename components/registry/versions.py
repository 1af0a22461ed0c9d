"""Models in the registry: finding one by its URI, and loading it."""

import json
import logging
import runpy
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from components.decoder.caption import Search
from components.errors import CaptioningError, ConfigurationError, find_remedy
from components.model.captioner import CAPTIONER_FOLDER, CODE_FILE, MODEL_SCHEMA, Captioner
from components.model.integrity import SEAL_TAG, require_model, without_bytecode
from components.registry.addresses import database_of
from components.registry.relocation import require_database

log = logging.getLogger(__name__)

CHAMPION, CHALLENGER = "champion", "challenger"
DIGEST_TAG = "captioning.package"
LOST = "Are its files still where they were? After a move of the project: captioning relocate"


@dataclass(frozen=True)
class RegisteredModel:
    """A version of the registered model."""

    name: str
    version: str
    uri: str
    """`models:/name/version`."""
    aliases: tuple[str, ...]
    digest: str
    """Of the package that was registered."""


def require_connection() -> None:
    """Raises `CaptioningError` unless this process uses an MLflow that exists; MLflow would make an empty database."""
    if not mlflow.is_tracking_uri_set():
        raise CaptioningError(
            "this process is not connected to MLflow: call flows.settings.use_mlflow() first, for the models of "
            "CAPTIONING_HOME, or components.registry.tracking.connect()"
        )
    if database := database_of(mlflow.get_tracking_uri()):
        require_database(database)


def describe(uri: str) -> RegisteredModel:
    """The version that `models:/name/version` or `models:/name@alias` means now."""
    require_connection()
    client = MlflowClient()
    name, _, which = uri.removeprefix("models:/").partition("@" if "@" in uri else "/")
    if not (uri.startswith("models:/") and name and which):
        raise ConfigurationError(f"a model is models:/NAME@ALIAS or models:/NAME/VERSION, not {uri!r}")
    try:
        get = client.get_model_version_by_alias if "@" in uri else client.get_model_version
        found = get(name, which)
    except MlflowException as error:
        there = _what_there_is(client, name) or "nothing of that name; train one with `captioning train`"
        raise CaptioningError(f"there is no model {uri} in {mlflow.get_registry_uri()}; there is {there}") from error
    # An alias is listed with its model; a version fetched by alias does not name them all.
    aliases = client.get_registered_model(name).aliases
    mine = tuple(sorted(alias for alias, v in aliases.items() if str(v) == str(found.version)))
    digest = str(found.tags.get(DIGEST_TAG, ""))
    return RegisteredModel(name, str(found.version), f"models:/{name}/{found.version}", mine, digest)


def has_files(model: RegisteredModel) -> bool:
    """Whether the files of a registered model can be found where MLflow says that they are."""
    try:
        parts = mlflow.models.get_model_info(model.uri).flavors["python_function"]["artifacts"].values()
        return all(mlflow.artifacts.list_artifacts(f"{model.uri}/{part['path']}") for part in parts)
    except Exception:  # noqa: BLE001 - of a damaged description almost anything
        return False


def encoder_fingerprint(uri: str) -> str:
    """Of the encoders that the model's embeddings are made by."""
    return str((mlflow.models.get_model_info(uri).metadata or {}).get("encoder_fingerprint", ""))


def spark_function(spark: Any, uri: str, search: Search, result: str) -> Any:
    """The model as a function of Spark's columns, which the executors run in the Python that they are given."""
    logging.getLogger("mlflow.pyfunc").setLevel(logging.ERROR)  # the executors' Python is the user's to provide
    params = {"search": search.method, "beam": search.beam}
    _checked_folder(describe(uri))
    try:
        return mlflow.pyfunc.spark_udf(spark, uri, result_type=result, env_manager="local", params=params)
    except (MlflowException, OSError) as error:
        raise CaptioningError(f"cannot load {uri}: {error}. {find_remedy(error) or LOST}") from error


def _checked_folder(version: RegisteredModel) -> Path:
    """The version's files on this machine, which are those that were registered, and of the kind that we register."""
    try:
        client = MlflowClient()
        # Where they lie, and not by the model's address: MLflow would write a note into the folder.
        place = client.get_model_version_download_uri(version.name, version.version)
        folder = Path(mlflow.artifacts.download_artifacts(place))
        seal = client.get_model_version(version.name, version.version).tags.get(SEAL_TAG)
        if not seal:
            log.warning("%s was registered before files were sealed: whether they changed is not known", version.uri)
        require_model(folder, seal or "")
    except (MlflowException, OSError, CaptioningError) as error:
        raise CaptioningError(
            f"cannot load {version.uri}: {error}. "
            + (find_remedy(error) or f"{LOST}. Else put them back from a backup, or `captioning rollback`")
        ) from error
    return folder


def _what_there_is(client: MlflowClient, name: str) -> str:
    versions = sorted(int(found.version) for found in client.search_model_versions(f"name = '{name}'"))
    aliases = client.get_registered_model(name).aliases if versions else {}
    return ", ".join([*(f"{name}@{alias}" for alias in sorted(aliases)), *(f"{name}/{v}" for v in versions[-9:])])


def load_package(folder: Path) -> Captioner:
    """The captioner of a package, or of MLflow's folder of a model, run by the code that is in it.

    Raises `CaptioningError` when it is neither.
    """
    inner = next((place for place in (folder, folder / "artifacts") if (place / CAPTIONER_FOLDER).is_dir()), None)
    if inner is None or not (folder / CODE_FILE).is_file():
        raise CaptioningError(
            f"{folder} is no model: give models:/NAME@ALIAS, models:/NAME/VERSION or the folder of a package"
        )
    model = runpy.run_path(str(folder / CODE_FILE), run_name=CODE_FILE)["CaptionerModel"]()
    model.load_context(SimpleNamespace(artifacts={"captioner": str(inner / CAPTIONER_FOLDER)}))
    captioner: Captioner = model.captioner
    return captioner


def load_captioner(uri: str) -> Captioner:
    """The captioner of a registered model, run by the code that was registered with it."""
    version = describe(uri)
    folder = _checked_folder(version)
    try:
        with without_bytecode():
            model = mlflow.pyfunc.load_model(str(folder))
        captioner: Captioner = model.unwrap_python_model().captioner
        schema = json.loads((captioner.folder / "model.json").read_text(encoding="utf-8"))["schema"]
    except Exception as error:  # the model is code: it may raise anything
        raise CaptioningError(f"cannot load {version.uri}: {error}. {find_remedy(error) or LOST}") from error
    if schema != MODEL_SCHEMA:
        raise CaptioningError(
            f"{version.uri} was registered with schema {schema} of the model, and this version of the project uses "
            f"{MODEL_SCHEMA}: train again, or use the version of the project that registered it"
        )
    return captioner
