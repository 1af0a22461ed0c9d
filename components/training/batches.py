"""Training batches: which caption is drawn when, and the arrays it becomes."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from components.encoder.pool import Vectors
from components.encoder.store import EmbeddingStore
from components.training.cider import LAST_ID
from components.vocabulary.vocabulary import Vocabulary
from data_contracts.schema import END, PAD, SPECIALS

LENGTH_STEP = 2
"""Batches are as long as their longest caption, rounded up to this: few shapes to compile, little padding."""


class Batch(NamedTuple):
    """Captions with their images: what the decoder sees, what it should say, and how much each word counts."""

    images: np.ndarray
    """Rows of `TrainingSet.embeddings`, (captions,), int32."""
    words: np.ndarray
    """Ids from START on, (steps, captions), int32."""
    targets: np.ndarray
    """The next word of each of `words`."""
    weights: np.ndarray
    """What each target's cross-entropy is multiplied by before all are added; float32, 0 for padding."""


@dataclass(frozen=True)
class TrainingSet:
    """One split's captions as ids, with their images' embeddings."""

    vectors: Vectors
    """The images'."""
    image_rows: np.ndarray
    """The row of `vectors` that each caption describes, (captions,)."""
    references: np.ndarray
    """Each caption's words and END, filled up with PAD: (captions, longest), int32. Words that the vocabulary lacks
    have ids behind its last."""
    ids: np.ndarray
    """What the decoder learns: START, words or UNK, END, PAD: (captions, max_length), int32."""

    @classmethod
    def build(
        cls, captions: pd.DataFrame, vocabulary: Vocabulary, store: EmbeddingStore, max_length: int
    ) -> "TrainingSet":
        """The captions whose image has an embedding."""
        captions = captions[captions["image_id"].isin(store.index["image_id"])]
        rows, image_ids = pd.factorize(captions["image_id"])
        every, texts = dict(vocabulary.ids), [tokens.split() for tokens in captions["tokens"]]
        references = np.full((len(texts), max(map(len, texts), default=0) + 1), PAD, np.int32)
        ids = np.full((len(texts), max_length), PAD, np.int32)
        for reference, row, words in zip(references, ids, texts, strict=True):
            numbers = [min(every.setdefault(word, len(every) + len(SPECIALS)), LAST_ID) for word in words]
            reference[: len(words) + 1] = [*numbers, END]
            caption = vocabulary.encode(words, max_length)
            row[: len(caption)] = caption
        return cls(store.vectors(np.asarray(image_ids)), rows, references, ids)

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def embeddings(self) -> np.ndarray:
        """All of `vectors` in memory: (images, dimension), float32."""
        return self.vectors[:]

    @cached_property
    def lengths(self) -> np.ndarray:
        """Targets of each caption, END among them: (captions,)."""
        return np.asarray((self.ids != PAD).sum(axis=1) - 1)

    def batch(self, captions: np.ndarray) -> Batch:
        """The batch of these captions, as long as its longest, every target counting the same."""
        return Batch(self.image_rows[captions].astype(np.int32), *shifted(self.ids[captions]))


def shifted(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Words, targets and weights, as `Batch` wants them, of captions (captions, length) that begin with START.

    The weights are equal and add up to 1.
    """
    longest = int((ids != PAD).sum(axis=1).max()) - 1
    steps = min(-(-longest // LENGTH_STEP) * LENGTH_STEP, ids.shape[1] - 1)
    words, targets = np.ascontiguousarray(ids[:, :steps].T), np.ascontiguousarray(ids[:, 1 : steps + 1].T)
    counted = (targets != PAD).astype(np.float32)
    return words, targets, counted / counted.sum()


class BatchSampler:
    """Which captions each training step sees: a function of the step alone, so training resumes at any.

    A pass shows every caption once, and the first of its order again to fill the last batch; each pass has its own
    order. Captions of a batch are about equally long, so that little of it is padding; which length comes when is
    random.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed = lengths, batch_size, seed
        self.batches = -(-len(lengths) // batch_size)
        """Batches a pass."""
        self._pass = lru_cache(maxsize=1)(self._pass_of)

    def at(self, step: int) -> np.ndarray:
        """The captions of step `step`: (batch_size,) places in `lengths`."""
        number, place = divmod(step, self.batches)
        return np.asarray(self._pass(number)[place])

    def _pass_of(self, number: int) -> np.ndarray:
        random = np.random.default_rng([self.seed, number])
        drawn = np.resize(random.permutation(len(self.lengths)), self.batches * self.batch_size)
        by_length = drawn[np.argsort(self.lengths[drawn], kind="stable")]
        return random.permutation(by_length.reshape(self.batches, self.batch_size))
