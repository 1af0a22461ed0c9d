"""Decoders small enough to be searched exhaustively, and captions for them."""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pytest

from components.config import DecoderConfig
from components.decoder.batches import TrainingSet
from components.decoder.model import Decoder, build_decoder
from components.encoder.pool import Vectors
from components.vocabulary.vocabulary import Vocabulary
from data_contracts.schema import END, PAD, START, UNK

WORDS, DIMENSION, MAX_LENGTH = 8, 5, 7


@pytest.fixture(scope="session")
def toy() -> DecoderConfig:
    """Four units, captions of at most five words."""
    return DecoderConfig(image_bottleneck=3, word_embedding=3, lstm_units=4, logit_bottleneck=3, max_length=MAX_LENGTH)


@pytest.fixture(scope="session")
def eight_words() -> Vocabulary:
    """The specials, and four words whose ids are 4 to 7."""
    return Vocabulary.build([["a", "dog", "kite", "red"]], min_count=1)


@pytest.fixture(scope="session")
def random_decoder(toy: DecoderConfig) -> Callable[..., Decoder]:
    """A decoder for embeddings of five numbers, whose captions depend on image and seed.

    Of one configuration there is one network, which gets other weights at each call: use one decoder at a time.
    """

    @cache
    def network(words: int, **options: bool) -> Decoder:
        return build_decoder(toy.model_copy(update=options), words, DIMENSION)

    def make(seed: int, *, words: int = WORDS, end_bias: float = 0.0, **options: bool) -> Decoder:
        decoder, random = network(words, **options), np.random.default_rng(seed)
        decoder.set_weights([random.normal(size=w.shape).astype(np.float32) for w in decoder.get_weights()])
        decoder.deviation.assign(0.5 + np.abs(decoder.deviation))
        decoder.logit_bias.assign_add(end_bias * np.eye(words, dtype=np.float32)[END])
        return decoder

    return make


@pytest.fixture(scope="session")
def random_embeddings() -> Callable[[int, int], np.ndarray]:
    """Embeddings (count, 5), float32, for a seed."""
    return lambda seed, count: np.random.default_rng(seed).normal(size=(count, DIMENSION)).astype(np.float32)


@pytest.fixture(scope="session")
def set_of() -> Callable[..., TrainingSet]:
    """A training set of captions, each the ids of its words, of the images of these numbers (by default one each).

    Words that a decoder of `words` words lacks have higher ids. The embeddings are random unless given.
    """

    def make(
        captions: Sequence[Sequence[int]],
        images: Sequence[int] | None = None,
        embeddings: np.ndarray | None = None,
        *,
        words: int = WORDS,
        max_length: int = MAX_LENGTH,
    ) -> TrainingSet:
        rows = np.arange(len(captions)) if images is None else np.array(images)
        if embeddings is None:
            embeddings = np.random.default_rng(0).normal(size=(int(rows.max()) + 1, DIMENSION)).astype(np.float32)
        references = np.full((len(captions), max(map(len, captions)) + 1), PAD, np.int32)
        ids = np.full((len(captions), max_length), PAD, np.int32)
        for reference, row, caption in zip(references, ids, captions, strict=True):
            reference[: len(caption) + 1] = [*caption, END]
            learnt = [START, *(word if word < words else UNK for word in caption[: max_length - 2]), END]
            row[: len(learnt)] = learnt
        count, dimension = embeddings.shape
        return TrainingSet(
            Vectors([embeddings], np.zeros(count, int), np.arange(count), dimension), rows, references, ids
        )

    return make


@pytest.fixture(scope="session")
def sixteen(set_of: Callable[..., TrainingSet]) -> TrainingSet:
    """Sixteen images with a caption each, of two to four words."""
    return set_of([[4 + n % 4, 4 + n // 4, 7, 4][: 2 + n % 3] for n in range(16)])
