from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_contracts.limits import Limits
from data_contracts.report import ContractReport
from data_contracts.schema import PREDICTIONS
from data_contracts.suites import predictions as contract


def scored() -> pd.DataFrame:
    """A scoring run over three images, the last one quarantined."""
    columns = {
        "image_id": ["aa", "bb", "cc"],
        "uri": ["a.jpg", "b.jpg", "c.jpg"],
        "caption": ["a cat on grass", "a dog with a ball", ""],
        "logprob": [-1.5, 0.0, np.nan],
        "status": ["ok", "ok", "quarantined"],
        "error": ["", "", "truncated JPEG"],
        "model_version": "3",
        "encoder_fingerprint": "inception",
        "scored_at": pd.Timestamp("2026-01-01", tz="UTC"),
    }
    return pd.DataFrame(columns).astype(PREDICTIONS)


def evaluated(captions: list[str]) -> pd.DataFrame:
    columns = {
        "image_id": range(len(captions)),
        "caption": captions,
        "logprob": -1.0,
        "status": "ok",
        "error": "",
    }
    return pd.DataFrame(columns).astype({"caption": "str", "status": "str", "error": "str"})


def check(predictions: pd.DataFrame, expected: tuple[str, ...] = ("aa", "bb", "cc")) -> ContractReport:
    return contract.check(predictions, expected, Limits())


def broken(report: ContractReport) -> dict[str, tuple[str, ...]]:
    return {rule.rule: rule.offenders for rule in report.rules if not rule.passed}


def test_a_good_scoring_run_passes() -> None:
    report = check(scored())
    assert report.passed
    assert broken(report) == {}


@pytest.mark.parametrize(
    ("rule", "row", "column", "value"),
    [
        ("caption-not-empty", 0, "caption", " "),
        ("no-special-words", 0, "caption", "a <unk> cat"),
        ("logprob-valid", 0, "logprob", 0.1),
        ("logprob-valid", 0, "logprob", np.nan),
        ("logprob-valid", 0, "logprob", -np.inf),
        ("error-given", 2, "error", ""),
        ("status-known", 2, "status", "failed"),
    ],
)
def test_a_broken_rule_names_the_row(rule: str, row: int, column: str, value: Any) -> None:
    predictions = scored()
    predictions.loc[row, column] = value
    report = check(predictions)
    assert not report.passed
    name = f"image_id={predictions['image_id'][row]}, uri={predictions['uri'][row]}"
    assert broken(report) == {rule: (name,)}


@pytest.mark.parametrize(
    ("rule", "expected", "named"),
    [
        ("image-predicted", ("aa", "bb", "cc", "dd"), "image_id=dd"),
        ("image-predicted", ("aa", "aa", "bb", "cc"), "image_id=aa"),
        ("image-given", ("aa", "bb"), "image_id=cc"),
    ],
)
def test_each_image_has_its_row(rule: str, expected: tuple[str, ...], named: str) -> None:
    assert broken(check(scored(), expected)) == {rule: (named,)}


def test_copies_of_a_photograph_need_as_many_rows() -> None:
    twice = pd.concat([scored(), scored()[:1]], ignore_index=True)
    assert broken(check(twice)) == {"image-predicted-once": ("image_id=aa",)}
    assert broken(check(twice, ("aa", "aa", "bb", "cc"))) == {}


@pytest.mark.parametrize("caption", ["two cats", "cat " * 51])
def test_a_caption_of_unusual_length_is_a_warning(caption: str) -> None:
    predictions = scored()
    predictions.loc[1, "caption"] = caption
    report = check(predictions)
    assert report.passed
    assert broken(report) == {"caption-length": ("image_id=bb, uri=b.jpg",)}


DIFFERENT = [f"a cat and {i} dogs" for i in range(20)]


@pytest.mark.parametrize(
    ("rule", "captions", "limit", "tolerable", "named"),
    [
        (
            "captions-differ",
            [*DIFFERENT[:15], *["a cat on grass"] * 5],
            "max_repeated_caption_share",
            0.25,
            "most_frequent=a cat on grass",
        ),
        (
            "captions-diverse",
            [f"a cat and {i % 7} dogs" for i in range(20)],
            "min_distinct_captions",
            0.35,
            "most_frequent=a cat and 0 dogs",
        ),
        (
            "captions-end-well",
            [*DIFFERENT[:16], "a cat on a", "a dog on a", "a bird on a", "a horse with"],
            "max_dangling_share",
            0.2,
            "most_frequent=a cat and 0 dogs, most_frequent_end=a",
        ),
    ],
)
def test_captions_that_are_bad_together_are_a_warning(
    rule: str, captions: list[str], limit: str, tolerable: float, named: str
) -> None:
    intolerable = tolerable + (0.001 if limit.startswith("min") else -0.001)
    broken_limit = contract.check(evaluated(captions), range(20), Limits(**{limit: intolerable}))
    assert broken_limit.passed
    assert broken(broken_limit) == {rule: (named,)}
    assert broken(contract.check(evaluated(captions), range(20), Limits(**{limit: tolerable}))) == {}


def test_few_captions_are_not_checked_together() -> None:
    limits = Limits(min_distinct_captions=0.1, min_captions_together=7)
    cut = evaluated(["a cat on a"] * 7)
    assert set(broken(contract.check(cut, range(7), limits))) == {"captions-differ", "captions-end-well"}
    assert broken(contract.check(cut[:6], range(6), limits)) == {}


def test_quarantined_images_have_no_captions_to_check_together() -> None:
    predictions = evaluated([*DIFFERENT[:15], *[""] * 5])
    predictions.loc[15:, ["status", "error", "logprob"]] = ["quarantined", "truncated JPEG", np.nan]
    limits = Limits(min_captions_together=15, max_repeated_caption_share=0.1)
    assert broken(contract.check(predictions, range(20), limits)) == {}


def test_an_empty_table_is_checked_not_raised() -> None:
    assert broken(check(scored()[:0], ())) == {}
    assert broken(check(scored()[:0], ("aa",))) == {"image-predicted": ("image_id=aa",)}


def test_a_missing_column_is_reported_not_raised() -> None:
    report = check(scored().drop(columns="logprob"))
    assert broken(report) == {"column-present": ("table=predictions, column=logprob",)}


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 5)), st.lists(st.integers(0, 5)))
def test_rows_are_compared_with_images_as_multisets(predicted: list[int], expected: list[int]) -> None:
    frame = pd.DataFrame({"image_id": predicted}, dtype="int64")
    facts = contract.image_facts(frame, expected).set_index("image_id")
    rows, due = Counter(predicted), Counter(expected)
    assert set(facts.index) == rows.keys() | due.keys()
    for image_id in set(predicted + expected):
        fact, more = facts.loc[image_id], rows[image_id] - due[image_id]
        assert fact["expected"] == (image_id in due)
        assert fact["lacking"] == max(0, -more)
        assert fact["surplus"] == (max(0, more) if image_id in due else 0)
