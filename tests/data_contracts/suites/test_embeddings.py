from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest

from data_contracts.limits import Limits
from data_contracts.report import ContractReport
from data_contracts.schema import EMBEDDING_INDEX, IMAGES, QUARANTINE
from data_contracts.suites import embeddings as contract


def good_images() -> pd.DataFrame:
    names = [f"{i}.jpg" for i in range(1, 7)]
    split = ["train"] * 4 + ["val"] * 2
    columns = {
        "image_id": range(1, 7),
        "split": split,
        "archive": "a.zip",
        "file_name": names,
        "name": names,
        "nearest": "",
    }
    return pd.DataFrame(columns).astype(IMAGES)


def good_index() -> pd.DataFrame:
    digests = [f"digest {i}" for i in range(1, 7)]
    columns = {"image_id": range(1, 7), "digest": digests, "shard": [0] * 4 + [1] * 2, "row": [0, 1, 2, 3, 0, 1]}
    return pd.DataFrame(columns).astype(EMBEDDING_INDEX)


def quarantined(*image_ids: int) -> pd.DataFrame:
    rows = [(i, "a.zip", f"{i}.jpg", f"digest {i}", "truncated JPEG", "Replace it.") for i in image_ids]
    return pd.DataFrame(rows, columns=list(QUARANTINE)).astype(QUARANTINE)


def good_vectors() -> list[np.ndarray]:
    values = np.random.default_rng(0).standard_normal((6, 8)).astype(np.float32)
    return [values[:4], values[4:]]


@dataclass
class Store:
    index: pd.DataFrame = field(default_factory=good_index)
    quarantine: pd.DataFrame = field(default_factory=quarantined)
    images: pd.DataFrame = field(default_factory=good_images)
    vectors: list[np.ndarray] = field(default_factory=good_vectors)
    fingerprint: str = "inception"

    def check(self, limits: Limits | None = None) -> ContractReport:
        return contract.check(
            self.index,
            self.quarantine,
            self.images,
            enumerate(self.vectors),
            dimension=8,
            fingerprint=self.fingerprint,
            expected_fingerprint="inception",
            limits=limits or Limits(max_bad_fraction=0.3),
        )


def broken(report: ContractReport) -> dict[str, tuple[str, ...]]:
    return {rule.rule: rule.offenders for rule in report.rules if not rule.passed}


def lose_image(store: Store) -> None:
    store.index = store.index[store.index["image_id"] != 3]


def embed_twice(store: Store) -> None:
    store.vectors[1] = np.concatenate([store.vectors[1], -store.vectors[1][:1]])
    store.index.loc[6] = [3, "digest 3", 1, 2]


def embed_foreign(store: Store) -> None:
    embed_twice(store)
    store.index.loc[6, ["image_id", "digest"]] = [99, "digest 99"]


def cut_shard(store: Store) -> None:
    store.vectors[1] = store.vectors[1][:1]


def spoil_value(store: Store) -> None:
    store.vectors[0][2, 5] = np.nan


def overflow_vector(store: Store) -> None:
    store.vectors[0][2] = np.inf


def blank_vector(store: Store) -> None:
    store.vectors[0][2] = 0


def widen_shard(store: Store) -> None:
    store.vectors[1] = np.hstack([store.vectors[1], store.vectors[1]])


def change_encoder(store: Store) -> None:
    store.fingerprint = "efficientnet"


def test_a_good_store_passes() -> None:
    report = Store().check()
    assert report.passed
    assert broken(report) == {}
    assert report.rows == 6


@pytest.mark.parametrize(
    ("rule", "plant", "named"),
    [
        ("image-accounted-for", lose_image, ("image_id=3, archive=a.zip, file_name=3.jpg",)),
        ("image-accounted-for-once", embed_twice, ("image_id=3, archive=a.zip, file_name=3.jpg",)),
        ("embedding-of-listed-image", embed_foreign, ("image_id=99",)),
        ("vector-stored", cut_shard, ("image_id=6, shard=1, row=1",)),
        ("vector-finite", spoil_value, ("image_id=3, shard=0, row=2",)),
        ("vector-finite", overflow_vector, ("image_id=3, shard=0, row=2",)),
        ("vector-not-constant", blank_vector, ("image_id=3, shard=0, row=2",)),
        ("vector-dimension", widen_shard, ("image_id=5, shard=1, row=0", "image_id=6, shard=1, row=1")),
        ("encoder-fingerprint", change_encoder, ("fingerprint=efficientnet",)),
    ],
)
def test_a_broken_critical_rule_names_the_row(
    rule: str, plant: Callable[[Store], None], named: tuple[str, ...]
) -> None:
    store = Store()
    plant(store)
    report = store.check()
    assert not report.passed
    assert broken(report) == {rule: named}


def test_an_image_both_embedded_and_quarantined_is_critical() -> None:
    report = Store(quarantine=quarantined(3)).check()
    assert [rule.rule for rule in report.violations] == ["image-accounted-for-once"]
    assert "image_id=3" in report.violations[0].offenders[0]


def test_a_quarantined_image_is_a_warning_with_file_and_reason() -> None:
    store = Store(quarantine=quarantined(3))
    lose_image(store)
    report = store.check()
    assert report.passed
    expected = "image_id=3, archive=a.zip, file_name=3.jpg, reason=truncated JPEG"
    assert broken(report) == {"image-readable": (expected,)}


def test_too_many_quarantined_images_of_a_split_are_critical() -> None:
    store = Store(quarantine=quarantined(3))
    lose_image(store)
    report = store.check(Limits(max_bad_fraction=0.2))
    assert [(rule.rule, rule.offenders) for rule in report.violations] == [("few-images-quarantined", ("split=train",))]
    assert set(broken(report)) == {"few-images-quarantined", "image-readable"}


def test_an_image_without_a_file_is_left_to_the_captions_contract() -> None:
    store = Store()
    lose_image(store)
    store.images.loc[2, "file_name"] = ""
    assert broken(store.check()) == {}


@pytest.mark.parametrize("factor", [20, 0.05])
def test_a_vector_of_unusual_length_is_a_warning(factor: float) -> None:
    store = Store()
    store.vectors[0][2] *= factor
    report = store.check()
    assert report.passed
    assert broken(report) == {"vector-length-usual": ("image_id=3, shard=0, row=2",)}
    assert broken(store.check(Limits(max_norm_ratio=100))) == {}


def test_repeated_vectors_are_a_warning() -> None:
    store = Store()
    store.vectors[1][0] = store.vectors[0][0]
    report = store.check()
    assert [(rule.rule, rule.passed) for rule in report.warnings] == [("few-vectors-repeated", False)]
    assert "0.167" in report.warnings[0].observed


def test_a_vector_that_images_of_different_content_share_is_critical() -> None:
    store = Store()
    store.index.loc[3, "row"] = 0
    assert broken(store.check(Limits(max_repeated_embedding_share=1))) == {
        "vector-stored": ("image_id=4, shard=0, row=0",)
    }


def test_images_of_the_same_content_share_a_vector() -> None:
    store = Store()
    store.index.loc[3, ["digest", "row"]] = ["digest 1", 0]
    assert broken(store.check()) == {"few-vectors-repeated": ("fingerprint=inception",)}


def test_an_empty_store_is_checked_not_raised() -> None:
    report = Store(index=good_index()[:0], images=good_images()[:1], vectors=[]).check()
    assert broken(report) == {"image-accounted-for": ("image_id=1, archive=a.zip, file_name=1.jpg",)}


def test_a_wrong_dtype_is_reported_not_raised() -> None:
    report = Store(index=good_index().astype({"shard": "float64"})).check()
    assert broken(report) == {"column-dtype": ("table=index, column=shard",)}
