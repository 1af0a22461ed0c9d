"""The commands beside those that caption: a model from one home to another, a moved home, cleaning, a worker."""

import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
import typer
from typer.testing import CliRunner, Result

from components.errors import ConfigurationError
from components.registry.versions import describe
from flows.commands import cli, operations
from flows.settings import settings
from tests import commands, toy

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")  # its own imports warn
COMMANDS = {
    "up": ["--check"],
    "worker": ["--queue"],
    "doctor": ["--json"],
    "export-model": ["--out", "--model", "--json"],
    "import-model": ["FILE", "--name", "--json"],
    "relocate": ["--json"],
    "clean": ["--older-than", "--yes", "--json"],
}
Use = Callable[..., Path]


def captioning(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command line of its own."""
    return commands.captioning(home, *arguments, environment=environment)


def run(*arguments: str) -> Result:
    """The same command in this process, in the home that is in use; without what is set up before a command."""
    app = typer.Typer()
    app.add_typer(operations.app)
    app.command("caption")(cli.caption)
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def home(use: Use, tmp_path: Path) -> Path:
    """A home in use with a champion of toy size, version 1."""
    folder = use(tmp_path / "home")
    toy.register(tmp_path / "model", "digest-1")
    return folder


@pytest.fixture
def photo(tmp_path: Path, photograph: Callable[[int], bytes]) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(photograph(1))
    return path


def tampered(parcel: Path) -> str:
    """Changes a byte of the vocabulary in the parcel. Returns the file's name."""
    with zipfile.ZipFile(parcel) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (name,) = (name for name in members if name.endswith("vocabulary.json"))
    members[name] = members[name].replace(b"kite", b"bite")
    with zipfile.ZipFile(parcel, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return name


def test_a_model_that_came_from_another_home_says_the_same(home: Path, use: Use, tmp_path: Path, photo: Path) -> None:
    asked = ("caption", str(photo), "--beam", "3", "--top", "3", "--json")
    here, parcel = run(*asked).stdout, tmp_path / "champion.zip"
    assert len(json.loads(here)["photos"][0]["captions"]) == 3
    exported = captioning(home, "export-model", "--out", str(parcel), "--json")
    assert exported.returncode == 0, exported.stderr
    assert json.loads(exported.stdout)["model_uri"] == "models:/captioner/1"
    other = use(tmp_path / "other")
    assert "there is no model models:/captioner@champion" in str(run(*asked).exception)
    imported = captioning(other, "import-model", str(parcel), "--json")
    assert imported.returncode == 0, imported.stderr
    assert json.loads(imported.stdout)["aliases"] == ["challenger", "champion"]
    shutil.rmtree(home)
    assert run(*asked).stdout == here


def test_sampled_captions_are_those_of_the_seed(home: Path, photo: Path) -> None:
    varied = ("--temperature", "1.2", "--top-k", "20", "--top-p", "0.95", "--top", "3", "--json")
    first, again, other = (run("caption", str(photo), *varied, "--seed", seed).stdout for seed in ("5", "5", "50"))
    assert first == again != other
    assert len(json.loads(first)["photos"][0]["captions"]) == 3


def test_exporting_and_importing_are_told_in_words_and_as_json(home: Path, use: Use, tmp_path: Path) -> None:
    parcel = tmp_path / "champion.zip"
    assert f"exported  {parcel}" in run("export-model", "--out", str(parcel)).stdout
    exported = json.loads(run("export-model", "--out", str(parcel), "--json").stdout)
    expected = {"path": str(parcel), "model_uri": "models:/captioner/1", "evaluations": 0}
    assert exported == expected | {"bytes": parcel.stat().st_size}
    use(tmp_path / "other")
    told = run("import-model", str(parcel), "--name", "theirs").stdout
    assert told == "imported  models:/theirs/1 (challenger, champion)\n"
    again = json.loads(run("import-model", str(parcel), "--name", "theirs", "--json").stdout)
    assert again == {"model_uri": "models:/theirs/1", "version": "1", "aliases": ["challenger", "champion"]}


def test_a_tampered_file_is_refused_and_nothing_is_registered(home: Path, use: Use, tmp_path: Path) -> None:
    parcel = tmp_path / "champion.zip"
    run("export-model", "--out", str(parcel))
    name = tampered(parcel)
    done = captioning(use(tmp_path / "other"), "import-model", str(parcel))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {parcel} is damaged or no export: {name!r} ")
    assert "Traceback" not in done.stderr
    assert mlflow.MlflowClient().search_registered_models() == []


def test_a_file_that_is_not_there_is_told(home: Path, tmp_path: Path) -> None:
    done = run("import-model", str(tmp_path / "nothing.zip"))
    assert isinstance(done.exception, ConfigurationError)
    assert "give a file that export-model wrote" in str(done.exception)


def test_a_moved_home_captions_again_after_relocate(home: Path, use: Use, tmp_path: Path, photo: Path) -> None:
    mlflow.set_tracking_uri(None)
    moved = Path(shutil.move(home, tmp_path / "moved"))
    use(moved, connect=False)
    assert f"{moved} was made in {home}" in str(run("caption", str(photo)).exception)
    assert not home.exists()
    relocated = run("relocate", "--json")
    assert relocated.exit_code == 0
    assert json.loads(relocated.stdout) == {"addresses": 4}  # experiment, run, logged model, version
    found = json.loads(run("caption", str(photo), "--json").stdout)
    assert found["photos"][0]["captions"][0]["caption"]
    assert list(moved.glob("mlflow.db.before-*"))


def test_relocate_says_how_many_addresses_it_wrote(home: Path, use: Use, tmp_path: Path) -> None:
    assert "all addresses are right" in run("relocate").stdout
    mlflow.set_tracking_uri(None)
    use(Path(shutil.move(home, tmp_path / "moved")), connect=False)
    assert run("relocate").stdout.startswith("4 addresses ")


def test_relocate_leaves_a_server_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTIONING_TRACKING_URI", "http://127.0.0.1:9")
    settings.cache_clear()
    done = run("relocate")
    assert isinstance(done.exception, ConfigurationError)
    assert "CAPTIONING_TRACKING_URI names a server" in str(done.exception)


@pytest.fixture
def leftovers(home: Path, tmp_path: Path) -> Path:
    """The log of 100 days ago, beside a new one and a version that nothing needs."""
    toy.register(tmp_path / "model", "digest-2")
    toy.register(tmp_path / "model", "digest-3")
    old, new = home / "logs" / "old.log", home / "logs" / "new.log"
    old.parent.mkdir(exist_ok=True)
    for path in (old, new):
        path.write_bytes(b"x" * 2_000_000)
    os.utime(old, (old.stat().st_atime - 100 * 86400,) * 2)
    return old


def test_cleaning_only_tells_without_yes(leftovers: Path) -> None:
    done = run("clean", "--older-than", "90")
    assert done.exit_code == 0
    assert "old.log" in done.stdout
    assert "new.log" not in done.stdout
    assert "2 MB can be freed; run again with --yes" in done.stdout
    told = json.loads(run("clean", "--older-than", "90", "--json").stdout)
    assert (told["bytes"], told["freed"]) == (2_000_000, None)
    assert [(leftover["kind"], leftover["where"]) for leftover in told["leftovers"]] == [("log", str(leftovers))]
    assert leftovers.exists()


def test_cleaning_with_yes_frees_what_it_told(leftovers: Path) -> None:
    assert run("clean", "--older-than", "90", "--yes").stdout.endswith("2 MB freed\n")
    assert [path.name for path in leftovers.parent.iterdir()] == ["new.log"]
    assert run("clean", "--older-than", "90").stdout == "Nothing to delete.\n"
    assert json.loads(run("clean", "--older-than", "90", "--yes", "--json").stdout)["freed"] == 0


def test_the_champion_and_the_challenger_stay_whatever_their_age(leftovers: Path, home: Path, photo: Path) -> None:
    done = json.loads(run("clean", "--older-than", "0", "--yes", "--json").stdout)
    gone = {leftover["where"] for leftover in done["leftovers"] if leftover["kind"] == "version"}
    assert gone == {"models:/captioner/2"}
    assert done["freed"] > 4_000_000  # the logs and a model
    assert describe("models:/captioner@champion").version == "1"
    assert describe("models:/captioner@challenger").version == "3"
    assert run("caption", str(photo)).exit_code == 0


def test_cleaning_takes_an_age(home: Path) -> None:
    assert run("clean").exit_code == 2
    assert run("clean", "--older-than", "-1").exit_code == 2


def test_a_worker_needs_a_server(tmp_path: Path) -> None:
    done = captioning(tmp_path, "worker", PREFECT_API_URL="")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: a worker needs a Prefect server: set PREFECT_API_URL, or use `captioning up`\n"


def test_the_help_names_every_command() -> None:
    told = CliRunner().invoke(cli.app, ["--help"], env={"COLUMNS": "200"}).stdout
    assert set(COMMANDS) <= {line.strip("│ ").split(" ")[0] for line in told.splitlines() if line.strip("│ ")}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_says_what_it_takes(command: str, tmp_path: Path) -> None:
    environment = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb", "CAPTIONING_HOME": str(tmp_path)}
    done = CliRunner().invoke(operations.app, [command, "--help"], env=environment)
    assert done.exit_code == 0
    taken = {word for line in done.stdout.splitlines() for word in line.replace("│", " ").split()}
    assert {option if option.startswith("-") else option.lower() for option in COMMANDS[command]} <= {
        word if word.startswith("-") else word.lower() for word in taken
    }
    assert not list(tmp_path.iterdir())


def state_of(home: Path) -> dict[str, tuple[float, bytes]]:
    """Every file of a home, its time and its content."""
    return {str(path): (path.stat().st_mtime, path.read_bytes()) for path in home.rglob("*") if path.is_file()}


NOT_IN_A_COPY = (
    ("caption", "photo.jpg"),
    ("export-model", "--out", "champion.zip"),
    ("import-model", "champion.zip"),
    ("clean", "--older-than", "0", "--yes"),
    ("rollback",),
    ("promote",),
    ("score", "--images", "photo.jpg.zip", "--out", "predictions"),
    ("evaluate", "--profile", "demo", "--split", "dev"),
    ("check", "--profile", "demo"),
    ("train", "--profile", "demo"),
    ("up", "--check"),
    ("worker",),
)
"""Commands that read, write or delete what MLflow's addresses point to."""
LIGHT = 5
"""The first of them take seconds, and need no server."""


def test_commands_in_a_copy_touch_the_original_neither_before_nor_after_relocate(
    leftovers: Path, home: Path, use: Use, tmp_path: Path, photo: Path
) -> None:
    mlflow.set_tracking_uri(None)
    copy = Path(shutil.copytree(home, tmp_path / "copy", symlinks=True))
    with zipfile.ZipFile(copy / "photo.jpg.zip", "w") as archive:
        archive.write(photo, "photo.jpg")
    shutil.copy(photo, copy)
    original, copied = state_of(home), state_of(copy)
    for command in NOT_IN_A_COPY:
        environment = {"PREFECT_API_URL": "http://127.0.0.1:9/api"} if command[0] == "worker" else {}
        done = captioning(copy, *command, **environment)
        assert (done.returncode, done.stdout) == (2, ""), (command, done.stderr)
        assert f"error: {copy} is a copy of {home}: " in done.stderr
        assert "captioning relocate" in done.stderr
    assert "→ captioning relocate" in captioning(copy, "doctor").stdout
    after = state_of(copy)
    assert {Path(path).name for path in copied | after if copied.get(path) != after.get(path)} <= {"libraries.log"}
    assert captioning(copy, "relocate").returncode == 0
    for command in NOT_IN_A_COPY[:LIGHT]:
        done = captioning(copy, *command)
        assert "is a copy of" not in done.stderr
        assert done.returncode == (1 if command[0] == "rollback" else 0), (command, done.stderr)  # to no champion
    assert not (copy / "logs" / leftovers.name).exists()
    assert state_of(home) == original


READ_ONLY = (
    ("doctor",),
    ("relocate",),
    ("caption", "photo.jpg"),
    ("export-model", "--out", "champion.zip"),
    ("clean", "--older-than", "0", "--yes"),
    ("rollback",),
    ("promote",),
    ("evaluate", "--profile", "demo", "--split", "dev"),
    ("train", "--help"),
)


def test_commands_that_make_nothing_leave_no_home_behind(photo: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    for command in READ_ONLY:
        done = captioning(tmp_path, *command, CAPTIONING_HOME=str(tmp_path / "not" / "there"))
        assert done.returncode in (0, 1), (command, done.stderr)
        if done.returncode and command[0] != "doctor":
            assert f"{tmp_path}/not/there/mlflow.db: nothing was trained there yet" in done.stderr, command
        assert sorted(tmp_path.rglob("*")) == before, command
