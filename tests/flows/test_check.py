"""A data set with a leak between its splits, as `captioning check` and `captioning train` meet it."""

import hashlib
import json
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from tests import commands

PROFILE = """
[dataset]
root = "{root}"
train_split = "train"
validation_split = "val"
split_file = "splits.csv"

[dataset.sources.all]
images = "photos"
captions = "captions.csv"

[vocabulary]
min_count = 1

[encoder]
name = "efficientnet_lite0"
weights = "package"
"""


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def captioning(home: Path, server: dict[str, str]) -> Command:
    return partial(commands.captioning, home, environment=server)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, photograph: Callable[[int], bytes]) -> Path:
    """Twenty photographs, of which the last, to validate on, is the first once more."""
    home = tmp_path_factory.mktemp("home")
    (home / "photos").mkdir()
    words = ("dog", "cat", "kite", "boat", "tree")
    captions, splits = ["image,caption"], ["image,split"]
    for number in range(20):
        (home / "photos" / f"{number}.jpg").write_bytes(photograph(number % 19))
        captions += [f"{number}.jpg,a {word} near a {words[number % 5]}" for word in ("red kite", "blue boat")]
        splits.append(f"{number}.jpg,{'val' if number >= 16 else 'train'}")
    (home / "captions.csv").write_text("\n".join(captions))
    (home / "splits.csv").write_text("\n".join(splits))
    (home / "leaky.toml").write_text(PROFILE.format(root=home))
    return home


def test_check_tells_of_every_rule_and_names_the_leak(home: Path, captioning: Command) -> None:
    done = captioning("check", "--profile", "leaky.toml", "--json")
    assert done.returncode == 3, done.stderr
    found = json.loads(done.stdout)
    assert found["passed"] is False
    assert {"captions", "vocabulary", "photographs"} <= {rule["table"] for rule in found["rules"]}
    (broken,) = [rule for rule in found["rules"] if not rule["passed"]]
    assert set(broken) == {"table", "rule", "severity", "passed", "observed", "expected", "offenders"}
    assert (broken["rule"], broken["severity"]) == ("no-photograph-in-two-splits", "critical")
    assert len(broken["offenders"]) == 1
    assert "file_name=19.jpg" in broken["offenders"][0]
    page = (home / "contracts.html").read_text(encoding="utf-8")
    assert "no-photograph-in-two-splits" in page
    assert "19.jpg" in page


def test_only_the_tables_asked_for_are_checked(home: Path, captioning: Command) -> None:
    done = captioning("check", "--profile", "leaky.toml", "--only", "captions")
    assert done.returncode == 0, done.stderr
    assert "captions: passed" in done.stdout
    assert "images" not in done.stdout
    unknown = captioning("check", "--profile", "leaky.toml", "--only", "caption")
    assert unknown.returncode == 2
    assert "there is no table caption; there is captions, vocabulary, images" in unknown.stderr


def test_a_leak_stops_training_before_anything_is_embedded(home: Path, captioning: Command) -> None:
    done = captioning("train", "--profile", "leaky.toml")
    assert done.returncode == 3
    assert "no-photograph-in-two-splits" in done.stderr
    assert "19.jpg" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (home / "embeddings").exists()


def test_a_leak_that_is_tolerated_is_a_warning(home: Path, captioning: Command) -> None:
    done = captioning("check", "--profile", "leaky.toml", "--only", "images", "--set", "limits.max_leaked_images=1")
    assert done.returncode == 0, done.stderr
    assert "warning: photographs, photograph-in-one-split" in done.stdout


def test_what_cannot_be_decoded_is_in_the_quarantine_and_tried_again_when_it_is_replaced(
    home: Path, captioning: Command, photograph: Callable[[int], bytes]
) -> None:
    (home / "photos" / "19.jpg").write_bytes(photograph(19))
    (home / "photos" / "3.jpg").write_bytes(photograph(3)[:-50])
    asked = ("--profile", "leaky.toml", "--only", "embeddings,training_set", "--set", "limits.max_bad_fraction=0.2")
    done = captioning("check", *asked)
    assert done.returncode == 0, done.stderr
    assert "warning: images, image-readable" in done.stdout
    assert "file_name=3.jpg" in done.stdout
    (kept,) = home.glob("artifacts/*/artifacts/quarantine.csv")
    (row,) = pd.read_csv(kept).to_dict("records")
    assert (row["archive"], row["file_name"]) == ("all", "3.jpg")
    assert row["digest"] == hashlib.sha256(photograph(3)[:-50]).hexdigest()
    assert "truncated" in row["reason"]
    assert "Put a whole image in its place" in row["remedy"]

    (home / "photos" / "3.jpg").write_bytes(photograph(3))
    again = captioning("check", *asked)
    assert again.returncode == 0, again.stderr
    assert "20 photographs, 1 of them to embed" in again.stderr
    assert "warning" not in again.stdout
