import json
import logging
import shutil
import stat
import warnings
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from components.decoder.caption import Search
from components.errors import CaptioningError, ConfigurationError
from components.model import model_archive
from components.registry.promotion import find_champion, gather, promote, record_evaluation
from components.registry.registration import register
from components.registry.tracking import connect, log_dict, log_file, tracked_run
from components.registry.transfer import export_model, import_model
from components.registry.versions import RegisteredModel, describe, load_captioner

pytestmark = [
    pytest.mark.usefixtures("registry"),
    pytest.mark.filterwarnings("ignore:::mlflow"),  # its own imports warn
]
CARD = "# captioner\n\nof ünicode\n"


@pytest.fixture
def registered(package: Path, tmp_path: Path, registry: str) -> RegisteredModel:
    gallery = tmp_path / "page.html"
    gallery.write_text("<p>a kite</p>", encoding="utf-8")
    with tracked_run("train", {}) as run_id:
        return register(package, "digest-1", "captioner", run_id, {"scores": {"cider": 1.5}}, CARD, gallery)


@pytest.fixture
def elsewhere(migrated: Path, tmp_path: Path) -> Callable[[], None]:
    """Turns to another, empty registry."""

    def go() -> None:
        (tmp_path / "elsewhere").mkdir()
        connect(
            f"sqlite:///{shutil.copy(migrated, tmp_path / 'elsewhere/mlflow.db')}", tmp_path / "elsewhere/artifacts"
        )

    return go


@pytest.fixture
def target(registered: RegisteredModel, tmp_path: Path) -> Path:
    """The archive of the registered model."""
    return export_model(registered.uri, tmp_path / "model.zip").path


def evaluated(model: RegisteredModel, cider: list[float], data: str, folder: str = "evaluation") -> str:
    summary = {"data": data, "tokenizer": "ptb"}
    rules = [{"rule": "odd", "severity": "warning", "passed": False}]
    predictions = pd.DataFrame({"image_id": range(len(cider)), "cider": cider})
    with TemporaryDirectory() as parts, tracked_run("evaluate", {}) as run_id:
        predictions.to_parquet(Path(parts, "predictions.parquet"))
        log_file(run_id, Path(parts, "predictions.parquet"), folder)
        log_dict(run_id, summary, f"{folder}/summary.json")
        log_dict(run_id, {"rules": rules}, "contracts/predictions.json")
    record_evaluation(model, data, run_id, folder)
    return run_id


def versions() -> int:
    return len(MlflowClient().search_model_versions())


def rewritten(path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The archive with changed members, which its manifest does not know of."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def changed_manifest(path: Path, change: Callable[[dict], None]) -> Path:  # type: ignore[type-arg]
    def edit(members: dict[str, bytes]) -> None:
        manifest = json.loads(members["manifest.json"])
        change(manifest)
        members["manifest.json"] = json.dumps(manifest).encode()

    return rewritten(path, edit)


def test_an_imported_model_captions_as_the_exported_one(
    registered: RegisteredModel, target: Path, elsewhere: Callable[[], None], photograph: Callable[[int], bytes]
) -> None:
    here = load_captioner(registered.uri)
    elsewhere()
    imported = import_model(target)
    assert imported == RegisteredModel("captioner", "1", "models:/captioner/1", ("challenger", "champion"), "digest-1")
    there = load_captioner(imported.uri)
    assert there.folder != here.folder
    photographs = [photograph(n) for n in range(5)]
    embeddings, _ = here.embed(photographs)
    np.testing.assert_array_equal(there.embed(photographs)[0], embeddings)
    for search in (Search(), Search("beam", beam=3), Search("sample", seed=2)):
        found, expected = (c.caption(embeddings, search) for c in (there, here))  # of classes of their own
        assert [[(c.text, c.logprobs) for c in ranked] for ranked in found] == [
            [(c.text, c.logprobs) for c in ranked] for ranked in expected
        ]
    assert mlflow.models.get_model_info(imported.uri).metadata == {"scores": {"cider": 1.5}}


def test_card_gallery_and_description_come_along_and_every_file_is_the_same(
    registered: RegisteredModel, target: Path, elsewhere: Callable[[], None], tmp_path: Path
) -> None:
    def files_of(uri: str, folder: Path) -> dict[str, bytes]:
        folder.mkdir()
        mlflow.artifacts.download_artifacts(uri, dst_path=str(folder))
        found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        return {name: content for name, content in found.items() if name != "registered_model_meta"}

    here = files_of(registered.uri, tmp_path / "here")
    elsewhere()
    imported = import_model(target, "mine")
    assert imported.uri == "models:/mine/1"
    assert files_of(imported.uri, tmp_path / "there") == here
    assert {"README.md", "gallery.html", "MLmodel", "model.py"} <= set(here)
    version = MlflowClient().get_model_version("mine", "1")
    assert version.description == CARD
    run = mlflow.get_run(version.run_id)
    assert (run.info.run_name, run.info.status) == ("import mine", "FINISHED")
    assert run.data.params["exported.version"] == "1"


def test_a_promotion_on_the_other_side_compares_the_evaluations(
    registered: RegisteredModel, package: Path, elsewhere: Callable[[], None], tmp_path: Path
) -> None:
    evaluated(registered, [0.1, 0.2], "old")
    evaluated(registered, [0.3, 0.4], "new", folder="against")
    exported = export_model(registered.uri, tmp_path / "model.zip")
    assert exported.evaluations == 2
    elsewhere()
    with tracked_run("train", {}) as run_id:
        champion = register(package, "digest-2", "captioner", run_id, {}, CARD, None)
    evaluated(champion, [0.5, 0.6], "old")
    imported = import_model(exported.path)
    assert (imported.version, imported.aliases) == ("2", ("challenger",))
    mine, theirs = gather(imported, champion)
    assert theirs is not None
    assert (mine.data, mine.cider, theirs.cider) == ("old", {0: 0.1, 1: 0.2}, {0: 0.5, 1: 0.6})
    assert (mine.tokenizer, mine.warnings) == ("ptb", ("odd",))
    assert gather(imported, None)[0].data == "new"  # the last evaluation there is the last one here
    promote(imported, champion)
    found = find_champion("captioner")
    assert found is not None
    assert found.version == "2"


def test_a_package_is_imported_once_and_gets_the_evaluations_it_lacks(
    registered: RegisteredModel, target: Path, elsewhere: Callable[[], None], tmp_path: Path
) -> None:
    evaluated(registered, [0.3], "later")
    later = export_model(registered.uri, tmp_path / "later.zip").path
    elsewhere()
    first = import_model(target)
    assert gather(first, None)[0].data == ""
    for _ in range(2):
        assert import_model(later) == first
    assert versions() == 1
    assert gather(first, None)[0].cider == {0: 0.3}
    runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert sorted(run.info.run_name for run in runs) == [
        *("import captioner", "import captioner", "imported evaluation on later"),
    ]


def test_importing_where_it_was_trained_finds_the_model_itself(registered: RegisteredModel, target: Path) -> None:
    assert import_model(target) == registered
    assert versions() == 1


def test_the_same_model_makes_the_same_file_without_a_temporary_one(
    registered: RegisteredModel, target: Path, tmp_path: Path
) -> None:
    exported = export_model("models:/captioner@champion", tmp_path / "again.zip")
    assert exported.path.read_bytes() == target.read_bytes()
    assert (exported.bytes, exported.model) == (target.stat().st_size, registered)
    with zipfile.ZipFile(target) as archive:
        assert len(archive.namelist()) == exported.files + 1
        assert archive.namelist()[0] == "manifest.json"
        assert "model/registered_model_meta" not in archive.namelist()
    assert not list(tmp_path.glob("*.tmp"))


def test_an_evaluation_whose_files_are_gone_stays_behind(
    registered: RegisteredModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lost = evaluated(registered, [0.1], "old")
    evaluated(registered, [0.2], "znew")
    shutil.rmtree(tmp_path / "artifacts" / lost)
    record_evaluation(registered, "never", "0" * 32, "evaluation")
    with caplog.at_level(logging.WARNING):
        exported = export_model(registered.uri, tmp_path / "model.zip")
    assert exported.evaluations == 1
    assert next(message for message in caplog.messages if "stays behind" in message).startswith(
        "the evaluation on never"
    )
    assert import_model(exported.path) == registered


def test_what_cannot_be_exported_is_told(registered: RegisteredModel, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="give the name of a file in a folder that exists"):
        export_model(registered.uri, tmp_path)
    with pytest.raises(CaptioningError, match="there is no model models:/captioner/7"):
        export_model("models:/captioner/7", tmp_path / "model.zip")
    MlflowClient().delete_model_version_tag("captioner", "1", "captioning.package")
    with pytest.raises(CaptioningError, match="is no captioner that `captioning train` registered"):
        export_model(registered.uri, tmp_path / "model.zip")
    assert not (tmp_path / "model.zip").exists()


def test_a_killed_export_leaves_the_file_that_was_there(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = target.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model_archive.shutil, "copyfileobj", full)
    with pytest.raises(CaptioningError, match="No space left"):
        export_model("models:/captioner/1", target)
    assert target.read_bytes() == before
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("name", ["a/b", "a'b", "", "a@b", "a\n"])
def test_an_impossible_name_is_told(target: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be called"):
        import_model(target, name)


def test_what_is_no_parcel_is_told(target: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"there is no .*nothing\.zip"):
        import_model(tmp_path / "nothing.zip")
    (tmp_path / "text.zip").write_text("text")
    with pytest.raises(CaptioningError, match=r"text\.zip cannot be read: File is not a zip file"):
        import_model(tmp_path / "text.zip")
    with pytest.raises(CaptioningError, match="not one that export-model wrote"):
        import_model(rewritten(target, lambda members: members.pop("manifest.json")))


def test_half_a_file_is_told(target: Path) -> None:
    content = target.read_bytes()
    for length in (0, 100, len(content) // 2, len(content) - 1):
        target.write_bytes(content[:length])
        with pytest.raises(CaptioningError, match="cannot be read"):
            import_model(target)


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "model/../../evil", "a//b", "model/./x", "model\\evil", "c:evil", "model/folder/"]
)
def test_a_member_that_lies_elsewhere_is_named(target: Path, tmp_path: Path, name: str) -> None:
    def listed(members: dict[str, bytes]) -> None:
        manifest = json.loads(members["manifest.json"])
        manifest["files"][name] = {"sha256": sha256(b"evil").hexdigest(), "bytes": 4}
        members |= {"manifest.json": json.dumps(manifest).encode(), name: b"evil"}

    with pytest.raises(CaptioningError) as caught:
        import_model(rewritten(target, listed))
    assert repr(name) in str(caught.value)
    assert not list(tmp_path.rglob("evil"))


def test_a_link_or_a_second_member_of_a_name_is_named(target: Path) -> None:
    content = target.read_bytes()
    link = zipfile.ZipInfo("model/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(CaptioningError, match="'model/link' is a link"):
        import_model(target)
    target.write_bytes(content)
    with zipfile.ZipFile(target, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("model/MLmodel", "evil")
    with pytest.raises(CaptioningError, match="'model/MLmodel' is there twice"):
        import_model(target)


def test_members_and_manifest_must_agree(target: Path) -> None:
    content = target.read_bytes()
    changes: dict[str, Callable[[dict[str, bytes]], object]] = {
        "'extra' is not in the manifest": lambda members: members.update(extra=b""),
        "'model/MLmodel' is missing": lambda members: members.pop("model/MLmodel"),
        "'model/model.py' has not the size and SHA-256": lambda members: members.update(
            {"model/model.py": b"!" + members["model/model.py"][1:]}
        ),
        "'model/README.md' has not the size and SHA-256": lambda members: members.update({"model/README.md": b"short"}),
        "'model/gallery.html' has not the size": lambda members: members.update({"model/gallery.html": bytes(10**8)}),
    }
    for told, change in changes.items():
        target.write_bytes(content)
        with pytest.raises(CaptioningError, match=told):
            import_model(rewritten(target, change))  # type: ignore[arg-type]


def test_a_manifest_that_cannot_be_is_told(target: Path) -> None:
    content = target.read_bytes()

    def set_to(value: object, *keys: str) -> Callable[[dict], None]:  # type: ignore[type-arg]
        def change(manifest: dict) -> None:  # type: ignore[type-arg]
            for key in keys[:-1]:
                manifest = manifest[key]
            manifest[keys[-1]] = value

        return change

    changes = [
        ("is a model archive of schema 2; this version reads 1", set_to(2, "schema")),
        ("'manifest.json' is not as it should be", set_to(-1, "files", "model/MLmodel", "bytes")),
        ("'manifest.json' is not as it should be", set_to("x", "files", "model/MLmodel", "sha256")),
        ("'manifest.json' is not as it should be", set_to([], "contents")),
        ("make room", set_to(10**18, "files", "model/MLmodel", "bytes")),
        ("is no exported model", set_to("a' or name != 'b", "contents", "name")),
        ("is no exported model", set_to("' or '", "contents", "digest")),
        ("is no exported model: .*summary.json", set_to([{"data": "x", "started": 1}], "contents", "evaluations")),
    ]
    for told, change in changes:
        target.write_bytes(content)
        with pytest.raises(CaptioningError, match=told):
            import_model(changed_manifest(target, change))


def test_a_refused_parcel_leaves_the_registry_as_it_was(target: Path, elsewhere: Callable[[], None]) -> None:
    elsewhere()
    rewritten(target, lambda members: members.update({"model/model.py": b""}))
    with pytest.raises(CaptioningError):
        import_model(target)
    assert MlflowClient().search_registered_models() == []
    assert mlflow.search_runs(search_all_experiments=True, output_format="list") == []


def test_a_later_version_stays_the_challenger_of_a_model_found_again(
    registered: RegisteredModel, package: Path, target: Path
) -> None:
    with tracked_run("train", {}) as run_id:
        register(package, "digest-2", "captioner", run_id, {}, CARD, None)
    assert import_model(target).aliases == ("champion",)
    assert describe("models:/captioner@challenger").version == "2"
