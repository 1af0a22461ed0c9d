import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.decoder.guards import DANGLING, describe_captions

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


@given(captions=texts)
def test_shares_are_of_the_captions_and_only_their_last_words_dangle(captions: list[list[str]]) -> None:
    found = describe_captions(captions)
    assert all(isinstance(value, float) for value in found.values())
    assert 1 / len(captions) <= found["distinct"] <= 1
    assert found["dangling"] * len(captions) == pytest.approx(sum(c[-1:] in (["a"], ["with"]) for c in captions))
    whole = describe_captions([[*caption, "dog"] for caption in captions])
    assert whole["dangling"] == 0
    assert whole["distinct"] == found["distinct"]


def test_no_noun_or_verb_dangles() -> None:
    assert {"a", "the", "with", "and"} <= DANGLING
    assert not DANGLING & {"dog", "grass", "running", "red", "it", "up", "down", "out", "off", "there", "them"}
