import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient

from components.decoder.caption import Search
from components.errors import CaptioningError
from components.registry.models import RegisteredModel, describe, load_captioner
from components.registry.register import register
from components.registry.relocation import moved_from, relocate
from components.registry.retention import clean, plan_cleaning
from components.registry.tracking import connect, log_dict, tracked_run

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")  # its own imports warn

PLACES = ["plain", "with spaces", "mit Ümlaut ß 写真", "100% #1", "a+b&c'd\"e"]


class Home:
    """A home folder that can be moved, with a registry in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def database(self) -> Path:
        return self.folder / "mlflow.db"

    @property
    def artifacts(self) -> Path:
        return self.folder / "artifacts"

    def use(self) -> None:
        connect(f"sqlite:///{self.database}", self.artifacts)

    def move(self, to: Path) -> "Home":
        mlflow.set_tracking_uri(None)
        shutil.move(self.folder, to)
        moved = Home(to)
        moved.use()
        return moved


@pytest.fixture
def make_home(migrated: Path, package: Path, tmp_path: Path) -> Iterator[Callable[[str], Home]]:
    def make(name: str) -> Home:
        home = Home(tmp_path / name)
        home.folder.mkdir()
        shutil.copy(migrated, home.database)
        home.use()
        add(package, "digest-1")
        return home

    yield make
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)


def add(package: Path, digest: str) -> RegisteredModel:
    with tracked_run("train", {}) as run_id:
        log_dict(run_id, {"a": 1}, "evaluation/summary.json")
        return register(package, digest, "captioner", run_id, {}, "a card", None)


def everything(database: Path) -> str:
    """All that is stored, as text."""
    with sqlite3.connect(database) as connection:
        return "\n".join(connection.iterdump())


@pytest.mark.parametrize("place", PLACES)
def test_a_moved_folder_is_found_and_its_models_load_again(
    make_home: Callable[[str], Home], tmp_path: Path, place: str, package: Path
) -> None:
    home = make_home(place)
    expected = load_captioner("models:/captioner/1").caption(np.ones((1, 5), np.float32), Search())
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert moved_from(home.database, home.artifacts) is None
    assert relocate(home.database, home.artifacts) == 0
    moved = home.move(tmp_path / f"new {place}")
    with pytest.raises(CaptioningError, match="cannot load models:/captioner/1"):
        load_captioner("models:/captioner/1")
    assert moved_from(moved.database, moved.artifacts) == home.artifacts
    assert relocate(moved.database, moved.artifacts) == 4  # experiment, run, logged model, version
    assert moved_from(moved.database, moved.artifacts) is None
    assert relocate(moved.database, moved.artifacts) == 0
    found = load_captioner("models:/captioner/1").caption(np.ones((1, 5), np.float32), Search())
    assert found[0][0].logprobs == expected[0][0].logprobs
    content = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/evaluation/summary.json")
    assert json.loads(content) == {"a": 1}
    assert add(package, "digest-2").version == "2"
    assert load_captioner("models:/captioner/2").folder.is_relative_to(moved.folder)
    assert not home.folder.exists()


def test_no_old_address_remains_and_the_database_before_is_kept(
    make_home: Callable[[str], Home], tmp_path: Path
) -> None:
    home = make_home("at home")
    before = everything(home.database)
    moved = home.move(tmp_path / "elsewhere")
    relocate(moved.database, moved.artifacts)
    for old in (str(home.artifacts), home.artifacts.as_uri()):
        assert old not in everything(moved.database)
    (backup,) = moved.folder.glob("mlflow.db.before-*")
    assert everything(backup) == before
    # Nothing but those addresses changed, and they only in their beginning.
    assert before.replace(home.artifacts.as_uri(), moved.artifacts.as_uri()) == everything(moved.database)


def test_a_place_whose_name_begins_like_the_old_one_is_not_it(make_home: Callable[[str], Home], tmp_path: Path) -> None:
    home = make_home("home")
    location = (home.folder / "artifacts-of-another").as_uri()
    MlflowClient().create_experiment("another", location)
    moved = home.move(tmp_path / "moved")
    relocate(moved.database, moved.artifacts)
    another = MlflowClient().get_experiment_by_name("another")
    assert another.artifact_location == location


def test_plain_paths_follow_as_plain_paths(make_home: Callable[[str], Home], tmp_path: Path) -> None:
    home = make_home("ä b")
    with sqlite3.connect(home.database) as connection:
        connection.execute("UPDATE model_versions SET source = ?", (f"{home.artifacts}/models/x",))
    moved = home.move(tmp_path / "c d")
    assert relocate(moved.database, moved.artifacts) == 5
    assert MlflowClient().get_model_version("captioner", "1").source == f"{moved.artifacts}/models/x"


def test_a_copy_is_not_taken_for_a_move_until_the_original_is_gone(
    make_home: Callable[[str], Home], tmp_path: Path
) -> None:
    home = make_home("home")
    copy = Home(Path(shutil.copytree(home.folder, tmp_path / "copy")))
    assert moved_from(copy.database, copy.artifacts) is None
    shutil.rmtree(home.folder)
    assert moved_from(copy.database, copy.artifacts) == home.artifacts


def test_a_run_that_was_made_at_the_old_place_after_the_move_is_asked_for(
    make_home: Callable[[str], Home], tmp_path: Path, package: Path
) -> None:
    home = make_home("home")
    moved = home.move(tmp_path / "moved")
    late = add(package, "digest-2")  # MLflow makes the old folder again
    assert moved_from(moved.database, moved.artifacts) == home.artifacts
    before = everything(moved.database)
    with pytest.raises(CaptioningError, match=r"lacks files of 2 of 4 models: models:/captioner/2 .*nothing was chang"):
        relocate(moved.database, moved.artifacts)
    assert everything(moved.database) == before
    assert not list(moved.folder.glob("mlflow.db.before-*"))
    shutil.copytree(home.artifacts, moved.artifacts, dirs_exist_ok=True)
    relocate(moved.database, moved.artifacts)
    shutil.rmtree(home.folder)
    assert [load_captioner(uri).folder.exists() for uri in ("models:/captioner/1", late.uri)] == [True, True]
    assert describe(late.uri) == late


def test_a_place_without_the_files_is_refused(make_home: Callable[[str], Home], tmp_path: Path) -> None:
    home = make_home("home")
    moved = home.move(tmp_path / "moved")
    shutil.rmtree(moved.artifacts / "models")
    with pytest.raises(CaptioningError, match="lacks files of 2 of 2 models"):
        relocate(moved.database, moved.artifacts)


def test_an_error_half_way_changes_nothing(make_home: Callable[[str], Home], tmp_path: Path) -> None:
    home = make_home("home")
    moved = home.move(tmp_path / "moved")
    with sqlite3.connect(moved.database) as connection:
        connection.execute(
            "CREATE TRIGGER broken BEFORE UPDATE ON model_versions BEGIN SELECT RAISE(FAIL, 'disk'); END"
        )
    before = everything(moved.database)
    with pytest.raises(CaptioningError, match=r"cannot use MLflow's database .*: disk"):
        relocate(moved.database, moved.artifacts)
    assert everything(moved.database) == before


def test_what_is_no_database_is_told_and_none_is_nothing_moved(tmp_path: Path) -> None:
    assert moved_from(tmp_path / "mlflow.db", tmp_path) is None
    (tmp_path / "mlflow.db").write_text("no database " * 100)
    with pytest.raises(CaptioningError, match="file is not a database"):
        moved_from(tmp_path / "mlflow.db", tmp_path)


def test_what_was_cleaned_away_before_the_move_is_not_missed(
    make_home: Callable[[str], Home], tmp_path: Path, package: Path
) -> None:
    home = make_home("home")
    champion = add(package, "digest-2")
    for alias in ("champion", "challenger"):
        MlflowClient().set_registered_model_alias("captioner", alias, champion.version)
    plan = plan_cleaning(home.folder, timedelta(0))
    assert "version" in {leftover.kind for leftover in plan}
    clean(plan)
    moved = home.move(tmp_path / "elsewhere")
    assert relocate(moved.database, moved.artifacts) > 0
    assert load_captioner("models:/captioner@champion").vocabulary.words
