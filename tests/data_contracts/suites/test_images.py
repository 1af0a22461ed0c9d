from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import pytest

from data_contracts.limits import Limits
from data_contracts.report import ContractReport
from data_contracts.schema import IMAGES, PHOTOGRAPHS
from data_contracts.suites import images as contract

LIMITS = Limits(max_bad_fraction=0.3)


def digest(number: int) -> str:
    return f"{number:064x}"


def good_images() -> pd.DataFrame:
    """Images 1 to 4 to train on, 5 to 8 to validate on."""
    split = ["train"] * 4 + ["val"] * 4
    names = [f"{i}.jpg" for i in range(1, 9)]
    columns = {
        "image_id": range(1, 9),
        "split": split,
        "archive": "a.zip",
        "file_name": names,
        "name": names,
        "nearest": "",
    }
    return pd.DataFrame(columns).astype(IMAGES)


def good_photographs() -> pd.DataFrame:
    names = [f"{i}.jpg" for i in range(1, 9)]
    digests = [digest(i) for i in range(1, 9)]
    columns = {"image_id": range(1, 9), "archive": "a.zip", "file_name": names, "bytes": 500, "digest": digests}
    return pd.DataFrame(columns).assign(error="").astype(PHOTOGRAPHS)


@dataclass
class Data:
    photographs: pd.DataFrame = field(default_factory=good_photographs)
    images: pd.DataFrame = field(default_factory=good_images)

    def check(self, limits: Limits = LIMITS) -> ContractReport:
        return contract.check(self.photographs, self.images, limits)


def broken(report: ContractReport) -> dict[str, tuple[str, ...]]:
    return {rule.rule: rule.offenders for rule in report.rules if not rule.passed}


def set_photograph(row: int, **values: Any) -> Callable[[Data], None]:
    def change(data: Data) -> None:
        for column, value in values.items():
            data.photographs.loc[row, column] = value

    return change


def lose_photograph(data: Data) -> None:
    data.photographs = data.photographs[data.photographs["image_id"] != 3]


def add_photograph(data: Data) -> None:
    data.photographs.loc[8] = [99, "a.zip", "99.jpg", 500, digest(99), ""]


def lose_file_of_image(data: Data) -> None:
    data.images.loc[2, "file_name"] = ""


def test_good_photographs_pass_in_any_order() -> None:
    report = Data(good_photographs().iloc[::-1]).check()
    assert report.passed
    assert broken(report) == {}
    assert report.rows == 8


@pytest.mark.parametrize(
    ("rule", "plant", "named"),
    [
        ("photograph-looked-for", lose_photograph, "image_id=3, split=train, file_name=3.jpg"),
        ("photograph-of-listed-image", add_photograph, "image_id=99"),
        ("photograph-of-listed-image", lose_file_of_image, "image_id=3"),
        ("digest-given", set_photograph(2, digest=""), "image_id=3, split=train, file_name=3.jpg"),
        ("digest-given", set_photograph(2, digest="abc"), "image_id=3, split=train, file_name=3.jpg"),
        ("digest-given", set_photograph(2, digest="g" * 64), "image_id=3, split=train, file_name=3.jpg"),
        (
            "no-photograph-in-two-splits",
            set_photograph(4, digest=digest(2)),
            "image_id=5, split=val, file_name=5.jpg, twin=2",
        ),
    ],
)
def test_a_broken_critical_rule_names_the_photograph(rule: str, plant: Callable[[Data], None], named: str) -> None:
    data = Data()
    plant(data)
    report = data.check()
    assert not report.passed
    assert broken(report) == {rule: (named,)}


@pytest.mark.parametrize(
    ("rule", "plant", "named"),
    [
        ("photograph-once", set_photograph(3, digest=digest(2)), "image_id=4, split=train, file_name=4.jpg, twin=2"),
        ("photograph-not-empty", set_photograph(2, bytes=0), "image_id=3, split=train, file_name=3.jpg"),
        (
            "photograph-readable",
            set_photograph(2, bytes=0, digest="", error="bad CRC"),
            "image_id=3, split=train, file_name=3.jpg, error=bad CRC",
        ),
    ],
)
def test_a_broken_warning_names_the_photograph_and_passes(rule: str, plant: Callable[[Data], None], named: str) -> None:
    data = Data()
    plant(data)
    report = data.check()
    assert report.passed
    assert broken(report) == {rule: (named,)}


def test_a_few_photographs_in_two_splits_may_be_tolerated() -> None:
    data = Data()
    set_photograph(4, digest=digest(2))(data)
    set_photograph(7, digest=digest(3))(data)
    found = (
        "image_id=5, split=val, file_name=5.jpg, twin=2",
        "image_id=8, split=val, file_name=8.jpg, twin=3",
    )
    tolerated = data.check(Limits(max_leaked_images=2))
    assert tolerated.passed
    assert broken(tolerated) == {"photograph-in-one-split": found}
    assert broken(data.check(Limits(max_leaked_images=1))) == {"no-photograph-in-two-splits": found}


@pytest.mark.parametrize(("limit", "rules"), [(0.5, set()), (0.4, {"few-photographs-unreadable"})])
def test_too_many_unreadable_photographs_of_a_split_are_critical(limit: float, rules: set[str]) -> None:
    data = Data()
    for row in (4, 6):
        set_photograph(row, bytes=0, digest="", error="bad CRC")(data)
    report = data.check(Limits(max_bad_fraction=limit))
    assert {rule.rule for rule in report.violations} == rules
    assert set(broken(report)) == {"photograph-readable", *rules}
    assert all(rule.offenders == ("split=val",) for rule in report.violations)


@pytest.mark.parametrize(
    ("rule", "values"),
    [
        ("photograph-not-empty", {"bytes": 0, "digest": digest(0)}),
        ("photograph-readable", {"bytes": 0, "digest": "", "error": "bad CRC"}),
    ],
)
def test_photographs_without_content_are_no_copies_of_each_other(rule: str, values: dict[str, Any]) -> None:
    data = Data()
    for row in (2, 3, 4):
        set_photograph(row, **values)(data)
    assert set(broken(data.check(Limits(max_bad_fraction=0.5)))) == {rule}


def test_photographs_without_a_digest_are_no_copies_of_each_other() -> None:
    data = Data()
    for row in (2, 3, 4):
        set_photograph(row, digest="")(data)
    assert set(broken(data.check())) == {"digest-given"}


def test_an_image_without_a_file_is_left_to_the_captions_contract() -> None:
    data = Data()
    lose_file_of_image(data)
    lose_photograph(data)
    assert broken(data.check()) == {}


def test_empty_tables_are_checked_not_raised() -> None:
    assert broken(Data(good_photographs()[:0], good_images()[:0]).check()) == {}
    none = Data(photographs=good_photographs()[:0], images=good_images()[:1])
    assert broken(none.check()) == {"photograph-looked-for": ("image_id=1, split=train, file_name=1.jpg",)}


def test_a_missing_column_is_reported_not_raised() -> None:
    report = Data(photographs=good_photographs().drop(columns="digest")).check()
    assert broken(report) == {"column-present": ("table=photographs, column=digest",)}
