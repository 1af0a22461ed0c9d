"""The contract of what the decoder is trained on: captions as ids, with their images' embeddings."""

from collections.abc import Iterator

import pandas as pd

from data_contracts.limits import Limits
from data_contracts.report import ContractReport
from data_contracts.rules import Suite, critical, in_range, suite, warning
from data_contracts.runner import check_columns, contract, validate
from data_contracts.schema import CAPTIONS, EMBEDDING_INDEX, SPECIALS, VOCABULARY


@contract
def check(
    captions: pd.DataFrame,
    vocabulary: pd.DataFrame,
    index: pd.DataFrame,
    limits: Limits,
    *,
    max_length: int,
    train_split: str,
    validation_split: str,
) -> Iterator[ContractReport]:
    """Validates tables of `schema.CAPTIONS`, `VOCABULARY` and `EMBEDDING_INDEX` together.

    `max_length`: words of a training caption, START and END among them.
    """
    tables = {
        "captions": (captions, CAPTIONS),
        "vocabulary": (vocabulary, VOCABULARY),
        "index": (index, EMBEDDING_INDEX),
    }
    yield check_columns("training set", tables)
    used = captions[captions["split"].isin([train_split, validation_split])]
    facts = caption_facts(used, vocabulary, index, max_length)
    yield validate(facts, caption_suite(), ids=("caption_id", "image_id", "caption"))
    yield validate(split_facts(facts, (train_split, validation_split)), split_suite(limits), ids=("split",))


def caption_facts(
    captions: pd.DataFrame, vocabulary: pd.DataFrame, index: pd.DataFrame, max_length: int
) -> pd.DataFrame:
    """One row a caption: its ids and text, `known_words`, whether it is `embedded` and `truncated`."""
    known = set(vocabulary["word"]) - set(SPECIALS)
    known_words, truncated = [], []
    for tokens in captions["tokens"].tolist():
        words = tokens.split()
        known_words.append(sum(map(known.__contains__, words)))
        truncated.append(len(words) > max_length - 2)
    return captions[["caption_id", "image_id", "split", "caption"]].assign(
        known_words=known_words,
        embedded=captions["image_id"].isin(index["image_id"]),
        truncated=truncated,
    )


def split_facts(facts: pd.DataFrame, needed: tuple[str, str]) -> pd.DataFrame:
    """One row a split: how many captions are `embedded`, the `lost_share` that is not, the `truncated_share`."""
    groups = facts.groupby("split")
    found = pd.DataFrame({
        "embedded": groups["embedded"].sum(),
        "lost_share": (~facts["embedded"]).groupby(facts["split"]).mean(),
        "truncated_share": groups["truncated"].mean(),
    })  # fmt: skip
    return found.reindex(list(needed)).rename_axis("split").reset_index().fillna({"embedded": 0})


def caption_suite() -> Suite:
    """The rule about single captions."""
    return suite("captions", [
        warning("caption-has-known-words", in_range("known_words", low=1), "a word that the vocabulary knows",
                remedy="Nothing can be learned from these captions; are they in another language?"),
    ])  # fmt: skip


def split_suite(limits: Limits) -> Suite:
    """The rules about whole splits."""
    lost, truncated = limits.max_bad_fraction, limits.max_truncated_share
    return suite("splits", [
        critical("captions-to-use", in_range("embedded", low=1),
                 "captions with an embedding to train and to validate on",
                 remedy="Look at the quarantine: which photographs could not be read, and why?"),
        critical("few-captions-lost", in_range("lost_share", high=lost),
                 f"at most {lost:g} of a split's captions without an embedding of their image",
                 remedy="Look at the quarantine, replace its files, or raise limits.max_bad_fraction."),
        warning("few-captions-truncated", in_range("truncated_share", high=truncated),
                f"at most {truncated:g} of a split's captions longer than decoder.max_length",
                remedy="Raise decoder.max_length, or shorten the captions: what is cut off is never learned."),
    ])  # fmt: skip
