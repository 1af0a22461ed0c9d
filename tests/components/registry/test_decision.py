import re
from dataclasses import replace

import numpy as np
import pytest

from components.registry.decision import Evidence, PromotionPolicy, decide

IMAGES = 200
NOISE = np.random.default_rng(0).normal(0.5, 0.3, IMAGES)
POLICY = PromotionPolicy()


def evidence(model: str = "models:/captioner/1", gain: float = 0.0, **other: object) -> Evidence:
    """A model whose CIDEr is so much higher than the champion's, image by image and not evenly."""
    shift = gain + np.random.default_rng(len(model)).normal(0, 0.1, IMAGES)
    known = Evidence(
        model=model,
        data="0123",
        tokenizer="ptb",
        cider=dict(enumerate((NOISE + shift).tolist())),
        broken=(),
        warnings=(),
        milliseconds=10.0,
        bytes=30_000_000,
    )
    return replace(known, **other)  # type: ignore[arg-type]


CHAMPION = evidence()
NEXT = "models:/captioner/22"


def test_the_first_model_needs_no_champion() -> None:
    decision = decide(evidence(NEXT), None, POLICY)
    assert (decision.promote, decision.verdict, decision.difference) == (True, "no champion", None)


@pytest.mark.parametrize(
    ("gain", "verdict", "promoted", "promoted_if_better"),
    [(0.2, "better", True, True), (0.0, "tie", True, False), (-0.2, "worse", False, False)],
)
def test_better_and_no_worse_models_are_promoted(
    gain: float, verdict: str, promoted: bool, promoted_if_better: bool
) -> None:
    decision = decide(evidence(NEXT, gain), CHAMPION, POLICY)
    assert (decision.promote, decision.verdict) == (promoted, verdict)
    assert decision.interval is not None
    assert decision.difference is not None
    assert decision.interval.low < decision.difference < decision.interval.high
    assert decision.difference == pytest.approx(gain, abs=0.05)
    assert decide(evidence(NEXT, gain), CHAMPION, PromotionPolicy(minimum="better")).promote == promoted_if_better
    assert decision.reasons[0].startswith(verdict)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (
            {"data": "4567"},
            r"evaluated on different images and references \(4567 and 0123\); evaluate both: captioning evaluate",
        ),
        ({"tokenizer": "words"}, "evaluated on different tokenizer"),
        ({"cider": {1: 0.5}}, "evaluated on different images;"),
        ({"data": "", "cider": {}}, "models:/captioner/22 was never evaluated"),
    ],
)
def test_what_was_evaluated_otherwise_is_not_compared(other: dict[str, object], told: str) -> None:
    decision = decide(evidence(NEXT, 1.0, **other), CHAMPION, POLICY)
    assert (decision.promote, decision.verdict, decision.interval) == (False, "not comparable", None)
    assert re.search(told, decision.reasons[0])


def test_a_champion_that_was_never_evaluated_is_not_compared() -> None:
    decision = decide(evidence(NEXT, 1.0), replace(CHAMPION, data="", cider={}), POLICY)
    assert (decision.promote, decision.verdict) == (False, "not comparable")
    assert "0123 and none" in decision.reasons[0]


def test_a_champion_of_other_data_is_replaced_where_it_was_never_evaluated_on_these() -> None:
    mine, demo = evidence(NEXT, 1.0, data="4567", trained_on="/data"), replace(CHAMPION, trained_on="scenes://train=1")
    decision = decide(replace(mine, milliseconds=99.0), demo, POLICY)
    assert (decision.promote, decision.verdict, decision.interval) == (True, "other data", None)
    assert "trained on scenes://train=1" in decision.reasons[0]
    assert not decide(replace(mine, broken=("rule",)), demo, POLICY).promote
    for same in (replace(demo, trained_on="/data"), replace(demo, trained_on="")):
        assert decide(mine, same, POLICY).verdict == "not comparable"


@pytest.mark.parametrize(("gain", "promoted"), [(0.2, True), (-0.2, False)])
def test_models_of_other_data_are_compared_by_captions_and_not_by_speed(gain: float, promoted: bool) -> None:
    other = {"trained_on": "/data", "milliseconds": 99.0, "bytes": 10**9}
    decision = decide(evidence(NEXT, gain, **other), replace(CHAMPION, trained_on="scenes://train=1"), POLICY)
    assert decision.promote == promoted
    assert "speed and size are not compared" in decision.reasons[-1]


def test_the_champion_does_not_replace_itself() -> None:
    decision = decide(CHAMPION, CHAMPION, POLICY)
    assert (decision.promote, decision.verdict) == (False, "not comparable")
    assert "is the champion already" in decision.reasons[0]


@pytest.mark.parametrize(
    ("other", "policy", "told"),
    [
        ({"broken": ("caption-once",)}, POLICY, "broken when it was evaluated: caption-once"),
        ({"warnings": ("drift",)}, PromotionPolicy(allow_warnings=False), "warnings when it was evaluated: drift"),
        ({"milliseconds": 15.1}, POLICY, "takes 15.1 ms a photograph, the champion 10"),
        ({"bytes": 90_100_000}, POLICY, "has 90.1 MB, the champion 30"),
    ],
)
def test_one_thing_against_a_better_model_is_enough(
    other: dict[str, object], policy: PromotionPolicy, told: str
) -> None:
    better = evidence(NEXT, 0.2)
    assert decide(better, CHAMPION, policy).promote
    decision = decide(replace(better, **other), CHAMPION, policy)  # type: ignore[arg-type]
    assert not decision.promote
    assert decision.verdict == "better"
    assert decision.reasons[0].startswith(told)


def test_bounds_are_inclusive_and_warnings_allowed_unless_said_otherwise() -> None:
    at_the_bounds = evidence(NEXT, 0.2, milliseconds=15.0, bytes=90_000_000, warnings=("drift",))
    decision = decide(at_the_bounds, CHAMPION, POLICY)
    assert decision.promote
    assert len(decision.reasons) == 3


def test_everything_that_speaks_against_it_is_said() -> None:
    decision = decide(evidence(NEXT, -0.5, broken=("a",), milliseconds=99.0, bytes=10**9), CHAMPION, POLICY)
    assert [reason.split()[0] for reason in decision.reasons] == ["worse:", "broken", "takes", "has"]
    assert decision.against == decision.reasons


def test_what_speaks_against_it_is_told_from_what_speaks_for_it() -> None:
    decision = decide(evidence(NEXT, 0.2, milliseconds=99.0), CHAMPION, POLICY)
    assert [reason.split()[0] for reason in decision.against] == ["takes"]
    assert "at most 1.5 times that: max_slower" in decision.against[0]
    assert decide(evidence(NEXT, 0.2), CHAMPION, POLICY).against == ()
