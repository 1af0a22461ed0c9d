import pytest
from hypothesis import strategies as st

from components.training.caption_statistics import describe_captions
from data_contracts.schema import FUNCTION_WORDS

texts = st.lists(st.lists(st.sampled_from(["a", "dog", "with", "kite"]), max_size=4), min_size=1, max_size=8)


def test_captions_that_break_off_repeat_one_another_or_use_few_words_are_told() -> None:
    captions = ["a dog with a", "a red kite", "a dog with a", "a red kite", "a dog on the"]
    assert describe_captions([caption.split() for caption in captions]) == {
        "dangling": pytest.approx(3 / 5),
        "distinct": pytest.approx(3 / 5),
        "words_used": 7,
    }


def test_captions_without_words_dangle_nowhere_and_no_captions_are_0_of_everything() -> None:
    assert describe_captions([[], []]) == {"dangling": 0, "distinct": 0.5, "words_used": 0}
    assert describe_captions([]) == {"dangling": 0, "distinct": 0, "words_used": 0}


def test_no_noun_or_verb_dangles() -> None:
    assert {"a", "the", "with", "and"} <= FUNCTION_WORDS
    assert not FUNCTION_WORDS & {"dog", "grass", "running", "red", "it", "up", "down", "out", "off", "there", "them"}
