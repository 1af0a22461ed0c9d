"""What this machine can do at best, for the floors in docs/performance.md: products, exponentials and copies.

Run by `make bench-machine`. Medians of five rounds that take turns.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

ROUNDS, REPEATS, SIDE = 5, 8, 2048
LOGITS = (3072, 8769)
"""Of a batch of captions, with COCO's vocabulary."""


def main() -> None:
    full, many = tf.random.normal((SIDE, SIDE)), tf.random.normal(LOGITS)
    half = tf.cast(full, tf.bfloat16)
    hidden, table = tf.random.normal((LOGITS[0], 120)), tf.random.normal((120, LOGITS[1]))
    ways: dict[str, tuple[Callable[[], Any], float, str]] = {
        "float32 products": (lambda: tf.matmul(full, full), 2 * SIDE**3 / 1e12, "TFLOP/s"),
        "bfloat16 products": (lambda: tf.matmul(half, half), 2 * SIDE**3 / 1e12, "TFLOP/s"),
        "float32 logits": (lambda: tf.matmul(hidden, table), 2 * LOGITS[0] * 120 * LOGITS[1] / 1e12, "TFLOP/s"),
        "exponentials": (lambda: tf.exp(many), LOGITS[0] * LOGITS[1] / 1e9, "thousand million/s"),
        "copies": (lambda: tf.identity(many) + 0.0, 2 * 4 * LOGITS[0] * LOGITS[1] / 1e9, "GB/s"),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, (way, amount, _) in ways.items():
            way()
            started = time.perf_counter()
            for _ in range(REPEATS):
                last = way()
            np.asarray(last).ravel()[:1]
            rates[name].append(REPEATS * amount / (time.perf_counter() - started))
    found = {name: round(statistics.median(each), 3) for name, each in rates.items()}
    for name, each in rates.items():
        sys.stderr.write(f"{name:18} {found[name]:8.3f} {ways[name][2]}, from {min(each):.3f} to {max(each):.3f}\n")
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
