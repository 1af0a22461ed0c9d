import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient

from components.decoder.caption import Search
from components.errors import CaptioningError, ConfigurationError
from components.registry.cleanup import clean, plan_cleaning
from components.registry.registration import register
from components.registry.relocation import moved_from, relocate
from components.registry.tracking import connect, log_dict, tracked_run
from components.registry.versions import RegisteredModel, describe, load_captioner

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
        return Home(Path(shutil.move(self.folder, to)))

    def copy(self, to: Path) -> "Home":
        """As `cp -a` does."""
        return Home(Path(shutil.copytree(self.folder, to, symlinks=True)))

    def relocate(self) -> int:
        return relocate(self.database, self.artifacts)

    def state(self) -> dict[Path, tuple[float, bytes]]:
        """Every file in it, also behind links, with its content and time."""
        found = [Path(folder, name) for folder, _, names in os.walk(self.folder, followlinks=True) for name in names]
        return {path: (path.stat().st_mtime, path.read_bytes()) for path in found if path.exists()}


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
    with pytest.raises(ConfigurationError, match=r"was made in .*Run `captioning relocate`"):
        moved.use()
    assert moved_from(moved.database, moved.artifacts) == home.artifacts
    assert relocate(moved.database, moved.artifacts) == 4  # experiment, run, logged model, version
    assert moved_from(moved.database, moved.artifacts) is None
    assert relocate(moved.database, moved.artifacts) == 0
    moved.use()
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
    moved.relocate()
    moved.use()
    another = MlflowClient().get_experiment_by_name("another")
    assert another.artifact_location == location


def test_plain_paths_follow_as_plain_paths(make_home: Callable[[str], Home], tmp_path: Path) -> None:
    home = make_home("ä b")
    with sqlite3.connect(home.database) as connection:
        connection.execute("UPDATE model_versions SET source = ?", (f"{home.artifacts}/models/x",))
    moved = home.move(tmp_path / "c d")
    assert moved.relocate() == 5
    moved.use()
    assert MlflowClient().get_model_version("captioner", "1").source == f"{moved.artifacts}/models/x"


def test_a_copy_uses_its_own_files_and_leaves_the_original_as_it_was(
    make_home: Callable[[str], Home], tmp_path: Path, package: Path
) -> None:
    home = make_home("home")
    copy = home.copy(tmp_path / "home" / "backup")  # in the original, as a backup may be
    mlflow.set_tracking_uri(None)
    before = home.state()
    with pytest.raises(ConfigurationError, match=f"{copy.folder} is a copy of {home.folder}: .*`captioning relocate`"):
        copy.use()
    assert copy.relocate() == 4
    assert copy.relocate() == 0
    copy.use()
    add(package, "digest-2")
    for version in (1, 2):
        assert load_captioner(f"models:/captioner/{version}").folder.is_relative_to(copy.folder)
    for alias in ("champion", "challenger"):
        MlflowClient().set_registered_model_alias("captioner", alias, "2")
    assert clean(plan_cleaning(copy.folder, timedelta(0))) > 0
    after = home.state()
    assert {path: after[path] for path in before if not path.is_relative_to(copy.folder)} == {
        path: found for path, found in before.items() if not path.is_relative_to(copy.folder)
    }
    assert home.relocate() == 0


@pytest.mark.parametrize("way", ["a link to it", "a link above it", "a path with .."])
def test_a_home_by_another_path_is_the_same_home(make_home: Callable[[str], Home], tmp_path: Path, way: str) -> None:
    home = make_home("home")
    (tmp_path / "link").symlink_to(home.folder)
    (tmp_path / "above").symlink_to(tmp_path)
    ways = {"a link to it": "link", "a link above it": "above/home", "a path with ..": "home/artifacts/.."}
    other = Home(tmp_path / ways[way])
    assert other.relocate() == 0
    other.use()


@pytest.mark.parametrize(
    "form",
    [
        "file:{}",
        "file://{}",
        "file://localhost{}",
        "{}",
        "file://{}/../artifacts",
        "file://{}/",
        "{}/models/../../../copy of ä b/../ä b/artifacts",
    ],
)
def test_every_way_to_write_the_address_of_another_home_is_recognised(
    make_home: Callable[[str], Home], tmp_path: Path, form: str
) -> None:
    home = make_home("ä b")
    copy = home.copy(tmp_path / "copy of ä b")
    text = form.format(home.artifacts.as_uri().removeprefix("file://"))
    with closing(sqlite3.connect(copy.database)) as connection, connection:
        connection.execute("UPDATE experiments SET artifact_location = ? WHERE name = 'captioning'", (text,))
    with pytest.raises(ConfigurationError, match="is a copy of"):
        copy.use()
    assert copy.relocate() == 4
    copy.use()
    assert str(home.artifacts) not in unquote(everything(copy.database))


def link_artifacts(home: Home, copy: Home) -> Path:
    shutil.rmtree(copy.artifacts)
    copy.artifacts.symlink_to(home.artifacts)
    return copy.artifacts


def link_a_model(home: Home, copy: Home) -> Path:
    shutil.rmtree(copy.artifacts / "models")
    (copy.artifacts / "models").symlink_to(home.artifacts / "models")
    return copy.artifacts


def link_stages(home: Home, copy: Home) -> Path:
    (home.folder / "stages").mkdir()
    (copy.folder / "stages").symlink_to(home.folder / "stages")
    return copy.folder / "stages"


def link_the_database(home: Home, copy: Home) -> Path:
    copy.database.unlink()
    copy.database.symlink_to(home.database)
    return copy.database


def link_the_database_hard(home: Home, copy: Home) -> Path:
    copy.database.unlink()
    os.link(home.database, copy.database)
    return copy.database


def link_the_database_hard_and_move_the_original(home: Home, copy: Home) -> Path:
    link_the_database_hard(home, copy)
    home.move(home.folder.with_name("away"))
    return copy.database


@pytest.mark.parametrize(
    "link",
    [
        link_artifacts,
        link_a_model,
        link_stages,
        link_the_database,
        link_the_database_hard,
        link_the_database_hard_and_move_the_original,
    ],
)
def test_a_copy_that_shares_anything_with_the_original_is_refused(
    make_home: Callable[[str], Home], tmp_path: Path, link: Callable[[Home, Home], Path]
) -> None:
    home = make_home("home")
    copy = home.copy(tmp_path / "copy")
    shared = link(home, copy)
    before = home.state(), copy.state()
    with pytest.raises(CaptioningError, match=f"{shared}.*nothing was changed"):
        copy.relocate()
    assert (home.state(), copy.state()) == before
    with pytest.raises(ConfigurationError, match="Run `captioning relocate`"):
        copy.use()


def test_a_moved_home_may_keep_its_artifacts_on_another_disk(
    make_home: Callable[[str], Home], tmp_path: Path, package: Path
) -> None:
    home = make_home("home")
    shutil.move(home.artifacts, tmp_path / "disk")
    home.artifacts.symlink_to(tmp_path / "disk")
    home.use()
    moved = home.move(tmp_path / "moved")
    assert moved.relocate() == 4
    moved.use()
    add(package, "digest-2")
    assert len(list((tmp_path / "disk" / "models").iterdir())) == 2


def test_a_copy_without_the_files_of_a_later_model_asks_for_them(
    make_home: Callable[[str], Home], tmp_path: Path, package: Path
) -> None:
    home = make_home("home")
    copy = home.copy(tmp_path / "copy")
    late = add(package, "digest-2")
    shutil.copy(home.database, copy.database)
    before = everything(copy.database)
    with pytest.raises(CaptioningError, match=r"lacks files of 2 of 4 models: models:/captioner/2 .*nothing was chang"):
        copy.relocate()
    assert everything(copy.database) == before
    assert not list(copy.folder.glob("mlflow.db.before-*"))
    shutil.copytree(home.artifacts, copy.artifacts, dirs_exist_ok=True)
    copy.relocate()
    shutil.rmtree(home.folder)
    copy.use()
    assert [load_captioner(uri).folder.exists() for uri in ("models:/captioner/1", late.uri)] == [True, True]
    assert describe(late.uri) == late


def test_scheduled_runs_use_the_folders_of_the_copy(make_home: Callable[[str], Home], tmp_path: Path) -> None:
    home = make_home("home")
    inside, beside = str(home.folder / "inbox"), f"{home.folder}-of-another/inbox"
    runs = [("SCHEDULED", inside), ("SCHEDULED", beside), ("COMPLETED", inside)]
    (home.folder / "prefect").mkdir()
    with closing(sqlite3.connect(home.folder / "prefect" / "prefect.db")) as connection, connection:
        connection.execute("CREATE TABLE flow_run (state_type TEXT, parameters TEXT)")
        connection.execute("CREATE TABLE deployment (parameters TEXT)")
        connection.execute("INSERT INTO deployment VALUES (?)", (json.dumps({"out": str(home.folder)}),))
        rows = [(state, json.dumps({"request": {"images": images, "more": [images, 1]}})) for state, images in runs]
        connection.executemany("INSERT INTO flow_run VALUES (?, ?)", rows)
    copy = home.copy(tmp_path / "copy")
    copy.relocate()
    with closing(sqlite3.connect(copy.folder / "prefect" / "prefect.db")) as connection:
        found = [json.loads(row[0])["request"] for row in connection.execute("SELECT parameters FROM flow_run")]
        (deployment,) = connection.execute("SELECT parameters FROM deployment").fetchone()
    assert json.loads(deployment) == {"out": str(copy.folder)}
    expected = [str(copy.folder / "inbox"), beside, inside]
    assert found == [{"images": images, "more": [images, 1]} for images in expected]


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
    assert moved.relocate() > 0
    moved.use()
    assert load_captioner("models:/captioner@champion").vocabulary.words
