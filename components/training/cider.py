"""CIDEr-D of word ids, fast enough to be a reward: Vedantam et al. 2015 as the official scorer computes it.

An n-gram's ids are packed into one integer, so counting is sorting and looking up is a binary search.
"""

from dataclasses import dataclass

import numpy as np

from data_contracts.schema import PAD

LONGEST = 4
"""The longest n-grams that count, in words."""
SIGMA = 6.0
"""Width of the Gaussian penalty on the difference in length, in words."""
ID_BITS = 16
"""LONGEST ids fit into one 64-bit integer."""
LAST_ID = 2**ID_BITS - 1
"""The highest id; in a data set of more words than that, the words seen last have to share it."""


@dataclass(frozen=True)
class _Order:
    """What the references say about the n-grams of one length."""

    known: np.ndarray
    """Packed n-grams that occur, sorted: (n-grams,)."""
    rarity: np.ndarray
    """log(images / images whose references have it), of each of `known`."""
    entries: np.ndarray
    """reference × n-grams + the n-gram's place in `known`, sorted: one an n-gram of a reference."""
    values: np.ndarray
    """Count × rarity of each of `entries`."""
    norms: np.ndarray
    """Length of each reference's vector: (references,)."""


class CiderD:
    """Scores captions of images whose references are given, and whose document frequencies come from these."""

    def __init__(self, images: np.ndarray, references: np.ndarray) -> None:
        """`references` (references, length) are word ids filled up with PAD; `images` numbers each one's image from 0.

        No id is above LAST_ID, and every image has a reference.
        """
        order = np.argsort(images, kind="stable")
        images, references = images[order], references[order]
        self._counts = np.bincount(images)
        self._first = np.concatenate([[0], np.cumsum(self._counts)[:-1]])
        self._lengths = _bigrams(references)
        self._rarest = float(np.log(len(self._counts)))
        self._orders = [self._learn(images, references, n) for n in range(1, LONGEST + 1)]

    def score(self, images: np.ndarray, captions: np.ndarray) -> np.ndarray:
        """CIDEr-D of each of `captions` (captions, length), of the images with these numbers: (captions,), 0 to 10."""
        counts = self._counts[images]
        caption = np.repeat(np.arange(len(captions)), counts)
        reference = np.repeat(self._first[images] - np.cumsum(counts) + counts, counts) + np.arange(len(caption))
        apart = _bigrams(captions)[caption] - self._lengths[reference]
        total = sum(self._similarity(captions, caption, reference, n) for n in range(1, LONGEST + 1))
        total = total * np.exp(-(apart**2) / (2 * SIGMA**2)) / LONGEST
        return np.asarray(10 * np.bincount(caption, total, len(captions)) / counts)

    def _learn(self, images: np.ndarray, references: np.ndarray, n: int) -> _Order:
        owner, grams, counts = _count(references, n)
        known, place = np.unique(grams, return_inverse=True)
        seen = np.unique(np.stack([place, images[owner]]), axis=1)[0]
        rarity = self._rarest - np.log(np.maximum(np.bincount(seen, minlength=len(known)), 1))
        values = counts * rarity[place]
        norms = np.sqrt(np.bincount(owner, values**2, len(references)))
        return _Order(known, rarity, owner * len(known) + place, values, norms)

    def _similarity(self, captions: np.ndarray, caption: np.ndarray, reference: np.ndarray, n: int) -> np.ndarray:
        """The clipped cosine of n-grams, for each pair of a caption and one of its references."""
        order = self._orders[n - 1]
        owner, grams, counts = _count(captions, n)
        place, is_known = _find(order.known, grams)
        values = counts * np.where(is_known, order.rarity[place] if len(order.rarity) else 0.0, self._rarest)
        norms = np.sqrt(np.bincount(owner, values**2, len(captions)))[caption] * order.norms[reference]
        # Every n-gram of a caption meets every reference of that caption's image.
        owner, place, values = owner[is_known], place[is_known], values[is_known]
        pairs = np.bincount(caption, minlength=len(captions))
        first = np.cumsum(pairs) - pairs
        meetings = pairs[owner]
        pair = np.repeat(first[owner] - np.cumsum(meetings) + meetings, meetings) + np.arange(meetings.sum())
        entry, is_there = _find(order.entries, reference[pair] * len(order.known) + np.repeat(place, meetings))
        theirs = np.where(is_there, order.values[entry] if len(order.values) else 0.0, 0.0)
        overlap = np.bincount(pair, np.minimum(np.repeat(values, meetings), theirs) * theirs, len(caption))
        return np.asarray(np.divide(overlap, norms, out=np.zeros(len(caption)), where=norms > 0))


def _bigrams(captions: np.ndarray) -> np.ndarray:
    """What the official scorer takes for a caption's length: one less than its words."""
    return np.asarray(np.maximum((captions != PAD).sum(axis=1) - 1, 0))


def _count(captions: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every distinct n-gram of every caption: the caption's row, the n-gram packed, its count. Sorted by both."""
    width = captions.shape[1] - n + 1
    if width < 1:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64)
    packed = np.zeros((len(captions), width), np.uint64)
    for offset in range(n):
        packed = (packed << np.uint64(ID_BITS)) | captions[:, offset : offset + width].astype(np.uint64)
    whole = captions[:, n - 1 :] != PAD
    owner, grams = np.nonzero(whole)[0], packed[whole]
    order = np.lexsort((grams, owner))
    owner, grams = owner[order], grams[order]
    starts = np.flatnonzero(np.r_[True, (owner[1:] != owner[:-1]) | (grams[1:] != grams[:-1])]) if len(owner) else order
    return owner[starts], grams[starts], np.diff(np.r_[starts, len(owner)])


def _find(table: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The place of each of `wanted` in the sorted table, and whether it is there at all."""
    place = np.minimum(np.searchsorted(table, wanted), max(len(table) - 1, 0))
    return place, (table[place] == wanted) if len(table) else np.zeros(len(wanted), bool)
