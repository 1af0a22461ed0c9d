"""The contract of the embedding store: every image accounted for, every vector usable, the right encoder."""

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from data_contracts.limits import Limits
from data_contracts.report import ContractReport
from data_contracts.rules import Suite, critical, equal, in_range, in_set, suite, warning
from data_contracts.runner import check_columns, contract, validate
from data_contracts.schema import EMBEDDING_INDEX, IMAGES, QUARANTINE

AGAIN = "Delete the embeddings and extract them again"

Shards = Iterable[tuple[int, np.ndarray]]
"""Each shard's number and its vectors, (rows, dimension), floating; one in memory at a time."""


@contract
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
) -> Iterator[ContractReport]:
    """Validates tables of `schema.EMBEDDING_INDEX` and `QUARANTINE`, and the vectors, against `IMAGES`.

    `dimension` and `expected_fingerprint` are the encoder's, `fingerprint` is the one that the store carries.
    """
    tables = {"index": (index, EMBEDDING_INDEX), "quarantine": (quarantine, QUARANTINE)}
    yield check_columns("embeddings", {**tables, "images": (images, IMAGES)})
    found = vector_facts(index, vectors, dimension)
    yield validate(found, vector_suite(limits), ids=("image_id", "shard", "row"))
    embedded = image_facts(index, quarantine, images)
    yield validate(embedded, image_suite(), ids=("image_id", "archive", "file_name", "reason"))
    yield validate(split_facts(quarantine, images), split_suite(limits), ids=("split",))
    repeated = found["repeats_another"].mean() if len(found) else 0.0
    names = ["fingerprint", "expected_fingerprint", "repeated_share"]
    store = pd.DataFrame([(fingerprint, expected_fingerprint, repeated)], columns=names)
    yield validate(store, store_suite(limits), ids=("fingerprint",))


def vector_facts(index: pd.DataFrame, vectors: Shards, dimension: int) -> pd.DataFrame:
    """One row an index entry: its place, `own_row` (a vector is there and of no earlier entry's content), `dimension`
    (null without a vector), `expected_dimension`, `finite`, `constant`, `norm_ratio` (of its length to the median, or
    the other way round) and `repeats_another`.
    """
    shards = [_shard_facts(shard, np.asarray(rows)) for shard, rows in vectors]
    stored = pd.concat(shards or [_shard_facts(0, np.empty((0, dimension)))], ignore_index=True)
    facts = index.merge(stored, how="left", on=["shard", "row"])
    contents = facts.drop_duplicates(["shard", "row", "digest"]).duplicated(["shard", "row"])
    shared = facts["digest"].isin(facts.loc[contents[contents].index, "digest"])
    return facts.assign(
        own_row=facts["dimension"].notna() & ~shared,
        dimension=facts["dimension"].astype("Int64"),
        expected_dimension=dimension,
        finite=facts["finite"].ne(False),
        constant=facts["constant"].eq(True),
        norm_ratio=_ratio(facts["norm"] / facts["norm"].median()),
        repeats_another=facts["vector"].notna() & facts["vector"].duplicated(),
    )


def _shard_facts(shard: int, rows: np.ndarray) -> pd.DataFrame:
    finite = np.isfinite(rows).all(axis=1)
    return pd.DataFrame({
        "shard": np.full(len(rows), shard, np.int64),
        "row": np.arange(len(rows)),
        "dimension": rows.shape[1],
        "finite": finite,
        "norm": np.where(finite & rows.any(axis=1), np.linalg.norm(rows.astype(np.float32), axis=1), np.nan),
        "constant": finite & (rows == rows[:, :1]).all(axis=1),
        "vector": np.array([hash(row.tobytes()) for row in rows], np.int64),
    })  # fmt: skip


def _ratio(quotient: "pd.Series[float]") -> "pd.Series[float]":
    return quotient.where(quotient >= 1, 1 / quotient)


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


def vector_suite(limits: Limits) -> Suite:
    """The rules about single vectors."""
    return suite("embeddings", [
        critical("vector-stored", in_set("own_row", True), "a stored vector for every image, and no other image's",
                 remedy=f"{AGAIN}: the index does not belong to these shards."),
        critical("vector-dimension", equal("dimension", "expected_dimension", unless="either_value_is_missing"),
                 "as many values as the encoder produces", remedy=f"{AGAIN}: these shards come from another encoder."),
        critical("vector-finite", in_set("finite", True), "finite values only",
                 remedy=f"{AGAIN}; if they fail once more, look at the encoder's precision."),
        critical("vector-not-constant", in_set("constant", False), "values that differ",
                 remedy=f"{AGAIN}: the encoder ran without its weights, or the shard was never written."),
        warning("vector-length-usual", in_range("norm_ratio", high=limits.max_norm_ratio),
                f"a length within {limits.max_norm_ratio:g} times the median, up or down",
                remedy="Look at these photographs: are they blank, or no photographs at all?"),
    ])  # fmt: skip


def image_suite() -> Suite:
    """The rules about single images."""
    return suite("images", [
        critical("image-accounted-for", in_range("outcomes_due", low=1),
                 "every image that has a file embedded or quarantined",
                 remedy="Run the extraction again; it resumes where it stopped."),
        critical("image-accounted-for-once", in_range("outcomes", high=1),
                 "no image embedded twice, or embedded and quarantined", remedy=f"{AGAIN}."),
        critical("embedding-of-listed-image", in_set("listed", True), "images of this caption table only",
                 remedy=f"{AGAIN}: these belong to another data set."),
        warning("image-readable", in_set("quarantined", False), "every image readable",
                remedy="Replace these files in their archive; until then the run goes on without them."),
    ])  # fmt: skip


def split_suite(limits: Limits) -> Suite:
    """The rule about whole splits."""
    return suite("splits", [
        critical("few-images-quarantined", in_range("quarantined_share", high=limits.max_bad_fraction),
                 f"at most {limits.max_bad_fraction:g} of a split's images quarantined",
                 remedy="Is the archive damaged? Fetch it again, or raise limits.max_bad_fraction."),
    ])  # fmt: skip


def store_suite(limits: Limits) -> Suite:
    """The rules about the store as a whole."""
    share = limits.max_repeated_embedding_share
    return suite("store", [
        critical("encoder-fingerprint", equal("fingerprint", "expected_fingerprint"),
                 "embeddings made by the encoder of this profile",
                 remedy="Extract them again with this encoder, or name the other one in the profile."),
        warning("few-vectors-repeated", in_range("repeated_share", high=share),
                f"at most {share:g} of the vectors repeat another",
                remedy="Look for photographs that are in the data set more than once."),
    ])  # fmt: skip
