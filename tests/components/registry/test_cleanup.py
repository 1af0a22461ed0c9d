import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import ViewType

from components.artifacts import Artifact, Stage, run_stage
from components.decoder.caption import Search
from components.registry import cleanup, mlflow_inventory
from components.registry.cleanup import clean, plan_cleaning
from components.registry.promotion import find_champion, gather, promote, record_evaluation, roll_back
from components.registry.registration import add_version, register
from components.registry.tracking import EXPERIMENT, connect, log_dict, log_file, tracked_run
from components.registry.training_log import TrainingLog
from components.registry.versions import CHALLENGER, CHAMPION, RegisteredModel, describe, load_captioner
from components.retention import CleanupCandidate

pytestmark = [
    pytest.mark.usefixtures("registry"),
    pytest.mark.filterwarnings("ignore:::mlflow"),  # its own imports warn
]
NOTHING, DAY = timedelta(), timedelta(days=1)


@pytest.fixture
def models(package: Path, tmp_path: Path, registry: str) -> list[RegisteredModel]:
    """Four versions, each with its training's phase and an evaluation: 1 and 2 were champions, 3 is, 4 challenges."""
    found = [train(package, number, tmp_path) for number in (1, 2, 3, 4)]
    promote(found[1], found[0])
    promote(found[2], found[1])
    return [describe(model.uri) for model in found]


def train(package: Path, number: int, folder: Path) -> RegisteredModel:
    kept = folder / "weights"
    kept.mkdir(exist_ok=True)
    (kept / "weights.h5").write_bytes(b"w" * 1000)
    with tracked_run("train", {"number": number}) as run_id, TrainingLog(run_id, {}) as phases:
        phases.epoch({"phase": 1, "epoch": 1, "loss": 2.0})
        phases.kept(kept, {"phase": 1, "epoch": 1})
        model = register(package, f"digest-{number}", "captioner", run_id, {}, "a card", None)
    evaluated(model, folder)
    return model


def evaluated(model: RegisteredModel, folder: Path, data: str = "data") -> str:
    pd.DataFrame({"image_id": [1, 2], "cider": [0.1, 0.2]}).to_parquet(folder / "predictions.parquet")
    with tracked_run("evaluate", {}) as run_id:
        log_file(run_id, folder / "predictions.parquet", "evaluation")
        log_dict(run_id, {"data": data, "tokenizer": "ptb"}, "evaluation/summary.json")
        log_dict(run_id, {"rules": []}, "contracts/predictions.json")
    record_evaluation(model, data, run_id, "evaluation")
    return run_id


def age_of(seconds: float) -> tuple[float, float]:
    return (time.time() - seconds, time.time() - seconds)


def make_stage(home: Path, name: str, content: str = "abc", days: float = 0) -> Artifact:
    def work(folder: Path) -> int:
        (folder / "file").write_text(content)
        return 1

    artifact = run_stage(home, Stage(name), work)
    os.utime(artifact.path / "manifest.json", age_of(days * 86400))
    return artifact


def names(plan: list[CleanupCandidate], kind: str) -> list[str]:
    return sorted(leftover.name for leftover in plan if leftover.kind == kind)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_when_all_that_may_go_is_gone_the_champion_captions_and_can_be_promoted_and_rolled_back(
    models: list[RegisteredModel], tmp_path: Path, photograph: Callable[[int], bytes]
) -> None:
    make_stage(tmp_path, "package")
    with tracked_run("score", {}) as run_id:
        log_dict(run_id, {"a": 1}, "scores.json")
    third, fourth = models[2], models[3]
    before = load_captioner(third.uri).embed([photograph(1)])[0]
    clean(plan_cleaning(tmp_path, NOTHING))
    assert plan_cleaning(tmp_path, NOTHING) == []
    assert not list((tmp_path / "stages").iterdir())
    after = load_captioner("models:/captioner@champion")
    np.testing.assert_array_equal(after.embed([photograph(1)])[0], before)
    assert after.caption(before, Search())
    mine, theirs = gather(fourth, third)
    assert theirs is not None
    assert mine.cider == theirs.cider == {1: 0.1, 2: 0.2}
    promote(fourth, third)
    clean(plan_cleaning(tmp_path, NOTHING))
    for version in ("3", "2", "1"):
        assert roll_back("captioner")[1].version == version
        clean(plan_cleaning(tmp_path, NOTHING))
        assert load_captioner("models:/captioner@champion").caption(before, Search())


def test_versions_that_nothing_leads_to_go_with_their_runs_and_files(
    models: list[RegisteredModel], tmp_path: Path
) -> None:
    roll_back("captioner")
    MlflowClient().set_registered_model_alias("captioner", "mine", "4")
    plan = plan_cleaning(tmp_path, NOTHING)
    assert names(plan, "version") == ["models:/captioner/3"]
    assert names(plan, "run") == ["evaluate", "train"]
    assert names(plan, "model") == []
    before = size_of(tmp_path / "artifacts")
    freed = clean(plan)
    assert freed == sum(leftover.bytes for leftover in plan) == before - size_of(tmp_path / "artifacts")
    assert freed > 2000
    left = sorted(int(version.version) for version in MlflowClient().search_model_versions())
    assert left == [1, 2, 4]
    assert len(list((tmp_path / "artifacts" / "models").iterdir())) == 6  # of each version the model and its weights
    assert len(mlflow.search_runs(search_all_experiments=True, output_format="list")) == 9
    assert clean(plan) == 0


def test_what_is_young_stays(models: list[RegisteredModel], tmp_path: Path) -> None:
    roll_back("captioner")
    with tracked_run("score", {}):
        pass
    make_stage(tmp_path, "package")
    assert plan_cleaning(tmp_path, DAY) == []


def test_a_plan_says_what_and_why_and_does_nothing(models: list[RegisteredModel], tmp_path: Path) -> None:
    stage = make_stage(tmp_path, "package", days=3)
    before = sorted(tmp_path.rglob("*"))
    (leftover,) = plan_cleaning(tmp_path, DAY)
    assert (leftover.kind, leftover.name, leftover.where) == ("stage", stage.path.name, str(stage.path))
    assert leftover.bytes == size_of(stage.path)
    assert timedelta(days=2.9) < datetime.now(UTC) - leftover.used < timedelta(days=3.1)
    assert leftover.why == "no run used it since"
    assert sorted(tmp_path.rglob("*")) == before


def test_a_champion_that_moved_since_the_plan_stays(models: list[RegisteredModel], tmp_path: Path) -> None:
    roll_back("captioner")
    MlflowClient().set_registered_model_alias("captioner", CHALLENGER, "4")
    plan = plan_cleaning(tmp_path, NOTHING)
    assert names(plan, "version") == ["models:/captioner/3"]
    MlflowClient().set_registered_model_alias("captioner", CHAMPION, "3")
    clean(plan)
    third = find_champion("captioner")
    assert third is not None
    assert load_captioner(third.uri).vocabulary.words
    assert gather(third, None)[0].cider == {1: 0.1, 2: 0.2}


def test_a_version_stays_as_long_as_runs_work_with_it(models: list[RegisteredModel], tmp_path: Path) -> None:
    roll_back("captioner")
    plan = plan_cleaning(tmp_path, NOTHING)
    with tracked_run("score", {"model": models[2].uri}):
        assert plan_cleaning(tmp_path, NOTHING) == []
        clean(plan)
        assert load_captioner(models[2].uri).vocabulary.words


def test_nothing_goes_that_was_used_since_a_live_run_began(
    registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = make_stage(tmp_path, "older", days=1)
    with tracked_run("train", {}):
        make_stage(tmp_path, "mine")
        assert names(plan_cleaning(tmp_path, NOTHING), "stage") == [older.path.name]
    killed = MlflowClient().create_run(MlflowClient().get_experiment_by_name(EXPERIMENT).experiment_id)
    assert len(plan_cleaning(tmp_path, NOTHING)) == 3
    assert killed.info.run_id not in str(plan_cleaning(tmp_path, NOTHING))
    monkeypatch.setattr(cleanup, "SILENT", NOTHING)
    assert f"runs:/{killed.info.run_id}" in [leftover.where for leftover in plan_cleaning(tmp_path, NOTHING)]


def test_what_other_projects_keep_in_the_same_mlflow_stays(
    models: list[RegisteredModel], package: Path, tmp_path: Path
) -> None:
    client = MlflowClient()
    with tracked_run("theirs", {}) as run_id:
        register(package, "digest-8", "theirs", run_id, {}, "a card", None)
        register(package, "digest-9", "theirs", run_id, {}, "a card", None)
    for version in ("1", "2"):
        client.delete_model_version_tag("theirs", version, "captioning.package")
    for alias in (CHALLENGER, CHAMPION):
        client.delete_registered_model_alias("theirs", alias)
    experiment = client.create_experiment("theirs", (tmp_path / "theirs").as_uri())
    other = client.create_run(experiment)
    clean(plan_cleaning(tmp_path, NOTHING))
    assert load_captioner("models:/theirs/1").vocabulary.words
    assert load_captioner("models:/theirs/2").vocabulary.words
    assert client.get_run(other.info.run_id).info.lifecycle_stage == "active"


def test_a_model_that_a_killed_run_did_not_register_goes(
    models: list[RegisteredModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = MlflowClient().get_model_version("captioner", "3").run_id
    folder = Path(mlflow.artifacts.download_artifacts(models[2].uri))
    copy = shutil.copytree(folder, tmp_path / "copy")
    monkeypatch.setattr(MlflowClient, "create_model_version", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        add_version(copy, "digest-x", "captioner", run_id, "")
    plan = plan_cleaning(tmp_path, NOTHING)
    assert [(leftover.kind, leftover.bytes) for leftover in plan] == [("model", size_of(copy))]
    assert clean(plan) == size_of(copy)
    assert plan_cleaning(tmp_path, NOTHING) == []
    assert load_captioner(models[2].uri).vocabulary.words


def test_a_cleaning_that_was_killed_is_finished_by_the_next(
    models: list[RegisteredModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roll_back("captioner")
    plan = plan_cleaning(tmp_path, NOTHING)
    with monkeypatch.context() as patch:
        patch.setattr(mlflow_inventory, "discard_model", lambda model: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            clean(plan)
    again = plan_cleaning(tmp_path, NOTHING)
    assert sum(leftover.bytes for leftover in again) == sum(leftover.bytes for leftover in plan)
    clean(again)
    assert plan_cleaning(tmp_path, NOTHING) == []
    assert len(list((tmp_path / "artifacts" / "models").iterdir())) == 6


def test_rows_that_are_hidden_are_not_planned_again(registry: str, tmp_path: Path) -> None:
    with tracked_run("score", {}) as run_id:
        log_dict(run_id, {"a": 1}, "scores.json")
    clean(plan_cleaning(tmp_path, NOTHING))
    ids = [MlflowClient().get_experiment_by_name(EXPERIMENT).experiment_id]
    assert MlflowClient().search_runs(ids) == []
    assert [run.info.run_id for run in MlflowClient().search_runs(ids, run_view_type=ViewType.ALL)] == [run_id]
    assert plan_cleaning(tmp_path, NOTHING) == []
    assert not (tmp_path / "artifacts" / run_id).exists()


def test_a_stage_that_was_used_or_made_again_since_the_plan_stays(registry: str, tmp_path: Path) -> None:
    stage = make_stage(tmp_path, "package", days=3)
    plan = plan_cleaning(tmp_path, DAY)
    os.utime(stage.path / "manifest.json")
    assert clean(plan) == 0
    assert (stage.path / "file").exists()
    assert plan_cleaning(tmp_path, DAY) == []


def test_a_stage_that_went_is_made_again(registry: str, tmp_path: Path) -> None:
    stage = make_stage(tmp_path, "package", days=3)
    size = size_of(stage.path)
    assert clean(plan_cleaning(tmp_path, DAY)) == size
    assert not make_stage(tmp_path, "package").reused


def test_a_partial_folder_goes_when_nobody_works_on_it(registry: str, tmp_path: Path) -> None:
    partial = tmp_path / "partial" / "decoder-0123"
    partial.mkdir(parents=True)
    (partial / "checkpoint").write_bytes(b"c" * 100)
    for path in (partial / "checkpoint", partial):
        os.utime(path, age_of(3 * 86400))
    (tmp_path / "locks").mkdir()
    plan = plan_cleaning(tmp_path, DAY)
    assert names(plan, "partial") == ["decoder-0123"]
    with FileLock(tmp_path / "locks" / "decoder-0123.lock"):
        assert plan_cleaning(tmp_path, DAY) == []
        assert clean(plan) == 0
    (partial / "checkpoint").touch()
    assert plan_cleaning(tmp_path, DAY) == []
    assert clean(plan) == 0
    os.utime(partial / "checkpoint", age_of(3 * 86400))
    assert clean(plan_cleaning(tmp_path, DAY)) == 100
    assert not partial.exists()


def test_embeddings_downloads_and_young_logs_stay_and_old_logs_go(registry: str, tmp_path: Path) -> None:
    kept = [tmp_path / "embeddings/abc/1.npy", tmp_path / "downloads/a.zip", tmp_path / "logs/new.log"]
    for path in [*kept, tmp_path / "logs/old.log"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("12345")
        if path.name != "new.log":
            os.utime(path, age_of(3 * 86400))
    assert clean(plan_cleaning(tmp_path, DAY)) == 5
    assert all(path.exists() for path in kept)
    assert not (tmp_path / "logs/old.log").exists()


def test_a_shard_that_the_pool_has_too_frees_nothing(registry: str, tmp_path: Path) -> None:
    stage = make_stage(tmp_path, "embeddings", days=3)
    own = size_of(stage.path)
    (tmp_path / "embeddings").mkdir()
    shard = tmp_path / "embeddings" / "shard.npy"
    shard.write_bytes(bytes(10_000))
    os.link(shard, stage.path / "shard.npy")
    os.utime(stage.path / "manifest.json", age_of(3 * 86400))
    assert clean(plan_cleaning(tmp_path, DAY)) == own
    assert shard.exists()


def test_what_vanished_meanwhile_is_fine_and_what_cannot_go_is_logged(
    registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = (make_stage(tmp_path, name, days=3) for name in ("first", "second"))
    plan = plan_cleaning(tmp_path, DAY)
    shutil.rmtree(first.path)

    def refused(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("components.retention.shutil.rmtree", refused)
    with caplog.at_level(logging.WARNING):
        assert clean(plan) == 0
    assert [message for message in caplog.messages if "stays" in message] == [
        f"stage {second.path} stays: [Errno 13] Permission denied"
    ]


def test_an_empty_home_has_nothing_to_clean(registry: str, tmp_path: Path) -> None:
    assert plan_cleaning(tmp_path / "nothing", NOTHING) == []
    assert clean([]) == 0


def set_addresses(folder: Path, changes: dict[tuple[str, str], str]) -> None:
    """Changes, in MLflow's database, the address of a table's row."""
    columns = {"runs": ("artifact_uri", "run_uuid"), "logged_models": ("artifact_location", "model_id")}
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection, connection:
        for (table, row), address in changes.items():
            column, key = columns[table]
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (address, row))


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


OUTSIDE: dict[str, Callable[[Path, Path], str]] = {
    "file:///": lambda home, other: other.as_uri(),
    "file:/": lambda home, other: f"file:{other}",
    "file://localhost/": lambda home, other: f"file://localhost{other}",
    "a path": lambda home, other: str(other),
    "percent signs": lambda home, other: f"file://{home}/artifacts/%2e%2e/%2E./{other.name}",
    "a path with percent signs": lambda home, other: f"{home}/artifacts/%2e%2e/%2E./{other.name}",
    "..": lambda home, other: f"file://{home}/artifacts/models/../../../{other.name}",
    "a relative path": lambda home, other: os.path.relpath(other),
    "a link": lambda home, other: f"file://{home}/artifacts/link",
    "below a link": lambda home, other: f"file://{home}/artifacts/link/below",
    "a loop": lambda home, other: f"file://{home}/artifacts/loop/below",
    "all artifacts": lambda home, other: f"file://{home}/artifacts",
    "the home": lambda home, other: home.as_uri(),
    "a stage": lambda home, other: f"file://{home}/stages",
    "Windows": lambda home, other: f"C:\\{other.name}",
    "a broken host": lambda home, other: "http://[::1",
    "a NUL": lambda home, other: f"file://{home}/artifacts/a%00b",
    "another run": lambda home, other: "runs:/0123/artifacts",
    "an unknown scheme": lambda home, other: f"FILES://{other}",
    "capitals": lambda home, other: f"FILE://{other}",
}
"""Addresses, by how they are written, of what is not the home's to delete."""


def test_what_lies_outside_the_home_stays_and_is_told(
    registry: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home, other = tmp_path, tmp_path.with_name(f"{tmp_path.name}-other")
    for folder in (other / "below", home / "stages", home / "artifacts" / "models"):
        folder.mkdir(parents=True)
        (folder / "file").write_text("mine")
    (home / "artifacts" / "link").symlink_to(other)
    (home / "artifacts" / "loop").symlink_to(home / "artifacts" / "loop")
    client = MlflowClient()
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    runs = {way: client.create_run(experiment, run_name=way).info.run_id for way in [*OUTSIDE, "its own"]}
    client.log_dict(runs["its own"], {"a": 1}, "scores.json")
    (home / "artifacts" / runs["its own"] / "artifacts" / "link").symlink_to(other)
    for run in runs.values():
        client.set_terminated(run)
    set_addresses(home, {("runs", runs[way]): OUTSIDE[way](home, other) for way in OUTSIDE})
    before = content_of(home), content_of(other)
    with caplog.at_level(logging.WARNING):
        plan = plan_cleaning(home, NOTHING)
    assert [leftover.name for leftover in plan if leftover.kind == "run"] == ["its own"]
    assert f"{len(OUTSIDE)} of MLflow's entries stay: their files lie outside {home}" in caplog.text
    assert clean(leftover for leftover in plan if leftover.kind == "run") > 0
    gone = {
        str(home / "artifacts" / runs["its own"] / "artifacts" / "scores.json"),
        registry.removeprefix("sqlite:///"),
    }
    after = content_of(home), content_of(other)
    assert {path for path in before[0] if before[0][path] != after[0].get(path)} == gone
    assert after[1] == before[1]
    assert {run.info.run_id for run in client.search_runs([experiment])} == set(runs.values()) - {runs["its own"]}


def test_a_version_whose_files_lie_outside_stays_with_its_runs(
    models: list[RegisteredModel], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    roll_back("captioner")
    MlflowClient().set_registered_model_alias("captioner", CHALLENGER, "4")
    assert names(plan_cleaning(tmp_path, NOTHING), "version") == ["models:/captioner/3"]
    model = mlflow_inventory.model_id(MlflowClient().get_model_version("captioner", "3"))
    set_addresses(tmp_path, {("logged_models", model): "file:///elsewhere"})
    assert plan_cleaning(tmp_path, NOTHING) == []
    assert "file:///elsewhere" in caplog.text


def test_a_home_whose_name_decodes_to_that_of_another_leaves_that_alone(tmp_path: Path, migrated: Path) -> None:
    home, other = tmp_path / "my%20home", tmp_path / "my home"
    try:
        for folder in (other, home):
            folder.mkdir()
            shutil.copy(migrated, folder / "mlflow.db")
            connect(f"sqlite:///{folder / 'mlflow.db'}", folder / "artifacts")
            with tracked_run("score", {}) as run_id:
                log_dict(run_id, {"a": 1}, "scores.json")
        shutil.copytree(home / "artifacts", other / "artifacts", dirs_exist_ok=True)
        before = content_of(other)
        assert clean(plan_cleaning(home, NOTHING)) > 0
        assert content_of(other) == before
        assert not list(home.rglob("scores.json"))
    finally:
        mlflow.set_tracking_uri(None)
        mlflow.set_registry_uri(None)


def test_links_out_of_the_home_are_not_followed(
    registry: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = tmp_path.with_name(f"{tmp_path.name}-other")
    stages = [make_stage(other, name, days=3) for name in ("first", "second")]
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "linked").symlink_to(stages[0].path)
    (tmp_path / "partial").symlink_to(other / "stages")
    before = content_of(other)
    plan = plan_cleaning(tmp_path, NOTHING)
    assert [(leftover.name, leftover.bytes) for leftover in plan] == [("linked", 0)]
    assert f"{tmp_path / 'partial'} stays" in caplog.text
    assert clean(plan) == 0
    assert not list((tmp_path / "stages").iterdir())
    assert content_of(other) == before
