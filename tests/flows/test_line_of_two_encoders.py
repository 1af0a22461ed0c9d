"""The line with two encoders and both phases of training, by its commands."""

import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from components.encoder.store import EmbeddingStore
from tests import commands

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")  # its own imports warn

CHANGES = {
    "recipe": "strong",
    "dataset.root": "scenes://train=36,dev=12",
    "vocabulary.min_count": "1",
    "encoder.shard_size": "40",
    "further_encoders.second.name": "efficientnet_lite0",
    "further_encoders.second.weights": "package",
    "further_encoders.second.preprocessing": "notebook",
    "decoder.image_projection": "32",
    "decoder.word_embedding": "32",
    "decoder.lstm_units": "64",
    "decoder.output_projection": "32",
    "decoder.max_length": "9",
    "training.epochs": "2",
    "training.steps_per_epoch": "20",
    "training.batch_size": "32",
    "training.self_critical.epochs": "1",
    "training.self_critical.images": "4",
    "training.self_critical.samples": "3",
    "limits.max_unknown_rate": "0.5",
}
PROFILE = ["--profile", "demo", *(part for key, value in CHANGES.items() for part in ("--set", f"{key}={value}"))]
Command = Callable[..., dict]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def captioning(home: Path, server: dict[str, str]) -> Command:
    """Runs a command. Returns what it printed."""

    def run(*arguments: str, code: int = 0) -> dict:
        # No Java, whose scores take seconds.
        own = {**server, "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "0.5", "PATH": str(Path(sys.executable).parent)}
        done = commands.captioning(home, *arguments, "--json", environment=own)
        assert done.returncode == code, done.stderr
        found: dict = json.loads(done.stdout)
        return found

    return run


@pytest.fixture(scope="module")
def trained(captioning: Command) -> dict:
    return captioning("train", *PROFILE)


def test_the_line_trains_a_decoder_on_both_encoders(home: Path, trained: dict) -> None:
    names = [stage["name"] for stage in trained["stages"]]
    assert "joined-embeddings" in names
    assert trained["model_uri"] == "models:/captioner/1"
    assert {"cider", "bleu4", "cider_shuffled"} <= set(trained["metrics"])
    (folder,) = home.glob("stages/joined-embeddings-*")
    store = EmbeddingStore.open(folder)
    assert [encoder.preprocessing for encoder in store.encoders] == ["antialias", "notebook"]
    assert store.vectors(store.index["image_id"].to_numpy())[:].shape == (48, 2 * 1280)
    assert len(list(home.glob("embeddings/*"))) == 2


def test_mlflow_has_both_phases(home: Path, trained: dict) -> None:
    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    run = client.get_run(trained["run_id"])
    query = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run.info.run_id}'"
    nested = {found.info.run_name: found for found in client.search_runs([run.info.experiment_id], query)}
    assert set(nested) == {"cross_entropy", "self_critical"}
    assert {found.info.status for found in [run, *nested.values()]} == {"FINISHED"}
    history = client.get_metric_history(run.info.run_id, "val_cider")
    assert [metric.step for metric in history] == [1, 2, 3]
    assert "reward" in nested["self_critical"].data.metrics
    assert nested["self_critical"].data.metrics["val_cider"] == history[-1].value
    assert "system/cpu_utilization_percentage" in run.data.metrics
    inputs = {entry.dataset.name for entry in run.inputs.dataset_inputs}
    assert inputs == {"captions", "vocabulary", "joined-embeddings"}
    kept = [output.model_id for found in nested.values() for output in found.outputs.model_outputs]
    (model_id,) = kept
    model = client.get_logged_model(model_id)
    assert (model.name, str(model.status)) == ("decoder", "READY")
    files = {path.name for path in Path(model.artifact_location.removeprefix("file://")).iterdir()}
    assert {"decoder.h5", "history.json"} <= files


def test_evaluating_the_model_gives_the_scores_it_was_registered_with(captioning: Command, trained: dict) -> None:
    result = captioning("evaluate", *PROFILE, "--split", "dev")
    assert result["model_uri"] == trained["model_uri"]
    assert result["metrics"] == pytest.approx(trained["metrics"], abs=1e-6)


def test_scoring_and_captioning_agree_and_embed_nothing_again(home: Path, captioning: Command, trained: dict) -> None:
    (home / "inbox").mkdir()
    (dataset,) = home.glob("downloads/scenes+*")
    with zipfile.ZipFile(dataset / "dev.zip") as archive:
        names = archive.namelist()[:3]
        for name in names:
            (home / "inbox" / Path(name).name).write_bytes(archive.read(name))
    (home / "inbox" / "broken.jpg").write_bytes(b"no image")
    pools = {path: path.stat().st_mtime_ns for path in home.glob("embeddings/*/*.npy")}

    result = captioning("score", "--images", "inbox", "--out", "out", code=4)
    assert result["captioned"] == 3
    (bad,) = result["quarantined"]
    assert bad["uri"].endswith("broken.jpg")
    table = pd.read_parquet(home / "out").set_index("uri")
    fingerprints = [folder.name for folder in home.glob("embeddings/*")]
    assert sorted(table["encoder_fingerprint"].iloc[0].split("+")) == sorted(fingerprints)
    new = [path for path in home.glob("embeddings/*/*.npy") if path not in pools]
    assert all(len(np.load(path)) == 0 for path in new), "an image that was trained or judged on was embedded again"

    photos = [f"inbox/{Path(name).name}" for name in names]
    found = captioning("caption", *photos, "inbox/broken.jpg", code=4)["photos"]
    captions = {Path(photo["photo"]).name: photo["captions"] for photo in found}
    assert captions.pop("broken.jpg") == []
    for uri, row in table[table["status"] == "ok"].iterrows():
        (caption,) = captions[Path(str(uri)).name]
        assert caption["caption"] == row["caption"] != ""
        assert caption["logprob"] == pytest.approx(row["logprob"], abs=1e-3)
