import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.evaluation.bootstrap import RESAMPLES, interval, p_value, resample


def means(scores: np.ndarray, seed: int = 0) -> np.ndarray:
    return resample(scores[:, None], seed)[:, 0]


def test_the_interval_of_many_scores_is_that_of_the_normal_distribution() -> None:
    scores = np.random.default_rng(1).normal(3, 2, 400)
    found, error = interval(means(scores)), scores.std() / 20
    assert found.low == pytest.approx(scores.mean() - 1.96 * error, abs=0.02)
    assert found.high == pytest.approx(scores.mean() + 1.96 * error, abs=0.02)


def test_columns_share_their_draws_also_in_calls_of_their_own() -> None:
    first = np.random.default_rng(4).normal(1, 1, 60)
    both = resample(np.stack([first, 2 * first + 1], axis=1))
    assert both[:, 1] == pytest.approx(2 * both[:, 0] + 1)
    assert means(2 * first + 1) == pytest.approx(both[:, 1])
    assert np.abs(means(first, seed=1) - both[:, 0]).max() > 0.1, "another seed, other draws"


def test_a_small_difference_that_every_image_shares_is_seen_and_a_large_one_by_chance_is_not() -> None:
    random = np.random.default_rng(2)
    first = random.normal(1, 1, 300)
    shared = means(first + 0.05 + random.normal(0, 0.1, 300)) - means(first)
    assert interval(shared).low > 0
    assert p_value(shared) < 0.001
    chance = means(random.normal(1, 1, 300)) - means(first)
    assert interval(chance).low < 0 < interval(chance).high
    assert p_value(chance) > 0.05


@pytest.mark.parametrize("errors", [0.5, 1.5, 2.5, -2])
def test_the_p_value_is_that_of_the_normal_distribution_whatever_the_sign(errors: float) -> None:
    scores = np.random.default_rng(5).normal(0, 1, 400)
    scores = (scores - scores.mean()) / scores.std() + errors / 20  # so many standard errors from 0
    assert p_value(means(scores)) == pytest.approx(math.erfc(abs(errors) / math.sqrt(2)), abs=0.02)
    assert p_value(-means(scores)) == p_value(means(scores))


def test_the_p_value_of_certainty_is_small_and_not_0_and_that_of_no_difference_is_1() -> None:
    certain = p_value(np.ones(RESAMPLES))
    assert 0 < certain == p_value(-np.ones(RESAMPLES)) == pytest.approx(2 / RESAMPLES, rel=0.01)
    assert p_value(np.zeros(RESAMPLES)) == 1


@given(st.lists(st.floats(0, 10), min_size=1, max_size=30), st.integers(0, 9))
@settings(max_examples=15)
def test_the_interval_lies_among_the_scores_and_a_seed_gives_it_again(scores: list[float], seed: int) -> None:
    found = interval(means(np.array(scores), seed))
    assert found == interval(means(np.array(scores), seed))
    assert min(scores) - 1e-9 <= found.low <= found.high <= max(scores) + 1e-9
