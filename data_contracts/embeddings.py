"""The contract of the embedding store: every image accounted for, every vector usable, the right encoder."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from data_contracts.limits import Limits
from data_contracts.report import ContractReport
from data_contracts.runner import check_columns, great_expectations, validate
from data_contracts.schema import EMBEDDING_INDEX, IMAGES, QUARANTINE

if TYPE_CHECKING:
    from great_expectations import ExpectationSuite

Shards = Iterable[tuple[int, np.ndarray]]
"""Each shard's number and its vectors, (rows, dimension), floating; one in memory at a time."""


def check(
    index: pd.DataFrame,
    quarantine: pd.DataFrame,
    images: pd.DataFrame,
    vectors: Shards,
    *,
    dimension: int,
    fingerprint: str,
    expected_fingerprint: str,
    limits: Limits,
) -> ContractReport:
    """Judges tables of `schema.EMBEDDING_INDEX` and `QUARANTINE`, and the vectors, against `IMAGES`.

    `dimension` and `expected_fingerprint` are the encoder's, `fingerprint` is the one that the store carries.
    """
    tables = {"index": (index, EMBEDDING_INDEX), "quarantine": (quarantine, QUARANTINE)}
    columns = check_columns("embeddings", {**tables, "images": (images, IMAGES)})
    if not columns.passed:
        return columns
    found, embedded = vector_facts(index, vectors, dimension), image_facts(index, quarantine, images)
    repeated = found["repeats_another"].mean() if len(found) else 0.0
    names = ["fingerprint", "expected_fingerprint", "repeated_share"]
    store = pd.DataFrame([(fingerprint, expected_fingerprint, repeated)], columns=names)
    reports = [
        validate("embeddings", found, vector_suite(), ids=("image_id", "shard", "row")),
        validate("images", embedded, image_suite(), ids=("image_id", "archive", "file_name", "reason")),
        validate("splits", split_facts(quarantine, images), split_suite(limits), ids=("split",)),
        validate("store", store, store_suite(limits), ids=("fingerprint",)),
    ]
    return ContractReport.join("embeddings", [columns, *reports])


def vector_facts(index: pd.DataFrame, vectors: Shards, dimension: int) -> pd.DataFrame:
    """One row an index entry: its place, `own_row` (a vector is there and no earlier entry's), `dimension`
    (null without a vector), `expected_dimension`, `finite`, `constant` and `repeats_another`.
    """
    shards = [_shard_facts(shard, np.asarray(rows)) for shard, rows in vectors]
    empty = _shard_facts(0, np.empty((0, dimension), np.float32))
    stored = pd.concat(shards, ignore_index=True) if shards else empty
    stored["repeats_another"] = stored["digest"].duplicated()
    facts = index.merge(stored.drop(columns="digest"), how="left", on=["shard", "row"])
    return facts.assign(
        own_row=facts["dimension"].notna() & ~facts.duplicated(["shard", "row"]),
        dimension=facts["dimension"].astype("Int64"),
        expected_dimension=dimension,
        finite=facts["finite"].ne(False),
        constant=facts["constant"].eq(True),
        repeats_another=facts["repeats_another"].eq(True),
    )


def _shard_facts(shard: int, rows: np.ndarray) -> pd.DataFrame:
    finite = np.isfinite(rows).all(axis=1)
    return pd.DataFrame({
        "shard": np.full(len(rows), shard, np.int64),
        "row": np.arange(len(rows)),
        "dimension": rows.shape[1],
        "finite": finite,
        "constant": finite & (rows == rows[:, :1]).all(axis=1),
        "digest": np.array([hash(row.tobytes()) for row in rows], np.int64),
    })  # fmt: skip


def image_facts(index: pd.DataFrame, quarantine: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """One row an image of any table: its ids, `reason` if `quarantined`, whether it is `listed`, its
    `outcomes` in index and quarantine, `outcomes_due` (the same; null for an image without a file).
    """
    listed = images.drop_duplicates("image_id")[["image_id", "archive", "file_name"]]
    reasons = quarantine.drop_duplicates("image_id")[["image_id", "reason"]]
    outcomes = pd.concat([index["image_id"], quarantine["image_id"]])
    ids = pd.concat([listed["image_id"], outcomes]).drop_duplicates()
    facts: pd.DataFrame = ids.to_frame().merge(listed, how="left").merge(reasons, how="left")
    is_listed = facts["image_id"].isin(listed["image_id"])
    counts = facts["image_id"].map(outcomes.value_counts()).fillna(0)
    return facts.assign(
        listed=is_listed,
        quarantined=facts["reason"].notna(),
        outcomes=counts,
        outcomes_due=counts.where(is_listed & (facts["file_name"] != "")),
    )


def split_facts(quarantine: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """One row a split: `split` and the `quarantined_share` of its images."""
    quarantined = images["image_id"].isin(quarantine["image_id"])
    return quarantined.groupby(images["split"]).mean().rename("quarantined_share").reset_index()


def vector_suite() -> "ExpectationSuite":
    """The rules about single vectors."""
    gx = great_expectations()
    gxe = gx.expectations
    again = "Delete the embeddings and extract them again"
    rules = [
        gxe.ExpectColumnValuesToBeInSet(
            column="own_row",
            value_set=[True],
            meta={
                "rule": "vector-stored",
                "expected": "a stored vector of its own for every entry of the index",
                "remedy": f"{again}: the index does not belong to these shards.",
            },
        ),
        gxe.ExpectColumnPairValuesToBeEqual(
            column_A="dimension",
            column_B="expected_dimension",
            ignore_row_if="either_value_is_missing",
            meta={
                "rule": "vector-dimension",
                "expected": "as many values as the encoder produces",
                "remedy": f"{again}: these shards come from another encoder.",
            },
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="finite",
            value_set=[True],
            meta={
                "rule": "vector-finite",
                "expected": "finite values only",
                "remedy": f"{again}; if they fail once more, look at the encoder's precision.",
            },
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="constant",
            value_set=[False],
            meta={
                "rule": "vector-not-constant",
                "expected": "values that differ",
                "remedy": f"{again}: the encoder ran without its weights, or the shard was never written.",
            },
        ),
    ]
    return gx.ExpectationSuite("embeddings", expectations=rules)


def image_suite() -> "ExpectationSuite":
    """The rules about single images."""
    gx = great_expectations()
    gxe = gx.expectations
    again = "Delete the embeddings and extract them again"
    rules = [
        gxe.ExpectColumnValuesToBeBetween(
            column="outcomes_due",
            min_value=1,
            meta={
                "rule": "image-accounted-for",
                "expected": "every image that has a file embedded or quarantined",
                "remedy": "Run the extraction again; it resumes where it stopped.",
            },
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="outcomes",
            max_value=1,
            meta={
                "rule": "image-accounted-for-once",
                "expected": "no image embedded twice, or embedded and quarantined",
                "remedy": f"{again}.",
            },
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="listed",
            value_set=[True],
            meta={
                "rule": "embedding-of-listed-image",
                "expected": "images of this caption table only",
                "remedy": f"{again}: these belong to another data set.",
            },
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="quarantined",
            value_set=[False],
            severity="warning",
            meta={
                "rule": "image-readable",
                "expected": "every image readable",
                "remedy": "Replace these files in their archive; until then the run goes on without them.",
            },
        ),
    ]
    return gx.ExpectationSuite("images", expectations=rules)


def split_suite(limits: Limits) -> "ExpectationSuite":
    """The rule about whole splits."""
    gx = great_expectations()
    rules = [
        gx.expectations.ExpectColumnValuesToBeBetween(
            column="quarantined_share",
            max_value=limits.max_bad_fraction,
            meta={
                "rule": "few-images-quarantined",
                "expected": f"at most {limits.max_bad_fraction:g} of a split's images quarantined",
                "remedy": "Is the archive damaged? Fetch it again, or raise limits.max_bad_fraction.",
            },
        ),
    ]
    return gx.ExpectationSuite("splits", expectations=rules)


def store_suite(limits: Limits) -> "ExpectationSuite":
    """The rules about the store as a whole."""
    gx = great_expectations()
    gxe = gx.expectations
    rules = [
        gxe.ExpectColumnPairValuesToBeEqual(
            column_A="fingerprint",
            column_B="expected_fingerprint",
            meta={
                "rule": "encoder-fingerprint",
                "expected": "embeddings made by the encoder of this profile",
                "remedy": "Extract them again with this encoder, or name the other one in the profile.",
            },
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="repeated_share",
            max_value=limits.max_repeated_embedding_share,
            severity="warning",
            meta={
                "rule": "few-vectors-repeated",
                "expected": f"at most {limits.max_repeated_embedding_share:g} of the vectors repeat another",
                "remedy": "Look for photographs that are in the data set more than once.",
            },
        ),
    ]
    return gx.ExpectationSuite("store", expectations=rules)
