"""Parcels whose digests are right and whose contents are not: refused whole, before anything is registered or run."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copy
from typing import Any

import mlflow
import pandas as pd
import pytest

from components.errors import CaptioningError
from components.model.model_archive import write_model_archive
from components.registry.tracking import connect
from components.registry.transfer import import_model, unpack_model
from tests.hostile import test_models
from tests.hostile.fuzzer import damaged
from tests.hostile.watch import try_all

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")  # its own imports warn
DATA = "0" * 64
CONTENTS = {
    **{"name": "captioner", "version": "1", "digest": "1" * 64, "description": "a card"},
    "evaluations": [{"data": DATA, "started": 1}],
}
SUMMARY = {"data": DATA, "tokenizer": "ptb"}
REPORT = {"rules": [{"rule": "odd", "severity": "warning", "passed": False}]}


def packed(folder: Path) -> Path:
    """The files of a parcel, before they are packed."""
    test_models.unpacked(folder / "model")
    evaluation = folder / "evaluations/0/evaluation"
    contracts = folder / "evaluations/0/contracts"
    evaluation.mkdir(parents=True)
    contracts.mkdir()
    (evaluation / "summary.json").write_text(json.dumps(SUMMARY))
    (contracts / "predictions.json").write_text(json.dumps(REPORT))
    pd.DataFrame({"image_id": [1, 2], "cider": [0.5, 1.0]}).to_parquet(evaluation / "predictions.parquet")
    return folder


CHECKED = (
    *("model/MLmodel", "evaluations/0/evaluation/summary.json", "evaluations/0/evaluation/predictions.parquet"),
    *("evaluations/0/contracts/predictions.json", "contents"),
)


def attempt(key: str, folder: Path) -> None:
    files, name = packed(folder / "files"), CHECKED[int(key) % len(CHECKED)]
    contents = CONTENTS
    if name == "contents":
        try:
            contents = json.loads(damaged([json.dumps(CONTENTS).encode()], int(key)))
            assert isinstance(contents, dict)
        except (ValueError, AssertionError):
            return
    else:
        (files / name).write_bytes(damaged([(files / name).read_bytes()], int(key)))
    write_model_archive(files, contents, folder / "model.zip")
    unpack_model(folder / "model.zip", folder)


def test_damaged_parcels_with_right_digests(inputs: range) -> None:
    assert try_all("tests.hostile.test_registry:attempt", inputs, seconds=60) == {}


@pytest.fixture
def registry(migrated: Path, tmp_path: Path) -> Iterator[None]:
    connect(f"sqlite:///{copy(migrated, tmp_path / 'mlflow.db')}", tmp_path / "artifacts")
    yield
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)


def written(name: str, content: Any) -> Callable[[Path], None]:
    text = content if isinstance(content, str) else json.dumps(content)
    return lambda files: (files / name).write_text(text, encoding="utf-8")


def of_scores(**columns: Any) -> Callable[[Path], None]:
    return lambda files: pd.DataFrame(columns).to_parquet(files / CHECKED[2])


DEEDS: dict[str, Callable[[Path], None]] = {
    **{
        deed: lambda files, deed=deed: test_models.DEEDS[deed](files / "model", files.parent / "witness")
        for deed in test_models.UNSEALED
    },
    "no model": lambda files: (files / "model/MLmodel").unlink(),
    "a summary nested too deeply": written(CHECKED[1], "[" * 200_000),
    "a summary of other data": written(CHECKED[1], SUMMARY | {"data": "1" * 64}),
    "a summary that is a list": written(CHECKED[1], [SUMMARY]),
    "scores that are text": of_scores(image_id=[1], cider=["best"]),
    "scores of images that are none": of_scores(image_id=["first"], cider=[1.0]),
    "scores without images": of_scores(cider=[1.0]),
    "a report without rules": written(CHECKED[3], {}),
    "a report of rules that are none": written(CHECKED[3], {"rules": ["odd"]}),
    "no reports": lambda files: (files / CHECKED[3]).unlink(),
}


@pytest.mark.parametrize("deed", DEEDS)
def test_what_a_model_or_a_promotion_could_not_use_is_not_imported(deed: str, registry: None, tmp_path: Path) -> None:
    DEEDS[deed](packed(tmp_path / "files"))
    write_model_archive(tmp_path / "files", CONTENTS, tmp_path / "model.zip")
    with pytest.raises(CaptioningError, match=r"model\.zip is no exported model: .*Export the model again"):
        import_model(tmp_path / "model.zip")
    assert mlflow.MlflowClient().search_registered_models() == []
    assert not (tmp_path / "witness").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../captioner"},
        {"name": "a' OR name LIKE '%"},
        {"digest": "1' OR"},
        {"evaluations": [{"data": "../../x", "started": 1}]},
        {"evaluations": [{"data": DATA, "started": -1}]},
        {"evaluations": [{"data": DATA, "started": 1}] * 2},
        {"evaluations": 10**30},
        {"version": None},
    ],
)
def test_what_a_parcel_may_not_say_of_itself(changes: dict[str, Any], tmp_path: Path) -> None:
    write_model_archive(packed(tmp_path / "files"), CONTENTS | changes, tmp_path / "model.zip")
    (tmp_path / "out").mkdir()
    with pytest.raises(CaptioningError, match=r"model\.zip is no exported model: "):
        unpack_model(tmp_path / "model.zip", tmp_path / "out")


def test_a_whole_parcel_is_imported(registry: None, tmp_path: Path) -> None:
    write_model_archive(packed(tmp_path / "files"), CONTENTS, tmp_path / "model.zip")
    assert import_model(tmp_path / "model.zip").aliases == ("challenger", "champion")
