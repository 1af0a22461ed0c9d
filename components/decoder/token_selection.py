"""Choosing among many words fast: the best few, or one at random.

Rows of logits or probabilities are looked at in blocks of BLOCK words: first which blocks matter, then inside those
alone. Looking at all words one by one would cost more than the network.
"""

from typing import Any

from keras import ops

Tensor = Any

MASKED_LOGIT = -1e9
"""The logit of a word that must not come."""
BLOCK = 64
"""Words that are looked at together; a row's length is a multiple of it."""
BELOW_ONE = 1 - 1e-6


def best(logits: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """The `count` highest of each row, the highest first, and which they are: both (rows, count).

    `logits` (rows, n). Of equal ones the first comes first, as if the whole row had been sorted.
    """
    blocks = logits.shape[-1] // BLOCK
    by_block = ops.reshape(logits, (-1, blocks, BLOCK))
    # The best are in the blocks whose highest are the highest. These are taken in their order, for the sake of ties.
    taken = at_most(blocks, count)
    _, chosen = ops.top_k(ops.max(by_block, axis=-1), taken)
    chosen = ops.cast(ops.sort(chosen, axis=-1), "int32")
    rows = ops.shape(by_block)[0]
    flat = ops.reshape(ops.arange(rows)[:, None] * blocks + chosen, (-1,))
    inside = ops.reshape(ops.take(ops.reshape(logits, (-1, BLOCK)), flat, axis=0), (rows, taken * BLOCK))
    values, place = ops.top_k(inside, count)
    place = ops.cast(place, "int32")
    return values, ops.take_along_axis(chosen, place // BLOCK, axis=1) * BLOCK + place % BLOCK


def draw(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Which word each of `uniform` (rows,) falls on when the probabilities (rows, n) are laid end to end: (rows,)."""
    blocks = ops.reshape(probabilities, (-1, probabilities.shape[-1] // BLOCK, BLOCK))
    sums = ops.sum(blocks, axis=-1)
    ends = ops.cumsum(sums, axis=-1)
    aim = ops.minimum(uniform[:, None], BELOW_ONE) * ends[:, -1:]
    block = _first_above(ends, aim)
    # The share of the block's own sum, which rounding may have made a little more or less than the block.
    end, of_block = (ops.take_along_axis(each, block, axis=1) for each in (ends, sums))
    share = ops.clip((aim - end + of_block) / of_block, 0.0, BELOW_ONE)
    inside = ops.cumsum(ops.take_along_axis(blocks, block[..., None], axis=1)[:, 0], axis=-1)
    return (block * BLOCK + _first_above(inside, share * inside[:, -1:]))[:, 0]


def draw_among_the_best(probabilities: Tensor, uniform: Tensor, top_k: Tensor, top_p: Tensor) -> Tensor:
    """As `draw`, from the `top_k` highest (0: all) only, and of those from the nucleus only, the highest first.

    The nucleus are the fewest that together have at least `top_p` of their sum.
    """
    size = probabilities.shape[-1]
    count = (top_k or size) if isinstance(top_k, int) else ops.where(ops.equal(top_k, 0), size, top_k)
    values, words = best(probabilities, at_most(size, count))
    before = ops.cumsum(values, axis=-1) - values
    kept = ops.where(before < top_p * ops.sum(values, axis=-1, keepdims=True), values, 0.0)
    ends = ops.cumsum(kept, axis=-1)
    place = _first_above(ends, ops.minimum(uniform[:, None], BELOW_ONE) * ends[:, -1:])
    return ops.take_along_axis(words, place, axis=1)[:, 0]


def at_most(limit: int, number: Tensor) -> Tensor:
    """The lesser of the two: a tensor of a tensor, and a number of a number, which JAX wants for sizes."""
    return min(number, limit) if isinstance(number, int) else ops.minimum(number, limit)


def _first_above(rising: Tensor, aim: Tensor) -> Tensor:
    """The first place in each row of `rising` (rows, n) that is above `aim` (rows, 1): (rows, 1), int32."""
    return ops.cast(ops.argmax(ops.cast(rising > aim, "float32"), axis=-1, keepdims=True), "int32")
