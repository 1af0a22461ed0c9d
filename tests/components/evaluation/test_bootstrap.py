import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.evaluation.bootstrap import interval


def test_the_interval_of_many_scores_is_that_of_the_normal_distribution() -> None:
    scores = np.random.default_rng(1).normal(3, 2, 400)
    found, error = interval(scores), scores.std() / 20
    assert found.mean == pytest.approx(scores.mean())
    assert found.low == pytest.approx(scores.mean() - 1.96 * error, abs=0.02)
    assert found.high == pytest.approx(scores.mean() + 1.96 * error, abs=0.02)


def test_a_small_difference_that_every_image_shares_is_seen_and_a_large_one_by_chance_is_not() -> None:
    random = np.random.default_rng(2)
    first = random.normal(1, 1, 300)
    shared = interval(first + 0.05 + random.normal(0, 0.1, 300) - first)
    assert shared.low > 0
    chance = interval(random.normal(1, 1, 300) - first)
    assert chance.low < 0 < chance.high


@given(st.lists(st.floats(0, 10), min_size=1, max_size=30), st.integers(0, 9))
def test_the_mean_lies_inside_and_a_seed_gives_the_same_interval_again(scores: list[float], seed: int) -> None:
    found = interval(np.array(scores), seed)
    assert found == interval(np.array(scores), seed)
    assert min(scores) - 1e-9 <= found.low <= found.high <= max(scores) + 1e-9
