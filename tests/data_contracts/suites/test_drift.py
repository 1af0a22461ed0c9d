from typing import Any

import numpy as np
import pandas as pd
import pytest

from data_contracts.limits import Limits
from data_contracts.report import ContractReport
from data_contracts.schema import DRIFT
from data_contracts.suites import drift as contract

USUAL = {
    "images": 100,
    "embedding_shift": 0.05,
    "outlier_share": 0.01,
    "caption_words": 9.0,
    "training_caption_words": 10.0,
}
UNUSUAL = {"embedding_shift": 7.0, "outlier_share": 1.0, "caption_words": 1.0}


def row(**values: Any) -> pd.DataFrame:
    return pd.DataFrame([{**USUAL, **values}]).astype(DRIFT)


def broken(report: ContractReport) -> dict[str, tuple[str, ...]]:
    return {rule.rule: rule.offenders for rule in report.rules if not rule.passed}


def test_what_is_like_training_passes() -> None:
    report = contract.check(row(), Limits())
    assert report.passed
    assert broken(report) == {}
    assert report.rows == 1


@pytest.mark.parametrize(
    ("rule", "figure", "at_limit", "beyond"),
    [
        ("embeddings-centred", "embedding_shift", 0.5, 0.51),
        ("few-embeddings-far", "outlier_share", 0.1, 0.11),
        ("caption-length-usual", "caption_words", 15, 15.1),
        ("caption-length-usual", "caption_words", 6.7, 6.6),
        ("caption-length-usual", "caption_words", 9, 0),
    ],
)
def test_each_difference_is_a_warning(rule: str, figure: str, at_limit: float, beyond: float) -> None:
    report = contract.check(row(**{figure: beyond}), Limits())
    assert report.passed
    assert broken(report) == {rule: ("images=100",)}
    assert broken(contract.check(row(**{figure: at_limit}), Limits())) == {}


@pytest.mark.parametrize(("images", "rules"), [(0, 0), (99, 0), (100, 3)])
def test_too_few_images_are_not_checked(images: int, rules: int) -> None:
    report = contract.check(row(images=images, **UNUSUAL), Limits())
    assert len(broken(report)) == rules


def test_how_many_images_are_checked_is_a_limit() -> None:
    report = contract.check(row(images=5, **UNUSUAL), Limits(min_images_for_drift=5))
    assert set(broken(report)) == {"embeddings-centred", "few-embeddings-far", "caption-length-usual"}


def test_a_missing_figure_is_reported_not_raised() -> None:
    report = contract.check(row(outlier_share=np.nan), Limits())
    assert broken(report) == {"column-without-nulls": ("table=drift, column=outlier_share",)}
