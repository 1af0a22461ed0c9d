import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.decoder import search as graph
from components.decoder.caption import Caption, Search
from components.decoder.model import Decoder
from components.errors import BadImageError, CaptioningError
from components.images.preprocessing import read_pixels
from components.model import captioner as module
from components.model.captioner import Captioner
from components.vocabulary.vocabulary import Vocabulary
from data_contracts.schema import END, PAD, START, UNK

Photograph = Callable[[int], bytes]


@pytest.fixture(scope="module")
def captioner(package: Path) -> Captioner:
    return Captioner(package / "captioner")


@pytest.fixture(scope="module")
def embeddings() -> np.ndarray:
    return np.random.default_rng(2).normal(size=(12, 5)).astype(np.float32)


@pytest.fixture(scope="module")
def two(pair: Path) -> Captioner:
    """A captioner with two encoders."""
    return Captioner(pair / "captioner")


def test_an_encoder_reads_a_photograph_as_pixels_or_says_why_not(captioner: Captioner, photograph: Photograph) -> None:
    (encoder,) = captioner.encoders
    first, last = (encoder.read(photograph(n)) for n in (1, 3))
    assert isinstance(first, np.ndarray)
    assert isinstance(last, np.ndarray)
    assert (first.shape, str(first.dtype)) == ((8, 8, 3), "uint8")
    assert not np.array_equal(first, last)
    assert isinstance(encoder.read(photograph(2)[:200]), BadImageError)
    assert "empty" in str(encoder.read(b""))


def test_photographs_that_cannot_be_read_are_left_out_and_told_of(captioner: Captioner, photograph: Photograph) -> None:
    contents = [photograph(1), photograph(2)[:200], b"", photograph(3)]
    embeddings, bad = captioner.embed(contents)
    assert {row: type(error) for row, error in bad.items()} == {1: BadImageError, 2: BadImageError}
    assert "empty" in str(bad[2])
    alone, none_bad = captioner.embed([contents[0], contents[3]])
    np.testing.assert_array_equal(embeddings, alone)
    assert none_bad == {}
    nothing, all_bad = captioner.embed([b"", b"no image"])
    assert (nothing.shape, set(all_bad)) == ((0, 5), {0, 1})


def test_photographs_are_embedded_in_order_whatever_the_batches(
    captioner: Captioner, photograph: Photograph, monkeypatch: pytest.MonkeyPatch
) -> None:
    photographs = [photograph(n) for n in range(7)]
    whole, _ = captioner.embed(photographs)
    assert (whole.shape, str(whole.dtype)) == ((7, 5), "float32")
    assert len(np.unique(whole[:, 0])) == 7
    monkeypatch.setattr(module, "BATCH", 3)
    np.testing.assert_allclose(captioner.embed(photographs)[0], whole, rtol=1e-5)
    np.testing.assert_allclose(captioner.embed(photographs[::-1])[0], whole[::-1], rtol=1e-5)


def test_several_encoders_numbers_stand_one_behind_the_other(
    two: Captioner, networks: list[Any], photograph: Photograph
) -> None:
    contents = [photograph(1), b"no image", photograph(2), photograph(3)]
    embeddings, bad = two.embed(contents)
    assert (embeddings.shape, str(embeddings.dtype), list(bad)) == ((3, 5), "float32", [1])
    good = [contents[row] for row in (0, 2, 3)]
    parts = [
        np.asarray(
            network(np.stack([read_pixels(content, card["input_size"], card["preprocessing"]) for content in good]))
        )
        for network, card in zip(networks, [encoder.card for encoder in two.encoders], strict=True)
    ]
    np.testing.assert_allclose(embeddings, np.hstack(parts), rtol=1e-5)
    small, large = (encoder.embed([np.asarray(encoder.read(content)) for content in good]) for encoder in two.encoders)
    np.testing.assert_array_equal(embeddings, np.hstack([small, large]))
    assert (small.shape, large.shape) == ((3, 3), (3, 2))


def test_a_photograph_that_only_one_encoder_cannot_read_is_bad(
    two: Captioner, photograph: Photograph, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(content: bytes, size: int, *others: Any) -> np.ndarray:
        if size == 12 and content == photograph(2):
            raise BadImageError("too small for me")
        return read_pixels(content, size, *others)

    monkeypatch.setattr(module, "read_pixels", read)
    embeddings, bad = two.embed([photograph(n) for n in range(4)])
    assert {row: str(error) for row, error in bad.items()} == {2: "too small for me"}
    monkeypatch.undo()
    np.testing.assert_array_equal(embeddings, two.embed([photograph(n) for n in (0, 1, 3)])[0])


def test_nothing_in_nothing_out(captioner: Captioner, two: Captioner) -> None:
    for each in (captioner, two):
        embeddings, bad = each.embed([])
        assert (embeddings.shape, str(embeddings.dtype), bad) == ((0, 5), "float32", {})
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
    for (best,), row, scores in zip(found, np.asarray(ids), np.asarray(logprobs), strict=True):
        assert best.words == tuple(vocabulary.decode(row))
        np.testing.assert_allclose(best.logprobs, scores[: len(best.words) + 1], rtol=1e-5, atol=1e-6)
        assert best.logprob == pytest.approx(scores.sum(), rel=1e-5)


def test_words_are_as_probable_as_the_caption_says(captioner: Captioner, embeddings: np.ndarray) -> None:
    for embedding, (best,) in zip(embeddings, captioner.caption(embeddings, Search()), strict=True):
        steps = captioner.next_words(embedding, best)
        assert steps.shape == (len(best.words) + 1, 8)
        np.testing.assert_allclose(steps.sum(axis=1), 1)
        assert not steps[:, [PAD, UNK, START]].any()
        ids = [captioner.vocabulary.ids[word] for word in best.words]
        # The first word cannot be END in a search, nor the last anything else.
        found = steps[np.arange(len(ids)), ids] / np.where(np.arange(len(ids)) == 0, 1 - steps[0, END], 1)
        np.testing.assert_allclose(found, np.exp(best.logprobs[:-1]), rtol=1e-4)


@pytest.mark.parametrize("method", ["greedy", "beam", "sample"])
def test_no_caption_is_longer_than_asked(captioner: Captioner, embeddings: np.ndarray, method: str) -> None:
    def longest(max_length: int) -> int:
        found = captioner.caption(embeddings, Search(method, max_length=max_length))  # type: ignore[arg-type]
        return max(len(caption.words) for ranked in found for caption in ranked)

    assert [longest(words) for words in (1, 2, 5, 6, 100)] == [1, 2, 5, 5, 5] or longest(5) < 5
    assert longest(0) == longest(100)


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
    greedy = [ranked[0].text for ranked in captioner.caption(embeddings, Search())]
    for limited in ({"temperature": 1e-6}, {"top_k": 1}, {"top_p": 1e-6}):
        found = captioner.caption(embeddings, Search("sample", seed=4, **limited))  # type: ignore[arg-type]
        assert [ranked[0].text for ranked in found] == greedy


@pytest.mark.parametrize("method", ["greedy", "beam"])
def test_captions_do_not_depend_on_the_batches(
    captioner: Captioner, embeddings: np.ndarray, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    whole = captioner.caption(embeddings, Search(method))  # type: ignore[arg-type]
    monkeypatch.setattr(module, "DECODE_BATCH", 5)
    parts = captioner.caption(embeddings, Search(method))  # type: ignore[arg-type]
    assert [[c.text for c in ranked] for ranked in parts] == [[c.text for c in ranked] for ranked in whole]


def test_embeddings_of_another_encoder_are_refused(captioner: Captioner) -> None:
    captioner.require_encoders("0123456789abcdef")
    with pytest.raises(CaptioningError, match=r"toy 0123456789abcdef, these are of feed.*use a profile with"):
        captioner.require_encoders("feed")


def test_embeddings_of_the_same_encoders_in_another_order_or_of_one_are_refused(two: Captioner) -> None:
    small, large = "a" * 16, "b" * 16
    two.require_encoders(f"{small}+{large}")
    assert two.fingerprint == f"{small}+{large}"
    for other in (f"{large}+{small}", small, large, f"{small}+{large}+{small}", ""):
        with pytest.raises(CaptioningError) as caught:
            two.require_encoders(other)
        assert f"embeddings of small+large {small}+{large}, these are of {other}: use a profile" in str(caught.value)


def test_a_captioner_names_its_encoders_in_their_order(captioner: Captioner, two: Captioner) -> None:
    assert [encoder.card["name"] for encoder in two.encoders] == ["small", "large"]
    assert [encoder.card["name"] for encoder in captioner.encoders] == ["toy"]
    assert captioner.fingerprint == captioner.encoders[0].card["fingerprint"] == "0123456789abcdef"


def test_a_model_of_another_schema_is_refused(package: Path, tmp_path: Path) -> None:
    shutil.copytree(package / "captioner", tmp_path / "captioner")
    card = json.loads((tmp_path / "captioner" / "model.json").read_text(encoding="utf-8"))
    (tmp_path / "captioner" / "model.json").write_text(json.dumps(card | {"schema": 99}), encoding="utf-8")
    with pytest.raises(CaptioningError, match=r"schema 99; this code reads 4.*with the model\.py"):
        Captioner(tmp_path / "captioner")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": "best"}, "greedy, beam or sample, not 'best'"),
        ({"beam": 0}, "1 or more"),
        ({"temperature": 0.0}, "above 0"),
        ({"temperature": math.nan}, "above 0"),
        ({"top_k": -1}, "1 or more, or 0"),
        ({"top_p": 0.0}, "above 0 and at most 1"),
        ({"top_p": math.nan}, "above 0 and at most 1"),
        ({"max_length": -1}, "1 or more, or 0"),
        ({"seed": -1}, "at least 0"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(CaptioningError, match=message):
        Search(**wrong)  # type: ignore[arg-type]
