"""Two of the same at once, in one home: they take turns, and nothing is there twice."""

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import pandas as pd

if TYPE_CHECKING:
    from tests.faults.conftest import Ended, Home

Start = Callable[[subprocess.Popen], "Ended"]
CONNECT = """
import sys
from pathlib import Path
from components.registry import tracking
tracking.connect(f"sqlite:///{sys.argv[1]}/mlflow.db", Path(sys.argv[1]) / "artifacts")
"""


def test_the_database_of_a_new_home_is_made_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CONNECT, str(tmp_path)]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    told = [process.communicate(timeout=300)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], told
    found = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_experiments(filter_string="name='captioning'")
    assert len(found) == 1


def test_two_trainings_of_a_new_home_make_one_model(
    long_form: None, calm: "Home", home: "Home", train_command: tuple[str, ...], await_end: Start
) -> None:
    done = [await_end(process) for process in [home.start(*train_command) for _ in range(2)]]
    assert [run.code for run in done] == [0, 0], [run.told for run in done]
    assert any("waiting for another process, which starts its Prefect server" in run.told for run in done)
    assert home.stages() == calm.stages()
    assert home.versions() == [1]
    made = [" rows, reused" not in line for run in done for line in run.told.splitlines() if "decoder: " in line]
    assert sorted(made) == [False, True]


def test_two_scorings_into_one_folder_caption_every_image_once(
    long_form: None, trained: "Home", tmp_path: Path, await_end: Start
) -> None:
    with zipfile.ZipFile(next(trained.path.glob("downloads/scenes+*")) / "train.zip") as scenes:
        scenes.extractall(tmp_path / "scenes")
    names = sorted(str(path) for path in (tmp_path / "scenes").rglob("*.jpg"))
    every, half, out = tmp_path / "every.txt", tmp_path / "half.txt", tmp_path / "out"
    every.write_text("\n".join(names), encoding="utf-8")
    half.write_text("\n".join(names[: len(names) // 2]), encoding="utf-8")
    commands = [("score", "--images", str(given), "--out", str(out)) for given in (every, half, every)]
    done = [await_end(process) for process in [trained.start(*command) for command in commands]]
    assert [run.code for run in done] == [0, 0, 0], [run.told for run in done]
    assert sum("which scores into" in run.told for run in done) == 2
    rows = pd.read_parquet(out)
    assert sorted(rows["uri"]) == names
    assert not [path for path in out.iterdir() if not path.name.startswith("batch=")]
