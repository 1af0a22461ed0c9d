from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.errors import CaptioningError
from components.vocabulary.vocabulary import Vocabulary
from data_contracts.schema import END, PAD, SPECIALS, START, UNK, VOCABULARY

words = st.sampled_from(["dog", "cat", "été", "犬", "a", "the", "<end>", "<pad>"]) | st.text(min_size=1)
captions = st.lists(st.lists(words, max_size=12), max_size=12)
lengths = st.integers(3, 20)


@given(captions, st.integers(1, 4))
def test_words_at_the_threshold_are_known_the_most_frequent_first(texts: list[list[str]], min_count: int) -> None:
    vocabulary = Vocabulary.build(texts, min_count)
    counts = Counter(word for text in texts for word in text)
    known = sorted((-count, word) for word, count in counts.items() if count >= min_count)
    assert vocabulary.words == (*SPECIALS, *(word for _, word in known))
    assert vocabulary.counts == (0, 0, 0, 0, *(-count for count, _ in known))
    assert len(vocabulary) == len(known) + 4


@given(captions, st.randoms())
def test_order_of_the_captions_does_not_matter(texts: list[list[str]], random: Random) -> None:
    before = Vocabulary.build(texts, 1)
    random.shuffle(texts)
    assert Vocabulary.build(texts, 1) == before


def test_specials_have_fixed_ids() -> None:
    assert (PAD, UNK, START, END) == (0, 1, 2, 3)
    assert Vocabulary.build([], 1).words == ("<pad>", "<unk>", "<start>", "<end>")


@given(captions, st.lists(words, max_size=30), lengths)
def test_encoded_captions_fit_and_end(texts: list[list[str]], caption: list[str], max_length: int) -> None:
    vocabulary = Vocabulary.build(texts, 1)
    start, *inner, end = vocabulary.encode(caption, max_length)
    assert (start, end) == (START, END)
    assert len(inner) == min(len(caption), max_length - 2)
    # Whatever the words spell, among them is no special but the unknown word.
    assert all(index == UNK or len(SPECIALS) <= index < len(vocabulary) for index in inner)


@given(captions, lengths)
def test_known_words_survive_encoding(texts: list[list[str]], max_length: int) -> None:
    vocabulary = Vocabulary.build(texts, 1)
    for text in texts:
        assert vocabulary.decode(vocabulary.encode(text, max_length)) == text[: max_length - 2]


@given(captions.filter(any))
def test_unknown_words_become_unk(texts: list[list[str]]) -> None:
    vocabulary = Vocabulary.build([["zebra"], *texts], 1)
    assert vocabulary.encode(["zebra", "not one word"], 9)[2:] == [UNK, END]
    assert vocabulary.decode([START, UNK, END]) == ["<unk>"]


def test_decoding_stops_at_the_first_end_or_pad_and_needs_neither() -> None:
    vocabulary = Vocabulary.build([["dog"]], 1)
    dog = len(SPECIALS)
    assert vocabulary.decode([START, dog, END, dog]) == ["dog"]
    assert vocabulary.decode([START, dog, PAD, dog]) == ["dog"]
    assert vocabulary.decode([dog, dog]) == ["dog", "dog"]  # no word is lost where END was never produced
    assert vocabulary.decode([START, END, PAD]) == []


@given(captions)
def test_a_vocabulary_survives_its_file(tmp_path_factory: pytest.TempPathFactory, texts: list[list[str]]) -> None:
    path = tmp_path_factory.getbasetemp() / "vocabulary.json"
    vocabulary = Vocabulary.build(texts, 1)
    vocabulary.save(path)
    loaded = Vocabulary.load(path)
    assert (loaded, loaded.ids) == (vocabulary, vocabulary.ids)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"words": ["<pad>", "<unk>", "<start>", "<end>"]}',
        b'{"words": 5, "counts": 5}',
        b'{"words": ["<end>", "<pad>", "<start>", "<unk>"], "counts": [0, 0, 0, 0]}',
        b'{"words": ["<pad>", "<unk>", "<start>", "<end>", "dog"], "counts": [0, 0, 0, 0]}',
    ],
)
def test_what_is_no_vocabulary_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "vocabulary.json"
    path.write_bytes(content)
    with pytest.raises(CaptioningError, match=r"vocabulary\.json"):
        Vocabulary.load(path)


def test_a_missing_vocabulary_is_named(tmp_path: Path) -> None:
    with pytest.raises(CaptioningError, match=r"cannot read the vocabulary .*missing\.json"):
        Vocabulary.load(tmp_path / "missing.json")


def test_table_has_a_row_a_word() -> None:
    frame = Vocabulary.build([["dog", "cat", "dog"]], 1).to_frame()
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == VOCABULARY
    assert frame.tail(3).to_dict("tight")["data"] == [[3, "<end>", 0], [4, "dog", 2], [5, "cat", 1]]
