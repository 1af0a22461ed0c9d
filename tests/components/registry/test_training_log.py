import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from components.decoder.backend import resident
from components.decoder.model import Decoder
from components.encoder.store import EmbeddingStore
from components.registry.tracking import EXPERIMENT, tracked_run
from components.registry.training_log import PHASES, TrainingLog, log_inputs
from components.training.batches import TrainingSet
from components.training.phases import cross_entropy_phase, self_critical_phase
from components.training_config import SelfCriticalConfig
from components.vocabulary.vocabulary import Vocabulary
from tests.recipes import notebook_training

pytestmark = [
    pytest.mark.usefixtures("registry"),
    pytest.mark.filterwarnings("ignore:::mlflow"),  # its own imports warn
]

PARAMS = {"decoder": {"lstm_units": 4}, "training": {"epochs": 2, "self_critical": {"epochs": 1}}}
HISTORY: list[dict[str, float]] = [
    {"phase": 1.0, "epoch": 1.0, "loss": 3.0, "accuracy": 0.2, "val_loss": 3.5, "val_cider": 0.5},
    {"phase": 1.0, "epoch": 2.0, "loss": 2.0, "accuracy": 0.4, "val_loss": 2.5, "val_cider": 1.0},
    {"phase": 2.0, "epoch": 3.0, "reward": 1.5, "val_loss": 2.6, "val_cider": 1.25},
]


class BrokenError(Exception):
    """Training that fails."""


def nested_in(parent: str) -> dict[str, Run]:
    """The runs nested in a run, by name."""
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    found = client.search_runs([experiment.experiment_id], f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent}'")
    assert len({run.info.run_name for run in found}) == len(found)
    return {run.info.run_name: run for run in found}


def figures(run_id: str, name: str) -> list[tuple[int, float]]:
    history = mlflow.MlflowClient().get_metric_history(run_id, name)
    return [(metric.step, metric.value) for metric in history]


@contextmanager
def logged(history: list[dict[str, float]] = HISTORY) -> Iterator[tuple[str, TrainingLog]]:
    """A run and its training, of which these epochs have been told."""
    with tracked_run("train", {}) as run_id, TrainingLog(run_id, PARAMS) as log:
        for row in history:
            log.epoch(row)
        yield run_id, log


def test_each_phase_has_a_run_nested_in_the_trainings() -> None:
    with logged() as (parent, _):
        assert {run.info.status for run in nested_in(parent).values()} == {"RUNNING"}
    nested = nested_in(parent)
    assert set(nested) == set(PHASES) == {"cross_entropy", "self_critical"}
    for run in nested.values():
        assert run.info.status == "FINISHED"
        assert run.data.tags[MLFLOW_PARENT_RUN_ID] == parent
        assert run.data.params == {
            "decoder.lstm_units": "4",
            "training.epochs": "2",
            "training.self_critical.epochs": "1",
        }


def test_a_training_of_one_phase_has_one_nested_run() -> None:
    with logged(HISTORY[:2]) as (parent, _):
        pass
    assert set(nested_in(parent)) == {"cross_entropy"}


def test_a_training_that_told_nothing_has_none() -> None:
    with logged([]) as (parent, _):
        pass
    assert nested_in(parent) == {}


def test_figures_are_told_epoch_by_epoch_of_the_training_and_of_its_phases() -> None:
    with logged() as (parent, _):
        pass
    first, second = (nested_in(parent)[name].info.run_id for name in PHASES)
    assert figures(parent, "val_cider") == [(1, 0.5), (2, 1.0), (3, 1.25)]
    assert figures(first, "val_cider") == [(1, 0.5), (2, 1.0)]
    assert figures(second, "val_cider") == [(3, 1.25)]
    assert figures(parent, "loss") == figures(first, "loss") == [(1, 3.0), (2, 2.0)]
    assert figures(parent, "reward") == figures(second, "reward") == [(3, 1.5)]
    assert (figures(second, "loss"), figures(first, "reward")) == ([], [])
    for run_id in (parent, first, second):
        assert not {"phase", "epoch"} & set(mlflow.get_run(run_id).data.metrics)


def test_figures_are_there_while_it_trains() -> None:
    with logged(HISTORY[:1]) as (parent, log):
        assert figures(parent, "loss") == [(1, 3.0)]
        log.epoch(HISTORY[1])
        assert figures(nested_in(parent)["cross_entropy"].info.run_id, "loss") == [(1, 3.0), (2, 2.0)]


@pytest.mark.parametrize(
    ("error", "status"), [(BrokenError, "FAILED"), (KeyboardInterrupt, "KILLED"), (SystemExit, "FAILED")]
)
def test_a_training_that_breaks_off_says_how_in_all_its_runs(error: type[BaseException], status: str) -> None:
    told = []

    def break_off() -> None:
        with logged() as (parent, _):
            told.append(parent)
            raise error

    with pytest.raises(error):
        break_off()
    runs = [mlflow.get_run(told[0]), *nested_in(told[0]).values()]
    assert [run.info.status for run in runs] == [status] * 3


def kept_model(run: Run) -> Any:
    """The one logged model of a run."""
    (output,) = run.outputs.model_outputs
    return mlflow.MlflowClient().get_logged_model(output.model_id), output


@pytest.mark.parametrize("best", [1, 2])
def test_what_was_kept_is_a_logged_model_of_the_phase_that_made_it(tmp_path: Path, best: int) -> None:
    kept = tmp_path / "decoder"
    kept.mkdir()
    (kept / "decoder.h5").write_bytes(b"weights")
    (kept / "history.json").write_text(json.dumps(HISTORY))
    with logged() as (parent, log):
        log.kept(kept, HISTORY[best])
    mine, other = (nested_in(parent)[name] for name in (PHASES if best == 1 else PHASES[::-1]))
    model, output = kept_model(mine)
    assert (model.name, model.model_type, str(model.status)) == ("decoder", "weights", "READY")
    assert model.source_run_id == mine.info.run_id
    assert model.params == {"epoch": str(best + 1)}
    assert output.step == best + 1
    folder = Path(mlflow.artifacts.download_artifacts(model.artifact_location))
    assert (folder / "decoder.h5").read_bytes() == b"weights"
    assert json.loads((folder / "history.json").read_text()) == HISTORY
    for run in (other, mlflow.get_run(parent)):
        assert not run.outputs.model_outputs


def test_what_it_learnt_from_is_the_runs_inputs() -> None:
    inputs = {"captions": ("c" * 64, "/home/stages/captions-1"), "embeddings": ("e" * 64, "/home/stages/embeddings-1")}
    with tracked_run("train", {}) as run_id:
        log_inputs(run_id, inputs)
    found = {entry.dataset.name: entry for entry in mlflow.get_run(run_id).inputs.dataset_inputs}
    assert set(found) == {"captions", "embeddings"}
    for name, (digest, source) in inputs.items():
        dataset = found[name].dataset
        assert digest.startswith(dataset.digest)
        assert len(dataset.digest) == 36
        assert (dataset.source, dataset.source_type) == (source, "local")
        assert {tag.key: tag.value for tag in found[name].tags} == {"mlflow.data.context": "training"}


def test_what_is_told_twice_is_an_input_once() -> None:
    with tracked_run("train", {}) as run_id:
        for _ in range(2):
            log_inputs(run_id, {"captions": ("c" * 64, "/home/stages/captions-1")})
    assert len(mlflow.get_run(run_id).inputs.dataset_inputs) == 1


def test_two_runs_may_learn_from_the_same() -> None:
    for _ in range(2):
        with tracked_run("train", {}) as run_id:
            log_inputs(run_id, {"captions": ("c" * 64, "/home/stages/captions-1")})
        assert len(mlflow.get_run(run_id).inputs.dataset_inputs) == 1


def test_the_phases_are_named_as_training_names_them(
    make_store: Callable[[list[int]], EmbeddingStore], toy_decoder: Decoder
) -> None:
    captions = pd.DataFrame({"image_id": [1, 2], "tokens": ["a red kite", "a dog"]})
    words = Vocabulary.build([["a", "red", "kite", "dog"]], min_count=1)
    training = TrainingSet.build(captions, words, make_store([1, 2]), max_length=7)
    general, critical = notebook_training(), SelfCriticalConfig(epochs=1)
    first = cross_entropy_phase(general, training)
    second = self_critical_phase(critical, general, training, toy_decoder, resident(training.embeddings))
    assert (first.name, second.name) == PHASES
