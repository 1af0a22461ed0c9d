"""The contract of the vocabulary: ids, words, size, and how much of the captions it knows."""

from collections import Counter
from collections.abc import Iterator
from itertools import chain

import numpy as np
import pandas as pd

from data_contracts.limits import Limits
from data_contracts.report import ContractReport
from data_contracts.rules import Suite, critical, in_range, in_set, rows, suite, unique, warning
from data_contracts.runner import check_columns, contract, validate
from data_contracts.schema import CAPTIONS, SPECIALS, VOCABULARY

CHUNK_SIZE = 1000
"""Captions divided into words at a time: a million small lists keep the garbage collector busy."""

COUNTED: dict[str, str] = {name: CAPTIONS[name] for name in ("split", "tokens")}
"""The columns of the captions that coverage is computed from."""


@contract
def check(
    vocabulary: pd.DataFrame, captions: pd.DataFrame, limits: Limits, *, train_split: str
) -> Iterator[ContractReport]:
    """Validates a table of `schema.VOCABULARY` and how well it covers a table of `schema.CAPTIONS`."""
    yield check_columns("vocabulary", {"vocabulary": (vocabulary, VOCABULARY), "captions": (captions, COUNTED)})
    yield validate(word_facts(vocabulary), word_suite(limits), ids=("id", "word"))
    coverage = coverage_facts(vocabulary, captions, train_split)
    yield validate(coverage, coverage_suite(limits), ids=("split", "most_frequent_unknown"))


def word_facts(vocabulary: pd.DataFrame) -> pd.DataFrame:
    """One row a word: its `id`, `id_fits` (in 0..n-1, only once), `characters`, `special_of_id` (false for
    another word at a special's id), `ordinary` (the word, unless special), `reserved` (special elsewhere).
    """
    ids, words = vocabulary["id"], vocabulary["word"]
    is_special = words.isin(SPECIALS)
    at_special_id = ids.between(0, len(SPECIALS) - 1)
    expected = ids.map(dict(enumerate(SPECIALS)))
    return vocabulary[["id", "word"]].assign(
        id_fits=ids.between(0, len(ids) - 1) & ~ids.duplicated(keep=False),
        characters=words.str.strip().str.len(),
        special_of_id=(words == expected) | ~at_special_id,
        ordinary=words.where(~is_special),
        reserved=is_special & ~at_special_id,
    )


def coverage_facts(vocabulary: pd.DataFrame, captions: pd.DataFrame, train_split: str) -> pd.DataFrame:
    """One row a split: `unknown_in_training` or `unknown_elsewhere` (share of its words that the vocabulary
    lacks; the other one is null), the `known_captions` (share without an unknown word), the `most_frequent_unknown`.
    """
    known = set(vocabulary["word"]) - set(SPECIALS)
    facts = []
    for split, tokens in captions.groupby("split", sort=False)["tokens"]:
        counts, whole = Counter[str](), 0
        texts = tokens.tolist()
        for start in range(0, len(texts), CHUNK_SIZE):
            captions_words = [text.split() for text in texts[start : start + CHUNK_SIZE]]
            counts.update(chain.from_iterable(captions_words))
            whole += sum(map(known.issuperset, captions_words))
        unknown = Counter({word: count for word, count in counts.items() if word not in known})
        rate = unknown.total() / max(1, counts.total())
        rates = (rate, np.nan) if split == train_split else (np.nan, rate)
        most_frequent = " ".join(word for word, _ in unknown.most_common(3))
        facts.append((split, *rates, whole / max(1, len(tokens)), most_frequent))
    names = ["split", "unknown_in_training", "unknown_elsewhere", "known_captions", "most_frequent_unknown"]
    return pd.DataFrame(facts, columns=names).astype(dict.fromkeys(names[1:4], "float64"))


def word_suite(limits: Limits) -> Suite:
    """The rules about the words and their ids."""
    low, high = len(SPECIALS) + 1, limits.max_vocabulary
    rebuild = "Build the vocabulary again; do not edit it."
    return suite("vocabulary", [
        critical("vocabulary-size", rows(low, high), f"{low} to {high:,} words, specials included",
                 remedy="Lower or raise vocabulary.min_count, or raise limits.max_vocabulary."),
        critical("ids-contiguous", in_set("id_fits", True), "the ids 0 to n-1, each once", remedy=rebuild),
        critical("specials-first", in_set("special_of_id", True),
                 f"{', '.join(SPECIALS)} at the ids 0 to {len(SPECIALS) - 1}", remedy=rebuild),
        critical("no-special-among-words", in_set("reserved", False), "no special among the ordinary words",
                 remedy="Look for this text in the captions and in the tokenizer, which should divide it."),
        critical("word-unique", unique("ordinary"), "each word once", remedy=rebuild),
        critical("word-not-empty", in_range("characters", low=1), "words of visible characters",
                 remedy="Look for captions that the tokenizer divides into empty words."),
    ])  # fmt: skip


def coverage_suite(limits: Limits) -> Suite:
    """The rules about the words that the vocabulary lacks."""
    rate = limits.max_unknown_rate
    expected = f"at most {rate:g} of the words unknown"
    return suite("coverage", [
        critical("training-words-known", in_range("unknown_in_training", high=rate), expected,
                 remedy="Use more captions, lower vocabulary.min_count, or raise limits.max_unknown_rate."),
        warning("other-words-known", in_range("unknown_elsewhere", high=rate), expected,
                remedy="Do these captions belong to the training captions' language and subject?"),
        warning("captions-known", in_range("known_captions", low=limits.min_known_captions),
                f"at least {limits.min_known_captions:g} of the captions without an unknown word",
                remedy="Lower vocabulary.min_count, or look at the most frequent unknown words: are they misspelt?"),
    ])  # fmt: skip
