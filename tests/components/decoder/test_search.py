from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.decoder.model import Decoder
from components.decoder.search import LENGTH_PENALTY, beam, greedy, sample
from data_contracts.schema import END, PAD, START, UNK

Decoders = Callable[..., Decoder]
Embeddings = Callable[[int, int], np.ndarray]
Hypothesis = tuple[tuple[int, ...], float]
WORDS = 8

seeds = st.integers(0, 10_000)
lengths = st.integers(2, 7)
biases = st.sampled_from([-30.0, -3.0, 0.0, 3.0, 30.0])
EVERYTHING = dict.fromkeys(("standardize_embeddings", "separate_states", "image_at_every_step", "tie_embeddings"), True)
# The same examples each time: two hypotheses that tie within rounding would be ranked by chance.
few = settings(max_examples=15, derandomize=True)


def next_logprobs(decoder: Decoder, embedding: np.ndarray, begun: list[tuple[int, ...]], length: int) -> np.ndarray:
    """Log-probabilities of what follows captions begun alike long, from the whole network: (captions, words)."""
    words = np.array([(START, *ids) for ids in begun], np.int32)
    logits = np.asarray(decoder((np.repeat(embedding[None], len(begun), axis=0), words)), np.float64)[:, -1]
    return allowed_logprobs(logits, words.shape[1] - 1, length)


def allowed_logprobs(logits: np.ndarray, step: int, length: int) -> np.ndarray:
    """Of a step's logits (…, words): no special word, no end at first, nothing but the end at last."""
    logits = logits.copy()
    logits[..., [PAD, UNK, START]] = -np.inf
    if step == 0:
        logits[..., END] = -np.inf
    if step == length - 1:
        logits[..., np.arange(logits.shape[-1]) != END] = -np.inf
    return np.asarray(logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True))


def logprobs_of(decoder: Decoder, embedding: np.ndarray, ids: np.ndarray) -> list[float]:
    """The teacher-forced log-probability of each word of a caption that ends; 0 behind its end."""
    words = ids.tolist()[: ids.tolist().index(END) + 1]
    logits = np.asarray(decoder((embedding[None], np.array([[START, *words[:-1]]], np.int32))), np.float64)[0]
    logprobs = [allowed_logprobs(logits[now], now, len(ids))[word] for now, word in enumerate(words)]
    return [*map(float, logprobs), *[0.0] * (len(ids) - len(logprobs))]


def rank(hypothesis: Hypothesis) -> float:
    ids, score = hypothesis
    return float(-score / len(ids) ** LENGTH_PENALTY)


def reference_beam(decoder: Decoder, embedding: np.ndarray, length: int, width: int) -> list[Hypothesis]:
    """A beam search with lists; one as wide as there are captions is exhaustive."""
    finished: list[Hypothesis] = []
    hypotheses: list[Hypothesis] = [((), 0.0)]
    while hypotheses:
        logprobs = next_logprobs(decoder, embedding, [ids for ids, _ in hypotheses], length)
        longer = [
            ((*ids, word), score + row[word])
            for (ids, score), row in zip(hypotheses, logprobs, strict=True)
            for word in np.flatnonzero(np.isfinite(row)).tolist()
        ]
        kept = sorted(finished + longer, key=lambda hypothesis: -hypothesis[1])[:width]
        finished = [hypothesis for hypothesis in kept if hypothesis[0][-1] == END]
        hypotheses = [hypothesis for hypothesis in kept if hypothesis[0][-1] != END]
    return sorted(finished, key=rank)


def padded(ids: tuple[int, ...], length: int) -> list[int]:
    return [*ids, *[PAD] * (length - len(ids))]


def uniform(seed: int, length: int, batch: int) -> np.ndarray:
    return np.random.default_rng(seed).random((length, batch), np.float32)


def grid(count: int) -> np.ndarray:
    """Numbers from 0 to 1, equally far apart: what falls on a word is its probability, within 1 / count."""
    return ((np.arange(count) + 0.5) / count).astype(np.float32)


@given(seed=seeds, length=lengths, width=st.integers(1, 4), end_bias=biases, options=st.sampled_from([{}, EVERYTHING]))
@settings(few, max_examples=40)
def test_beam_equals_the_reference(
    random_decoder: Decoders,
    random_embeddings: Embeddings,
    seed: int,
    length: int,
    width: int,
    end_bias: float,
    options: dict[str, bool],
) -> None:
    decoder, embeddings = random_decoder(seed, end_bias=end_bias, **options), random_embeddings(seed, 2)
    ids, logprobs = beam(decoder, embeddings, length, width)
    for row, embedding in enumerate(embeddings):
        expected = reference_beam(decoder, embedding, length, width)
        assert np.asarray(ids)[row].tolist() == [padded(caption, length) for caption, _ in expected]
        np.testing.assert_allclose(
            np.sum(logprobs, axis=-1)[row], [score for _, score in expected], rtol=1e-4, atol=1e-4
        )


@given(seed=seeds)
@few
def test_a_beam_wide_enough_finds_the_best_of_all_captions(
    random_decoder: Decoders, random_embeddings: Embeddings, seed: int
) -> None:
    decoder, embeddings = random_decoder(seed), random_embeddings(seed, 1)
    every = reference_beam(decoder, embeddings[0], 3, 10_000)
    assert len(every) == 4 + 4 * 4
    assert sum(np.exp(score) for _, score in every) == pytest.approx(1)
    ids, _ = beam(decoder, embeddings, 3, len(every))
    assert np.asarray(ids)[0].tolist() == [padded(caption, 3) for caption, _ in every]


@given(seed=seeds, length=lengths, end_bias=biases)
@few
def test_greedy_is_a_beam_of_one(
    random_decoder: Decoders, random_embeddings: Embeddings, seed: int, length: int, end_bias: float
) -> None:
    decoder, embeddings = random_decoder(seed, end_bias=end_bias), random_embeddings(seed, 6)
    ids, logprobs = greedy(decoder, embeddings, length)
    beam_ids, beam_logprobs = beam(decoder, embeddings, length, 1)
    np.testing.assert_array_equal(ids, np.asarray(beam_ids)[:, 0])
    np.testing.assert_allclose(logprobs, np.asarray(beam_logprobs)[:, 0], rtol=1e-5, atol=1e-5)


@given(seed=seeds, length=lengths, end_bias=biases, method=st.sampled_from(["greedy", "beam", "sample"]))
@few
def test_every_caption_is_words_then_end_then_padding_with_its_teacher_forced_probability(
    random_decoder: Decoders, random_embeddings: Embeddings, seed: int, length: int, end_bias: float, method: str
) -> None:
    decoder, embeddings = random_decoder(seed, end_bias=end_bias), random_embeddings(seed, 3)
    if method == "beam":
        ids, logprobs = (np.asarray(part)[:, -1] for part in beam(decoder, embeddings, length, 3))
    elif method == "greedy":
        ids, logprobs = (np.asarray(part) for part in greedy(decoder, embeddings, length))
    else:
        ids, logprobs = (
            np.asarray(part) for part in sample(decoder, embeddings, length, uniform(seed, length, 3), 2.0)
        )
    assert ids.shape == (3, length)
    assert ids.dtype == np.int32
    assert logprobs.shape == ids.shape
    for embedding, caption, by_word in zip(embeddings, ids, logprobs, strict=True):
        end = caption.tolist().index(END)
        assert end >= 1
        assert set(caption[:end].tolist()) <= set(range(4, WORDS))
        assert set(caption[end + 1 :].tolist()) <= {PAD}
        np.testing.assert_allclose(by_word, logprobs_of(decoder, embedding, caption), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("end_bias", "words"), [(1000.0, 1), (-1000.0, 6)])
def test_captions_end_however_likely_end_is(
    random_decoder: Decoders, random_embeddings: Embeddings, end_bias: float, words: int
) -> None:
    decoder, embeddings = random_decoder(3, end_bias=end_bias), random_embeddings(3, 4)
    ends = np.full(4, words)
    for ids, logprobs in (
        greedy(decoder, embeddings, 7),
        sample(decoder, embeddings, 7, uniform(0, 7, 4)),
        beam(decoder, embeddings, 7, 1),
    ):
        np.testing.assert_array_equal(np.argmax(np.asarray(ids).reshape(4, 7) == END, axis=1), ends)
        assert np.isfinite(logprobs).all()


@pytest.mark.parametrize("seed", range(3))
def test_a_batch_is_captioned_as_its_images_are_alone(
    random_decoder: Decoders, random_embeddings: Embeddings, seed: int
) -> None:
    decoder, embeddings = random_decoder(seed), random_embeddings(seed, 7)
    drawn = uniform(seed, 6, 7)
    for search in (
        lambda rows: greedy(decoder, embeddings[rows], 6),
        lambda rows: beam(decoder, embeddings[rows], 6, 3),
        lambda rows: sample(decoder, embeddings[rows], 6, drawn[:, rows]),
    ):
        ids, logprobs = search(slice(None))
        for row in range(7):
            alone, logprob = search(slice(row, row + 1))
            np.testing.assert_array_equal(ids[row], alone[0])
            np.testing.assert_allclose(logprobs[row], logprob[0], rtol=1e-5, atol=1e-5)


def test_no_images_give_no_captions(random_decoder: Decoders, random_embeddings: Embeddings) -> None:
    assert greedy(random_decoder(0), random_embeddings(0, 0), 5)[0].shape == (0, 5)
    assert sample(random_decoder(0), random_embeddings(0, 0), 5, uniform(0, 5, 0))[0].shape == (0, 5)
    assert beam(random_decoder(0), random_embeddings(0, 0), 5, 3)[0].shape == (0, 3, 5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("words", [5, 8, 23, 64, 65, 150])
def test_words_are_drawn_from_the_softmax_at_a_temperature(
    random_decoder: Decoders, random_embeddings: Embeddings, words: int, temperature: float
) -> None:
    decoder, embedding, draws = random_decoder(17, words=words), random_embeddings(17, 1), 2000
    drawn = np.full((3, draws), 0.5, np.float32)
    drawn[0] = grid(draws)
    ids, _ = sample(decoder, np.repeat(embedding, draws, axis=0), 3, drawn, temperature)
    first = np.asarray(ids)[:, 0]
    expected = np.exp(next_logprobs(decoder, embedding[0], [()], 3)[0] / temperature)
    expected /= expected.sum()
    np.testing.assert_allclose(np.bincount(first, minlength=words) / draws, expected, atol=1.01 / draws)
    assert (np.diff(first) >= 0).all()  # words lie end to end, in the order of their ids


@given(seed=seeds, words=st.integers(5, 140), extreme=st.sampled_from([0.0, 1 - 2**-24]), end_bias=biases)
@few
def test_the_lowest_and_the_highest_number_draw_words_too(
    random_decoder: Decoders, random_embeddings: Embeddings, seed: int, words: int, extreme: float, end_bias: float
) -> None:
    decoder = random_decoder(seed, words=words, end_bias=end_bias)
    drawn = np.full((4, 3), extreme, np.float32)
    for caption in np.asarray(sample(decoder, random_embeddings(seed, 3), 4, drawn)[0]).tolist():
        end = caption.index(END)
        assert end >= 1
        assert all(4 <= word < words for word in caption[:end])


def test_no_number_draws_a_word_of_no_probability(random_decoder: Decoders, random_embeddings: Embeddings) -> None:
    words, random, impossible = 400, np.random.default_rng(0), 0
    decoder = random_decoder(0, words=words)
    decoder.logit_kernel.assign(np.zeros((3, words)))  # the same probabilities whatever the image
    for _ in range(20):
        decoder.logit_bias.assign(2 * random.normal(size=words))
        probabilities = np.exp(next_logprobs(decoder, random_embeddings(0, 1)[0], [()], 3)[0])
        # All numbers around the end of the first twenty words.
        end = np.float32(probabilities[:20].sum())
        drawn = np.tile(end + np.arange(-200, 200) * np.spacing(end), (3, 1)).astype(np.float32)
        ids = np.asarray(sample(decoder, random_embeddings(0, 400), 3, drawn)[0])
        impossible += int((ids[:, 0] < 4).sum())
    assert impossible == 0


@pytest.mark.parametrize("temperature", [1e3, 1e12, np.inf])
def test_no_temperature_lets_a_special_through(
    random_decoder: Decoders, random_embeddings: Embeddings, temperature: float
) -> None:
    ids, _ = sample(random_decoder(1), random_embeddings(1, 500), 5, uniform(1, 5, 500), temperature)
    assert not np.isin(ids, [UNK, START]).any()
    assert (np.asarray(ids)[:, 0] >= 4).all()
    assert (np.asarray(ids) == END).any(axis=1).all()


def test_a_temperature_near_zero_is_greedy(random_decoder: Decoders, random_embeddings: Embeddings) -> None:
    decoder, embeddings = random_decoder(8), random_embeddings(8, 20)
    ids, logprobs = sample(decoder, embeddings, 6, uniform(0, 6, 20), 1e-6)
    expected, expected_logprobs = greedy(decoder, embeddings, 6)
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_allclose(logprobs, expected_logprobs, rtol=1e-6)


@given(
    seed=seeds,
    length=lengths,
    temperature=st.sampled_from([0.5, 1.0, 2.0]),
    top_k=st.sampled_from([0, 1, 2, 3, 99]),
    top_p=st.sampled_from([0.3, 0.8, 1.0]),
    end_bias=biases,
)
@settings(few, max_examples=30)
def test_a_limited_sample_equals_the_reference(
    random_decoder: Decoders,
    random_embeddings: Embeddings,
    seed: int,
    length: int,
    temperature: float,
    top_k: int,
    top_p: float,
    end_bias: float,
) -> None:
    decoder, embeddings = random_decoder(seed, end_bias=end_bias), random_embeddings(seed, 4)
    drawn = uniform(seed, length, 4)
    ids = np.asarray(sample(decoder, embeddings, length, drawn, temperature, top_k, top_p)[0])
    # Each word is drawn from what the whole network says after the words before it, so these are given all at once.
    logits = np.asarray(decoder((embeddings, np.pad(ids[:, :-1], ((0, 0), (1, 0)), constant_values=START))), np.float64)
    for caption, numbers, rows in zip(ids.tolist(), drawn.T, logits, strict=True):
        words = caption[: caption.index(END) + 1]
        for step, word in enumerate(words):
            logprobs = allowed_logprobs(rows[step], step, length) / temperature
            chances = np.exp(logprobs - np.logaddexp.reduce(logprobs))
            assert word == reference_draw(chances, numbers[step], top_k, top_p)
        assert caption == padded(tuple(words), length)


def reference_draw(chances: np.ndarray, number: float, top_k: int, top_p: float) -> int:
    limited = top_k > 0 or top_p < 1
    order = np.argsort(-chances, kind="stable")[: top_k or None] if limited else np.arange(len(chances))
    before = np.cumsum(chances[order]) - chances[order]
    kept = np.where(before < top_p * chances[order].sum(), chances[order], 0)
    return int(order[np.searchsorted(np.cumsum(kept), number * kept.sum(), side="right")])


def test_ties_are_broken_by_the_words_and_then_by_the_hypotheses_order(
    random_decoder: Decoders, random_embeddings: Embeddings
) -> None:
    decoder = random_decoder(0)
    decoder.logit_kernel.assign(np.zeros((3, WORDS)))
    decoder.logit_bias.assign([0, 0, 0, -50, 0, 0, 0, 0])  # four words, all alike; END only when it must
    ids, logprobs = (np.asarray(part) for part in greedy(decoder, random_embeddings(0, 2), 4))
    assert ids.tolist() == [[4, 4, 4, END]] * 2
    np.testing.assert_allclose(np.exp(logprobs), [[0.25, 0.25, 0.25, 1]] * 2, rtol=1e-5)
    ids, _ = beam(decoder, random_embeddings(0, 2), 4, 3)
    assert np.asarray(ids).tolist() == [[[4, 4, 4, END], [4, 4, 5, END], [4, 4, 6, END]]] * 2


def test_a_beam_wider_than_the_vocabulary_is_filled_up_with_the_impossible(
    random_decoder: Decoders, random_embeddings: Embeddings
) -> None:
    ids, logprobs = (np.asarray(part) for part in beam(random_decoder(2), random_embeddings(2, 2), 2, 200))
    possible = logprobs.sum(axis=-1) > -1e8
    assert possible.sum(axis=1).tolist() == [4, 4]
    assert possible[:, :4].all()
    assert ids.max() < WORDS
    np.testing.assert_allclose(np.exp(logprobs.sum(axis=-1))[:, :4].sum(axis=1), 1, rtol=1e-5)
