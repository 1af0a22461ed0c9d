"""How sure a score is: the bootstrap over images (Koehn 2004)."""

from typing import NamedTuple

import numpy as np

RESAMPLES = 10_000
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """What holds a score with 95 % confidence."""

    low: float
    high: float


def resample(columns: np.ndarray, seed: int = 0) -> np.ndarray:
    """The means of columns of figures, (images, columns), over RESAMPLES draws of as many images, with replacement.

    (RESAMPLES, columns). The draws are the same for the same number of images and seed: figures of two models beside
    each other are drawn in pairs.
    """
    random, images = np.random.default_rng(seed), len(columns)
    # How often each draw has each image, some draws at a time: 10,000 × 40,000 numbers would be 3 GB.
    drawn = (random.multinomial(images, np.full(images, 1 / images), 100) for _ in range(RESAMPLES // 100))
    return np.concatenate([counts @ columns / images for counts in drawn])


def interval(resampled: np.ndarray) -> Interval:
    """Of a score's resamples (RESAMPLES,): what the middle 95 % lie between."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(float(low), float(high))


def p_value(resampled: np.ndarray) -> float:
    """Of a difference's resamples (RESAMPLES,): how probable it is that there is none, both signs counted."""
    turned = min((resampled <= 0).sum(), (resampled >= 0).sum())
    return float(min(1.0, 2 * (1 + turned) / (1 + len(resampled))))
