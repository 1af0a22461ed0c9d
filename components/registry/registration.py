"""Registering a package: MLflow's model folder around it, with card and gallery, as the next version."""

import base64
import io
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType, Array
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS
from PIL import Image

from components.decoder.caption import Search
from components.evaluation.summary import GALLERY_FILE
from components.model.captioner import CAPTIONER_FOLDER, CODE_FILE
from components.model.integrity import SEAL_TAG, seal_of, without_bytecode
from components.registry.versions import CHALLENGER, CHAMPION, DIGEST_TAG, RegisteredModel, describe

CARD_FILE = "README.md"
REQUIREMENTS = ("mlflow", "numpy", "pandas", "pi-heif", "pillow", "tensorflow")


def register(
    package: Path, digest: str, name: str, run_id: str, metadata: Mapping[str, Any], card: str, gallery: Path | None
) -> RegisteredModel:
    """Registers the package as the next version, the challenger; and the champion when there is none.

    `metadata` goes into the model's MLmodel, `card` and `gallery` beside it. The package of the same digest is
    registered once: a second call finds it.
    """
    found = find_version(name, digest)
    if found is None:
        with TemporaryDirectory() as parts:
            folder = Path(parts, "model")
            write_model_folder(package, folder, metadata, card, gallery)
            found = add_version(folder, digest, name, run_id, card)
    return challenge(name, found)


def find_version(name: str, digest: str) -> str | None:
    """The version that the package of that digest is registered as, if it is."""
    versions = MlflowClient().search_model_versions(f"name = '{name}' and tags.`{DIGEST_TAG}` = '{digest}'")
    return str(versions[0].version) if versions else None


def add_version(folder: Path, digest: str, name: str, run_id: str, description: str) -> str:
    """Makes MLflow's model folder a logged model of the run and the next version. Returns the version."""
    client = MlflowClient()
    tags = {DIGEST_TAG: digest, SEAL_TAG: seal_of(folder)}
    model_id = _log(client, folder, name, run_id)
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # In one step with what it is of and its card, unlike `mlflow.register_model`: a kill leaves all of it, or nothing.
    source = f"models:/{model_id}"
    found = client.create_model_version(name, source, tags=tags, description=description, model_id=model_id).version
    client.set_logged_model_tags(model_id, {MLFLOW_MODEL_VERSIONS: json.dumps([{"name": name, "version": found}])})
    return str(found)


def challenge(name: str, version: str) -> RegisteredModel:
    """Makes the version the challenger unless a later one is; and the champion when there is none."""
    client = MlflowClient()
    aliases = client.get_registered_model(name).aliases
    if int(aliases.get(CHALLENGER, 0)) < int(version):
        client.set_registered_model_alias(name, CHALLENGER, version)
    if CHAMPION not in aliases:
        client.set_registered_model_alias(name, CHAMPION, version)
    return describe(f"models:/{name}/{version}")


def write_model_folder(
    package: Path, folder: Path, metadata: Mapping[str, Any], card: str, gallery: Path | None
) -> None:
    """Writes MLflow's model folder of a package: code, artefacts, signature, example, pinned requirements."""
    with without_bytecode():
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(package / CODE_FILE),
            artifacts={"captioner": str(package / CAPTIONER_FOLDER)},
            signature=signature(),
            input_example=pd.DataFrame({"image": [base64.b64encode(example()).decode("ascii")]}),
            pip_requirements=[f"{package}=={version(package)}" for package in REQUIREMENTS],
            metadata=dict(metadata),
        )
    # MLflow notes the pickler it does not use, and where the files lay on this machine.
    described = Model.load(folder)
    function = described.flavors["python_function"]
    function.pop("cloudpickle_version", None)
    function["model_code_path"] = CODE_FILE
    for artifact in function["artifacts"].values():
        artifact["uri"] = artifact["path"]
    described.save(folder / "MLmodel")
    (folder / CARD_FILE).write_text(card, encoding="utf-8")
    if gallery:
        (folder / GALLERY_FILE).write_bytes(gallery.read_bytes())


def signature() -> ModelSignature:
    """What a registered model takes and gives."""
    search = Search()
    text, real, whole = DataType.string, DataType.double, DataType.integer
    return ModelSignature(
        inputs=Schema(
            [
                # Of any type: with one of its own MLflow refuses a request in which one row lacks the column.
                *(ColSpec(AnyType(), name, required=False) for name in ("image", "embedding", "path"))
            ]
        ),
        outputs=Schema(
            [
                ColSpec(text, "caption"),
                ColSpec(real, "logprob"),
                ColSpec(Array(text), "captions"),
                ColSpec(Array(real), "logprobs"),
                ColSpec(text, "error"),
            ]
        ),
        params=ParamSchema(
            [
                ParamSpec("search", text, search.method),
                ParamSpec("beam", whole, search.beam),
                ParamSpec("top_n", whole, 1),
                ParamSpec("temperature", real, search.temperature),
                ParamSpec("top_k", whole, search.top_k),
                ParamSpec("top_p", real, search.top_p),
                ParamSpec("seed", whole, search.seed),
                ParamSpec("max_length", whole, search.max_length),
            ]
        ),
    )


def _log(client: MlflowClient, folder: Path, name: str, run_id: str) -> str:
    """Makes the folder a logged model of the run. Returns its id."""
    experiment = client.get_run(run_id).info.experiment_id
    model = client.create_logged_model(experiment, name, source_run_id=run_id, model_type="captioner")
    client.log_model_artifacts(model.model_id, str(folder))
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return str(model.model_id)


def example() -> bytes:
    """A small photograph of nothing in particular."""
    content = io.BytesIO()
    Image.linear_gradient("L").resize((64, 48)).convert("RGB").save(content, "JPEG")
    return content.getvalue()
