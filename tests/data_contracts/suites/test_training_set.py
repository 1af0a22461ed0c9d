from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest

from data_contracts.limits import Limits
from data_contracts.report import ContractReport
from data_contracts.schema import CAPTIONS, EMBEDDING_INDEX, SPECIALS, VOCABULARY
from data_contracts.suites import training_set as contract

WORDS = (*SPECIALS, "a", "cat", "sits")
MAX_LENGTH = 7
"""START, five words, END."""


def good_captions() -> pd.DataFrame:
    """Images 1 to 20 to train on, 21 to 40 to validate on, 41 and 42 in a third split; a caption each."""
    ids = np.arange(1, 43)
    split = ["train"] * 20 + ["val"] * 20 + ["test"] * 2
    columns = {"caption_id": ids + 100, "image_id": ids, "split": split, "caption": "A cat sits."}
    return pd.DataFrame(columns).assign(tokens="a cat sits").astype(CAPTIONS)


def good_vocabulary() -> pd.DataFrame:
    return pd.DataFrame({"id": range(len(WORDS)), "word": WORDS, "count": 0}).astype(VOCABULARY)


def good_index() -> pd.DataFrame:
    ids = np.arange(1, 43)
    columns = {"image_id": ids, "digest": ids.astype(str), "shard": 0, "row": ids - 1}
    return pd.DataFrame(columns).astype(EMBEDDING_INDEX)


@dataclass
class Data:
    captions: pd.DataFrame = field(default_factory=good_captions)
    vocabulary: pd.DataFrame = field(default_factory=good_vocabulary)
    index: pd.DataFrame = field(default_factory=good_index)

    def check(self, limits: Limits | None = None) -> ContractReport:
        return contract.check(
            self.captions,
            self.vocabulary,
            self.index,
            limits or Limits(max_bad_fraction=0.1),
            max_length=MAX_LENGTH,
            train_split="train",
            validation_split="val",
        )


def broken(report: ContractReport) -> dict[str, tuple[str, ...]]:
    return {rule.rule: rule.offenders for rule in report.rules if not rule.passed}


def lose_embeddings(*image_ids: int) -> Callable[[Data], None]:
    def change(data: Data) -> None:
        data.index = data.index[~data.index["image_id"].isin(image_ids)]

    return change


def write(tokens: str, *rows: int) -> Callable[[Data], None]:
    def change(data: Data) -> None:
        data.captions.loc[list(rows), ["caption", "tokens"]] = [tokens.upper(), tokens]

    return change


def lose_captions(split: str) -> Callable[[Data], None]:
    def change(data: Data) -> None:
        data.captions = data.captions[data.captions["split"] != split]

    return change


def test_a_good_training_set_passes() -> None:
    report = Data().check()
    assert report.passed
    assert broken(report) == {}
    assert report.rows == 42


@pytest.mark.parametrize(
    ("rule", "plant", "severity", "named"),
    [
        ("caption-has-known-words", write("zwei", 3), "warning", "caption_id=104, image_id=4, caption=ZWEI"),
        ("caption-has-known-words", write("<unk>", 3), "warning", "caption_id=104, image_id=4, caption=<UNK>"),
        ("captions-to-use", lose_captions("train"), "critical", "split=train"),
        ("captions-to-use", lose_captions("val"), "critical", "split=val"),
        ("few-captions-lost", lose_embeddings(22, 25, 29), "critical", "split=val"),
        ("few-captions-truncated", write("a cat sits a cat sits", 0, 1, 2), "warning", "split=train"),
    ],
)  # fmt: skip
def test_a_broken_rule_names_the_row(rule: str, plant: Callable[[Data], None], severity: str, named: str) -> None:
    data = Data()
    plant(data)
    report = data.check()
    assert broken(report) == {rule: (named,)}
    assert report.passed is (severity == "warning")


def test_a_split_without_any_embedding_has_nothing_to_use() -> None:
    data = Data()
    lose_embeddings(*range(21, 41))(data)
    report = data.check(Limits(max_bad_fraction=1))
    assert broken(report) == {"captions-to-use": ("split=val",)}


@pytest.mark.parametrize(
    "plant",
    [
        lose_embeddings(22, 25),
        write("a cat sits a cat sits", 0, 1),
        write("a cat sits a cat", *range(40)),
        write("ein hund sits", *range(40)),
    ],
)
def test_what_the_limits_allow_passes(plant: Callable[[Data], None]) -> None:
    data = Data()
    plant(data)
    assert broken(data.check()) == {}


def test_a_share_of_lost_captions_equal_to_the_limit_passes() -> None:
    data = Data()
    lose_embeddings(22)(data)
    assert broken(data.check(Limits(max_bad_fraction=0.05))) == {}


def test_other_splits_are_not_checked() -> None:
    data = Data()
    write("zwei hunde", 40, 41)(data)
    lose_embeddings(41, 42)(data)
    assert broken(data.check()) == {}


def test_empty_tables_are_reported_not_raised() -> None:
    report = Data(good_captions()[:0], good_vocabulary()[:0], good_index()[:0]).check()
    assert broken(report) == {"captions-to-use": ("split=train", "split=val")}


def test_a_missing_column_is_reported_not_raised() -> None:
    report = Data(vocabulary=good_vocabulary().drop(columns="word")).check()
    assert broken(report) == {"column-present": ("table=vocabulary, column=word",)}
