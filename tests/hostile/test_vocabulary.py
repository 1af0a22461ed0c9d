"""JSON that is called a vocabulary."""

import json
from pathlib import Path

import pytest

from components.errors import CaptioningError
from components.vocabulary.vocabulary import Vocabulary
from data_contracts.schema import SPECIALS
from tests.hostile.fuzzer import damaged
from tests.hostile.watch import try_all

WORDS, COUNTS = [*SPECIALS, "a", "rote", "küche"], [0, 0, 0, 0, 3, 2, 1]


def read(content: bytes, folder: Path) -> Vocabulary:
    """Reads the vocabulary and uses it."""
    path = folder / "vocabulary.json"
    path.write_bytes(content)
    vocabulary = Vocabulary.load(path)
    vocabulary.save(path)
    assert Vocabulary.load(path) == vocabulary
    assert vocabulary.encode(vocabulary.decode(range(4, len(vocabulary))), 100)
    return vocabulary


def attempt(key: str, folder: Path) -> None:
    samples = [json.dumps({"words": WORDS, "counts": COUNTS}, ensure_ascii=plain).encode() for plain in (True, False)]
    read(damaged(samples, int(key)), folder)


def test_damaged_vocabularies(inputs: range) -> None:
    assert try_all("tests.hostile.test_vocabulary:attempt", inputs) == {}


@pytest.mark.parametrize(
    "content",
    [
        {"words": [*WORDS[:6], 7], "counts": COUNTS},
        {"words": [*WORDS[:6], None], "counts": COUNTS},
        {"words": [*WORDS[:6], ["a"]], "counts": COUNTS},
        {"words": [*WORDS[:6], "a"], "counts": COUNTS},
        {"words": [*WORDS[:6], "\ud800"], "counts": COUNTS},
        {"words": WORDS, "counts": [*COUNTS[:6], "1"]},
        {"words": WORDS, "counts": [*COUNTS[:6], 1.5]},
        {"words": WORDS, "counts": [*COUNTS[:6], float("nan")]},
        {"words": WORDS, "counts": [*COUNTS[:6], True]},
        {"words": WORDS, "counts": [*COUNTS[:6], 10**30]},
        {"words": WORDS, "counts": [*COUNTS[:6], -1]},
        {"words": WORDS, "counts": COUNTS[:6]},
        {"words": WORDS[3:], "counts": COUNTS[3:]},
        {"words": dict.fromkeys(WORDS, 0), "counts": 7},
        {"words": "".join(WORDS), "counts": COUNTS},
        {"words": WORDS},
        WORDS,
        None,
    ],
)
def test_what_is_no_vocabulary_is_refused_with_its_path(content: object, tmp_path: Path) -> None:
    with pytest.raises(CaptioningError, match=r"vocabulary\.json"):
        read(json.dumps(content).encode(), tmp_path)


@pytest.mark.parametrize("content", [b"[" * 200_000, b'{"words":' * 200_000, b"1" * 100_000, b"\xff\xfe", b"", b"{"])
def test_what_is_no_json_is_refused_with_its_path(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(CaptioningError, match=r"vocabulary\.json"):
        read(content, tmp_path)
