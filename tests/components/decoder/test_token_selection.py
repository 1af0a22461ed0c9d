import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.decoder.token_selection import BLOCK, MASKED_LOGIT, best, draw, draw_among_the_best

some = settings(max_examples=40, derandomize=True, deadline=None)
seeds = st.integers(0, 10_000)
blocks = st.integers(1, 4)


def coarse(seed: int, rows: int, size: int) -> np.ndarray:
    """Numbers of which many are equal."""
    random = np.random.default_rng(seed)
    return random.choice(
        np.array([MASKED_LOGIT, -2, -1, 0, 0.5, 3], np.float32), (rows, size), p=[0.3, 0.2, 0.2, 0.1, 0.1, 0.1]
    )


def probabilities_of(seed: int, rows: int, size: int) -> np.ndarray:
    odds = np.exp(3 * np.random.default_rng(seed).normal(size=(rows, size))).astype(np.float32)
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def grid(count: int) -> np.ndarray:
    return ((np.arange(count) + 0.5) / count).astype(np.float32)


@given(seed=seeds, blocks=blocks, count=st.integers(1, 2 * BLOCK))
@some
def test_the_best_are_those_of_a_stable_sort(seed: int, blocks: int, count: int) -> None:
    logits, count = coarse(seed, 5, blocks * BLOCK), min(count, blocks * BLOCK)
    values, places = (np.asarray(part) for part in best(logits, count))
    expected = np.argsort(-logits, axis=1, kind="stable")[:, :count]
    np.testing.assert_array_equal(places, expected)
    np.testing.assert_array_equal(values, np.take_along_axis(logits, expected, axis=1))


@given(
    seed=seeds,
    blocks=blocks,
    top_k=st.sampled_from([0, 1, 3, 50, 10_000]),
    top_p=st.sampled_from([0.05, 0.5, 0.9, 1.0]),
)
@some
def test_the_best_are_drawn_as_often_as_they_should(seed: int, blocks: int, top_k: int, top_p: float) -> None:
    (probabilities,) = probabilities_of(seed, 1, blocks * BLOCK)
    draws = 4000
    drawn = np.asarray(draw_among_the_best(np.tile(probabilities, (draws, 1)), grid(draws), top_k, top_p))
    order = np.argsort(-probabilities, kind="stable")[: top_k or None]
    ordered = probabilities[order].astype(np.float64)
    nucleus = int(np.searchsorted(np.cumsum(ordered), top_p * ordered.sum() * (1 - 1e-6))) + 1
    expected = np.zeros(len(probabilities))
    expected[order[:nucleus]] = ordered[:nucleus] / ordered[:nucleus].sum()
    np.testing.assert_allclose(np.bincount(drawn, minlength=len(expected)) / draws, expected, atol=2 / draws)


@given(seed=seeds, blocks=blocks)
@some
def test_all_words_are_drawn_as_often_as_they_should(seed: int, blocks: int) -> None:
    (probabilities,) = probabilities_of(seed, 1, blocks * BLOCK)
    draws = 4000
    drawn = np.asarray(draw(np.tile(probabilities, (draws, 1)), grid(draws)))
    np.testing.assert_allclose(np.bincount(drawn, minlength=len(probabilities)) / draws, probabilities, atol=2 / draws)
    assert (np.diff(drawn) >= 0).all()


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-24])
@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (1, 1.0), (5, 0.5), (0, 1e-9)])
def test_the_one_word_that_is_possible_is_drawn_whatever_the_limits(uniform: float, top_k: int, top_p: float) -> None:
    probabilities = np.zeros((1, 2 * BLOCK), np.float32)
    probabilities[0, 77] = 1.0
    number = np.array([uniform], np.float32)
    assert np.asarray(draw(probabilities, number)).tolist() == [77]
    assert np.asarray(draw_among_the_best(probabilities, number, top_k, top_p)).tolist() == [77]


def test_of_equally_probable_words_the_first_are_kept() -> None:
    probabilities = np.full((100, BLOCK), 1 / BLOCK, np.float32)
    drawn = np.asarray(draw_among_the_best(probabilities, grid(100), 4, 1.0))
    assert np.bincount(drawn).tolist() == [25, 25, 25, 25]
