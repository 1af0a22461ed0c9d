"""A split of twelve images and captioners to evaluate on it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest

from components.decoder.caption import Caption, Search
from components.encoder.store import EmbeddingStore
from components.evaluation.gallery_selection import EvaluationInputs
from components.model.captioner import Embeddings
from components.vocabulary.tokenizer import tokenize
from components.vocabulary.vocabulary import Vocabulary

OBJECTS = ("kite", "dog", "boat", "tree", "horse", "lamp", "train", "apple", "clock", "chair", "bird", "car")
VAL = range(100, 112)
"""Of the last one there is no embedding."""
TRAIN = (1, 2)


def truth(image_id: int) -> list[str]:
    """What people wrote of an image."""
    thing = OBJECTS[image_id % 100]
    return [f"A red {thing} near some {thing}s.", f"One {thing} stands beside {OBJECTS[image_id % 100 - 1]}s"]


class FakeCaptioner:
    """Says of an image, which it knows by its embedding, what it is told to; remembers the searches."""

    def __init__(self, say: Callable[[int], str], logprob: float = -0.5) -> None:
        words = [tokenize(text) for image in VAL for text in truth(image)]
        self.vocabulary = Vocabulary.build(words, 1)
        self.say = say
        self.logprob = logprob
        self.searches: list[tuple[Search, int]] = []

    def caption(self, embeddings: Embeddings, search: Search) -> list[list[Caption]]:
        """As many as the search asks for, each a word longer than the one before."""
        self.searches.append((search, len(embeddings)))
        count = search.beam if search.method == "beam" else 1
        texts = [self.say(int(vector[0])) for vector in embeddings[0 : len(embeddings)]]
        return [[self._caption(" ".join([text, *["more"] * rank])) for rank in range(count)] for text in texts]

    def next_words(self, embedding: np.ndarray, caption: Caption) -> np.ndarray:
        """The same at every step but the last, where all words are as probable."""
        odds = np.full((len(caption.words) + 1, len(self.vocabulary)), 0.01)
        odds[:, 5] = 1
        odds[-1] = 1
        odds[:, :3] = 0
        return odds / odds.sum(axis=1, keepdims=True)

    def _caption(self, text: str) -> Caption:
        return Caption(text, (self.logprob,) * (len(text.split()) + 1))


def perfect(image: int) -> str:
    """The first reference, as a vocabulary knows its words."""
    return " ".join(tokenize(truth(image)[0]))


@pytest.fixture
def make_captioner() -> Callable[..., FakeCaptioner]:
    """A captioner that says what it is told to; by default the truth."""

    def make(say: Callable[[int], str] = perfect, logprob: float = -0.5) -> FakeCaptioner:
        return FakeCaptioner(say, logprob)

    return make


@pytest.fixture
def material(
    tmp_path: Path, make_store: Callable[[Sequence[int]], EmbeddingStore], photograph: Callable[[int], bytes]
) -> EvaluationInputs:
    """Twelve images of the split val, eleven with an embedding, and two of train; ids and rows in different orders."""
    ids = [*VAL, *TRAIN]
    store = make_store(np.random.default_rng(0).permutation([i for i in ids if i != VAL[-1]]).tolist())
    with ZipFile(tmp_path / "photos.zip", "w") as archive:
        for image_id in ids:
            archive.writestr(f"photos/{image_id}.jpg", photograph(image_id))
    images = pd.DataFrame({"image_id": ids[::-1], "archive": "photos"})
    images["split"] = ["val" if image_id in VAL else "train" for image_id in images["image_id"]]
    images["file_name"] = [f"photos/{image_id}.jpg" for image_id in images["image_id"]]
    pairs = [(i, "val" if i in VAL else "train", text) for i in ids[::2] + ids[1::2] for text in truth(i)]
    captions = pd.DataFrame(pairs, columns=["image_id", "split", "caption"])
    captions["tokens"] = [" ".join(tokenize(text)) for text in captions["caption"]]
    return EvaluationInputs(images, captions, store, {"photos": tmp_path / "photos.zip"}, "train")
