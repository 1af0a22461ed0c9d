"""From an image's embedding to a caption: greedy, sampled, or by beam search; batched, and inside the graph.

Written with `keras.ops`, so the same loops run eagerly, in a SavedModel and on JAX. PAD, UNK and START are never
produced, a caption has at least one word, and its last id is END whatever the decoder thinks.
"""

import math
from collections.abc import Callable
from typing import Any

from keras import ops

from components.decoder.model import Decoder
from data_contracts.schema import END, PAD, START, UNK

Tensor = Any
NEVER = -1e9
BELOW_ONE = 1 - 1e-6
LENGTH_PENALTY = 1.0
"""Exponent of the length that hypotheses of a beam are compared by (Wu et al. 2016, without the constant 5).

1 is the mean log-probability of a word. Less prefers short captions; see docs/experiments.md.
"""


def greedy(decoder: Decoder, embeddings: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """The most probable word at each step.

    Returns ids (batch, length), int32, END and then PAD at their end, and the captions' log-probabilities (batch,).
    """
    return _generate(decoder, embeddings, length, lambda logits, _: ops.argmax(logits, axis=-1))


def sample(
    decoder: Decoder, embeddings: Tensor, length: int, temperature: Tensor, uniform: Tensor
) -> tuple[Tensor, Tensor]:
    """A word drawn at each step from the softmax of logits / temperature. Returns what `greedy` does.

    `uniform` (length, batch) are random numbers from 0 up to 1: one chooses each word.
    """

    def draw(logits: Tensor, now: Tensor) -> Tensor:
        return _draw(ops.softmax(logits), ops.take(uniform, now, axis=0))

    return _generate(decoder, embeddings, length, draw, temperature)


def beam(decoder: Decoder, embeddings: Tensor, length: int, width: Tensor) -> tuple[Tensor, Tensor]:
    """The `width` best captions that a beam search of that width finds, best first.

    Ranked by log-probability / (number of ids) ** LENGTH_PENALTY. Returns ids (batch, width, length), int32, and
    log-probabilities (batch, width).
    """
    batch, size = ops.shape(embeddings)[0], decoder.vocabulary_size
    hypotheses = batch * width
    state = tuple(ops.repeat(part, width, axis=0) for part in decoder.first_state(embeddings))
    lead = ops.where(ops.equal(ops.arange(width), 0), 0.0, NEVER)
    scores = ops.broadcast_to(lead[None, :], (batch, width))
    ids = ops.full((batch, width, length), PAD, dtype="int32")
    last = ops.full((batch, width), START, dtype="int32")

    def step(now: Tensor, last: Tensor, ids: Tensor, scores: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        logits, state = decoder.step(ops.reshape(last, (hypotheses,)), state)
        logprobs = ops.reshape(ops.log_softmax(_allowed(logits, now, length)), (batch, width, size))
        # A finished hypothesis stays as it is: PAD follows at no cost.
        over = _over(last)[..., None]
        logprobs = ops.where(over, ops.where(ops.equal(ops.arange(size), PAD), 0.0, NEVER), logprobs)
        totals = ops.reshape(scores[..., None] + logprobs, (batch, width * size))
        scores, chosen = ops.top_k(totals, width)
        parent, last = chosen // size, ops.cast(chosen % size, "int32")
        ids = _write(ops.take_along_axis(ids, parent[..., None], axis=1), last, now)
        rows = ops.reshape(ops.arange(batch)[:, None] * width + ops.cast(parent, "int32"), (hypotheses,))
        return now + 1, last, ids, scores, *(ops.take(part, rows, axis=0) for part in state)

    def unfinished(now: Tensor, last: Tensor, *_: Tensor) -> Tensor:
        return ops.logical_and(now < length, ops.logical_not(ops.all(_over(last))))

    _, _, ids, scores, *_ = ops.while_loop(unfinished, step, (0, last, ids, scores, *state))
    lengths = ops.cast(ops.sum(ops.not_equal(ids, PAD), axis=-1), "float32")
    ranks = ops.argsort(-scores / lengths**LENGTH_PENALTY, axis=-1)
    return ops.take_along_axis(ids, ranks[..., None], axis=1), ops.take_along_axis(scores, ranks, axis=1)


def _generate(
    decoder: Decoder,
    embeddings: Tensor,
    length: int,
    choose: Callable[[Tensor, Tensor], Tensor],
    temperature: Tensor = 1.0,
) -> tuple[Tensor, Tensor]:
    """One caption an image; at each step the word that `choose` takes, given logits / temperature and step number."""
    batch = ops.shape(embeddings)[0]
    ids = ops.full((batch, length), PAD, dtype="int32")
    last = ops.full((batch,), START, dtype="int32")
    scores = ops.zeros((batch,))

    def step(now: Tensor, last: Tensor, ids: Tensor, scores: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        logits, state = decoder.step(last, state)
        word = ops.cast(choose(_allowed(logits / temperature, now, length), now), "int32")
        logprobs = ops.log_softmax(_allowed(logits, now, length))
        logprob = ops.take_along_axis(logprobs, word[:, None], axis=-1)[:, 0]
        over = _over(last)
        word = ops.where(over, PAD, word)
        return now + 1, word, _write(ids, word, now), scores + ops.where(over, 0.0, logprob), *state

    def unfinished(now: Tensor, last: Tensor, *_: Tensor) -> Tensor:
        return ops.logical_and(now < length, ops.logical_not(ops.all(_over(last))))

    start = (0, last, ids, scores, *decoder.first_state(embeddings))
    _, _, ids, scores, *_ = ops.while_loop(unfinished, step, start)
    return ids, scores


def _allowed(logits: Tensor, now: Tensor, length: int) -> Tensor:
    """The logits with NEVER for what may not come at step `now`."""
    words = ops.arange(logits.shape[-1])
    is_end = ops.equal(words, END)
    banned = ops.logical_or(ops.logical_or(ops.equal(words, PAD), ops.equal(words, UNK)), ops.equal(words, START))
    banned = ops.logical_or(banned, ops.logical_and(is_end, ops.equal(now, 0)))
    banned = ops.logical_or(banned, ops.logical_and(ops.logical_not(is_end), ops.equal(now, length - 1)))
    return ops.where(banned, NEVER, logits)


def _draw(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Which word each of `uniform` (batch,) falls on when the probabilities (batch, vocabulary) are laid end to end.

    First among blocks of words, then in the block: a running sum over all words would cost more than the network.
    """
    size = probabilities.shape[-1]
    width = math.isqrt(size)
    blocks = ops.reshape(ops.pad(probabilities, [[0, 0], [0, -size % width]]), (-1, -(-size // width), width))
    sums = ops.sum(blocks, axis=-1)
    ends = ops.cumsum(sums, axis=-1)
    aim = ops.minimum(uniform[:, None], BELOW_ONE) * ends[:, -1:]
    block = _first_above(ends, aim)
    # The share of the block's own sum, which rounding may have made a little more or less than the block.
    end, of_block = (ops.take_along_axis(each, block, axis=1) for each in (ends, sums))
    share = ops.clip((aim - end + of_block) / of_block, 0.0, BELOW_ONE)
    inside = ops.cumsum(ops.take_along_axis(blocks, block[..., None], axis=1)[:, 0], axis=-1)
    return (block * width + _first_above(inside, share * inside[:, -1:]))[:, 0]


def _first_above(rising: Tensor, aim: Tensor) -> Tensor:
    """The first place in each row of `rising` (batch, n) that is above `aim` (batch, 1): (batch, 1), int32."""
    return ops.cast(ops.argmax(ops.cast(rising > aim, "float32"), axis=-1, keepdims=True), "int32")


def _over(last: Tensor) -> Tensor:
    return ops.logical_or(ops.equal(last, END), ops.equal(last, PAD))


def _write(ids: Tensor, word: Tensor, now: Tensor) -> Tensor:
    """`ids` (…, length) with `word` (…) at position `now`."""
    here = ops.equal(ops.arange(ids.shape[-1]), now)
    return ops.where(here, word[..., None], ids)
