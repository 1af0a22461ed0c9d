"""How good a decoder is by itself: loss on references, and scores of the captions it writes."""

import random
from collections.abc import Iterator

import numpy as np
from keras import ops

from components.decoder import search
from components.decoder.backend import Tensor, compile_function, resident
from components.decoder.cross_entropy import cross_entropy
from components.decoder.lstm import Precision
from components.decoder.model import Decoder, Drop, keep_all
from components.training.batches import Batch, TrainingSet, shifted
from components.training.caption_statistics import describe_captions
from components.training.cider import CiderD
from components.vocabulary.vocabulary import Vocabulary
from data_contracts.schema import END, PAD, START, UNK

CAPTIONS = 10_000
"""The most validation captions that the loss is measured on, always the same ones."""
IMAGES = 5_000
"""The most validation images that are captioned, always the same ones."""
BATCH = 256
NOTEBOOK_SEED, NOTEBOOK_BATCHES, NOTEBOOK_BATCH = 300, 1000, 32
"""How the notebook measured its validation loss."""


class Validator:
    """Evaluates one decoder, whose weights change, on one split."""

    def __init__(self, decoder: Decoder, validation: TrainingSet, vocabulary: Vocabulary) -> None:
        self._set, self._vocabulary = validation, vocabulary
        self._embeddings = resident(validation.embeddings)
        images = np.arange(min(len(validation.embeddings), IMAGES), dtype=np.int32)
        self._images = np.array_split(images, -(-len(images) // BATCH))
        # As the official scorer sees them, without END.
        shown = validation.image_rows < len(images)
        self._cider = CiderD(validation.image_rows[shown], _without_end(validation.references[shown]))
        chosen = np.random.default_rng(0).permutation(len(validation))[:CAPTIONS]
        by_length = chosen[np.argsort(validation.lengths[chosen], kind="stable")]
        self._batches = [validation.batch(by_length[i : i + BATCH]) for i in range(0, len(by_length), BATCH)]
        length = validation.ids.shape[1] - 1
        self._greedy = compile_function(
            lambda embeddings, images: search.greedy(decoder, ops.take(embeddings, images, axis=0), length)[0],
            decoder.variables,
        )
        self._losses = compile_function(
            lambda embeddings, *batch: losses(decoder, embeddings, Batch(*batch))[1:], decoder.variables
        )

    def figures(self) -> dict[str, float]:
        """`val_loss` (nats a word) and `val_accuracy` on references; `val_cider` (CIDEr-D of greedy captions), and
        `val_dangling`, `val_distinct`, `val_words_used`.
        """
        loss, accuracy = self._mean(self._batches)
        captions = np.concatenate([self._greedy(self._embeddings, images) for images in self._images])
        cider = self._cider.score(np.concatenate(self._images), _without_end(captions)).mean()
        words = describe_captions([self._vocabulary.decode(caption) for caption in captions])
        named = {"loss": loss, "accuracy": accuracy, "cider": float(cider), **words}
        return {f"val_{name}": value for name, value in named.items()}

    def notebook_loss(self) -> float:
        """The validation loss as the notebook computed it: see `notebook_batches`."""
        batches = notebook_batches(self._set, len(self._vocabulary))
        return float(np.mean([self._losses(self._embeddings, *batch)[0] for batch in batches]))

    def _mean(self, batches: list[Batch]) -> tuple[float, float]:
        """Loss and accuracy, every word counting the same."""
        words = np.array([(batch.weights > 0).sum() for batch in batches])
        found = np.array([self._losses(self._embeddings, *batch) for batch in batches])
        loss, accuracy = words @ found / words.sum()
        return float(loss), float(accuracy)


def losses(
    decoder: Decoder,
    embeddings: Tensor,
    batch: Batch,
    smoothing: float = 0.0,
    precision: Precision = "float32",
    drop: Drop = keep_all,
) -> tuple[Tensor, Tensor, Tensor]:
    """A batch's smoothed loss, cross-entropy (both nats a word) and accuracy."""
    outputs = decoder.outputs(ops.take(embeddings, batch.images, axis=0), batch.words, precision, drop)
    targets, weights = ops.reshape(batch.targets, (-1,)), ops.reshape(batch.weights, (-1,))
    return cross_entropy(outputs, decoder.table, decoder.logit_bias, targets, weights, smoothing, precision)


def notebook_batches(validation: TrainingSet, vocabulary_size: int) -> Iterator[Batch]:
    """The notebook's 1,000 batches of 32: images at random, for each one of its captions at random, both seeded with
    300; captions longer than a training caption may be are cut, and lose their END.
    """
    known = np.where(validation.references < vocabulary_size, validation.references, UNK)
    ids = np.insert(known, 0, START, axis=1)[:, : validation.ids.shape[1]]
    images, captions = np.random.RandomState(NOTEBOOK_SEED), random.Random(NOTEBOOK_SEED)
    of_image: list[list[int]] = [[] for _ in range(len(validation.embeddings))]
    for caption, image in enumerate(validation.image_rows):
        of_image[image].append(caption)
    for _ in range(NOTEBOOK_BATCHES):
        chosen = images.choice(len(of_image), size=min(NOTEBOOK_BATCH, len(of_image)), replace=False)
        drawn = [captions.choice(of_image[image]) for image in chosen]
        yield Batch(chosen.astype(np.int32), *shifted(ids[drawn]))


def _without_end(captions: np.ndarray) -> np.ndarray:
    return np.where(captions == END, PAD, captions)
