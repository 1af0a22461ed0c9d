"""Judging a captioner on a split: captions for every image, their scores, the curves and the gallery."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from components.config import EvaluationConfig
from components.dataset.archive import open_archive
from components.decoder.guards import describe_captions
from components.encoder.pool import Vectors
from components.encoder.store import EmbeddingStore
from components.errors import CaptioningError
from components.evaluation.curves import plot_curves
from components.evaluation.gallery import GalleryItem, render_gallery
from components.evaluation.metrics import Scores, score_captions

Captions = Callable[[Vectors], Sequence[tuple[str, float]]]
"""A captioner: embeddings → caption and log-probability of each."""

References = Mapping[int, Sequence[str]]
"""Image id → what people wrote about it."""

PREDICTIONS_FILE = "predictions.parquet"
SUMMARY_FILE = "summary.json"
GALLERY_FILE = "gallery.html"
CURVES_FILE = "curves.png"

EXAMPLES = 5


@dataclass(frozen=True)
class Material:
    """What a captioner is judged on."""

    images: pd.DataFrame
    captions: pd.DataFrame
    """The caption table; see `data_contracts.schema`."""
    store: EmbeddingStore
    archives: Mapping[str, Path]
    """Where the photographs of each source lie."""


@dataclass(frozen=True)
class Summary:
    """What an evaluation found."""

    split: str
    images: int
    metrics: dict[str, float]
    """The scores; `cider_shuffled`, CIDEr when every image gets another image's caption; and what a good CIDEr can hide
    (see `components.decoder.guards`)."""
    tokenizer: str
    examples: tuple[tuple[str, str], ...]
    """A few (file name, caption), evenly spread over the split."""

    @classmethod
    def load(cls, folder: Path) -> "Summary":
        """Reads what `evaluate` wrote."""
        content = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
        return cls(**content | {"examples": tuple((name, text) for name, text in content["examples"])})


def evaluate(
    captioner: Captions,
    material: Material,
    split: str,
    config: EvaluationConfig,
    history: Sequence[Mapping[str, float]],
    facts: Mapping[str, str],
    folder: Path,
) -> int:
    """Captions every image of `split` that has an embedding, and writes predictions, summary, gallery and curves.

    `history` are the decoder's epochs, if known; `facts` go into the page's footer. Returns the number of images.
    Raises `CaptioningError` when the split has none.
    """
    captions, store = material.captions, material.store
    wanted = captions[(captions["split"] == split) & captions["image_id"].isin(store.index["image_id"])]
    grouped = wanted.groupby("image_id", sort=True)["caption"].apply(list)
    references: References = dict(zip(grouped.index, grouped, strict=True))
    if not references:
        raise CaptioningError(f"no image to evaluate on: is {split!r} one of {sorted(captions['split'].unique())}?")
    ids = np.array(list(references))
    texts = captioner(store.vectors(ids))
    predictions = pd.DataFrame({"image_id": ids}).assign(
        caption=[text for text, _ in texts], logprob=[logprob for _, logprob in texts], status="ok", error=""
    )
    by_image = dict(zip(predictions["image_id"], predictions["caption"], strict=True))
    scores = score_captions(by_image, references)
    predictions = predictions.merge(scores.per_image, on="image_id")
    predictions.to_parquet(folder / PREDICTIONS_FILE, index=False)
    if history:
        plot_curves(history, folder / CURVES_FILE)
    summary = _summarise(split, predictions, references, scores, material.images)
    (folder / SUMMARY_FILE).write_text(json.dumps(asdict(summary), indent=1, ensure_ascii=False), encoding="utf-8")
    facts = {"Split": f"{split}, {len(ids):,} images", "Tokenizer": scores.tokenizer, **facts}
    best, worst = _extremes(predictions, references, material, config.gallery)
    curves = (folder / CURVES_FILE).read_bytes() if history else None
    page = render_gallery(f"Captions of {len(ids):,} images, split {split}", best, worst, scores.metrics, facts, curves)
    (folder / GALLERY_FILE).write_text(page, encoding="utf-8")
    return len(ids)


def read_predictions(folder: Path) -> pd.DataFrame:
    """The captions that `evaluate` judged, a row an image: image_id, caption, logprob, status, error and its scores."""
    return pd.read_parquet(folder / PREDICTIONS_FILE)


def _summarise(
    split: str,
    predictions: pd.DataFrame,
    references: References,
    scores: Scores,
    images: pd.DataFrame,
) -> Summary:
    # Every caption goes to the next image: a captioner that looks at the image loses nearly all of its score.
    shuffled = dict(zip(predictions["image_id"], np.roll(predictions["caption"], 1), strict=True))
    chance = score_captions(shuffled, references, scores.tokenizer, meteor=False).metrics["cider"]
    names = dict(zip(images["image_id"], images["file_name"], strict=True))
    spread = predictions.iloc[:: max(1, len(predictions) // EXAMPLES)].head(EXAMPLES)
    examples = [(Path(names[i]).name, text) for i, text in zip(spread["image_id"], spread["caption"], strict=True)]
    words = describe_captions([caption.split() for caption in predictions["caption"]])
    metrics = scores.metrics | {"cider_shuffled": chance} | words
    return Summary(split, len(predictions), metrics, scores.tokenizer, tuple(examples))


def _extremes(
    predictions: pd.DataFrame, references: References, material: Material, count: int
) -> tuple[list[GalleryItem], list[GalleryItem]]:
    """The `count` best captioned photographs and the worst."""
    ranked = predictions.sort_values(["cider", "logprob"], ascending=False)
    # Of a handful of images none is shown as both well and poorly captioned.
    count = min(count, max(1, len(ranked) // 2))
    images = material.images
    places = dict(zip(images["image_id"], zip(images["archive"], images["file_name"], strict=True), strict=True))
    with ExitStack() as stack:
        opened = {name: stack.enter_context(open_archive(path)) for name, path in material.archives.items()}

        def items(rows: pd.DataFrame) -> list[GalleryItem]:
            found = []
            columns = (rows[name] for name in ("image_id", "caption", "logprob", "cider"))
            for image_id, caption, logprob, cider in zip(*columns, strict=True):
                archive, name = places[image_id]
                photograph, truths = opened[archive].read(name), tuple(references[image_id])
                found.append(GalleryItem(image_id, photograph, caption, logprob, cider, truths))
            return found

        return items(ranked.head(count)), items(ranked.tail(count)[::-1])
