import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from components.errors import ConfigurationError
from components.profile import load_profile
from flows.named_profiles import PROFILES
from flows.settings import prepare_environment, profile_overrides, settings

KEPT_INSIDE_HOME = {"PREFECT_HOME": "prefect", "KERAS_HOME": "keras", "MPLCONFIGDIR": "matplotlib"}
QUIET = {
    "DO_NOT_TRACK": "true",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


@pytest.fixture(autouse=True)
def environment() -> Iterator[dict[str, str]]:
    """An environment without variables of ours; what a test puts there is gone after it."""
    settings.cache_clear()
    with mock.patch.dict(os.environ, {"HOME": "/home/somebody", "PATH": os.environ["PATH"]}, clear=True):
        yield os.environ  # type: ignore[misc]
    settings.cache_clear()


def test_everything_is_kept_in_the_checkout_by_default() -> None:
    home = Path(__file__).parents[2] / "mlruns"
    assert settings().home == home
    assert settings().mlflow == f"sqlite:///{home}/mlflow.db"
    assert {settings().model_files, settings().downloads, settings().logs} == {
        home / name for name in ("artifacts", "downloads", "logs")
    }
    assert settings().prefect_api_url == ""


@pytest.mark.parametrize("given", ["/data/mlruns", "~/mlruns", "mlruns"])
def test_home_is_wherever_it_is_said(
    environment: dict[str, str], given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    environment["CAPTIONING_HOME"] = given
    expected = {"/data/mlruns": "/data/mlruns", "~/mlruns": "/home/somebody/mlruns", "mlruns": f"{tmp_path}/mlruns"}
    assert settings().home == Path(expected[given])
    assert settings().mlflow == f"sqlite:///{expected[given]}/mlflow.db"
    assert settings() is settings()


def test_a_home_that_sqlite_would_look_for_elsewhere_is_refused(environment: dict[str, str]) -> None:
    environment["CAPTIONING_HOME"] = "/data/what?/mlruns"
    with pytest.raises(ConfigurationError, match="question mark"):
        settings()


def test_servers_are_those_that_are_said(environment: dict[str, str]) -> None:
    environment |= {"CAPTIONING_TRACKING_URI": "http://mlflow:5000", "PREFECT_API_URL": "http://prefect:4200/api"}
    assert (settings().mlflow, settings().prefect_api_url) == ("http://mlflow:5000", "http://prefect:4200/api")


def test_values_of_a_profile_come_from_the_environment(environment: dict[str, str]) -> None:
    environment |= {
        "CAPTIONING_HOME": "/data",
        "CAPTIONING_TRACKING_URI": "http://mlflow:5000",
        "CAPTIONING_IMAGE_ROOT": "/served",
        "CAPTIONING_DATASET__ROOT": "/Photographs",
        "CAPTIONING_DECODER__LSTM_UNITS": "512",
        "CAPTIONING_TRAINING__BATCH_SIZE": "7",
    }
    overrides = {"dataset.root": "/Photographs", "decoder.lstm_units": "512", "training.batch_size": "7"}
    assert profile_overrides() == overrides
    profile = load_profile(PROFILES / "flickr8k.toml", profile_overrides())
    assert (profile.dataset.root, profile.decoder.lstm_units) == ("/Photographs", 512)
    assert (profile.training.batch_size, profile.training.cosine) == (7, True)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CAPTIONING_HOEM", "CAPTIONING_HOME"),
        ("CAPTIONING_XYZZYXYZZYXYZZY", "CAPTIONING_SECTION__KEY, for a profile's value"),
        ("CAPTIONING_DATASET_ROOT", "CAPTIONING_DATASET__ROOT"),
        ("CAPTIONING_DECODER_LSTM_UNITS", "CAPTIONING_DECODER__LSTM_UNITS"),
    ],
)
def test_a_variable_that_is_no_setting_is_named_with_the_nearest(
    environment: dict[str, str], name: str, meant: str
) -> None:
    environment[name] = "1"
    with pytest.raises(ConfigurationError) as caught:
        profile_overrides()
    guesses = str(caught.value).partition("did you mean ")[2].rstrip("?").split(" or ")
    assert meant in guesses
    assert name not in guesses


@pytest.mark.parametrize(
    ("change", "told"), [([], "greater than 0"), (["--set", "training.epochs=few"], "unable to parse string")]
)
def test_the_command_line_comes_before_the_environment(tmp_path: Path, change: list[str], told: str) -> None:
    command = [sys.executable, "-m", "flows.commands.cli", "train", "--profile", "demo", *change]
    env = {**os.environ, "CAPTIONING_HOME": str(tmp_path), "CAPTIONING_TRAINING__EPOCHS": "-1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "training.epochs: " in done.stderr
    assert told in done.stderr


def test_libraries_stay_inside_home_and_keep_quiet(environment: dict[str, str], tmp_path: Path) -> None:
    environment["CAPTIONING_HOME"] = str(tmp_path)
    prepare_environment(debug=False)
    for name, folder in KEPT_INSIDE_HOME.items():
        assert environment[name] == str(tmp_path / folder)
    assert environment.items() >= QUIET.items()
    assert environment["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] == "CRITICAL"
    assert not list(tmp_path.iterdir())


def test_debugging_is_not_quiet(environment: dict[str, str]) -> None:
    prepare_environment(debug=True)
    assert environment["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] == "INFO"


@pytest.mark.parametrize("name", [*KEPT_INSIDE_HOME, *QUIET, "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"])
def test_what_the_user_sets_stays(environment: dict[str, str], name: str) -> None:
    environment[name] = "mine"
    prepare_environment(debug=False)
    assert environment[name] == "mine"
