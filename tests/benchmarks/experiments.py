"""The tables of docs/experiments.md: `python -m tests.benchmarks.experiments DATA INCEPTION_WEIGHTS.h5`.

Trains every row on Flickr8k (the folder `flickr8k` in DATA), one after the other, and compares them by a paired
bootstrap on the dev photographs. It takes two hours on two cores; what a killed run has trained is not trained again
(CAPTIONING_HOME).
"""

import json
import subprocess
import sys
from typing import Any

import mlflow

from flows.settings import settings

COMMON = ["training.precision=bfloat16"]
THIRD = ["training.self_critical.epochs=3"]
SHORT = ["training.epochs=6"]
DROPOUT = [f"training.{place}_dropout=0" for place in ("image", "word", "output")]


def rows_of(weights: str) -> dict[str, list[str]]:
    """What every row changes."""
    second = ["further_encoders.second.name=inception_v3", f"further_encoders.second.weights={weights}"]
    return {
        "notebook": ["recipe=notebook"],
        "strong": [],
        "self-critical": THIRD,
        "second": second,
        "second, self-critical": [*second, *THIRD],
        "6 epochs": SHORT,
        "6 epochs, not standardised": [*SHORT, "decoder.standardize_embeddings=false"],
        "6 epochs, no dropout": [*SHORT, *DROPOUT],
        "6 epochs, no average": [*SHORT, "training.weight_average=0"],
        "6 epochs, batch 256": [*SHORT, "training.batch_size=256"],
    }


PAIRS = [
    ("strong", "notebook"),
    ("self-critical", "strong"),
    ("second", "strong"),
    ("second, self-critical", "second"),
    ("6 epochs, not standardised", "6 epochs"),
    ("6 epochs, no dropout", "6 epochs"),
    ("6 epochs, no average", "6 epochs"),
    ("6 epochs, batch 256", "6 epochs"),
]


def main(root: str, weights: str) -> None:
    given, models = [*COMMON, f"dataset.root={root}"], {}
    sys.stdout.write("| row | CIDEr | BLEU-4 | shuffled | dangling | distinct | greedy CIDEr, last epoch | seconds |\n")
    for name, changes in rows_of(weights).items():
        told = captioning("train", [*given, *changes])
        models[name] = told["model_uri"]
        scores, seconds = told["metrics"], sum(stage["seconds"] for stage in told["stages"])
        cells = [f"{100 * scores[score]:.1f}" for score in ("cider", "bleu4", "cider_shuffled", "dangling", "distinct")]
        greedy = mlflow.MlflowClient(settings().mlflow).get_run(told["run_id"]).data.metrics["val_cider"]
        sys.stdout.write(f"| {name} | {' | '.join(cells)} | {100 * greedy:.1f} | {seconds:.0f} |\n")
    for first, second in PAIRS:
        compared = ("--split", "dev", "--model", models[first], "--against", models[second])
        told = captioning("evaluate", given, *compared)
        (found,) = (found for found in told["differences"] if found["metric"] == "cider")
        higher, low, high = (100 * bound for bound in (found["first"] - found["second"], found["low"], found["high"]))
        sys.stdout.write(f"{first} over {second}: {higher:+.1f} ({low:.1f} to {high:.1f}), {found['verdict']}\n")


def captioning(command: str, changes: list[str], *arguments: str) -> dict[str, Any]:
    """What a command on Flickr8k prints as JSON."""
    options = [part for change in changes for part in ("--set", change)]
    words = [
        sys.executable,
        "-m",
        "flows.commands.cli",
        command,
        "--profile",
        "flickr8k",
        *options,
        *arguments,
        "--json",
    ]
    told: dict[str, Any] = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return told


if __name__ == "__main__":
    main(*sys.argv[1:])
