import json
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocoevalcap.cider.cider import Cider

from components.training.cider import LAST_ID, CiderD
from data_contracts.schema import PAD

Caption = list[int]

FLICKR = Path(__file__).parents[3].parent / "shared" / "data" / "flickr8k" / "captions.zip"

# Small ids and the largest ones, which must not run into each other when n-grams are packed.
words = st.sampled_from([1, 4, 5, 6, 255, 256, 40_000, LAST_ID - 1, LAST_ID])
captions = st.lists(words, max_size=7)
reference_sets = st.lists(captions, min_size=1, max_size=4)
data_sets = st.lists(st.tuples(captions, reference_sets), min_size=1, max_size=5)
few = settings(max_examples=200, derandomize=True)


def official(references: list[list[Caption]], candidates: list[Caption]) -> np.ndarray:
    """The scores of pycocoevalcap's Cider, which is CIDEr-D, of one caption an image."""
    if not any(caption for found in references for caption in found):
        return np.zeros(len(candidates))  # where the official scorer fails
    truths = {image: [text(caption) for caption in found] for image, found in enumerate(references)}
    _, scores = Cider().compute_score(truths, {image: [text(caption)] for image, caption in enumerate(candidates)})
    return np.asarray(scores)


def text(caption: Caption) -> str:
    return " ".join(map(str, caption))


def padded(captions: list[Caption], spare: int = 0) -> np.ndarray:
    ids = np.full((len(captions), max(map(len, captions), default=0) + spare), PAD, np.int32)
    for row, caption in zip(ids, captions, strict=True):
        row[: len(caption)] = caption
    return ids


def scorer(references: list[list[Caption]]) -> CiderD:
    images = np.repeat(np.arange(len(references)), [len(found) for found in references])
    return CiderD(images, padded([caption for found in references for caption in found]))


@given(data=data_sets)
@few
def test_it_equals_the_official_scorer(data: list[tuple[Caption, list[Caption]]]) -> None:
    candidates, references = [caption for caption, _ in data], [found for _, found in data]
    found = scorer(references).score(np.arange(len(data)), padded(candidates))
    np.testing.assert_allclose(found, official(references, candidates), atol=1e-6)


@given(data=data_sets, seed=st.integers(0, 99), spare=st.integers(0, 3))
@few
def test_neither_the_order_of_anything_nor_padding_changes_a_score(
    data: list[tuple[Caption, list[Caption]]], seed: int, spare: int
) -> None:
    random = np.random.default_rng(seed)
    references = [(image, caption) for image, (_, found) in enumerate(data) for caption in found]
    shuffled = [references[place] for place in random.permutation(len(references))]
    mixed = CiderD(np.array([image for image, _ in shuffled]), padded([caption for _, caption in shuffled], spare))
    images = random.integers(0, len(data), 8)  # some of them several times, some not at all
    chosen = [data[place][0] for place in random.integers(0, len(data), 8)]
    alone = scorer([found for _, found in data])
    expected = [alone.score(images[n : n + 1], padded([chosen[n]]))[0] for n in range(8)]
    np.testing.assert_allclose(mixed.score(images, padded(chosen, spare)), expected, atol=1e-9)


def test_a_reference_itself_scores_highest_and_words_of_no_reference_nothing() -> None:
    references = [[[4, 5, 6, 7]], [[8, 9, 10, 11]]]
    candidates = padded([[4, 5, 6, 7], [8, 9, 10, 11], [4, 5, 7, 6], [12, 13, 14, 15], []])
    found = scorer(references).score(np.array([0, 1, 0, 0, 0]), candidates)
    assert found[:2].tolist() == pytest.approx([10, 10])
    assert 0 < found[2] < 10
    assert found[3:].tolist() == [0, 0]


def test_repeating_a_right_word_earns_no_more_than_wrong_words_beside_it() -> None:
    cider = scorer([[[4, 5, 6, 7]], [[8, 9, 10, 11]]])
    once, often = cider.score(np.array([0, 0]), padded([[4, 8, 9, 10], [4, 4, 4, 4]]))
    assert often <= once + 1e-9


def test_no_captions_get_no_scores() -> None:
    assert scorer([[[4]], [[5]]]).score(np.array([], int), padded([], 3)).shape == (0,)


@pytest.mark.skipif(not FLICKR.is_file(), reason=f"Flickr8k's captions are not at {FLICKR}")
def test_it_equals_the_official_scorer_on_a_thousand_photographs() -> None:
    with ZipFile(FLICKR) as archive:
        annotations = json.loads(archive.read("annotations/captions_dev.json"))["annotations"]
    ids: dict[str, int] = {}
    by_image: dict[int, list[Caption]] = {}
    for row in annotations:
        numbers = [ids.setdefault(word, len(ids) + 4) for word in row["caption"].lower().split()]
        by_image.setdefault(row["image_id"], []).append(numbers)
    everything = list(by_image.values())
    assert len(everything) == 1000
    # The last caption of each photograph is to be scored against its others, that of the next against them too.
    references, own = [found[:-1] for found in everything], [found[-1] for found in everything]
    others = own[1:] + own[:1]
    found = scorer(references).score(np.tile(np.arange(1000), 2), padded(own + others)).reshape(2, 1000)
    for scores, candidates in zip(found, (own, others), strict=True):
        np.testing.assert_allclose(scores, official(references, candidates), atol=1e-6)
    assert found[0].mean() > 5 * found[1].mean() > 0
