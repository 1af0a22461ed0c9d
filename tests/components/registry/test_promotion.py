import json
from collections.abc import Callable
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient

from components.errors import CaptioningError
from components.registry import promotion
from components.registry.decision import PromotionPolicy, decide
from components.registry.promotion import find_champion, gather, promote, record_decision, record_evaluation, roll_back
from components.registry.registration import register
from components.registry.tracking import log_dict, log_file, tracked_run
from components.registry.versions import RegisteredModel, describe

pytestmark = [
    pytest.mark.usefixtures("registry"),
    pytest.mark.filterwarnings("ignore:::mlflow"),  # its own imports warn
]
Evaluated = Callable[..., str]


@pytest.fixture
def models(package: Path, registry: str) -> list[RegisteredModel]:
    """Three versions; the first is the champion."""
    found = []
    for number in (1, 2, 3):
        with tracked_run("train", {}) as run_id:
            found.append(register(package, f"digest-{number}", "captioner", run_id, {}, "a card", None))
    return [describe(model.uri) for model in found]


@pytest.fixture
def evaluated(tmp_path: Path) -> Evaluated:
    """Writes an evaluation into a run, as the flows do."""

    def write(model: RegisteredModel, cider: list[float], data: str = "0123", broken: tuple[str, ...] = ()) -> str:
        summary, predictions = tmp_path / "summary.json", tmp_path / "predictions.parquet"
        summary.write_text(json.dumps({"data": data, "tokenizer": "ptb"}), encoding="utf-8")
        pd.DataFrame({"image_id": range(len(cider)), "cider": cider}).to_parquet(predictions)
        rules = [{"rule": rule, "severity": "critical", "passed": False} for rule in broken]
        rules += [
            {"rule": "odd", "severity": "warning", "passed": False},
            {"rule": "x", "severity": "critical", "passed": True},
        ]
        with tracked_run("evaluate", {}) as run_id:
            for path in (summary, predictions):
                log_file(run_id, path, "evaluation")
            log_dict(run_id, {"rules": rules}, "contracts/predictions.json")
        record_evaluation(model, data, run_id, "evaluation")
        return run_id

    return write


def champion() -> str | None:
    found = find_champion("captioner")
    return found.version if found else None


def test_what_is_known_of_models_is_of_the_last_data_that_both_were_evaluated_on(
    models: list[RegisteredModel], evaluated: Evaluated
) -> None:
    first, second, _ = models
    evaluated(first, [0.1, 0.2], "old")
    evaluated(second, [0.3, 0.4], "old")
    evaluated(first, [0.5, 0.6], "new", broken=("captions-differ",))
    evaluated(second, [0.7, 0.8], "another")
    mine, theirs = gather(second, first)
    assert theirs is not None
    assert (mine.data, theirs.data) == ("old", "old")
    assert (mine.cider, theirs.cider) == ({0: 0.3, 1: 0.4}, {0: 0.1, 1: 0.2})
    assert (mine.model, mine.tokenizer, mine.broken, mine.warnings) == ("models:/captioner/2", "ptb", (), ("odd",))
    assert mine.bytes > 1000
    assert mine.milliseconds > 0
    assert gather(first, None)[0].broken == ("captions-differ",)


def test_models_that_share_no_data_or_were_never_evaluated_are_not_comparable(
    models: list[RegisteredModel], evaluated: Evaluated
) -> None:
    first, second, third = models
    evaluated(first, [0.1], "one")
    evaluated(second, [0.1], "other")
    assert decide(*gather(second, first), PromotionPolicy()).verdict == "not comparable"
    decision = decide(*gather(third, first), PromotionPolicy())
    assert (decision.promote, decision.verdict) == (False, "not comparable")
    assert "never evaluated" in decision.reasons[0]


def test_a_promotion_moves_the_champion_and_rollbacks_go_back_step_by_step(models: list[RegisteredModel]) -> None:
    first, second, third = models
    promote(second, first)
    promote(third, describe(second.uri))
    assert champion() == "3"
    was, now = roll_back("captioner")
    assert (was.version, now.version, champion()) == ("3", "2", "2")
    assert roll_back("captioner")[1].version == "1"
    with pytest.raises(CaptioningError, match="no champion before models:/captioner/1"):
        roll_back("captioner")
    assert champion() == "1"


def test_a_champion_that_changed_since_it_was_evaluated_stops_a_promotion(models: list[RegisteredModel]) -> None:
    first, second, third = models
    promote(second, first)
    with pytest.raises(CaptioningError, match="another promotion of captioner came between: the champion is version 2"):
        promote(third, first)
    assert champion() == "2"


@pytest.mark.parametrize("moment", [1, 2])
def test_of_two_promotions_at_once_one_is_told(
    models: list[RegisteredModel], monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    first, second, third = models
    original, calls = promotion._require_nobody_else, 0

    def interleaved(*arguments: object) -> None:
        nonlocal calls
        calls += 1
        if calls == moment:  # the other one runs whole, before this one looks for the first or for the last time
            monkeypatch.setattr(promotion, "_require_nobody_else", original)
            other_sees = describe("models:/captioner@champion")
            promote(third, other_sees)
        original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(promotion, "_require_nobody_else", interleaved)
    with pytest.raises(CaptioningError, match="another promotion of captioner came between"):
        promote(second, first)
    assert champion() == "3"


def test_a_decision_is_kept_with_the_run_and_on_the_version(
    models: list[RegisteredModel], evaluated: Evaluated
) -> None:
    first, second, _ = models
    for model, scores in ((first, [0.1] * 9), (second, [0.4] * 9)):
        evaluated(model, scores)
    mine, theirs = gather(second, first)
    decision = decide(mine, theirs, PromotionPolicy(max_slower=100))
    with tracked_run("promote", {}) as run_id:
        record_decision(run_id, decision, mine, theirs)
    run = mlflow.get_run(run_id)
    assert (run.data.tags["decision"], run.data.tags["verdict"]) == ("promoted", "better")
    assert run.data.metrics["cider_difference"] == pytest.approx(0.3)
    kept = json.loads(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/decision.json"))
    assert kept["decision"]["reasons"] == list(decision.reasons)
    tag = MlflowClient().get_model_version("captioner", "2").tags["captioning.decision"]
    assert json.loads(tag)["promote"] is True


def test_a_model_that_is_not_there_is_told() -> None:
    with pytest.raises(CaptioningError, match="no registered model 'nothing'"):
        find_champion("nothing")
