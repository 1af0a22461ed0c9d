"""What a `kill -9` of a command at any moment leaves, and what comes of it in the end."""

import shutil
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from components.registry.relocation import relocate
from tests import toy
from tests.faults.kills import looks
from tests.faults.kills.processes import Job, run
from tests.faults.kills.storm import storm

Kills = Callable[[str], int]
IMAGES = 2300
"""Three parts of a batch."""
POORER, BETTER = (
    ("train", *toy.demo({"encoder.shard_size": 8, "training.steps_per_epoch": 20, "training.epochs": epochs}))
    for epochs in (1, 3)
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, kills_of: Kills) -> Path:
    """A home with a champion and a better challenger."""
    kills_of("score")  # skips before the work
    home = tmp_path_factory.mktemp("trained") / "home"
    home.mkdir()
    for command in (POORER, BETTER):
        assert run(Job(command), home)[0] == 0
    return home


@pytest.fixture(scope="module")
def pictures(trained: Path) -> list[bytes]:
    with zipfile.ZipFile(next(trained.glob("downloads/scenes+*")) / "dev.zip") as scenes:
        return [scenes.read(name) for name in sorted(scenes.namelist())]


def copy(trained: Path, home: Path) -> None:
    shutil.copytree(trained, home, ignore=shutil.ignore_patterns("prefect", "logs", "partial"))
    relocate(home / "mlflow.db", home / "artifacts")


def test_training(tmp_path: Path, kills_of: Kills) -> None:
    def look(home: Path) -> dict[str, object]:
        # Of a stage there may be more as the jobs go on, so the count may change.
        return looks.registry(home) | looks.embeddings(home) | {f"now {n}": m for n, m in looks.stages(home).items()}

    jobs = [Job(command, after="^dataset: ") for command in (POORER, BETTER)]
    storm("train", jobs, look, kills_of("train"), tmp_path)


def test_scoring(trained: Path, pictures: list[bytes], tmp_path: Path, kills_of: Kills) -> None:
    inbox = tmp_path / "inbox.zip"
    with zipfile.ZipFile(inbox, "w") as written:
        for number in range(IMAGES):  # as many contents as names, but for some broken ones
            content = b"broken %d" % number if number % 100 == 0 else pictures[number % len(pictures)] + b"%d" % number
            written.writestr(f"{number:05}.jpg", content)
    _score(["--images", str(inbox)], "to embed$", "score", trained, tmp_path, kills_of)


def test_scoring_on_spark(trained: Path, pictures: list[bytes], tmp_path: Path, kills_of: Kills) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for number in range(60):
        content = b"broken" if number % 20 == 0 else pictures[number % len(pictures)] + b"%d" % number
        (inbox / f"{number}.jpg").write_bytes(content)
    _score(["--images", str(inbox), "--engine", "spark"], "", "spark", trained, tmp_path, kills_of)


def _score(what: list[str], after: str, name: str, trained: Path, tmp_path: Path, kills_of: Kills) -> None:
    def look(home: Path) -> dict[str, object]:
        return looks.predictions(home / "out") | looks.embeddings(home) | looks.registry(home)

    # Killed at its very end, it has nothing left to do the next time.
    command = Job(("score", *what, "--out", "HOME/out"), after=after, ends=(0, 4))
    again = Job(command.work, ends=(0,))  # nothing is left to do
    storm(name, [command, again], look, kills_of(name), tmp_path, partial(copy, trained))


def test_promotion(trained: Path, tmp_path: Path, kills_of: Kills) -> None:
    command = ("promote", "--set", "max_slower=1000", "--set", "max_larger=1000")  # the clock is uneven

    def look(home: Path) -> dict[str, object]:
        return {
            what: found for what, found in looks.registry(home).items() if not what.endswith("captioning.promotion")
        }

    # Killed at its very end it is refused the next time: the challenger is champion already.
    storm("promote", [Job(command, ends=(0, 1))], look, kills_of("promote"), tmp_path, partial(copy, trained))
