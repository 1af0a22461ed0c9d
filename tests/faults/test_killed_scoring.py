"""What a `kill -9` at any moment of a scoring run leaves, and what comes of it in the end."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pandas as pd
import pytest

IMAGES = 2300
"""Three parts."""
SMALL = [
    *("--set", "dataset.scenes.images={train=48, dev=12}", "--set", "vocabulary.min_count=2"),
    *("--set", "training.epochs=1", "--set", "training.steps_per_epoch=20", "--set", "limits.max_unknown_rate=0.5"),
]


def start(home: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "flows.cli", *arguments]
    environment = {**os.environ, "CAPTIONING_HOME": str(home), "PREFECT_HOME": str(home / "prefect")}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)


def finish(home: Path, *arguments: str, code: int = 0) -> None:
    with start(home, *arguments) as run:
        _, errors = run.communicate(timeout=400)
    assert run.returncode == code, errors


def test_killed_again_and_again_the_data_set_ends_as_an_undisturbed_one(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    kills, moments = pytestconfig.getoption("kills"), random.Random(11)
    if kills < 10:
        pytest.skip("takes minutes: make faults")
    calm, stormy = tmp_path / "calm", tmp_path / "stormy"
    finish(calm, "train", "--profile", "demo", *SMALL)
    with zipfile.ZipFile(next(calm.glob("stages/dataset-*")) / "dev.zip") as scenes:
        pictures = [scenes.read(name) for name in scenes.namelist()]
    with zipfile.ZipFile(tmp_path / "inbox.zip", "w") as inbox:
        for number in range(IMAGES):  # as many contents as names, but for some broken ones
            content = b"broken %d" % number if number % 100 == 0 else pictures[number % len(pictures)] + b"%d" % number
            inbox.writestr(f"{number:05}.jpg", content)
    shutil.copytree(calm, stormy)
    score = ("score", "--images", str(tmp_path / "inbox.zip"), "--out")
    finish(calm, *score, str(tmp_path / "out-calm"), code=4)

    out = tmp_path / "out-stormy"
    for _ in range(kills):
        with start(stormy, *score, str(out)) as run:
            assert run.stderr is not None
            for line in run.stderr:
                if "to embed" in line:
                    break
            time.sleep(moments.uniform(0, 4))
            run.kill()
    while not list(out.glob("batch=*")):
        with start(stormy, *score, str(out)) as run:
            run.communicate(timeout=400)
        assert run.returncode == 4
    finish(stormy, *score, str(out))  # nothing is left to do

    ours, undisturbed = (
        pd.read_parquet(path).drop(columns=["scored_at", "batch"]) for path in (out, tmp_path / "out-calm")
    )
    pd.testing.assert_frame_equal(ours, undisturbed)
    assert len(ours) == ours["uri"].nunique() == IMAGES
    assert len(list(out.iterdir())) == 1
    (manifest,) = out.glob("batch=*/_manifest.json")
    counts = json.loads(manifest.read_text(encoding="utf-8"))
    assert counts["inputs"] == counts["captioned"] + counts["quarantined"] == IMAGES
    assert counts["quarantined"] == IMAGES // 100
