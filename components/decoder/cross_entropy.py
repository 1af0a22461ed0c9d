"""Cross-entropy over a vocabulary, with the gradient made in the same pass.

The logits are the largest arrays of a training: tokens × vocabulary. A framework keeps them for its gradient and walks
over them once for each operation of it; here they become the gradient at once.
"""

from typing import Any

from keras import ops

from components.decoder.lstm import Precision, Tensor, matmul


def cross_entropy(
    hidden: Tensor,
    table: Tensor,
    bias: Tensor,
    targets: Tensor,
    weights: Tensor,
    smoothing: float,
    precision: Precision,
) -> tuple[Tensor, Tensor, Tensor]:
    """Three sums over tokens, each times its weight: smoothed loss, plain loss (both in nats), and right guesses.

    From `hidden` (tokens, width), `table` (width, vocabulary), `bias` (vocabulary,), all float32, `targets` (tokens,),
    int32, and `weights` (tokens,), float32, which may be negative. The smoothed loss gives `smoothing` of the target's
    probability to all words alike (Szegedy et al. 2016); only it has a gradient, by `hidden`, `table` and `bias`.
    """

    @ops.custom_gradient  # type: ignore[untyped-decorator]
    def run(hidden: Tensor, table: Tensor, bias: Tensor) -> tuple[tuple[Tensor, ...], Any]:
        logits = matmul(hidden, table, precision) + bias
        highest = ops.max(logits, axis=1, keepdims=True)
        exp_logits = ops.exp(logits - highest)
        total = ops.sum(exp_logits, axis=1, keepdims=True)
        target_logits = ops.take_along_axis(logits, targets[:, None], axis=1)
        plain = (ops.log(total) + highest - target_logits)[:, 0]
        smoothed = plain + smoothing * (target_logits[:, 0] - ops.mean(logits, axis=1)) if smoothing else plain

        # Of logits: weight × (probability − what the target gives).
        token_weights = weights[:, None]
        grad_logits = exp_logits * (token_weights / total)
        if smoothing:
            grad_logits = grad_logits - token_weights * (smoothing / logits.shape[1])
        at_target = ops.stack([ops.arange(ops.shape(targets)[0], dtype="int32"), targets], axis=1)
        at_targets = ops.take_along_axis(grad_logits, targets[:, None], axis=1)[:, 0] - weights * (1 - smoothing)
        grad_logits = ops.scatter_update(grad_logits, at_target, at_targets)
        by_hidden = matmul(grad_logits, ops.transpose(table), precision)
        by_table = matmul(ops.transpose(hidden), grad_logits, precision)
        by_bias = ops.sum(grad_logits, axis=0)

        def gradient(upstream: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
            # TensorFlow hands over one upstream an output, JAX a tuple of all.
            loss = upstream[0] if isinstance(upstream, tuple) else upstream
            return loss * by_hidden, loss * by_table, loss * by_bias

        correct = ops.cast(target_logits >= highest, "float32")[:, 0]
        return tuple(ops.sum(weights * each) for each in (smoothed, plain, correct)), gradient

    sums: tuple[Tensor, Tensor, Tensor] = run(*map(ops.copy, (hidden, table, bias)))
    return sums
