"""What a model's training looked like, kept with the model, and how far what it is given now lies from that."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from components.encoder.pool import Vectors
from components.vocabulary.tokenizer import tokenize
from data_contracts.schema import DRIFT

REFERENCE_FILE = "reference.json"

ROWS = 4096
"""Vectors in memory at a time."""
OUTLIER_QUANTILE = 0.99
"""Share of training's embeddings that are nearer to their mean than `Reference.far`."""


@dataclass(frozen=True)
class Reference:
    """Training's embeddings and captions in a few numbers."""

    mean: list[float]
    """Of each of an embedding's numbers."""
    deviation: list[float]
    """Standard deviation of each of an embedding's numbers; 0 where it never changes, and then it does not count."""
    far: float
    """The distance from the mean that 99 % of the embeddings keep, in standard deviations (root mean square)."""
    caption_words: float
    """Words in a caption, on average."""

    @classmethod
    def of(cls, vectors: Vectors, tokens: "pd.Series[str]") -> "Reference":
        """The reference of the training images' embeddings and the training captions' words, joined by spaces."""
        total, squares = np.zeros(vectors.dimension), np.zeros(vectors.dimension)
        for start in range(0, len(vectors), ROWS):
            rows = vectors[start : start + ROWS].astype(np.float64)
            total += rows.sum(axis=0)
            squares += (rows**2).sum(axis=0)
        mean = total / len(vectors)
        variance = np.maximum(squares / len(vectors) - mean**2, 0)
        deviation = np.where(variance > 1e-12 * variance.max(), np.sqrt(variance), 0)
        found = cls(mean.tolist(), deviation.tolist(), 0.0, float(tokens.str.count(r"\S+").mean()))
        far = np.quantile(found.distances(vectors), OUTLIER_QUANTILE)
        return cls(found.mean, found.deviation, float(far), found.caption_words)

    def distances(self, vectors: Vectors | np.ndarray) -> np.ndarray:
        """Each vector's distance from the mean, in standard deviations (root mean square): (vectors,)."""
        found = [self._distances(vectors[start : start + ROWS]) for start in range(0, len(vectors), ROWS)]
        return np.concatenate(found) if found else np.empty(0)

    def compare(self, vectors: Vectors, captions: "pd.Series[str]") -> pd.DataFrame:
        """The table `schema.DRIFT`: one row, of embeddings and the captions that a model gave them."""
        count = len(vectors)
        sums = [vectors[start : start + ROWS].sum(axis=0, dtype=np.float64) for start in range(0, count, ROWS)]
        row = {
            "images": count,
            "embedding_shift": self._distances(np.sum(sums, axis=0)[None] / count).item() if count else 0.0,
            "outlier_share": float((self.distances(vectors) > self.far).mean()) if count else 0.0,
            "caption_words": float(captions.map(tokenize).map(len).mean()) if count else self.caption_words,
            "training_caption_words": self.caption_words,
        }
        return pd.DataFrame([row]).astype(DRIFT)

    def _distances(self, rows: np.ndarray) -> np.ndarray:
        deviation = np.array(self.deviation)
        varies = deviation > 0
        offsets = (rows - np.array(self.mean))[:, varies] / deviation[varies]
        return np.asarray(np.sqrt((offsets**2).sum(axis=1) / max(1, varies.sum())))

    def save(self, path: Path) -> None:
        """Writes JSON that `load` reads."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Reference":
        """Reads what `save` wrote."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))
