import random
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from pycocoevalcap.cider.cider import Cider

from components.decoder import search
from components.decoder.model import Decoder
from components.training import validation
from components.training.batches import TrainingSet
from components.training.caption_statistics import describe_captions
from components.training.validation import Validator, notebook_batches
from components.vocabulary.vocabulary import Vocabulary
from data_contracts.schema import END, PAD, START, UNK

Decoders = Callable[..., Decoder]
Sets = Callable[..., TrainingSet]

WORDS, MAX_LENGTH = 8, 7


def drawn(set_of: Sets, captions: int, images: int, seed: int = 0) -> TrainingSet:
    """Random captions of one to eight words, some unknown, more than a training caption may have among them."""
    random = np.random.default_rng(seed)
    rows = [*range(images), *random.integers(0, images, captions - images).tolist()]
    return set_of([random.integers(4, 11, random.integers(1, 9)).tolist() for _ in rows], rows)


def word(number: int, vocabulary: Vocabulary) -> str:
    return vocabulary.words[number] if number < len(vocabulary) else f"unknown{number}"


def greedy_captions(decoder: Decoder, data: TrainingSet, vocabulary: Vocabulary) -> list[list[str]]:
    ids, _ = search.greedy(decoder, data.embeddings, MAX_LENGTH - 1)
    return [vocabulary.decode(caption) for caption in np.asarray(ids)]


def official_cider(captions: list[list[str]], data: TrainingSet, vocabulary: Vocabulary) -> float:
    """pycocoevalcap's CIDEr of the first images' captions, of words, against the whole references."""
    truths: dict[int, list[str]] = {image: [] for image in range(len(captions))}
    for image, ids in zip(data.image_rows, data.references, strict=True):
        if image in truths:
            truths[image].append(" ".join(word(number, vocabulary) for number in ids if number not in (END, PAD)))
    mean, _ = Cider().compute_score(truths, {image: [" ".join(words)] for image, words in enumerate(captions)})
    return float(mean)


def logprobs_of(decoder: Decoder, embeddings: np.ndarray, words: np.ndarray) -> np.ndarray:
    logits = np.asarray(decoder((embeddings, words)), np.float64)
    return np.asarray(logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True))


def loss_and_accuracy(decoder: Decoder, embeddings: np.ndarray, ids: np.ndarray) -> tuple[float, float]:
    """Nats a word and share of words guessed, over all words of all captions alike."""
    targets = ids[:, 1:]
    logprobs, counted = logprobs_of(decoder, embeddings, ids[:, :-1]), targets != PAD
    right = np.take_along_axis(logprobs, targets[..., None], axis=-1)[..., 0]
    return float(-right[counted].mean()), float((logprobs.argmax(axis=-1) == targets)[counted].mean())


@pytest.mark.parametrize("seed", [0, 2, 5, 10])  # decoders that say several things
def test_cider_is_the_official_one_of_greedy_captions(
    random_decoder: Decoders, set_of: Sets, eight_words: Vocabulary, seed: int
) -> None:
    decoder, data = random_decoder(seed), drawn(set_of, 32, 12, seed)
    figures = Validator(decoder, data, eight_words).figures()
    captions = greedy_captions(decoder, data, eight_words)
    assert len({tuple(caption) for caption in captions}) > 2
    assert figures["val_cider"] == pytest.approx(official_cider(captions, data, eight_words), abs=1e-6)
    assert figures["val_cider"] > 0
    described = {f"val_{name}": value for name, value in describe_captions(captions).items()}
    assert {name: figures[name] for name in described} == described
    assert set(figures) == {"val_loss", "val_accuracy", "val_cider", *described}


def test_captions_equal_to_the_references_score_nearly_ten(
    random_decoder: Decoders, set_of: Sets, eight_words: Vocabulary
) -> None:
    decoder, embeddings = random_decoder(2), np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    ids = np.asarray(search.greedy(decoder, embeddings, MAX_LENGTH - 1)[0])
    _, different = np.unique(ids, axis=0, return_index=True)
    written = [caption[: caption.tolist().index(END)].tolist() for caption in ids[different]]
    assert len(written) > 5
    assert all(len(caption) >= 4 for caption in written)  # or there would be no 4-grams to agree in
    figures = Validator(decoder, set_of(written, embeddings=embeddings[different]), eight_words).figures()
    assert 9 < figures["val_cider"] <= 10  # a word that all have is worth nothing
    assert figures["val_distinct"] == 1


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("captions", [32, 48])
def test_loss_and_accuracy_are_of_every_word_alike(
    random_decoder: Decoders, set_of: Sets, eight_words: Vocabulary, captions: int, seed: int
) -> None:
    decoder, data = random_decoder(seed), drawn(set_of, captions, 12, seed)
    figures = Validator(decoder, data, eight_words).figures()
    loss, accuracy = loss_and_accuracy(decoder, data.embeddings[data.image_rows], data.ids)
    assert figures["val_loss"] == pytest.approx(loss, rel=1e-5)
    assert figures["val_accuracy"] == pytest.approx(accuracy, rel=1e-5)


def test_the_figures_are_of_the_weights_as_they_are_now(
    random_decoder: Decoders, sixteen: TrainingSet, eight_words: Vocabulary
) -> None:
    validator = Validator(random_decoder(0), sixteen, eight_words)
    before = validator.figures()
    random_decoder(1)
    after = validator.figures()
    assert before["val_loss"] != after["val_loss"]
    assert before["val_cider"] != after["val_cider"]
    random_decoder(0)
    assert validator.figures() == before


def test_of_many_images_the_first_are_captioned(
    random_decoder: Decoders, set_of: Sets, eight_words: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "IMAGES", 5)
    monkeypatch.setattr(validation, "BATCH", 2)  # so that they are captioned in batches of several sizes
    decoder, data = random_decoder(0), drawn(set_of, 32, 12)
    figures = Validator(decoder, data, eight_words).figures()
    captions = greedy_captions(decoder, data, eight_words)[:5]
    assert figures["val_cider"] == pytest.approx(official_cider(captions, data, eight_words), abs=1e-6)
    assert figures["val_distinct"] == len({tuple(caption) for caption in captions}) / 5


def test_of_many_captions_some_are_read_always_the_same(
    random_decoder: Decoders, set_of: Sets, eight_words: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder, data = random_decoder(0), drawn(set_of, 32, 12)
    whole = Validator(decoder, data, eight_words).figures()["val_loss"]
    monkeypatch.setattr(validation, "BATCH", 4)
    monkeypatch.setattr(validation, "CAPTIONS", 8)
    some, again = (Validator(decoder, data, eight_words).figures()["val_loss"] for _ in range(2))
    assert some == again != whole


def as_in_the_notebook(data: TrainingSet) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Image rows and captions (32, length) of 1,000 batches, in the notebook's words: its globally seeded choices, and
    its `batch_captions_to_matrix` with `max_len`. START, words and END are what it calls an indexed caption."""
    np.random.seed(300)
    random.seed(300)
    indexed = [
        [
            [START, *(number if number < WORDS else UNK for number in ids[ids != PAD].tolist())]
            for ids in data.references[data.image_rows == image]
        ]
        for image in range(len(data.embeddings))
    ]
    for _ in range(1000):
        chosen = np.random.choice(len(indexed), size=32, replace=False)
        batch = [random.choice(indexed[image]) for image in chosen]
        length = min(MAX_LENGTH, max(map(len, batch)))
        yield chosen, np.array([(row[:length] + [PAD] * length)[:length] for row in batch])


@pytest.fixture(scope="module")
def forty(set_of: Sets) -> TrainingSet:
    """Forty images with one to several captions each, in no order."""
    data, places = drawn(set_of, 100, 40), np.random.default_rng(1).permutation(100)
    return TrainingSet(data.vectors, data.image_rows[places], data.references[places], data.ids[places])


def test_the_notebooks_batches_are_those_of_the_notebook(forty: TrainingSet) -> None:
    count = 0
    for batch, (images, captions) in zip(notebook_batches(forty, WORDS), as_in_the_notebook(forty), strict=True):
        steps = captions.shape[1] - 1
        np.testing.assert_array_equal(batch.images, images)
        np.testing.assert_array_equal(batch.words[:steps].T, captions[:, :-1])
        np.testing.assert_array_equal(batch.targets[:steps].T, captions[:, 1:])
        np.testing.assert_array_equal(batch.weights > 0, batch.targets != PAD)
        assert not batch.targets[steps:].any()
        count += 1
    assert count == 1000


def test_of_fewer_images_the_notebooks_batches_have_them_all(set_of: Sets) -> None:
    for batch, _ in zip(notebook_batches(drawn(set_of, 9, 6), WORDS), range(5), strict=False):
        assert sorted(batch.images.tolist()) == list(range(6))
        assert batch.words.shape[1] == 6


def test_the_notebooks_loss_is_the_mean_of_its_batches(
    random_decoder: Decoders, forty: TrainingSet, eight_words: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "NOTEBOOK_BATCHES", 6)
    decoder = random_decoder(2)
    losses = [
        loss_and_accuracy(decoder, forty.embeddings[images], captions)[0]
        for (images, captions), _ in zip(as_in_the_notebook(forty), range(6), strict=False)
    ]
    found = Validator(decoder, forty, eight_words).notebook_loss()
    assert found == pytest.approx(np.mean(losses), rel=1e-5)
