from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pytest

from components.decoder.caption import Search
from components.errors import CaptioningError, ConfigurationError
from components.registry.captioner import Captioner
from components.registry.models import RegisteredModel, describe, load_captioner, register
from components.registry.tracking import tracked_run

pytestmark = [
    pytest.mark.usefixtures("registry"),
    pytest.mark.filterwarnings("ignore:::mlflow"),  # its own imports warn, and its use of SQLAlchemy 2.1
]
SCORES = {"cider": 1.5}


@pytest.fixture
def registered(package: Path, registry: str) -> RegisteredModel:
    with tracked_run("first", {}) as run_id:
        return register(package, "digest-1", "captioner", run_id, SCORES)


def register_another(package: Path, digest: str) -> RegisteredModel:
    with tracked_run("another", {}) as run_id:
        return register(package, digest, "captioner", run_id, SCORES)


def test_the_first_version_is_champion_and_challenger(registered: RegisteredModel) -> None:
    assert registered == RegisteredModel(
        "captioner", "1", "models:/captioner/1", ("challenger", "champion"), "digest-1"
    )


def test_the_second_version_challenges(registered: RegisteredModel, package: Path) -> None:
    assert register_another(package, "digest-2") == RegisteredModel(
        "captioner", "2", "models:/captioner/2", ("challenger",), "digest-2"
    )
    assert describe("models:/captioner/1").aliases == ("champion",)


def test_a_package_is_registered_once(registered: RegisteredModel, package: Path) -> None:
    assert register_another(package, "digest-1") == registered
    assert len(mlflow.MlflowClient().search_model_versions("name = 'captioner'")) == 1


def test_registering_goes_with_the_run(registered: RegisteredModel) -> None:
    version = mlflow.MlflowClient().get_model_version("captioner", "1")
    run = mlflow.get_run(version.run_id)
    assert (run.info.run_name, run.info.status) == ("first", "FINISHED")
    assert mlflow.models.get_model_info(registered.uri).metadata == {"scores": SCORES}


def test_versions_and_aliases_are_found(registered: RegisteredModel, package: Path) -> None:
    second = register_another(package, "digest-2")
    assert describe("models:/captioner/1") == describe("models:/captioner@champion")
    assert describe("models:/captioner/2") == describe("models:/captioner@challenger") == second


@pytest.mark.parametrize(
    "uri",
    [
        "models:/captioner/7",
        "models:/captioner@nobody",
        "models:/captioner/latest",
        "models:/unknown@champion",
    ],
)
def test_what_is_not_registered_says_what_to_do(registered: RegisteredModel, registry: str, uri: str) -> None:
    with pytest.raises(CaptioningError, match="captioning train") as caught:
        describe(uri)
    assert f"no model {uri} in {registry}" in str(caught.value)


@pytest.mark.parametrize("uri", ["models:/captioner", "captioner", "captioner@champion", "models:/@champion", ""])
def test_what_is_no_model_uri_is_told_the_form(registered: RegisteredModel, uri: str) -> None:
    with pytest.raises(ConfigurationError, match="models:/NAME@ALIAS or models:/NAME/VERSION, not"):
        describe(uri)


def test_a_registered_captioner_captions_as_its_package(
    registered: RegisteredModel, package: Path, photograph: Callable[[int], bytes]
) -> None:
    own, loaded = Captioner(package / "captioner"), load_captioner("models:/captioner@champion")
    photographs = [photograph(n) for n in range(5)]
    embeddings, _ = own.embed(photographs)
    np.testing.assert_array_equal(loaded.embed(photographs)[0], embeddings)
    for search in (Search(), Search("beam", beam=3), Search("sample", seed=2)):
        found, expected = (c.caption(embeddings, search) for c in (loaded, own))
        assert [[(c.text, c.logprob) for c in ranked] for ranked in found] == [
            [(c.text, c.logprob) for c in ranked] for ranked in expected
        ]


def test_a_registered_captioner_brings_its_own_errors_with_their_exit_code(registered: RegisteredModel) -> None:
    with pytest.raises(Exception, match="use a profile with the model's encoder") as caught:
        load_captioner(registered.uri).require_encoders("feed")
    assert (type(caught.value).__name__, getattr(caught.value, "exit_code", None)) == ("CaptioningError", 1)


def test_loading_what_is_not_there_is_an_error_to_act_on(registered: RegisteredModel, registry: str) -> None:
    with pytest.raises(CaptioningError, match="no model models:/captioner/7"):
        load_captioner("models:/captioner/7")


def test_loading_a_model_whose_files_are_gone_is_an_error_to_act_on(registered: RegisteredModel) -> None:
    folder = Path(mlflow.artifacts.download_artifacts(registered.uri))
    (folder / "MLmodel").unlink()
    with pytest.raises(CaptioningError, match="cannot load models:/captioner/1"):
        load_captioner(registered.uri)


def test_nothing_in_a_registered_model_is_pickled(registered: RegisteredModel) -> None:
    folder = Path(mlflow.artifacts.download_artifacts(registered.uri))
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"MLmodel", "model.py", "saved_model.pb"} <= {path.name for path in files}
    assert not [path for path in files if path.suffix in {".pkl", ".pickle", ".joblib"}]
    contents = {path: path.read_bytes().replace(b"cloudpickle_version:", b"") for path in files}
    assert not [path for path, content in contents.items() if b"pickle" in content.lower()]
