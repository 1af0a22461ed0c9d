"""Models in the registry: registering a package once, and finding one by its URI."""

import io
import json
from collections.abc import Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

from components.decoder.caption import Search
from components.errors import CaptioningError, ConfigurationError
from components.registry.captioner import CAPTIONER_FOLDER, CODE_FILE, MODEL_SCHEMA, Captioner

CHAMPION, CHALLENGER = "champion", "challenger"
DIGEST_TAG = "captioning.package"


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


def register(package: Path, digest: str, name: str, run_id: str, metrics: Mapping[str, float]) -> RegisteredModel:
    """Registers the package as the next version, the challenger; and the champion when there is none.

    The package of the same digest is registered once: a second call finds it.
    """
    client = MlflowClient()
    found = _version_of(client, name, digest)
    if found is None:
        with mlflow.start_run(run_id=run_id):
            info = mlflow.pyfunc.log_model(
                name=name,
                python_model=str(package / CODE_FILE),
                artifacts={"captioner": str(package / CAPTIONER_FOLDER)},
                signature=_signature(),
                pip_requirements=[f"{p}=={version(p)}" for p in ("mlflow", "numpy", "pandas", "pillow", "tensorflow")],
                metadata={"scores": dict(metrics)},
            )
        with redirect_stderr(io.StringIO()):  # MLflow prints there what our callers say in their own words
            found = mlflow.register_model(info.model_uri, name, tags={DIGEST_TAG: digest}).version
    aliases = client.get_registered_model(name).aliases
    if int(aliases.get(CHALLENGER, 0)) < int(found):
        client.set_registered_model_alias(name, CHALLENGER, found)
    if CHAMPION not in aliases:
        client.set_registered_model_alias(name, CHAMPION, found)
    return describe(f"models:/{name}/{found}")


def describe(uri: str) -> RegisteredModel:
    """The version that `models:/name/version` or `models:/name@alias` means now."""
    client = MlflowClient()
    name, _, which = uri.removeprefix("models:/").partition("@" if "@" in uri else "/")
    if not (uri.startswith("models:/") and name and which):
        raise ConfigurationError(f"a model is models:/NAME@ALIAS or models:/NAME/VERSION, not {uri!r}")
    try:
        get = client.get_model_version_by_alias if "@" in uri else client.get_model_version
        found = get(name, which)
    except MlflowException as error:
        why = str(error.message).rstrip(".")
        raise CaptioningError(
            f"there is no model {uri} in {mlflow.get_registry_uri()}: {why}. Train one with `captioning train`"
        ) from error
    # An alias is listed with its model; a version fetched by alias does not name them all.
    aliases = client.get_registered_model(name).aliases
    mine = tuple(sorted(alias for alias, v in aliases.items() if str(v) == str(found.version)))
    digest = str(found.tags.get(DIGEST_TAG, ""))
    return RegisteredModel(name, str(found.version), f"models:/{name}/{found.version}", mine, digest)


def load_captioner(uri: str) -> Captioner:
    """The captioner of a registered model, run by the code that was registered with it."""
    version = describe(uri)
    try:
        model = mlflow.pyfunc.load_model(version.uri)
    except (MlflowException, OSError) as error:
        raise CaptioningError(f"cannot load {version.uri}: {error}. Are its files still where they were?") from error
    captioner: Captioner = model.unwrap_python_model().captioner
    schema = json.loads((captioner.folder / "model.json").read_text(encoding="utf-8"))["schema"]
    if schema != MODEL_SCHEMA:
        raise CaptioningError(
            f"{version.uri} was registered with schema {schema} of the model, and this version of the project uses "
            f"{MODEL_SCHEMA}: train again, or use the version of the project that registered it"
        )
    return captioner


def _version_of(client: MlflowClient, name: str, digest: str) -> str | None:
    versions = client.search_model_versions(f"name = '{name}' and tags.`{DIGEST_TAG}` = '{digest}'")
    return str(versions[0].version) if versions else None


def _signature() -> ModelSignature:
    search = Search()
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.binary, "image")]),
        outputs=Schema(
            [
                ColSpec(DataType.string, "caption"),
                ColSpec(DataType.double, "logprob"),
                ColSpec(DataType.string, "error"),
            ]
        ),
        params=ParamSchema(
            [
                ParamSpec("method", DataType.string, search.method),
                ParamSpec("beam", DataType.integer, search.beam),
                ParamSpec("temperature", DataType.double, search.temperature),
                ParamSpec("top_k", DataType.integer, search.top_k),
                ParamSpec("top_p", DataType.double, search.top_p),
                ParamSpec("seed", DataType.integer, search.seed),
            ]
        ),
    )
