import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.vocabulary.tokenizer import tokenize


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A man's dog, on the T-shirt.", ["a", "man", "s", "dog", "on", "the", "t", "shirt"]),
        ("  Two   dogs\n(big ones) ", ["two", "dogs", "big", "ones"]),
        ("ÉTÉ à Zürich: 犬が走る 42", ["été", "à", "zürich", "犬が走る", "42"]),
        ("<start> <END>", ["start", "end"]),
        ("snake_case", ["snake_case"]),
        ("...!", []),
        ("", []),
    ],
)
def test_words_are_what_is_between_the_others(caption: str, words: list[str]) -> None:
    assert tokenize(caption) == words


@given(st.text())
def test_words_are_of_word_characters_only(caption: str) -> None:
    words = tokenize(caption)
    assert all(re.fullmatch(r"\w+", word) for word in words)
    assert "".join(words) == re.sub(r"\W", "", caption.lower())


@given(st.text())
def test_words_are_tokenized_to_themselves(caption: str) -> None:
    words = tokenize(caption)
    assert tokenize(" ".join(words)) == words


@given(st.text(), st.text())
def test_a_space_parts_captions(left: str, right: str) -> None:
    assert tokenize(f"{left} {right}") == tokenize(left + "\n") + tokenize(right)
