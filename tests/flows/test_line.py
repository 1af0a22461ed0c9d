"""The whole line as a user runs it: a small demo with two encoders and both phases of training, by its commands.

The Prefect server and the registry are real. The tests share a home, and each goes on where the one before it ended.
"""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import psutil
import pytest
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from components.encoder.store import EmbeddingStore
from tests import commands, toy

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")  # its own imports warn

CHANGES = {
    "dataset.root": "scenes://train=96,dev=24",
    "encoder.shard_size": 40,
    "further_encoders.second.name": "efficientnet_lite0",
    "further_encoders.second.weights": "package",
    "further_encoders.second.preprocessing": "notebook",
    "training.epochs": 3,
    "training.steps_per_epoch": 30,
    "evaluation.gallery": 12,
}
SECOND_PHASE = {
    "training.self_critical.epochs": 1,
    "training.self_critical.images": 8,
    "training.self_critical.samples": 3,
}
PROFILE, OTHER = toy.demo(CHANGES | SECOND_PHASE), toy.demo(CHANGES | {"training.seed": 1})
IMAGES = 2 * (96 + 24)
"""Embeddings of two encoders."""
Command = Callable[..., subprocess.CompletedProcess[str]]


def started(home: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "flows.commands.cli", *arguments]
    environment = {**os.environ, "CAPTIONING_HOME": str(home), "PREFECT_HOME": str(home / "prefect")}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=home, env=environment)


@pytest.fixture(scope="module")
def captioning(server: dict[str, str]) -> Command:
    """A command that uses the Prefect server of the tests."""
    return partial(commands.captioning, environment=server)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def trained(home: Path) -> dict:
    sampled = {"MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "0.5"}
    done = commands.captioning(home, "train", *PROFILE, "--json", environment=sampled)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def photos(home: Path, trained: dict) -> Path:
    """A folder of good scenes and broken files."""
    folder = home / "inbox"
    folder.mkdir()
    dataset = next((home / "downloads").glob("scenes+*"))
    with zipfile.ZipFile(dataset / "dev.zip") as archive:
        for name in archive.namelist()[:4]:
            (folder / Path(name).name).write_bytes(archive.read(name))
        (folder / "cut.jpg").write_bytes(archive.read(archive.namelist()[0])[:2000])
    (folder / "ünreadable.png").write_text("not an image")
    return folder


def test_training_ends_with_a_registered_model_and_its_report(home: Path, trained: dict) -> None:
    assert trained["model_uri"] == "models:/captioner/1"
    assert trained["metrics"]["cider"] > 2 * trained["metrics"]["cider_shuffled"]
    assert Path(trained["report"]).read_text(encoding="utf-8").count("<article") == 2 * 12
    assert not any(stage["reused"] for stage in trained["stages"])
    history = sqlite3.connect(home / "prefect" / "prefect.db")
    states = history.execute("select state_type, count(*) from task_run group by 1").fetchall()
    assert states == [("COMPLETED", 17)]  # none lost
    reports = history.execute("select count(*) from artifact where key like 'contract-%'").fetchone()
    assert reports == (6,)
    ((link,),) = history.execute("select data from artifact where type = 'markdown' and key = 'gallery'").fetchall()
    assert "gallery.html" in link
    client = MlflowClient(*[f"sqlite:///{home}/mlflow.db"] * 2)
    kept = {Path(file.path).name for file in client.list_artifacts(trained["run_id"], "evaluation")}
    plots = {f"{name}.png" for name in ("loss", "cider", "scores", "lengths", "vocabulary", "temperature")}
    assert {"gallery.html", "summary.json", "predictions.parquet", *plots} <= kept
    scores = client.get_run(trained["run_id"]).data.metrics
    assert scores["cider_low"] < scores["cider"] == trained["metrics"]["cider"] < scores["cider_high"]


def test_the_decoder_is_trained_on_the_embeddings_of_both_encoders(home: Path, trained: dict) -> None:
    (folder,) = home.glob("stages/joined-embeddings-*")
    store = EmbeddingStore.open(folder)
    assert [encoder.preprocessing for encoder in store.encoders] == ["antialias", "notebook"]
    assert store.vectors(store.index["image_id"].to_numpy())[:].shape == (96 + 24, 2 * 1280)
    assert len(list(home.glob("embeddings/*"))) == 2


def test_mlflow_has_both_phases(home: Path, trained: dict) -> None:
    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    run = client.get_run(trained["run_id"])
    query = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run.info.run_id}'"
    nested = {found.info.run_name: found for found in client.search_runs([run.info.experiment_id], query)}
    assert set(nested) == {"cross_entropy", "self_critical"}
    assert {found.info.status for found in [run, *nested.values()]} == {"FINISHED"}
    history = client.get_metric_history(run.info.run_id, "val_cider")
    assert [metric.step for metric in history] == [1, 2, 3, 4]
    assert "reward" in nested["self_critical"].data.metrics
    assert nested["self_critical"].data.metrics["val_cider"] == history[-1].value
    assert "system/cpu_utilization_percentage" in run.data.metrics
    inputs = {entry.dataset.name for entry in run.inputs.dataset_inputs}
    assert inputs == {"captions", "vocabulary", "joined-embeddings"}
    (model_id,) = [output.model_id for found in nested.values() for output in found.outputs.model_outputs]
    model = client.get_logged_model(model_id)
    assert (model.name, str(model.status)) == ("decoder", "READY")
    files = {path.name for path in Path(model.artifact_location.removeprefix("file://")).iterdir()}
    assert {"decoder.h5", "history.json"} <= files


def test_a_second_run_reuses_all_but_what_was_damaged_and_the_registered_version(
    home: Path, trained: dict, captioning: Command
) -> None:
    vocabulary = next((home / "stages").glob("vocabulary-*")) / "vocabulary.json"
    content = vocabulary.read_bytes()
    vocabulary.write_bytes(content[:-20])
    again = captioning(home, "train", *PROFILE, "--json")
    assert again.returncode == 0, again.stderr
    result = json.loads(again.stdout)
    assert {stage["name"] for stage in result["stages"] if not stage["reused"]} == {"vocabulary"}
    assert vocabulary.read_bytes() == content
    assert result["version"] == trained["version"]
    assert result["metrics"] == trained["metrics"]


def test_scoring_quarantines_what_it_cannot_read(home: Path, photos: Path, captioning: Command) -> None:
    done = captioning(home, "score", "--images", str(photos), "--out", str(home / "out"), "--json")
    assert done.returncode == 4, done.stderr
    result = json.loads(done.stdout)
    assert result["captioned"] == 4
    assert {Path(entry["uri"]).name for entry in result["quarantined"]} == {"cut.jpg", "ünreadable.png"}
    assert Path(result["page"]).is_file()
    table = pd.read_parquet(home / "out")
    assert len(table) == 6
    assert (table.loc[table["status"] == "ok", "caption"].str.len() > 0).all()
    fingerprints = {folder.name for folder in home.glob("embeddings/*")}
    assert set(table.loc[table["status"] == "ok", "encoder_fingerprint"].iloc[0].split("+")) == fingerprints
    shards = [json.loads(path.read_text()) for path in home.glob("embeddings/*/*.json")]
    assert sum(len(shard["images"]) for shard in shards) == IMAGES  # the good ones were embedded in training
    assert sum(len(shard["bad"]) for shard in shards) == 2 * 2  # by both encoders


def test_what_was_scored_is_not_scored_again_and_what_is_new_is_added(
    home: Path, photos: Path, captioning: Command
) -> None:
    (photos / "later.jpg").write_bytes(sorted(photos.glob("0*.jpg"))[1].read_bytes())
    elsewhere = photos / ".." / photos.name  # the same place
    later = captioning(home, "score", "--images", str(elsewhere), "--out", str(home / "out"), "--json")
    (photos / "later.jpg").unlink()
    assert later.returncode == 0, later.stderr
    result = json.loads(later.stdout)
    assert (result["known"], result["captioned"], result["quarantined"]) == (6, 1, [])
    table = pd.read_parquet(home / "out")
    assert len(table) == table["uri"].nunique() == 7
    copies = table[table["image_id"].duplicated(keep=False)]
    assert len(copies) == 2
    assert copies["caption"].nunique() == 1


@pytest.mark.skipif(shutil.which("java") is None, reason="Spark runs on Java, which is not installed")
def test_two_executors_of_spark_write_what_the_local_engine_writes(
    home: Path, photos: Path, server: dict[str, str]
) -> None:
    """The local engine wrote `out`."""
    spark = ("--engine", "spark", "--out", str(home / "spark"), "--json")
    cluster = {**server, "PATH": os.environ["PATH"], "CAPTIONING_SPARK_MASTER": "local-cluster[2,1,1500]"}
    done = commands.captioning(home, "score", "--images", str(photos), *spark, environment=cluster)
    assert done.returncode == 4, done.stderr
    assert (json.loads(done.stdout)["captioned"], len(json.loads(done.stdout)["quarantined"])) == (4, 2)
    ours, theirs = (pd.read_parquet(home / out).set_index("uri").sort_index() for out in ("out", "spark"))
    ours = ours.loc[[uri for uri in ours.index if not uri.endswith("later.jpg")]]
    same = ["image_id", "caption", "status", "error", "model_version", "encoder_fingerprint"]
    pd.testing.assert_frame_equal(theirs[same], ours[same])
    pd.testing.assert_series_equal(theirs["logprob"], ours["logprob"], atol=1e-4)
    assert theirs.drop(columns="batch").dtypes.equals(ours.drop(columns="batch").dtypes)


def test_copies_of_one_picture_are_embedded_once_and_scored_with_a_warning(
    home: Path, photos: Path, captioning: Command
) -> None:
    picture = sorted(photos.glob("0*.jpg"))[0].read_bytes() + b"a content of its own"
    with zipfile.ZipFile(home / "copies.zip", "w") as archive:
        for number in range(500):
            archive.writestr(f"{number}.jpg", picture)
    done = captioning(home, "score", "--images", str(home / "copies.zip"), "--out", str(home / "copies"))
    assert done.returncode == 0, done.stderr
    assert "500 captioned, 0 quarantined" in done.stdout
    assert "warning: captions, captions-differ" in done.stdout
    assert len(pd.read_parquet(home / "copies")) == 500
    shards = [json.loads(path.read_text())["images"] for path in home.glob("embeddings/*/*.json")]
    assert sum(map(len, shards)) == IMAGES + 2


def test_captions_of_single_photographs(home: Path, photos: Path, captioning: Command) -> None:
    bad, good = photos / "cut.jpg", sorted(photos.glob("0*.jpg"))[0]
    done = captioning(home, "caption", str(bad), str(good), "--top", "5", "--json")
    assert done.returncode == 4, done.stderr
    broken, fine = json.loads(done.stdout)["photos"]
    assert broken["captions"] == []
    assert "decoded" in broken["error"]
    assert len({caption["caption"] for caption in fine["captions"]}) == 5
    for caption in fine["captions"]:
        assert [entry["word"] for entry in caption["words"]] == [*caption["caption"].split(), "<end>"]
        assert sum(entry["logprob"] for entry in caption["words"]) == pytest.approx(caption["logprob"])
    (greedy,) = json.loads(captioning(home, "caption", str(good), "--json").stdout)["photos"][0]["captions"]
    scored = pd.read_parquet(home / "out").set_index("uri").loc[str(good)]
    assert greedy["caption"] == scored["caption"] != ""
    assert greedy["logprob"] == pytest.approx(scored["logprob"], abs=1e-3)


def test_another_training_is_the_challenger(home: Path, trained: dict, captioning: Command) -> None:
    other = captioning(home, "train", *OTHER, "--json")
    assert other.returncode == 0, other.stderr
    result = json.loads(other.stdout)
    assert result["model_uri"] == "models:/captioner/2"
    made = {stage["name"] for stage in result["stages"] if not stage["reused"]}
    assert made == {"decoder", "package", "evaluation", "check-predictions"}
    client = MlflowClient(*[f"sqlite:///{home}/mlflow.db"] * 2)
    aliases = {
        alias: client.get_model_version_by_alias("captioner", alias).version for alias in ("champion", "challenger")
    }
    assert {alias: str(version) for alias, version in aliases.items()} == {"champion": "1", "challenger": "2"}


def test_the_champion_is_evaluated_again_and_against_another(
    home: Path, photos: Path, trained: dict, captioning: Command
) -> None:
    own_pictures = ("--set", f"evaluation.pictures={photos}")
    done = captioning(
        home, "evaluate", *PROFILE, *own_pictures, "--split", "dev", "--against", "models:/captioner/2", "--json"
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["model_uri"] == trained["model_uri"]
    assert result["metrics"] == pytest.approx(trained["metrics"], abs=1e-6)
    differences = {found["metric"]: found for found in result["differences"]}
    assert {"cider", "rouge_l", "bleu4"} <= set(differences)
    assert differences["cider"]["first"] == pytest.approx(trained["metrics"]["cider"], abs=1e-6)
    for found in differences.values():
        assert found["low"] <= found["first"] - found["second"] <= found["high"]
        assert found["verdict"] in ("better", "worse", "tie")
    page = Path(result["report"]).read_text(encoding="utf-8")
    assert "Your own pictures" in page
    assert page.count("<article") == 2 * 12 + 4
    assert "cut.jpg is not in the gallery" in done.stderr
    client = MlflowClient(*[f"sqlite:///{home}/mlflow.db"] * 2)
    kept = {Path(file.path).name for file in client.list_artifacts(result["run_id"], "evaluation")}
    assert {"gallery.html", "comparison.json", "comparison.html"} <= kept
    assert "captioner version 1" in Path(result["side_by_side"]).read_text(encoding="utf-8")


def test_the_rule_decides_on_the_challenger_and_the_way_back_is_open(
    home: Path, trained: dict, captioning: Command
) -> None:
    done = captioning(home, "promote", "--set", "max_slower=50", "--json")  # other work makes the clock uneven
    decision = json.loads(done.stdout)
    assert done.returncode == (0 if decision["promote"] else 1), done.stderr
    assert (decision["challenger"], decision["champion_before"]) == ("models:/captioner/2", "models:/captioner/1")
    assert decision["promote"] == (decision["verdict"] in ("better", "tie"))
    client = MlflowClient(*[f"sqlite:///{home}/mlflow.db"] * 2)
    champion = client.get_model_version_by_alias("captioner", "champion").version
    assert str(champion) == ("2" if decision["promote"] else "1")
    refused = captioning(home, "promote", "--version", str(champion))
    assert refused.returncode == 1
    assert "is the champion already" in refused.stdout
    if decision["promote"]:
        back = captioning(home, "rollback")
        assert "models:/captioner/1 is the champion again; it was models:/captioner/2" in back.stdout
    assert "there was no champion before models:/captioner/1" in captioning(home, "rollback").stderr
    mistaken = captioning(home, "promote", "--set", "minimum=best", "--set", "max_slow=2")
    assert mistaken.returncode == 2
    assert "max_slow: unknown key; did you mean max_slower?" in mistaken.stderr


def test_a_wrong_place_for_own_pictures_is_told_before_the_work(home: Path, trained: dict, captioning: Command) -> None:
    nowhere = ("--set", "evaluation.pictures=nowhere")
    done = captioning(home, "evaluate", *PROFILE, *nowhere, "--split", "dev")
    assert done.returncode == 2
    assert "there is no nowhere" in done.stderr
    assert "dataset:" not in done.stderr.split("evaluation:")[-1]


def test_ctrl_c_ends_an_extraction_at_once_and_leaves_no_server(tmp_path: Path) -> None:
    with started(tmp_path, "train", *PROFILE, "--set", "encoder.shard_size=4") as run:
        while not list(tmp_path.glob("embeddings/*/*.json")):
            assert run.poll() is None, "it ended before it could be interrupted"
            time.sleep(0.02)
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=30)
    assert run.returncode == 130
    assert "the same command resumes this run" in errors
    assert not any(str(tmp_path) in " ".join(p.info["environ"] or {}) for p in psutil.process_iter(["environ"]))
