"""Training batches: which caption is drawn when, and the arrays it becomes."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from components.encoder.pool import Vectors
from components.encoder.store import EmbeddingStore
from components.vocabulary.vocabulary import Vocabulary
from data_contracts.schema import PAD

LENGTH_STEP = 4
"""Batches are as long as their longest caption, rounded up to this: few shapes to compile, little padding."""


@dataclass(frozen=True)
class Batch:
    """Captions with their images: what the decoder sees, what it should say, and which of that counts."""

    embeddings: np.ndarray
    """(captions, dimension), float32."""
    words: np.ndarray
    """Ids from START on, (captions, steps), int32."""
    targets: np.ndarray
    """The next word of each of `words`."""
    weights: np.ndarray
    """1 where the target is a word or END, 0 where it is padding; float32."""


@dataclass(frozen=True)
class TrainingSet:
    """One split's captions as ids, with their images' embeddings."""

    embeddings: Vectors
    """The images'."""
    image_rows: np.ndarray
    """The row of `embeddings` that each caption describes, (captions,)."""
    ids: np.ndarray
    """Each caption's ids, START and END among them, padded with PAD: (captions, max_length), int32."""

    @classmethod
    def build(
        cls, captions: pd.DataFrame, vocabulary: Vocabulary, store: EmbeddingStore, max_length: int
    ) -> "TrainingSet":
        """The captions whose image has an embedding."""
        captions = captions[captions["image_id"].isin(store.index["image_id"])]
        rows, image_ids = pd.factorize(captions["image_id"])
        ids = np.full((len(captions), max_length), PAD, np.int32)
        for row, tokens in zip(ids, captions["tokens"], strict=True):
            caption = vocabulary.encode(tokens.split(), max_length)
            row[: len(caption)] = caption
        return cls(store.vectors(np.asarray(image_ids)), rows, ids)

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, captions: np.ndarray) -> Batch:
        """The batch of these captions, trimmed to its longest."""
        ids = self.ids[captions]
        longest = int((ids != PAD).sum(axis=1).max()) - 1
        steps = min(-(-longest // LENGTH_STEP) * LENGTH_STEP, ids.shape[1] - 1)
        words, targets = ids[:, :steps], ids[:, 1 : steps + 1]
        weights = (targets != PAD).astype(np.float32)
        return Batch(self.embeddings[self.image_rows[captions]], words, targets, weights)


def drawn_at(step: int, batch_size: int, captions: int, seed: int) -> np.ndarray:
    """The captions that training step `step` sees: (batch_size,) numbers below `captions`.

    Every caption is drawn once before any is drawn again; each pass has its own order. A pure function of its
    arguments, so training resumes at any step.
    """
    places = np.arange(step * batch_size, (step + 1) * batch_size)
    passes = places // captions
    return np.concatenate([_order(int(p), captions, seed)[places[passes == p] % captions] for p in np.unique(passes)])


@lru_cache(maxsize=2)
def _order(number: int, captions: int, seed: int) -> np.ndarray:
    return np.random.default_rng([seed, number]).permutation(captions)
