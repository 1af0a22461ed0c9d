"""What an evaluation leaves: a summary, the captions it scored, a gallery."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd

PREDICTIONS_FILE = "predictions.parquet"
NOT_ENGLISH = "METEOR is left out: it is made for English"
"""Said where captions are scored with the tokenizer `unicode`."""
SUMMARY_FILE = "summary.json"
GALLERY_FILE = "gallery.html"


SCORES: Final = {
    "cider": "CIDEr",
    "bleu4": "BLEU-4",
    "meteor": "METEOR",
    "rouge_l": "ROUGE-L",
    "spice": "SPICE",
    "bleu1": "BLEU-1",
    "bleu2": "BLEU-2",
    "bleu3": "BLEU-3",
}
"""The scores as papers write them, in the order of the tiles."""


@dataclass(frozen=True)
class Summary:
    """What an evaluation found."""

    split: str
    images: int
    data: str
    """Digest of the images' ids and references: only scores of the same ones compare."""
    metrics: dict[str, float]
    """The scores; `cider_shuffled`, CIDEr when every image gets another image's caption; and what a good CIDEr can hide
    (see `components.training.caption_statistics`), with `novel`, the share of captions that no training image has, and
    `length`, the words of a caption."""
    intervals: dict[str, tuple[float, float]]
    """What holds a score with 95 % confidence."""
    tokenizer: str
    examples: tuple[tuple[str, str], ...]
    """A few (file name, caption), evenly spread over the split."""

    @classmethod
    def load(cls, folder: Path) -> "Summary":
        """Reads what `components.evaluation.report.evaluate` wrote."""
        content = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
        content["examples"] = tuple((name, text) for name, text in content["examples"])
        content["intervals"] = {name: (low, high) for name, (low, high) in content["intervals"].items()}
        return cls(**content)


def read_predictions(folder: Path) -> pd.DataFrame:
    """The captions that were scored, one row per image: image_id, caption, logprob, status, error, and its scores (see
    `components.evaluation.metrics.Scores`).
    """
    return pd.read_parquet(folder / PREDICTIONS_FILE)
