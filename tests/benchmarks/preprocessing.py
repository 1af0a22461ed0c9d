"""Which preprocessing makes better embeddings? Those in which photographs are alike whose captions are alike.

Run as `python -m tests.benchmarks.preprocessing PHOTOS.zip CAPTIONS.zip [INCEPTION_WEIGHTS.h5]`, on full-size
photographs with captions in COCO's layout. Ends with one JSON line: for each encoder and preprocessing Spearman's
correlation, over all pairs of photographs, between the cosine of their embeddings (standardised) and that of their
captions (tf-idf of the words).
"""

import json
import logging
import math
import sys
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from components.config import EncoderConfig
from components.encoder.extract import load_engine
from components.vocabulary.tokenizer import tokenize


def main(photos: Path, captions: Path, weights: Path | None) -> None:
    logging.disable()
    with zipfile.ZipFile(captions) as opened:
        (name,) = (name for name in opened.namelist() if name.endswith(".json"))
        coco = json.loads(opened.read(name))
    words: dict[int, Counter[str]] = {image["id"]: Counter() for image in coco["images"]}
    for annotation in coco["annotations"]:
        words[annotation["image_id"]].update(tokenize(annotation["caption"]))
    texts = pairs(tf_idf(list(words.values())))
    with zipfile.ZipFile(photos) as opened:
        members = {Path(name).name: name for name in opened.namelist()}
        files = [opened.read(members[Path(image["file_name"]).name]) for image in coco["images"]]

    encoders = {"efficientnet_lite0": "package"} | ({"inception_v3": str(weights)} if weights else {})
    found = {}
    for encoder, origin in encoders.items():
        for preprocessing in ("notebook", "antialias"):
            config = {"name": encoder, "weights": origin, "preprocessing": preprocessing}
            engine = load_engine(EncoderConfig.model_validate(config))
            pixels = np.stack([engine.read(file) for file in files])
            starts = range(0, len(pixels), engine.batch_size)
            vectors = np.concatenate([engine.encode(pixels[i : i + engine.batch_size]) for i in starts])
            standard = (vectors - vectors.mean(axis=0)) / (vectors.std(axis=0) + 1e-6)
            found[f"{encoder} {preprocessing}"] = round(texts.corr(pairs(standard), method="spearman"), 4)
    sys.stdout.write(json.dumps(found) + "\n")


def tf_idf(documents: list[Counter[str]]) -> np.ndarray:
    """A row a document."""
    known = Counter(word for document in documents for word in document)
    column = {word: number for number, word in enumerate(known)}
    table = np.zeros((len(documents), len(known)))
    for row, document in zip(table, documents, strict=True):
        for word, count in document.items():
            row[column[word]] = (1 + math.log(count)) * math.log(len(documents) / known[word])
    return table


def pairs(vectors: np.ndarray) -> "pd.Series[float]":
    """The cosine of every pair of rows."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return pd.Series((unit @ unit.T)[np.triu_indices(len(unit), 1)])


if __name__ == "__main__":
    given = [Path(argument) for argument in sys.argv[1:]]
    main(given[0], given[1], given[2] if len(given) > 2 else None)
