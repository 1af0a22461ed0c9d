"""The contract of the predictions: one row per image, and captions that are fit to be shown.

It validates the table of a scoring run (`schema.PREDICTIONS`) or of an evaluation (with the columns `REQUIRED`).
"""

import re
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from data_contracts.limits import Limits
from data_contracts.report import ContractReport
from data_contracts.rules import Suite, critical, in_range, in_set, suite, warning
from data_contracts.runner import check_columns, contract, validate
from data_contracts.schema import FUNCTION_WORDS, PREDICTIONS, SPECIALS

REQUIRED = ("image_id", "caption", "logprob", "status", "error")


CHINESE_JAPANESE = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
SOUTH_EAST_ASIAN = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
"""Characters of scripts that put no space between words."""


@contract
def check(
    predictions: pd.DataFrame, expected_ids: Iterable[int] | Iterable[str], limits: Limits
) -> Iterator[ContractReport]:
    """Validates predictions of the images `expected_ids`, whose type is that of the column `image_id`.

    An id that is expected several times (copies of one photograph) must have as many rows.
    """
    schema = {name: dtype for name, dtype in PREDICTIONS.items() if name in REQUIRED or name in predictions}
    if "image_id" in predictions and pd.api.types.is_integer_dtype(predictions["image_id"]):
        schema["image_id"] = "int64"
    yield check_columns("predictions", {"predictions": (predictions, schema)}, nullable=("logprob",))
    names = [name for name in ("image_id", "uri") if name in predictions]
    yield validate(row_facts(predictions), row_suite(limits), ids=names)
    yield validate(image_facts(predictions, expected_ids), image_suite(), ids=("image_id",))
    alike = caption_facts(predictions, limits.min_captions_together)
    yield validate(alike, caption_suite(limits), ids=("most_frequent", "most_frequent_end"))


def row_facts(predictions: pd.DataFrame) -> pd.DataFrame:
    """The rows with `caption_characters` (null unless ok), `error_characters` (null unless quarantined),
    `words` (of a caption with characters), `special` (a special word is in the caption) and `logprob_bad` (ok, yet
    positive or not finite).
    """
    ok, quarantined = predictions["status"] == "ok", predictions["status"] == "quarantined"
    characters = predictions[["caption", "error"]].apply(lambda text: text.str.strip().str.len())
    pattern = "|".join(map(re.escape, SPECIALS))
    valid = np.isfinite(predictions["logprob"]) & (predictions["logprob"] <= 0)
    return predictions.assign(
        caption_characters=characters["caption"].where(ok),
        words=_words(predictions["caption"]).where(ok & (characters["caption"] > 0)),
        error_characters=characters["error"].where(quarantined),
        special=predictions["caption"].str.contains(pattern),
        logprob_bad=ok & ~valid,
    )


def _words(captions: pd.Series) -> pd.Series:
    """How many words captions have; of scripts without spaces an estimate, two or four characters per word."""
    others = captions.str.replace(rf"[{CHINESE_JAPANESE}{SOUTH_EAST_ASIAN}]+", " ", regex=True)
    short, long = captions.str.count(f"[{CHINESE_JAPANESE}]"), captions.str.count(f"[{SOUTH_EAST_ASIAN}]")
    return others.str.count(r"\S+") + (short / 2 + long / 4).round()


def image_facts(predictions: pd.DataFrame, expected_ids: Iterable[int] | Iterable[str]) -> pd.DataFrame:
    """One row an image: `image_id`, whether it is `expected`, how many rows are `lacking` or `surplus`."""
    dtype = predictions["image_id"].dtype
    due = pd.Series(list(expected_ids), dtype=dtype).value_counts(sort=False)
    counts = pd.DataFrame({"due": due, "found": predictions["image_id"].value_counts(sort=False)}).fillna(0)
    more = counts["found"] - counts["due"]
    expected = counts["due"] > 0
    facts = {"expected": expected, "lacking": (-more).clip(0), "surplus": more.where(expected, 0).clip(0)}
    return pd.DataFrame(facts).rename_axis("image_id").reset_index()


def caption_facts(predictions: pd.DataFrame, min_count: int) -> pd.DataFrame:
    """One row: the `most_frequent` caption and its `share`, the `distinct_share` of the captions, the `dangling_share`
    that ends in a function word and the `most_frequent_end` of those; null among fewer than `min_count` captions.
    """
    captions = predictions.loc[predictions["status"] == "ok", "caption"]
    counts = captions.value_counts()
    if not len(counts) or len(captions) < min_count:
        nothing = {"share": np.nan, "distinct_share": np.nan, "dangling_share": np.nan}
        return pd.DataFrame([{"most_frequent": "", "most_frequent_end": "", **nothing}])
    ends = captions.str.rsplit(n=1).str[-1]
    dangling = ends[ends.isin(FUNCTION_WORDS)].value_counts()
    return pd.DataFrame([{
        "most_frequent": counts.index[0],
        "most_frequent_end": dangling.index[0] if len(dangling) else "",
        "share": counts.iloc[0] / len(captions),
        "distinct_share": len(counts) / len(captions),
        "dangling_share": dangling.sum() / len(captions),
    }])  # fmt: skip


def row_suite(limits: Limits) -> Suite:
    """The rules about single rows."""
    low, high = limits.min_caption_words, limits.max_caption_words
    model = "Do not use or promote this model: its decoding is at fault."
    scoring = "The program that wrote this table is at fault: report these rows with its log."
    return suite("predictions", [
        critical("status-known", in_set("status", "ok", "quarantined"), "the status ok or quarantined", remedy=scoring),
        critical("caption-not-empty", in_range("caption_characters", low=1), "a caption for every image that is ok",
                 remedy=model),
        critical("no-special-words", in_set("special", False), f"no {', '.join(SPECIALS)} in captions", remedy=model),
        critical("logprob-valid", in_set("logprob_bad", False),
                 "a finite log probability of at most 0 for every caption", remedy=model),
        warning("caption-length", in_range("words", low, high), f"{low} to {high} words",
                remedy="Look at these captions with their images: shorter or longer ones say little."),
        critical("error-given", in_range("error_characters", low=1), "a reason for every quarantined image",
                 remedy=scoring),
    ])  # fmt: skip


def image_suite() -> Suite:
    """The rules about the images that the rows are of."""
    return suite("images", [
        critical("image-predicted", in_range("lacking", high=0), "a row for every image given",
                 remedy="Score these images again; an image that cannot be read gets a quarantined row."),
        critical("image-predicted-once", in_range("surplus", high=0), "at most one row each time an image was given",
                 remedy="Delete the output and score again: parts of two runs may be in it."),
        critical("image-given", in_set("expected", True), "rows of the given images only",
                 remedy="Delete the output and score again: it holds another run's images."),
    ])  # fmt: skip


def caption_suite(limits: Limits) -> Suite:
    """The rules about all captions together."""
    share = limits.max_repeated_caption_share
    return suite("captions", [
        warning("captions-differ", in_range("share", high=share), f"at most {share:g} of the captions alike",
                remedy="Unless the images are alike, the decoder ignores them: train on or roll back."),
        warning("captions-diverse", in_range("distinct_share", low=limits.min_distinct_captions),
                f"at least {limits.min_distinct_captions:g} of the captions different",
                remedy="Unless the images are alike, the decoder knows few phrases: train on or roll back."),
        warning("captions-end-well", in_range("dangling_share", high=limits.max_dangling_share),
                f"at most {limits.max_dangling_share:g} of the captions ending in a word such as `a` or `with`",
                remedy="Raise decoder.max_length if captions are cut; else mix more cross-entropy into the training."),
    ])  # fmt: skip
