import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.decoder.caption import Caption, per_word


@given(st.lists(st.floats(-50, 0), min_size=1, max_size=30))
def test_the_probability_per_word_lies_between_those_of_the_words(logprobs: list[float]) -> None:
    chances = [math.exp(logprob) for logprob in logprobs]
    assert min(chances) * (1 - 1e-9) <= per_word(logprobs) <= max(chances) * (1 + 1e-9)


@pytest.mark.parametrize("words", [1, 5, 20])
def test_it_does_not_depend_on_the_length(words: int) -> None:
    assert Caption("a", (math.log(0.5),) * words).mean_probability == pytest.approx(0.5)


def test_of_no_words_it_is_nothing() -> None:
    assert Caption("", ()).mean_probability == 0
