"""Moving the champion: what is known of a model, one promotion at a time, and the way back."""

import json
import time
import uuid
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from components.decoder.caption import Search
from components.errors import CaptioningError
from components.evaluation.summary import PREDICTIONS_FILE, SUMMARY_FILE
from components.registry.decision import Decision, Evidence
from components.registry.registration import example
from components.registry.versions import CHAMPION, RegisteredModel, describe, load_captioner, require_connection

EVALUATION_TAG = "captioning.evaluation."
"""Of a version, with the digest of the images and references behind it: run and folder of its evaluation on them."""
BEFORE_TAG = "captioning.champion-before"
"""Of a version that became champion: the champion before it; empty when there was none."""
TOKEN_TAG = "captioning.promotion"
"""Of a registered model: who moves its champion now."""
DECISION_FILE = "decision.json"
TRIES = 10


def record_evaluation(model: RegisteredModel, data: str, run_id: str, folder: str) -> None:
    """Notes that the model was evaluated on the images and references of that digest; the run has it in that folder."""
    MlflowClient().set_model_version_tag(model.name, model.version, EVALUATION_TAG + data, f"{run_id}/{folder}")


def find_champion(name: str) -> RegisteredModel | None:
    """The registered model's champion, if it has one."""
    require_connection()
    try:
        aliases = MlflowClient().get_registered_model(name).aliases
    except MlflowException as error:
        raise CaptioningError(f"there is no registered model {name!r}: train one with `captioning train`") from error
    return describe(f"models:/{name}@{CHAMPION}") if CHAMPION in aliases else None


def gather(challenger: RegisteredModel, champion: RegisteredModel | None) -> tuple[Evidence, Evidence | None]:
    """What is known of both: of the last evaluation on data that both were evaluated on, else of each one's last."""
    models = (challenger, champion) if champion else (challenger,)
    runs = [_evaluations(model) for model in models]
    common = [data for data in runs[0] if all(data in evaluations for evaluations in runs)]
    found = [
        _evidence(model, own[common[0]] if common else next(iter(own.values()), ""))
        for model, own in zip(models, runs, strict=True)
    ]
    return found[0], found[1] if champion else None


def fetch_evaluations(first: RegisteredModel, second: RegisteredModel, data: str, folder: str) -> list[Path]:
    """Copies both models' evaluations on the data of that digest into `folder`; their paths.

    Raises `CaptioningError` when a run has lost its files.
    """
    places = []
    for model in (first, second):
        run_id, _, name = _evaluations(model)[data].partition("/")
        places.append(_fetch(run_id, name, str(Path(folder, model.version))))
    return places


def promote(challenger: RegisteredModel, champion: RegisteredModel | None) -> None:
    """Makes the challenger the champion, if the champion still is who it was compared with.

    MLflow has no way to compare and set. Each promotion leaves a token before it looks who is champion, and looks for
    its token when it is done: of two at the same time at least one finds the other's, or another champion.

    Raises:
        CaptioningError: another promotion came between.
    """
    _move(challenger, champion, before=champion.version if champion else "")


def _move(challenger: RegisteredModel, champion: RegisteredModel | None, before: str) -> None:
    client, token = MlflowClient(), uuid.uuid4().hex
    client.set_registered_model_tag(challenger.name, TOKEN_TAG, token)
    _require_nobody_else(challenger.name, token, champion)
    client.set_model_version_tag(challenger.name, challenger.version, BEFORE_TAG, before)
    client.set_registered_model_alias(challenger.name, CHAMPION, challenger.version)
    _require_nobody_else(challenger.name, token, challenger)


def find_rollback(name: str) -> tuple[RegisteredModel, RegisteredModel]:
    """The champion, and the one before it.

    Raises:
        CaptioningError: there is no champion, or none before it.
    """
    champion = find_champion(name)
    if champion is None:
        raise CaptioningError(f"{name} has no champion that could be rolled back")
    before = MlflowClient().get_model_version(name, champion.version).tags.get(BEFORE_TAG, "")
    if not before:
        raise CaptioningError(f"there was no champion before {champion.uri}: nothing to roll back to")
    return champion, describe(f"models:/{name}/{before}")


def roll_back(name: str) -> tuple[RegisteredModel, RegisteredModel]:
    """Makes the champion before this one champion again. Returns the one that was and the one that is.

    Raises:
        CaptioningError: there is no champion, none before it, or another promotion came between.
    """
    champion, before = find_rollback(name)
    # What was champion before it stays so: else two rollbacks would go to and fro.
    kept = MlflowClient().get_model_version(before.name, before.version).tags.get(BEFORE_TAG, "")
    _move(before, champion, before=kept)
    return champion, describe(f"models:/{name}@{CHAMPION}")


def record_decision(run_id: str, decision: Decision, challenger: Evidence, champion: Evidence | None) -> None:
    """Keeps the decision with the MLflow run, and on the version that it is about, unless that is champion already."""
    client = MlflowClient()
    known = [asdict(evidence) | {"cider": None} for evidence in (challenger, champion) if evidence]
    client.log_dict(run_id, {"decision": asdict(decision), "known": known}, DECISION_FILE)
    client.set_tag(run_id, "decision", "promoted" if decision.promote else "refused")
    client.set_tag(run_id, "verdict", decision.verdict)
    if decision.difference is not None:
        client.log_metric(run_id, "cider_difference", decision.difference)
    if champion and champion.model == challenger.model:
        return  # what made it champion stays noted on it
    name, _, version = challenger.model.removeprefix("models:/").partition("/")
    message = json.dumps({"run": run_id, "promote": decision.promote, "reasons": decision.reasons})
    client.set_model_version_tag(name, version, "captioning.decision", message[:5000])


def _require_nobody_else(name: str, token: str, expected: RegisteredModel | None) -> None:
    found = find_champion(name)
    version, wanted = (model.version if model else None for model in (found, expected))
    if version != wanted or MlflowClient().get_registered_model(name).tags.get(TOKEN_TAG) != token:
        raise CaptioningError(
            f"another promotion of {name} came between: the champion is version {version} now. "
            "Look at it, and promote again if this one is still to be"
        )


def _evaluations(model: RegisteredModel) -> dict[str, str]:
    """The data that a model was evaluated on and the run and folder with the evaluation, the last one first."""
    client = MlflowClient()
    tags = client.get_model_version(model.name, model.version).tags
    runs = {tag.removeprefix(EVALUATION_TAG): run for tag, run in tags.items() if tag.startswith(EVALUATION_TAG)}
    return dict(sorted(runs.items(), key=lambda pair: -client.get_run(pair[1].partition("/")[0]).info.start_time))


def _evidence(model: RegisteredModel, where: str) -> Evidence:
    run_id, _, name = where.partition("/")
    found = EvaluationRecord("", "", {}, (), ())
    if run_id:
        with TemporaryDirectory() as folder:
            found = read_evaluation(*(_fetch(run_id, what, folder) for what in (name, "contracts")))
    time_taken = _milliseconds(model)  # first: it is only then that the files are known to be the model's
    size = int(Model.load(model.uri).model_size_bytes or 0)
    return Evidence(model.uri, *found, time_taken, size, _trained_on(model))


def _trained_on(model: RegisteredModel) -> str:
    """The data set's root in the run that trained it; empty where that run is not known here."""
    client = MlflowClient()
    try:
        run = client.get_model_version(model.name, model.version).run_id
        return str(client.get_run(run).data.params.get("dataset.root", "")) if run else ""
    except MlflowException:
        return ""


class EvaluationRecord(NamedTuple):
    """What an evaluation found that a promotion asks for; see `components.registry.decision.Evidence`."""

    data: str
    tokenizer: str
    cider: dict[int, float]
    broken: tuple[str, ...]
    warnings: tuple[str, ...]


def read_evaluation(evaluation: Path, contracts: Path) -> EvaluationRecord:
    """Reads an evaluation's folder and that of its contracts' reports.

    Raises `CaptioningError` when they are not what an evaluation leaves.
    """
    try:
        summary = json.loads((evaluation / SUMMARY_FILE).read_text(encoding="utf-8"))
        scores = pd.read_parquet(evaluation / PREDICTIONS_FILE, columns=["image_id", "cider"])
        ids, cider = scores["image_id"].astype("int64").tolist(), scores["cider"].astype("float64").tolist()
        reports = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(contracts.glob("*.json"))]
        failed = [rule for report in reports for rule in report["rules"] if not rule["passed"]]
        broken, warnings = (
            tuple(str(rule["rule"]) for rule in failed if (rule["severity"] == "critical") == critical)
            for critical in (True, False)
        )
        return EvaluationRecord(
            str(summary["data"]), str(summary["tokenizer"]), dict(zip(ids, cider, strict=True)), broken, warnings
        )
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:  # pyarrow's errors are among them
        message = " ".join(f"{type(error).__name__}: {error}".split())
        raise CaptioningError(
            f"the evaluation in {evaluation} cannot be read: {message}. Evaluate the model again"
        ) from error


def _fetch(run_id: str, what: str, folder: str) -> Path:
    try:
        return Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=what, dst_path=folder))
    except (MlflowException, OSError) as error:
        raise CaptioningError(f"the run {run_id} has lost its {what}: {error}. Evaluate the model again") from error


def _milliseconds(model: RegisteredModel) -> float:
    """The shortest time from a photograph to its caption: what else runs on the machine only makes it longer."""
    captioner, photograph = load_captioner(model.uri), example()
    times = []
    for _ in range(TRIES):
        started = time.perf_counter()
        vectors = captioner.embed([photograph])[0] if captioner.encoders else [[0.0] * captioner.dimension]
        captioner.caption(vectors, Search())
        times.append(time.perf_counter() - started)
    return 1000 * min(times)
