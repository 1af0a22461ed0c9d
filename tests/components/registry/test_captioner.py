import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from components.decoder import search as graph
from components.decoder.model import Decoder
from components.errors import BadImageError, CaptioningError
from components.registry import captioner as module
from components.registry.captioner import Caption, Captioner, Search
from components.vocabulary.vocabulary import Vocabulary

Photograph = Callable[[int], bytes]


@pytest.fixture(scope="module")
def captioner(package: Path) -> Captioner:
    return Captioner(package / "captioner")


@pytest.fixture(scope="module")
def embeddings() -> np.ndarray:
    return np.random.default_rng(2).normal(size=(12, 5)).astype(np.float32)


def test_photographs_become_pixels_or_a_reason_in_order(captioner: Captioner, photograph: Photograph) -> None:
    cut = photograph(2)[:200]
    first, bad, empty, last = captioner.read([photograph(1), cut, b"", photograph(3)])
    assert isinstance(first, np.ndarray)
    assert isinstance(last, np.ndarray)
    assert (first.shape, str(first.dtype)) == ((8, 8, 3), "uint8")
    assert not np.array_equal(first, last)
    assert isinstance(bad, BadImageError)
    assert "empty" in str(empty)


def test_photographs_are_embedded_in_order_whatever_the_batches(
    captioner: Captioner, photograph: Photograph, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = [image for image in captioner.read([photograph(n) for n in range(7)]) if isinstance(image, np.ndarray)]
    whole = captioner.embed(pixels)
    assert (whole.shape, str(whole.dtype)) == ((7, 5), "float32")
    assert len(np.unique(whole[:, 0])) == 7
    monkeypatch.setattr(module, "BATCH", 3)
    np.testing.assert_allclose(captioner.embed(pixels), whole, rtol=1e-5)
    np.testing.assert_allclose(captioner.embed(pixels[::-1]), whole[::-1], rtol=1e-5)


def test_nothing_in_nothing_out(captioner: Captioner) -> None:
    assert captioner.read([]) == []
    assert captioner.embed([]).shape == (0, 5)
    for method in ("greedy", "beam", "sample"):
        assert captioner.caption(np.empty((0, 5), np.float32), Search(method)) == []


def test_captions_are_the_decoders_words(
    captioner: Captioner, toy_decoder: Decoder, embeddings: np.ndarray, package: Path
) -> None:
    vocabulary = Vocabulary.load(package / "captioner" / "vocabulary.json")
    ids, logprobs = graph.greedy(toy_decoder, embeddings, 6)
    found = captioner.caption(embeddings, Search())
    assert [len(ranked) for ranked in found] == [1] * 12
    assert [ranked[0].text for ranked in found] == [" ".join(vocabulary.decode(row)) for row in np.asarray(ids)]
    np.testing.assert_allclose([ranked[0].logprob for ranked in found], np.asarray(logprobs), rtol=1e-5)


def test_a_beam_gives_distinct_captions_best_first_and_greedys_when_it_is_one_wide(
    captioner: Captioner, embeddings: np.ndarray
) -> None:
    one = captioner.caption(embeddings, Search("beam", beam=1))
    assert [ranked[0].text for ranked in one] == [ranked[0].text for ranked in captioner.caption(embeddings, Search())]
    for ranked in captioner.caption(embeddings, Search("beam", beam=4)):
        assert len({caption.text for caption in ranked}) == 4
        normalised = [caption.logprob / (len(caption.text.split()) + 1) ** graph.LENGTH_PENALTY for caption in ranked]
        assert normalised == sorted(normalised, reverse=True)


def test_a_beam_wider_than_there_are_captions_makes_none_up(
    make_package: Callable[[int], Path], embeddings: np.ndarray
) -> None:
    one_word = Captioner(make_package(3) / "captioner")  # START, a word, END: four captions
    for ranked in one_word.caption(embeddings, Search("beam", beam=6)):
        assert {caption.text for caption in ranked} == {"a", "red", "kite", "dog"}
        assert math.fsum(math.exp(caption.logprob) for caption in ranked) == pytest.approx(1, rel=1e-4)


def test_a_seed_and_a_temperature_decide_a_sample(captioner: Captioner, embeddings: np.ndarray) -> None:
    def sampled(temperature: float, seed: int) -> list[list[Caption]]:
        return captioner.caption(embeddings, Search("sample", temperature=temperature, seed=seed))

    assert sampled(1.0, 4) == sampled(1.0, 4) != sampled(1.0, 5)
    greedy = captioner.caption(embeddings, Search())
    assert [ranked[0].text for ranked in sampled(1e-6, 4)] == [ranked[0].text for ranked in greedy]


@pytest.mark.parametrize("method", ["greedy", "beam"])
def test_captions_do_not_depend_on_the_batches(
    captioner: Captioner, embeddings: np.ndarray, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    whole = captioner.caption(embeddings, Search(method))  # type: ignore[arg-type]
    monkeypatch.setattr(module, "DECODE_BATCH", 5)
    parts = captioner.caption(embeddings, Search(method))  # type: ignore[arg-type]
    assert [[c.text for c in ranked] for ranked in parts] == [[c.text for c in ranked] for ranked in whole]


def test_embeddings_of_another_encoder_are_refused(captioner: Captioner) -> None:
    captioner.require_encoder("0123456789abcdef")
    with pytest.raises(CaptioningError, match=r"toy 0123456789abcdef, these are of feed.*use a profile with"):
        captioner.require_encoder("feed")


def test_a_model_of_another_schema_is_refused(package: Path, tmp_path: Path) -> None:
    shutil.copytree(package / "captioner", tmp_path / "captioner")
    card = json.loads((tmp_path / "captioner" / "model.json").read_text(encoding="utf-8"))
    (tmp_path / "captioner" / "model.json").write_text(json.dumps(card | {"schema": 99}), encoding="utf-8")
    with pytest.raises(CaptioningError, match=r"schema 99; this code reads 2.*with the model\.py"):
        Captioner(tmp_path / "captioner")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": "best"}, "greedy, beam or sample, not 'best'"),
        ({"beam": 0}, "1 or more"),
        ({"temperature": 0.0}, "above 0"),
        ({"temperature": math.nan}, "above 0"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(CaptioningError, match=message):
        Search(**wrong)  # type: ignore[arg-type]
