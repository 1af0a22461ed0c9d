"""How sure a score is: the bootstrap over images (Koehn 2004)."""

from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean over images and the interval that holds it with 95 % confidence."""

    mean: float
    low: float
    high: float


def interval(scores: np.ndarray, seed: int = 0) -> Interval:
    """The mean of images' scores (images,), or of the differences of two models' scores for the same images.

    Of differences, an interval without 0 says that one model is better (a paired bootstrap test at the 5 % level).
    """
    random, count = np.random.default_rng(seed), len(scores)
    # How often each resample draws each image, some resamples at a time: 10,000 × 40,000 numbers would be 3 GB.
    sizes = np.full(RESAMPLES // 100, 100)
    means = [random.multinomial(count, np.full(count, 1 / count), size) @ scores / count for size in sizes]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return Interval(float(scores.mean()), float(low), float(high))
