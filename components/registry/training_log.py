"""A training in MLflow: every epoch's figures, a nested run for each phase, what it learnt from, and what it kept."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, LoggedModelStatus, Param
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from components.registry.tracking import flatten, log_metrics, status_after

PHASES = ("cross_entropy", "self_critical")
"""Their names, in the order of their numbers; see `components.training.phases`."""


class TrainingLog:
    """What is told of one training. Its phases' runs are nested in the run `run_id`, and end with the block."""

    def __init__(self, run_id: str, params: Mapping[str, Any]) -> None:
        self._client, self._parent = MlflowClient(), run_id
        self._experiment = self._client.get_run(run_id).info.experiment_id
        self._params = params
        self._phases: dict[str, str] = {}

    def __enter__(self) -> "TrainingLog":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        status = status_after(kind) if kind else "FINISHED"
        for run_id in self._phases.values():
            self._client.set_terminated(run_id, status)

    def epoch(self, row: Mapping[str, float]) -> None:
        """An epoch's figures (see `components.training.history`), for the whole training and for its phase."""
        figures = {name: value for name, value in row.items() if name not in ("phase", "epoch")}
        phase = self._phase(PHASES[int(row["phase"]) - 1])
        for run_id in (self._parent, phase):
            log_metrics(run_id, figures, step=int(row["epoch"]))

    def kept(self, checkpoint: Path, best: Mapping[str, float]) -> None:
        """The decoder that was kept, of epoch `best`: a model of the phase that made it."""
        name = PHASES[int(best["phase"]) - 1]
        model = self._client.create_logged_model(
            self._experiment,
            "decoder",
            self._phase(name),
            params={"epoch": str(int(best["epoch"]))},
            model_type="weights",
        )
        self._client.log_model_artifacts(model.model_id, str(checkpoint))
        self._client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
        self._client.log_outputs(self._phase(name), [LoggedModelOutput(model.model_id, step=int(best["epoch"]))])

    def _phase(self, name: str) -> str:
        if name not in self._phases:
            tags = {MLFLOW_PARENT_RUN_ID: self._parent}
            run = self._client.create_run(self._experiment, run_name=name, tags=tags)
            params = [Param(key, str(value)) for key, value in flatten(self._params).items()]
            self._client.log_batch(run.info.run_id, params=params)
            self._phases[name] = run.info.run_id
        return self._phases[name]


def log_inputs(run_id: str, inputs: Mapping[str, tuple[str, str]]) -> None:
    """What a run works on, as MLflow's data sets: name → digest and source."""
    client = MlflowClient()
    data = [
        DatasetInput(Dataset(name, digest[:36], "local", source), [InputTag("mlflow.data.context", "training")])
        for name, (digest, source) in inputs.items()
    ]
    client.log_inputs(run_id, data)
