"""What the command line says to mistakes, and what it costs to start."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import commands


def captioning(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return commands.captioning(home, *arguments, environment=environment)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--profile", "flickr"], "there is no profile 'flickr'; there is coco2014, demo, flickr8k"),
        (["--profile", "missing.toml"], "cannot read the profile missing.toml"),
        (["--profile", "demo", "--set", "decoder.lstm_unit=5"], "did you mean lstm_units?"),
        (["--profile", "demo", "--set", "decodr.lstm_units=5"], "did you mean decoder?"),
        (["--profile", "demo", "--set", "decoder.lstm_units"], "--set takes KEY=VALUE"),
        (
            ["--profile", "demo", "--set", "decoder.lstm_units=many"],
            "decoder.lstm_units: Input should be a valid integer",
        ),
        (["--profile", "demo", "--set", "training.epoch=5"], "training.epoch: unknown key; did you mean epochs?"),
        (
            ["--profile", "demo", "--set", "decoder.epochs=5"],
            "decoder.epochs: unknown key; did you mean training.epochs?",
        ),
        (
            ["--profile", "flickr8k", "--set", "decoder.word_embedding=100"],
            "decoder: `tie_embeddings` needs the same `word_embedding` and `output_projection`",
        ),
        (["--profile", "demo", "--set", "recipe=weak"], "recipe: Input should be 'strong' or 'notebook'"),
        (
            ["--profile", "demo", "--set", "further_encoders.second.name=VGG16"],
            "further_encoders.second.weights: Field",
        ),
        (
            [
                *("--profile", "demo", "--set", "further_encoders.second.name=ResNet59"),
                *("--set", "further_encoders.second.weights=imagenet"),
            ],
            "'ResNet59' is no encoder; did you mean ResNet50",
        ),
        (["--profile", "flickr8k"], "Set dataset.root to the folder or URL"),
        (
            ["--profile", "flickr8k", "--set", "encoder.name=ResNet59"],
            "'ResNet59' is no encoder; did you mean ResNet50",
        ),
    ],
)
def test_wrong_configuration_exits_with_2_and_says_what_to_do(
    tmp_path: Path, arguments: list[str], expected: str
) -> None:
    done = captioning(tmp_path, "train", *arguments)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_the_environment_sets_values_and_its_mistakes_are_named(tmp_path: Path) -> None:
    done = captioning(tmp_path, "train", "--profile", "demo", CAPTIONING_DECODER__LSTM_UNTS="5")
    assert done.returncode == 2
    assert "decoder.lstm_unts: unknown key; did you mean lstm_units?" in done.stderr


def test_no_champion_yet_is_said_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"")
    done = captioning(tmp_path, "caption", "photo.jpg")
    assert done.returncode == 1
    assert f"{tmp_path}/mlflow.db: nothing was trained there yet" in done.stderr
    assert "captioning train" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def test_photographs_none_of_which_is_there_are_told_before_a_model_is_looked_for(tmp_path: Path) -> None:
    done = captioning(tmp_path, "caption", "photo.jpg", "other.jpg")
    assert done.returncode == 2
    assert "photo.jpg cannot be read: there is no such file" in done.stderr


def test_beam_and_temperature_exclude_each_other(tmp_path: Path) -> None:
    done = captioning(tmp_path, "caption", "photo.jpg", "--beam", "3", "--temperature", "1")
    assert done.returncode == 2


def test_a_place_that_takes_no_predictions_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    done = captioning(tmp_path, "score", "--images", "nowhere", "--out", "file")
    assert done.returncode == 2
    assert f"cannot write predictions to {tmp_path / 'file'}" in done.stderr


def test_a_folder_without_an_image_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for told in ("it is empty", "1 file ignored: 1 .txt"):
        done = captioning(tmp_path, "score", "--images", "empty", "--out", "predictions")
        assert done.returncode == 2
        assert f"empty holds no image that can be captioned; {told}" in " ".join(done.stderr.split())
        (tmp_path / "empty" / "notes.txt").write_text("no image")


def test_a_home_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    done = captioning(tmp_path, "caption", "photo.jpg", CAPTIONING_HOME=str(tmp_path / "file"))
    assert done.returncode == 2
    assert "Set CAPTIONING_HOME to a folder of yours" in done.stderr


def test_an_mlflow_that_is_not_there_is_told(tmp_path: Path) -> None:
    environment = {"CAPTIONING_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    (tmp_path / "photo.jpg").write_bytes(b"")
    done = captioning(tmp_path, "caption", "photo.jpg", **environment)
    assert done.returncode == 1
    assert "MLflow at http://127.0.0.1:9 cannot be used" in done.stderr
    assert "CAPTIONING_TRACKING_URI" in done.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = captioning(tmp_path, "--debug", "train", "--profile", "flickr")
    assert done.returncode != 0
    assert "Traceback" in done.stderr


@pytest.mark.parametrize("module", ["flows.commands.cli", "components.encoder.extract", "components.model.captioner"])
def test_light_modules_import_nothing_heavy(module: str) -> None:
    heavy = "{'tensorflow', 'keras', 'mlflow', 'great_expectations', 'prefect'}"
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_only_registry_and_model_load_mlflow_and_no_component_loads_prefect_or_great_expectations() -> None:
    code = """
import importlib, pkgutil, sys, components
for module in pkgutil.walk_packages(components.__path__, "components."):
    if not module.name.startswith(("components.registry.", "components.model.")):
        importlib.import_module(module.name)
print(sorted({"mlflow", "great_expectations", "prefect"} & set(sys.modules)))
"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_init_writes_a_profile_once_and_says_how_to_go_on(tmp_path: Path, photograph: Callable[[int], bytes]) -> None:
    for number in range(12):
        (tmp_path / f"{number}.jpg").write_bytes(photograph(number))
    texts = [f"{number}.jpg,ein hund und eine katze auf der wiese {number}" for number in range(12)]
    (tmp_path / "captions.csv").write_text("\n".join(["image,caption", *texts]), encoding="utf-8")
    done = captioning(tmp_path, "init", ".")
    assert done.returncode == 0, done.stderr
    assert "12 captions of 12 of them, German by their words" in done.stdout
    assert captioning(tmp_path, "check", "--profile", "mine.toml", "--only", "captions").returncode in (0, 3)
    again = captioning(tmp_path, "init", ".")
    assert again.returncode == 2
    assert "mine.toml is there already" in again.stderr


def test_the_version_is_shown(tmp_path: Path) -> None:
    assert captioning(tmp_path, "--version").stdout.startswith("captioning ")
