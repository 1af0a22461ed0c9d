from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from data_contracts.limits import Limits
from data_contracts.report import ContractReport
from data_contracts.schema import CAPTIONS, IMAGES
from data_contracts.suites import captions as contract

Tables = tuple[pd.DataFrame, pd.DataFrame]
LIMITS = Limits(max_bad_fraction=0.3, max_caption_words=5, max_captions_per_image=3)


def good_tables() -> Tables:
    """Images 1 to 4 to train on, 5 and 6 to validate on; two captions each."""
    split = ["train"] * 4 + ["val"] * 2
    names = [f"{i}.jpg" for i in range(1, 7)]
    images = pd.DataFrame(
        {"image_id": range(1, 7), "split": split, "archive": "a.zip", "file_name": names, "name": names, "nearest": ""}
    )
    captions = pd.DataFrame({"caption_id": range(100, 112), "image_id": [*range(1, 7)] * 2, "split": split * 2})
    captions = captions.assign(caption=["A cat sits."] * 6 + ["The dog, too."] * 6)
    captions = captions.assign(tokens=["a cat sits"] * 6 + ["the dog too"] * 6)
    return captions.astype(CAPTIONS), images.astype(IMAGES)


def check(tables: Tables, limits: Limits = LIMITS) -> ContractReport:
    return contract.check(*tables, limits, train_split="train", validation_split="val")


def broken(report: ContractReport) -> dict[str, tuple[str, ...]]:
    return {rule.rule: rule.offenders for rule in report.rules if not rule.passed}


def set_caption(row: int, **values: Any) -> Callable[[Tables], Tables]:
    def change(tables: Tables) -> Tables:
        captions, images = tables
        for column, value in values.items():
            captions.loc[row, column] = value
        return captions, images

    return change


def set_image(row: int, column: str, value: Any) -> Callable[[Tables], Tables]:
    def change(tables: Tables) -> Tables:
        captions, images = tables
        images.loc[row, column] = value
        return captions, images

    return change


def list_again(split: str) -> Callable[[Tables], Tables]:
    def change(tables: Tables) -> Tables:
        captions, images = tables
        again = images[images["image_id"] == 5].assign(split=split)
        return captions, pd.concat([images, again], ignore_index=True)

    return change


def keep_captions(keep: Callable[[pd.DataFrame], "pd.Series[bool]"]) -> Callable[[Tables], Tables]:
    return lambda tables: (tables[0][keep(tables[0])], tables[1])


def caption_often(tables: Tables) -> Tables:
    captions, images = tables
    more = captions[captions["image_id"] == 3].assign(caption_id=[900, 901], tokens=["a red cat", "the red dog"])
    return pd.concat([captions, more], ignore_index=True), images


def test_good_tables_pass() -> None:
    report = check(good_tables())
    assert report.passed
    assert broken(report) == {}
    assert report.rows == 12


@pytest.mark.parametrize(
    ("rule", "plant", "named"),
    [
        ("caption-not-empty", set_caption(7, caption=" \t", tokens=""), ["caption_id=107, image_id=2"]),
        ("caption-has-words", set_caption(7, caption="...", tokens=""), ["caption_id=107, image_id=2, caption=..."]),
        ("caption-id-unique", set_caption(7, caption_id=103), ["caption_id=103, image_id=4", "image_id=2"]),
        ("caption-of-listed-image", set_caption(7, image_id=77), ["caption_id=107, image_id=77"]),
        ("image-in-one-split", list_again("train"), ["image_id=5, split=val", "image_id=5, split=train"]),
        ("image-in-one-split", set_caption(7, split="val"), ["image_id=2, split=train, name=2.jpg"]),
        ("image-listed-once", list_again("val"), ["image_id=5", "image_id=5"]),
        ("image-captioned", keep_captions(lambda c: c["image_id"] != 6), ["image_id=6"]),
    ],
)  # fmt: skip
def test_a_broken_critical_rule_names_the_row(rule: str, plant: Callable[[Tables], Tables], named: list[str]) -> None:
    report = check(plant(good_tables()), LIMITS.model_copy(update={"min_captions_per_image": 1, "min_letter_share": 0}))
    assert not report.passed
    offenders = broken(report).pop(rule)
    assert len(offenders) == len(named)
    assert all(name in offender for name, offender in zip(named, offenders, strict=True))
    assert set(broken(report)) == {rule}


@pytest.mark.parametrize(
    ("rule", "plant", "named"),
    [
        ("caption-length", set_caption(7, tokens="a cat sits on a mat"), "caption_id=107, image_id=2"),
        ("caption-in-letters", set_caption(7, caption="cat_0042.jpg (1)"), "image_id=2, caption=cat_0042.jpg (1)"),
        ("caption-no-placeholder", set_caption(7, caption="NaN"), "caption=NaN"),
        ("caption-no-placeholder", set_caption(7, caption=" Null."), "image_id=2"),
        ("caption-no-markup", set_caption(7, caption="A cat &amp; a dog."), "image_id=2"),
        ("caption-no-markup", set_caption(7, caption="A <b>big</b> dog sits."), "image_id=2"),
        ("caption-no-markup", set_caption(7, caption="The dog, see https://a.example/"), "image_id=2"),
        ("caption-once", set_caption(7, caption="a CAT sits", tokens="a cat sits"), "image_id=2, caption=a CAT sits"),
        ("captions-per-image", keep_captions(lambda c: c["caption_id"] != 107), "image_id=2"),
        ("captions-per-image", caption_often, "image_id=3"),
        ("image-in-archive", set_image(2, "file_name", ""), "image_id=3, split=train"),
    ],
)
def test_a_broken_warning_names_the_row_and_passes(rule: str, plant: Callable[[Tables], Tables], named: str) -> None:
    report = check(plant(good_tables()))
    assert report.passed
    [warning] = report.warnings
    assert (warning.rule, warning.count) == (rule, 1)
    assert named in warning.offenders[0]


def test_letters_are_those_of_any_alphabet() -> None:
    captions, images = good_tables()
    foreign = [
        "Кошка на диване.",
        "Eine Katze, süß!",
        "猫が座っている。",
        "고양이가 앉아 있다",
        "القطة تجلس هنا",
        "Γάτα!",
    ]
    captions.loc[:5, "caption"] = foreign
    assert broken(check((captions, images))) == {}


def test_words_that_only_look_like_placeholders_or_markup_are_captions() -> None:
    captions, images = good_tables()
    captions.loc[:3, "caption"] = [
        "None of the dogs sit",
        "A man & a dog; a cat",
        "A nan with 3 < 5 dogs > 2",
        "Two men of R&D; resting",
    ]
    assert broken(check((captions, images))) == {}


def test_letters_may_have_marks() -> None:
    captions, images = good_tables()
    captions.loc[:3, "caption"] = ["एक बिल्ली बैठी है", "বিড়াল বসে আছে", "பூனை அமர்ந்திருக்கிறது", "قِطَّةٌ تَجْلِسُ"]
    assert broken(check((captions, images))) == {}


def test_too_many_missing_files_of_a_split_are_critical() -> None:
    report = check(set_image(4, "file_name", "")(good_tables()))
    assert broken(report) == {
        "image-in-archive": ("image_id=5, split=val, name=5.jpg",),
        "few-images-missing": ("split=val",),
    }
    assert [rule.rule for rule in report.violations] == ["few-images-missing"]


@pytest.mark.parametrize(("gone", "rows"), [("train", slice(0, 4)), ("val", slice(4, 6))])
def test_both_splits_need_images(gone: str, rows: slice) -> None:
    captions, images = good_tables()
    kept = images.drop(images.index[rows])
    report = check((captions[captions["split"] != gone], kept))
    assert broken(report) == {"split-has-images": (f"split={gone}",)}


def test_empty_tables_are_reported_not_raised() -> None:
    captions, images = good_tables()
    report = check((captions[:0], images[:0]))
    assert broken(report) == {"split-has-images": ("split=train", "split=val")}


@pytest.mark.parametrize(
    ("rule", "spoil", "observed"),
    [
        ("column-present", lambda captions: captions.drop(columns="tokens"), "1 of 11"),
        ("column-dtype", lambda captions: captions.astype({"tokens": object}), "object instead of str"),
        ("column-without-nulls", lambda captions: captions.assign(tokens=pd.Series(dtype="str")), "12"),
    ],
)  # fmt: skip
def test_columns_are_checked_before_their_content(
    rule: str, spoil: Callable[[pd.DataFrame], pd.DataFrame], observed: str
) -> None:
    captions, images = good_tables()
    report = check((spoil(captions), images))
    [violation] = report.violations
    assert violation.rule == rule
    assert violation.offenders == ("table=captions, column=tokens",)
    assert observed in violation.observed


@pytest.mark.parametrize(("words", "separated"), [("ꦲꦱꦸꦩ꧀ꦭꦪꦸꦲꦶꦁꦥꦼꦏꦫꦔꦤ꧀", False), ("ein haus am see", True), ("hund", True)])
def test_text_without_spaces_is_halted_with_what_to_do(words: str, separated: bool) -> None:
    captions, images = good_tables()
    report = check((captions.assign(caption=words, tokens=words), images))
    rules = {rule.rule: rule for rule in report.rules if not rule.passed and rule.severity == "critical"}
    assert ("words-separated" in rules) != separated
    if not separated:
        assert "separate the words by spaces" in rules["words-separated"].remedy
