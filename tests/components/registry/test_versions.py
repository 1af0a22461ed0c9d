import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import mlflow
import numpy as np
import pytest

from components.decoder.caption import Search
from components.errors import CaptioningError, ConfigurationError
from components.model.captioner import Captioner
from components.registry.promotion import find_champion
from components.registry.registration import register
from components.registry.run_status import last_runs
from components.registry.tracking import connect, tracked_run
from components.registry.versions import RegisteredModel, describe, load_captioner

pytestmark = [
    pytest.mark.usefixtures("registry"),
    pytest.mark.filterwarnings("ignore:::mlflow"),  # its own imports warn
]
SCORES = {"cider": 1.5}
CARD = "# captioner\n\n| cider | 1.5 |\n"


@pytest.fixture
def registered(package: Path, registry: str) -> RegisteredModel:
    with tracked_run("first", {}) as run_id:
        return register(package, "digest-1", "captioner", run_id, {"scores": SCORES}, CARD, None)


def register_another(package: Path, digest: str) -> RegisteredModel:
    with tracked_run("another", {}) as run_id:
        return register(package, digest, "captioner", run_id, {"scores": SCORES}, CARD, None)


def test_the_first_version_is_champion_and_challenger(registered: RegisteredModel) -> None:
    assert registered == RegisteredModel(
        "captioner", "1", "models:/captioner/1", ("challenger", "champion"), "digest-1"
    )


def test_what_is_registered_or_loaded_stays_as_it_is(
    package: Path, tmp_path: Path, registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)  # as it is for most people
    uri = register_another(package, "digest-1").uri
    before, registered = set(package.rglob("*")), set(tmp_path.rglob("*"))
    load_captioner(uri)
    assert set(package.rglob("*")) == before
    assert set(tmp_path.rglob("*")) == registered


@pytest.mark.parametrize(
    "ask", [load_captioner, describe, lambda uri: find_champion("captioner"), lambda uri: last_runs()]
)
def test_to_ask_for_a_model_makes_no_database(
    ask: Callable[[str], object], tmp_path: Path, registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for address, told in ((None, "is not connected to MLflow"), ("sqlite:///new.db", "no MLflow database .*new.db")):
        mlflow.set_tracking_uri(address)
        mlflow.set_registry_uri(None)
        with pytest.raises(CaptioningError, match=told):
            ask("models:/captioner@champion")
    with pytest.raises(CaptioningError, match="nothing was trained there yet"):
        connect("sqlite:///new.db", tmp_path, create=False)
    assert not list(Path().iterdir())


def test_to_read_changes_no_byte(registered: RegisteredModel, registry: str, tmp_path: Path) -> None:
    def content() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    (tmp_path / "mlflow.db.lock").unlink()
    before = content()
    connect(registry, tmp_path / "artifacts", create=False)
    assert load_captioner("models:/captioner@champion").folder.exists()
    assert [run.name for run in last_runs()] == ["first"]
    assert content() == before


def test_the_second_version_challenges_and_both_are_found_by_number_and_alias(
    registered: RegisteredModel, package: Path
) -> None:
    second = register_another(package, "digest-2")
    assert second == RegisteredModel("captioner", "2", "models:/captioner/2", ("challenger",), "digest-2")
    assert describe("models:/captioner/1").aliases == ("champion",)
    assert describe("models:/captioner/1") == describe("models:/captioner@champion")
    assert describe("models:/captioner/2") == describe("models:/captioner@challenger") == second


def test_a_package_is_registered_once(registered: RegisteredModel, package: Path) -> None:
    assert register_another(package, "digest-1") == registered
    assert len(mlflow.MlflowClient().search_model_versions("name = 'captioner'")) == 1


def test_registering_goes_with_the_run(registered: RegisteredModel) -> None:
    version = mlflow.MlflowClient().get_model_version("captioner", "1")
    run = mlflow.get_run(version.run_id)
    assert (run.info.run_name, run.info.status) == ("first", "FINISHED")
    assert mlflow.models.get_model_info(registered.uri).metadata == {"scores": SCORES}


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
    with pytest.raises(CaptioningError) as caught:
        describe(uri)
    there = "nothing of that name; train one with `captioning train`"
    if "unknown" not in uri:
        there = "captioner@challenger, captioner@champion, captioner/1"
    assert str(caught.value) == f"there is no model {uri} in {registry}; there is {there}"


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


def test_nothing_in_a_registered_model_is_pickled_or_names_this_machine(
    registered: RegisteredModel, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(mlflow.artifacts.download_artifacts(registered.uri))
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"MLmodel", "model.py", "saved_model.pb"} <= {path.name for path in files}
    assert not [path for path in files if path.suffix in {".pkl", ".pickle", ".joblib"}]
    assert not [path for path in files if b"pickle" in path.read_bytes().lower()]
    assert str(package) not in (folder / "MLmodel").read_text(encoding="utf-8")
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    assert load_captioner(registered.uri).vocabulary.words


def test_card_and_gallery_lie_beside_the_model_and_the_card_describes_the_version(
    package: Path, tmp_path: Path
) -> None:
    gallery = tmp_path / "page.html"
    gallery.write_text("<p>a kite</p>", encoding="utf-8")
    with tracked_run("with a gallery", {}) as run_id:
        model = register(package, "digest-9", "captioner", run_id, {}, CARD, gallery)
    folder = Path(mlflow.artifacts.download_artifacts(model.uri))
    assert (folder / "README.md").read_text(encoding="utf-8") == CARD
    assert (folder / "gallery.html").read_bytes() == gallery.read_bytes()
    version = mlflow.MlflowClient().get_model_version("captioner", model.version)
    assert version.description == CARD
    (output,) = mlflow.get_run(run_id).outputs.model_outputs
    assert output.model_id in version.source


def test_the_example_is_captioned(registered: RegisteredModel) -> None:
    model = mlflow.pyfunc.load_model(registered.uri)
    (caption,) = model.predict(model.input_example)["caption"]
    assert caption


def register_of_schema_4(folder: Path) -> dict[str, Any]:
    """Registers the model that a release of schema 4 left. Returns what that release captioned with it."""
    with ZipFile(Path(__file__).with_name("schema-4.zip")) as archive:
        archive.extractall(folder)
    mlflow.register_model(folder.as_uri(), "old")
    expected: dict[str, Any] = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    return expected


def test_a_model_of_schema_4_captions_as_it_did(tmp_path: Path) -> None:
    expected = register_of_schema_4(tmp_path / "model")
    old = load_captioner("models:/old/1")
    embeddings = np.array(expected["embeddings"], np.float32)
    found = {
        "greedy": old.caption(embeddings, Search()),
        "beam": old.caption(embeddings, Search("beam", beam=3)),
        "sample": old.caption(embeddings, Search("sample", seed=2, top_p=0.9)),
    }
    for search, captions in found.items():
        assert [[one.text for one in ranked] for ranked in captions] == expected[search]


def test_a_model_of_an_earlier_schema_that_is_not_read_any_more_names_it_and_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_of_schema_4(tmp_path / "model")
    monkeypatch.setattr("components.registry.versions.MODEL_SCHEMA", 5)
    with pytest.raises(CaptioningError, match=r"old/1 was registered with schema 4 .* uses 5: train again, or use"):
        load_captioner("models:/old/1")
