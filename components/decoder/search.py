"""From an image's embedding to a caption: greedy, sampled, or by beam search; batched, and inside the graph.

Written with `keras.ops`, so the same loops run eagerly, in a SavedModel and on JAX. PAD, UNK and START are never
produced, a caption has at least one word, and the last of its at most `length` ids (a number of at least 2) is END
whatever the decoder thinks. Of equally probable words the one with the lowest id is taken, of equally probable
hypotheses the one that was ahead a word before.
"""

from collections.abc import Callable
from typing import Any

from keras import ops

from components.decoder import token_selection
from components.decoder.model import Decoder
from components.decoder.token_selection import BLOCK, MASKED_LOGIT
from data_contracts.schema import END, PAD, START, UNK

Tensor = Any
Captions = tuple[Tensor, Tensor]
"""Word ids, int32, END and then PAD at their end; and the natural logarithm of each one's probability given those
before it, float32 of the same shape, 0 for PAD. Their sum is the caption's."""

LENGTH_PENALTY = 1.0
"""Exponent of the length that hypotheses of a beam are compared by (Wu et al. 2016, without the constant 5).

1 is the mean log-probability of a word. Less prefers short captions; see docs/experiments.md.
"""


def greedy(decoder: Decoder, embeddings: Tensor, length: Tensor) -> Captions:
    """The most probable word at each step. `embeddings` (batch, dimension); returns captions (batch, length)."""
    return _generate(decoder, embeddings, length, lambda logits, _: token_selection.best(logits, 1)[1][:, 0])


def sample(
    decoder: Decoder,
    embeddings: Tensor,
    length: Tensor,
    uniform: Tensor,
    temperature: Tensor = 1.0,
    top_k: Tensor = 0,
    top_p: Tensor = 1.0,
) -> Captions:
    """A word drawn at each step from the softmax of logits / temperature.

    Only the `top_k` most probable words are drawn from (0: from all), and of them only the fewest that together have
    the probability `top_p` (the nucleus, Holtzman et al. 2020). `uniform` (length, batch) are random numbers from 0 up
    to 1: one chooses each word. Returns captions (batch, length), with the probabilities that the decoder gives them,
    whatever the temperature.
    """
    limited = ops.logical_or(ops.greater(top_k, 0), ops.less(top_p, 1.0))

    def draw(logits: Tensor, now: Tensor) -> Tensor:
        # Measured from the highest, no temperature lets them overflow, or what is banned come back.
        scaled = (logits - ops.max(logits, axis=-1, keepdims=True)) / temperature
        probabilities = ops.softmax(ops.where(logits > MASKED_LOGIT / 2, scaled, MASKED_LOGIT))
        numbers = ops.take(uniform, now, axis=0)
        return ops.cond(
            limited,
            lambda: token_selection.draw_among_the_best(probabilities, numbers, top_k, top_p),
            lambda: token_selection.draw(probabilities, numbers),
        )

    return _generate(decoder, embeddings, length, draw)


def beam(decoder: Decoder, embeddings: Tensor, length: Tensor, width: Tensor) -> Captions:
    """The `width` best captions that a beam search of that width finds, best first: (batch, width, length).

    Ranked by log-probability / (number of ids) ** LENGTH_PENALTY. A beam wider than there are captions is filled up
    with ones whose probability is 0.
    """
    batch, logits_of = ops.shape(embeddings)[0], _allowed_logits(decoder, length)
    hypotheses = batch * width
    state = tuple(ops.repeat(part, width, axis=0) for part in decoder.first_state(embeddings))
    # Before the first word all hypotheses are the same one: the first alone goes on.
    lead = ops.where(ops.equal(ops.arange(width), 0), 0.0, MASKED_LOGIT)[:, None]
    totals = ops.zeros((batch, width))
    ids = ops.full((batch, width, length), PAD, dtype="int32")
    scores = ops.zeros((batch, width, length))
    last = ops.full((batch, width), START, dtype="int32")

    def step(
        now: Tensor, last: Tensor, ids: Tensor, scores: Tensor, totals: Tensor, *state: Tensor
    ) -> tuple[Tensor, ...]:
        outputs, state = decoder.step(ops.reshape(last, (hypotheses,)), state)
        logits = logits_of(outputs, now)
        # Of each hypothesis only its `width` best continuations can be among the best of all.
        count = token_selection.at_most(logits.shape[-1], width)
        values, words = token_selection.best(logits, count)
        values = ops.reshape(values - ops.logsumexp(logits, axis=-1, keepdims=True), (batch, width, count))
        # Where there are no more words, those that fill the blocks are taken; their probability is 0.
        words = ops.reshape(ops.minimum(words, decoder.vocabulary_size - 1), (batch, width, count))
        values = values + ops.where(ops.equal(now, 0), lead, 0.0)
        # A finished hypothesis stays as it is: PAD follows at no cost.
        over = _over(last)[..., None]
        values = ops.where(over, ops.where(ops.equal(ops.arange(count), 0), 0.0, MASKED_LOGIT), values)
        words = ops.where(over, PAD, words)
        candidates = ops.reshape(totals[..., None] + values, (batch, width * count))
        totals, chosen = ops.top_k(candidates, width)
        rows = ops.reshape(ops.arange(batch)[:, None] * width + ops.cast(chosen // count, "int32"), (hypotheses,))

        def follow(parts: Tensor) -> Tensor:
            """Of each hypothesis what its parent had, (batch, width, length)."""
            return ops.reshape(ops.take(ops.reshape(parts, (hypotheses, length)), rows, axis=0), ops.shape(parts))

        last = ops.take_along_axis(ops.reshape(words, (batch, width * count)), chosen, axis=1)
        score = ops.take_along_axis(ops.reshape(values, (batch, width * count)), chosen, axis=1)
        ids, scores = _write(follow(ids), last, now), _write(follow(scores), score, now)
        return now + 1, last, ids, scores, totals, *(ops.take(part, rows, axis=0) for part in state)

    start = (0, last, ids, scores, totals, *state)
    _, _, ids, scores, totals, *_ = ops.while_loop(_unfinished(length), step, start)
    lengths = ops.cast(ops.sum(ops.not_equal(ids, PAD), axis=-1), "float32")
    _, ranks = ops.top_k(totals / lengths**LENGTH_PENALTY, width)
    return (ops.take_along_axis(ids, ranks[..., None], axis=1), ops.take_along_axis(scores, ranks[..., None], axis=1))


def _generate(
    decoder: Decoder, embeddings: Tensor, length: Tensor, choose: Callable[[Tensor, Tensor], Tensor]
) -> Captions:
    """One caption an image; at each step the word that `choose` takes, given logits and step number."""
    batch, logits_of = ops.shape(embeddings)[0], _allowed_logits(decoder, length)
    ids = ops.full((batch, length), PAD, dtype="int32")
    scores = ops.zeros((batch, length))
    last = ops.full((batch,), START, dtype="int32")

    def step(now: Tensor, last: Tensor, ids: Tensor, scores: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        outputs, state = decoder.step(last, state)
        logits = logits_of(outputs, now)
        # Of logits that are no numbers (a training that fails) a choice may be of what only fills the blocks.
        word = ops.minimum(ops.cast(choose(logits, now), "int32"), decoder.vocabulary_size - 1)
        score = ops.take_along_axis(logits, word[:, None], axis=-1)[:, 0] - ops.logsumexp(logits, axis=-1)
        over = _over(last)
        word, score = ops.where(over, PAD, word), ops.where(over, 0.0, score)
        return now + 1, word, _write(ids, word, now), _write(scores, score, now), *state

    start = (0, last, ids, scores, *decoder.first_state(embeddings))
    _, _, ids, scores, *_ = ops.while_loop(_unfinished(length), step, start)
    return ids, scores


def _allowed_logits(decoder: Decoder, length: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Outputs (rows, width) and step number → logits (rows, vocabulary rounded up to whole blocks).

    NEVER, or as good as that, for what may not come at that step. This and the bias are rows of the table, for outputs
    with three more numbers: adding them to the logits would take as long as the product.
    """
    size = decoder.vocabulary_size
    spare = -size % BLOCK
    words = ops.arange(size + spare)
    is_end = ops.equal(words, END)
    banned = ops.logical_or(ops.logical_or(ops.equal(words, PAD), ops.equal(words, UNK)), ops.equal(words, START))
    always = ops.where(ops.logical_or(banned, words >= size), MASKED_LOGIT, ops.pad(decoder.logit_bias, [[0, spare]]))
    first, final = ops.where(is_end, MASKED_LOGIT, 0.0), ops.where(is_end, 0.0, MASKED_LOGIT)
    table = ops.concatenate([ops.pad(decoder.table, [[0, 0], [0, spare]]), ops.stack([always, first, final])])

    def logits(outputs: Tensor, now: Tensor) -> Tensor:
        which = ops.stack([ops.equal(now, now), ops.equal(now, 0), ops.equal(now, length - 1)])
        rows = ops.broadcast_to(ops.cast(which, "float32"), (ops.shape(outputs)[0], 3))
        return ops.matmul(ops.concatenate([outputs, rows], axis=1), table)

    return logits


def _unfinished(length: Tensor) -> Callable[..., Tensor]:
    """Of a loop's step number and last words: whether it goes on."""
    return lambda now, last, *_: ops.logical_and(now < length, ops.logical_not(ops.all(_over(last))))


def _over(last: Tensor) -> Tensor:
    return ops.logical_or(ops.equal(last, END), ops.equal(last, PAD))


def _write(values: Tensor, value: Tensor, now: Tensor) -> Tensor:
    """`values` (…, length) with `value` (…) at position `now`."""
    here = ops.equal(ops.arange(ops.shape(values)[-1]), now)
    return ops.where(here, value[..., None], values)
