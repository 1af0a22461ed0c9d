"""What the data contracts cost at COCO's size: 120,000 images, 600,000 captions of random words.

Run by `make bench-contracts`; Great Expectations' import (seconds, once) is not counted. Ends with one JSON line: the
seconds of all contracts together and the memory they take beyond the data.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from components.vocabulary.vocabulary import Vocabulary
from data_contracts.limits import Limits
from data_contracts.report import ContractReport
from data_contracts.rules import great_expectations
from data_contracts.schema import CAPTIONS, EMBEDDING_INDEX, IMAGES, PHOTOGRAPHS, PREDICTIONS, QUARANTINE
from data_contracts.suites import captions, embeddings, images, predictions, training_set, vocabulary

COUNT, SHARD, LIMITS = 120_000, 1024, Limits()


def main() -> None:
    great_expectations()
    random = np.random.default_rng(0)
    ids, split = np.arange(COUNT), np.where(np.arange(COUNT) % 3 == 0, "val", "train")
    digests = [f"{i:064x}" for i in ids]
    stems = np.array([f"w{number}x" for number in range(3000)])
    texts = [f"a {a} {b} with the {c}" for a, b, c in stems[random.integers(0, 3000, (5 * COUNT, 3))]]
    files = {"image_id": ids, "archive": "a.zip", "file_name": [f"{i:012}.jpg" for i in ids]}
    listed = table({**files, "split": split, "name": files["file_name"], "nearest": ""}, IMAGES)
    of_captions = {"caption_id": np.arange(5 * COUNT), "image_id": ids.repeat(5), "split": split.repeat(5)}
    written = table({**of_captions, "caption": texts, "tokens": texts}, CAPTIONS)
    words = Vocabulary.build((text.split() for text in texts), 5).to_frame()
    photographs = table({**files, "bytes": 160_000, "digest": digests, "error": ""}, PHOTOGRAPHS)
    index = table({"image_id": ids, "digest": digests, "shard": ids // SHARD, "row": ids % SHARD}, EMBEDDING_INDEX)
    vectors = random.random((COUNT, 2048), np.float32)
    shards = [(number, vectors[start : start + SHARD]) for number, start in enumerate(range(0, COUNT, SHARD))]
    none = pd.DataFrame(columns=list(QUARANTINE)).astype(QUARANTINE)
    made = {"image_id": digests, "caption": texts[:COUNT], "logprob": -5.0, "status": "ok", "error": ""}
    predicted = table(made, PREDICTIONS)

    splits = {"train_split": "train", "validation_split": "val"}
    prints = {"dimension": 2048, "fingerprint": "x", "expected_fingerprint": "x"}
    contracts: dict[str, Callable[[], ContractReport]] = {
        "captions": lambda: captions.check(written, listed, LIMITS, **splits),
        "vocabulary": lambda: vocabulary.check(words, written, LIMITS, train_split="train"),
        "images": lambda: images.check(photographs, listed, LIMITS),
        "embeddings": lambda: embeddings.check(index, none, listed, shards, limits=LIMITS, **prints),
        "training set": lambda: training_set.check(written, words, index, LIMITS, max_length=20, **splits),
        "predictions": lambda: predictions.check(predicted, digests, LIMITS),
    }
    before, total = peak(), 0.0
    for name, check in contracts.items():
        started = time.perf_counter()
        assert check().passed
        total += time.perf_counter() - started
        sys.stderr.write(f"{name:12} {time.perf_counter() - started:5.2f} s\n")
    sys.stdout.write(json.dumps({"seconds": round(total, 2), "extra_mib": round(peak() - before)}) + "\n")


def table(columns: dict[str, Any], schema: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame(columns).astype({name: schema[name] for name in columns})


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
