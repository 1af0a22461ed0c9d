"""What a `kill -9` at any moment of an extraction leaves, and what comes of it in the end."""

import random
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from components.artifacts import file_digest

ROOT = Path(__file__).parents[2]


def start(home: Path, archive: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.faults.extraction", str(home), str(archive)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def finish(home: Path, archive: Path) -> None:
    with start(home, archive) as run:
        assert run.wait(300) == 0


def files(home: Path) -> dict[str, str]:
    """The digest of every file of the finished store, and of the pool it came from."""
    folders = (*home.glob("stages/embeddings-*"), *home.glob("embeddings/*"))
    found = [path for folder in folders for path in folder.rglob("*") if path.is_file() and path.name != "lock"]
    return {path.relative_to(home).as_posix(): file_digest(path) for path in found}


def test_killed_again_and_again_it_ends_as_an_undisturbed_one(
    tmp_path: Path, photograph: Callable[[int], bytes], pytestconfig: pytest.Config
) -> None:
    kills, moments = pytestconfig.getoption("kills"), random.Random(7)
    archive = tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w") as written:
        for number in range(24 * kills):
            written.writestr(f"{number:05}.jpg", photograph(number) if number % 12 else b"broken %d" % number)
    calm, stormy = tmp_path / "calm", tmp_path / "stormy"
    finish(calm, archive)

    killed = 0
    for _ in range(kills):
        with start(stormy, archive) as run:
            assert run.stdout is not None
            if moments.random() < 0.8:  # most while it embeds, some before
                run.stdout.readline()
            time.sleep(moments.uniform(0, 0.3))
            run.kill()
        killed += run.returncode != 0
    assert killed > kills // 2
    embedded = len(list(stormy.glob("embeddings/*/*.json")))
    assert 0 < embedded < 6 * kills, "the kills did not come while it embedded"
    finish(stormy, archive)

    assert files(stormy) == files(calm)
    index = pd.read_parquet(next(stormy.glob("stages/embeddings-*")) / "index.parquet")
    assert len(index) == 22 * kills
