"""The contract of the photographs, read but not decoded: every file there, none twice, none in two splits."""

from collections.abc import Iterator

import pandas as pd

from data_contracts.limits import Limits
from data_contracts.report import ContractReport
from data_contracts.rules import Suite, critical, in_range, in_set, suite, warning
from data_contracts.runner import check_columns, contract, validate
from data_contracts.schema import IMAGES, PHOTOGRAPHS


@contract
def check(photographs: pd.DataFrame, images: pd.DataFrame, limits: Limits) -> Iterator[ContractReport]:
    """Validates a table of `schema.PHOTOGRAPHS` against `schema.IMAGES`, which says the photographs' splits."""
    yield check_columns("images", {"photographs": (photographs, PHOTOGRAPHS), "images": (images, IMAGES)})
    facts = photograph_facts(photographs, images, limits.max_leaked_images)
    yield validate(facts, photograph_suite(limits), ids=("image_id", "split", "file_name", "error", "twin"))
    yield validate(split_facts(facts), split_suite(limits), ids=("split",))


def photograph_facts(photographs: pd.DataFrame, images: pd.DataFrame, tolerated: int) -> pd.DataFrame:
    """One row an image that has a file, or a photograph: `read` (null when the photograph was not looked for),
    `listed`, `readable`, `empty`, `digest_fits` (64 hex digits where readable), `again` in its split by content, the
    `twin` of which it is a copy, and `leaked` or, when no more images than `tolerated` are, `leaked_tolerated`.
    """
    there = images.loc[images["file_name"] != "", ["image_id", "split", "file_name"]]
    facts = there.merge(photographs.drop(columns="file_name"), how="outer", on="image_id", indicator="found")
    readable, digest_fits = facts["error"].eq(""), facts["digest"].str.fullmatch("[0-9a-f]{64}").eq(True)
    content = facts["digest"].where(readable & (facts["bytes"] > 0) & digest_fits)
    copies = facts.assign(content=content).dropna(subset=["content", "split"])
    first = copies.drop_duplicates("content").set_index("content")
    twin = content.map(first["image_id"]).astype("Int64")
    apart = content.notna() & facts["split"].notna() & facts["split"].ne(content.map(first["split"]))
    again = copies.duplicated(["content", "split"]).reindex(facts.index, fill_value=False)
    over = apart.sum() > tolerated
    return facts.assign(
        read=facts["found"] != "left_only",
        listed=facts["found"] != "right_only",
        readable=readable | (facts["found"] == "left_only"),
        empty=facts["bytes"].eq(0) & readable,
        digest_fits=digest_fits | ~readable,
        again=again,
        twin=twin.where(apart | again),
        leaked=apart & over,
        leaked_tolerated=apart & ~over,
    ).drop(columns="found")


def split_facts(facts: pd.DataFrame) -> pd.DataFrame:
    """One row a split: `split` and the `unreadable_share` of its photographs."""
    unreadable = (~facts["readable"]).groupby(facts["split"]).mean()
    return unreadable.rename("unreadable_share").reset_index()


def photograph_suite(limits: Limits) -> Suite:
    """The rules about single photographs."""
    again = "Run again: the list of photographs does not belong to this data set."
    return suite("photographs", [
        critical("photograph-looked-for", in_set("read", True), "every image that has a file looked for", remedy=again),
        critical("photograph-of-listed-image", in_set("listed", True), "photographs of listed images only",
                 remedy=again),
        critical("digest-given", in_set("digest_fits", True), "a SHA-256 of every photograph that was read",
                 remedy=again),
        critical("no-photograph-in-two-splits", in_set("leaked", False),
                 f"at most {limits.max_leaked_images} photographs whose very content is in two splits",
                 remedy="Take these photographs out of one of the splits, or raise limits.max_leaked_images."),
        warning("photograph-in-one-split", in_set("leaked_tolerated", False),
                "no photograph whose very content is in two splits",
                remedy="So few do not move a score; take them out of one of the splits when you can."),
        warning("photograph-once", in_set("again", False), "no photograph twice in a split",
                remedy="Give its captions to one of the two: they count as different photographs."),
        warning("photograph-readable", in_set("readable", True), "every photograph readable from its archive",
                remedy="Make these files readable and run again; this run goes on without them."),
        warning("photograph-not-empty", in_set("empty", False), "no empty file",
                remedy="Replace these files; until then the run goes on without them."),
    ])  # fmt: skip


def split_suite(limits: Limits) -> Suite:
    """The rule about whole splits."""
    share = limits.max_bad_fraction
    return suite("splits", [
        critical("few-photographs-unreadable", in_range("unreadable_share", high=share),
                 f"at most {share:g} of a split's photographs unreadable",
                 remedy="Is the archive damaged? Fetch it again, or raise limits.max_bad_fraction."),
    ])  # fmt: skip
