from collections import Counter

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_contracts.limits import Limits
from data_contracts.report import ContractReport
from data_contracts.schema import SPECIALS, VOCABULARY
from data_contracts.suites import vocabulary as contract

WORDS = (*SPECIALS, "a", "cat", "sits")


def table(words: tuple[str, ...], ids: list[int] | None = None) -> pd.DataFrame:
    return pd.DataFrame({"id": ids or range(len(words)), "word": words, "count": 0}).astype(VOCABULARY)


def texts(train: str = "a cat sits", val: str = "a cat sits") -> pd.DataFrame:
    return pd.DataFrame({"split": ["train", "val"], "tokens": [train, val]}).astype("str")


def check(vocabulary: pd.DataFrame, captions: pd.DataFrame, limits: Limits | None = None) -> ContractReport:
    return contract.check(vocabulary, captions, limits or Limits(), train_split="train")


def broken(report: ContractReport) -> dict[str, tuple[str, ...]]:
    return {rule.rule: rule.offenders for rule in report.rules if not rule.passed}


def test_a_good_vocabulary_passes_in_any_order() -> None:
    report = check(table(WORDS).iloc[::-1], texts())
    assert report.passed
    assert broken(report) == {}


@pytest.mark.parametrize(
    ("rule", "vocabulary", "named"),
    [
        ("vocabulary-size", table(SPECIALS), ()),
        ("ids-contiguous", table(WORDS, ids=[0, 1, 2, 3, 4, 5, 9]), ("id=9, word=sits",)),
        ("ids-contiguous", table(WORDS, ids=[0, 1, 2, 3, 4, 5, 5]), ("id=5, word=cat", "id=5, word=sits")),
        ("specials-first", table(("<pad>", "dog", *WORDS[2:])), ("id=1, word=dog",)),
        ("no-special-among-words", table((*WORDS, "<end>")), ("id=7, word=<end>",)),
        ("word-unique", table((*WORDS, "cat")), ("id=5, word=cat", "id=7, word=cat")),
        ("word-not-empty", table((*WORDS, " ")), ("id=7, word= ",)),
    ],
)  # fmt: skip
def test_a_broken_rule_names_the_word(rule: str, vocabulary: pd.DataFrame, named: tuple[str, ...]) -> None:
    report = check(vocabulary, texts(), Limits(max_unknown_rate=1, min_known_captions=0))
    assert not report.passed
    assert broken(report) == {rule: named}


def test_a_vocabulary_may_be_too_large() -> None:
    report = check(table(WORDS), texts(), Limits(max_vocabulary=6))
    assert broken(report) == {"vocabulary-size": ()}
    assert report.violations[0].observed == "7"


def test_unknown_words_are_critical_in_training_only() -> None:
    limits = Limits(min_known_captions=0)
    training = check(table(WORDS), texts(train="a zebra sits"), limits)
    assert [rule.rule for rule in training.violations] == ["training-words-known"]
    assert broken(training) == {"training-words-known": ("split=train, most_frequent_unknown=zebra",)}
    validation = check(table(WORDS), texts(val="a zebra sits"), limits)
    assert validation.passed
    assert broken(validation) == {"other-words-known": ("split=val, most_frequent_unknown=zebra",)}


def test_few_unknown_words_in_too_many_captions_are_a_warning() -> None:
    known, spoiled = texts(), texts(val="a cat sits a cat sits a cat sits zebra")
    report = check(table(WORDS), pd.concat([known, spoiled, spoiled]))
    assert report.passed
    assert broken(report) == {"captions-known": ("split=val, most_frequent_unknown=zebra",)}
    half = check(table(WORDS), pd.concat([known, spoiled]))
    assert broken(half) == {}


def test_an_empty_vocabulary_is_reported_not_raised() -> None:
    assert broken(check(table(WORDS)[:0], texts()[:0])) == {"vocabulary-size": ()}


def test_a_missing_column_is_reported_not_raised() -> None:
    report = check(table(WORDS).drop(columns="word"), texts())
    assert broken(report) == {"column-present": ("table=vocabulary, column=word",)}


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.sampled_from(["a", "cat", "zebra", "<unk>"])), min_size=1))
def test_coverage_counts_words_not_distinct_words(captions: list[list[str]]) -> None:
    frame = pd.DataFrame({"split": "train", "tokens": [" ".join(words) for words in captions]}).astype("str")
    [rate] = contract.coverage_facts(table(WORDS), frame, "train")["unknown_in_training"]
    counts = Counter(word for words in captions for word in words)
    assert rate == pytest.approx((counts["zebra"] + counts["<unk>"]) / max(1, counts.total()))
