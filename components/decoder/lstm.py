"""The LSTM's recurrence, one step at a time for searching and many at once, with its own gradient, for training.

Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000. A framework's automatic gradient multiplies
the weights' gradient out once a step; here it is one product over all steps, and every product may be of bfloat16.
"""

from typing import Any, Literal

from keras import ops

Tensor = Any
Precision = Literal["float32", "bfloat16"]
State = tuple[Tensor, Tensor]
"""Hidden and cell state, each (batch, units), float32."""


def matmul(left: Tensor, right: Tensor, precision: Precision) -> Tensor:
    """The product in float32, of factors in float32 or rounded to bfloat16."""
    return ops.cast(ops.matmul(ops.cast(left, precision), ops.cast(right, precision)), "float32")


def step(gates: Tensor, recurrent: Tensor, state: State) -> State:
    """The next state. `gates` (batch, 4 × units) is the input's part of input, forget, output gate and candidate."""
    hidden, cell, _ = _step(gates, recurrent, *state, "float32")
    return hidden, cell


def unroll(gates: Tensor, recurrent: Tensor, state: State, precision: Precision) -> Tensor:
    """The hidden states after every step: (steps, batch, units), from `gates` (steps, batch, 4 × units).

    `recurrent` is (units, 4 × units). The number of steps is fixed when a graph is traced.
    """
    # TensorFlow lets no variable into a custom gradient, only what it holds.
    return _unrolled(precision)(*map(ops.copy, (gates, recurrent, *state)))


def _step(
    gates: Tensor, recurrent: Tensor, hidden: Tensor, cell: Tensor, precision: Precision
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """Hidden and cell state, and what the gradient needs: the gates and the cell's tanh."""
    units = hidden.shape[-1]
    total = gates + matmul(hidden, recurrent, precision)
    opened, candidate = ops.sigmoid(total[:, : 3 * units]), ops.tanh(total[:, 3 * units :])
    input_gate, forget_gate, output_gate = (opened[:, n * units : (n + 1) * units] for n in range(3))
    cell = forget_gate * cell + input_gate * candidate
    tanh_cell = ops.tanh(cell)
    return output_gate * tanh_cell, cell, (input_gate, forget_gate, output_gate, candidate, tanh_cell)


def _unrolled(precision: Precision) -> Any:
    @ops.custom_gradient  # type: ignore[untyped-decorator]
    def run(gates: Tensor, recurrent: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Any]:
        weights = ops.cast(recurrent, precision)
        hiddens, cells, kept = [hidden], [cell], []
        for now in range(gates.shape[0]):
            hidden, cell, opened = _step(gates[now], weights, hidden, cell, precision)
            hiddens.append(hidden)
            cells.append(cell)
            kept.append(opened)

        def gradient(upstream: Tensor) -> tuple[Tensor, ...]:
            # Back through time: what reaches hidden and cell state, and through them the gates.
            to_hidden, to_cell = ops.zeros_like(hidden), ops.zeros_like(cell)
            to_gates: list[Tensor] = []
            for now in reversed(range(len(kept))):
                input_gate, forget_gate, output_gate, candidate, tanh_cell = kept[now]
                to_hidden = to_hidden + upstream[now]
                to_cell = to_cell + to_hidden * output_gate * (1 - tanh_cell * tanh_cell)
                to_gates.append(
                    ops.concatenate(
                        [
                            to_cell * candidate * input_gate * (1 - input_gate),
                            to_cell * cells[now] * forget_gate * (1 - forget_gate),
                            to_hidden * tanh_cell * output_gate * (1 - output_gate),
                            to_cell * input_gate * (1 - candidate * candidate),
                        ],
                        axis=1,
                    )
                )
                to_cell = to_cell * forget_gate
                to_hidden = matmul(to_gates[-1], ops.transpose(weights), precision)
            every = ops.stack(to_gates[::-1])
            before = ops.reshape(ops.stack(hiddens[:-1]), (-1, hidden.shape[-1]))
            flat = ops.reshape(every, (-1, every.shape[-1]))
            return every, matmul(ops.transpose(before), flat, precision), to_hidden, to_cell

        return ops.stack(hiddens[1:]), gradient

    return run
