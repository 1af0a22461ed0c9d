"""What a `kill -9` at any moment of a stage leaves, and what comes of it in the end."""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from components.registry.relocation import relocate
from tests.components.conftest import Server, server  # noqa: F401
from tests.faults.kills import looks, stages
from tests.faults.kills.processes import Job
from tests.faults.kills.storm import storm

Kills = Callable[[str], int]


def test_downloads(server: Server, tmp_path: Path, kills_of: Kills) -> None:  # noqa: F811
    names = ("first.zip", "second.zip")
    for number, name in enumerate(names):
        server.files[f"/{name}"] = np.random.default_rng(number).bytes(24 << 20)
    jobs = [Job(stages.download, (f"{server.url}/{name}",), after="^downloading") for name in names]

    def look(home: Path) -> dict[str, object]:
        found = looks.files(home, "downloads")
        # The digest is noted before the file has its name.
        return {n if n.endswith(".zip") else f"now {n}": d for n, d in found.items() if not n.endswith(".lock")}

    storm("download", jobs, look, kills_of("download"), tmp_path)


def test_extraction(photograph: Callable[[int], bytes], tmp_path: Path, kills_of: Kills) -> None:
    archives = [tmp_path / "first.zip", tmp_path / "second.zip"]
    for archive, numbers in zip(archives, (range(120), range(60, 180)), strict=True):
        with zipfile.ZipFile(archive, "w") as written:
            for number in numbers:
                content = photograph(number) if number % 12 else b"broken %d" % number
                written.writestr(f"{number:05}.jpg", content)
    jobs = [Job(stages.extract, (archive,), after="to embed$") for archive in archives]

    def look(home: Path) -> dict[str, object]:
        return looks.files(home, "stages/*/*", "embeddings/*/*.npy") | looks.embeddings(home)

    storm("extraction", jobs, look, kills_of("extraction"), tmp_path)


@pytest.mark.parametrize(
    ("name", "after"),
    [
        ("cross-entropy", r"^cross_entropy, epoch 1|^resuming after epoch [12]$"),
        ("self-critical", r"^cross_entropy, epoch 3|^resuming after epoch [345]$"),
    ],
)
def test_training(name: str, after: str, tmp_path: Path, kills_of: Kills) -> None:
    storm(name, [Job(stages.train, after=after)], lambda home: looks.files(home, "stages"), kills_of(name), tmp_path)


def test_package(tmp_path: Path, kills_of: Kills) -> None:
    def look(home: Path) -> dict[str, object]:
        found = looks.files(home, "stages")
        # TensorFlow writes the same network another way each time, and the manifest has its digest.
        return {name: "" if "saved_model" in name or "manifest" in name else found[name] for name in found}

    jobs = [Job(stages.package, (seed,)) for seed in (1, 2)]
    storm("package", jobs, look, kills_of("package"), tmp_path)


def test_database(tmp_path: Path, kills_of: Kills) -> None:
    jobs = [Job(stages.open_database)]
    storm("database", jobs, looks.database, kills_of("database"), tmp_path)


def test_registration(toy_package: Path, migrated: Path, tmp_path: Path, kills_of: Kills) -> None:
    def prepare(home: Path) -> None:
        home.mkdir()
        shutil.copy(migrated, home / "mlflow.db")

    jobs = [Job(stages.register, (toy_package, digest)) for digest in ("one", "two")]
    storm("registration", jobs, looks.registry, kills_of("registration"), tmp_path, prepare)


def test_promotion(registered: Path, tmp_path: Path, kills_of: Kills) -> None:
    def prepare(home: Path) -> None:
        shutil.copytree(registered, home)
        relocate(home / "mlflow.db", home / "artifacts")

    steps = [(stages.promote, "2"), (stages.promote, "3"), (stages.roll_back, "3"), (stages.roll_back, "2")]

    def look(home: Path) -> dict[str, object]:
        return {
            what: found for what, found in looks.registry(home).items() if not what.endswith("captioning.promotion")
        }

    jobs = [Job(work, (version,)) for work, version in steps]
    storm("promotion", jobs, look, kills_of("promotion"), tmp_path, prepare)
