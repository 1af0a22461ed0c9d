"""Evaluating a captioner on a split: captions for every image, their scores, the plots and the gallery."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from components.config import EvaluationConfig
from components.decoder.caption import Caption, Search
from components.errors import CaptioningError
from components.evaluation import plots
from components.evaluation.gallery import Page, Plot, render_gallery
from components.evaluation.gallery_selection import EvaluationInputs, choose, measure_tiles, score_tiles
from components.evaluation.metrics import Scores, intervals, score_captions
from components.evaluation.pictures import write_pictures
from components.evaluation.summary import GALLERY_FILE, NOT_ENGLISH, PREDICTIONS_FILE, SUMMARY_FILE, Summary
from components.pages.every_image import Captioned, rows_of
from components.training.caption_statistics import describe_captions
from data_contracts.schema import SPECIALS

if TYPE_CHECKING:
    from components.model.captioner import Captioner

References = Mapping[int, Sequence[str]]
"""Image id → what people wrote about it."""

EXAMPLES = 5


def evaluate(
    captioner: "Captioner",
    material: EvaluationInputs,
    split: str,
    config: EvaluationConfig,
    history: Sequence[Mapping[str, float]],
    title: str,
    identity: Mapping[str, str],
    folder: Path,
) -> int:
    """Captions every image of `split` that has an embedding, and writes predictions, summary, plots and gallery.

    `history` are the decoder's epochs; `title` heads the page, `identity` is its footer. Returns the number of images.
    Raises `CaptioningError` when the split has none.
    """
    references = _references(material, split)
    ids = np.array(list(references))
    search = Search.of_width(config.beam)
    found = [best for best, *_ in captioner.caption(material.store.vectors(ids), search)]
    captions = dict(zip(ids.tolist(), found, strict=True))
    # The words themselves: in a script without spaces a caption's text could be divided another way.
    said = {image: " ".join(caption.words) for image, caption in captions.items()}
    scores = score_captions(said, references)
    predictions = pd.DataFrame({"image_id": ids}).assign(
        caption=[caption.text for caption in found],
        logprob=[caption.logprob for caption in found],
        status="ok",
        error="",
    )
    predictions = predictions.merge(scores.per_image, on="image_id")
    predictions.to_parquet(folder / PREDICTIONS_FILE, index=False)
    summary = _summarise(split, predictions, said, references, scores, material)
    (folder / SUMMARY_FILE).write_text(json.dumps(asdict(summary), indent=1, ensure_ascii=False), encoding="utf-8")
    pictures = write_pictures(material.images, references, material.archives, folder)
    every_image = rows_of(pictures, [Captioned(identity.get("Model", ""), predictions)])
    drawn, samples = _plot(captioner, material, predictions, captions, references, history, folder)
    page = Page(
        title=f"{title}: {len(ids):,} images, split {split}",
        scores=score_tiles(summary.metrics, summary.intervals),
        measures=measure_tiles(summary.metrics, captioner.vocabulary),
        sections=choose(predictions, captions, captioner, material, config.gallery),
        plots=drawn,
        samples=samples,
        every_image=every_image,
        left_out=len(ids) - len(every_image),
        identity={
            **identity,
            "Search": f"beam of {config.beam}" if config.beam > 1 else "greedy",
            "Data": f"split {split}: {len(ids):,} images, {sum(map(len, references.values())):,} references, "
            f"digest {summary.data}",
            "Tokenizer": scores.tokenizer + (f"; {NOT_ENGLISH}" if scores.tokenizer == "unicode" else ""),
        },
    )
    (folder / GALLERY_FILE).write_text(render_gallery(page), encoding="utf-8")
    return len(ids)


def _references(material: EvaluationInputs, split: str) -> References:
    captions = material.captions
    wanted = captions[(captions["split"] == split) & captions["image_id"].isin(material.store.index["image_id"])]
    grouped = wanted.groupby("image_id", sort=True)["caption"].apply(list)
    if grouped.empty:
        raise CaptioningError(f"no image to evaluate on: is {split!r} one of {sorted(captions['split'].unique())}?")
    return dict(zip(grouped.index.tolist(), grouped, strict=True))


def _summarise(
    split: str,
    predictions: pd.DataFrame,
    said: Mapping[int, str],
    references: References,
    scores: Scores,
    material: EvaluationInputs,
) -> Summary:
    # Every caption goes to the next image: a captioner that looks at the image loses nearly all of its score.
    shuffled = dict(zip(said, np.roll(list(said.values()), 1).tolist(), strict=True))
    chance = score_captions(shuffled, references, scores.tokenizer, java_scores=False).metrics["cider"]
    names = dict(zip(material.images["image_id"], material.images["file_name"], strict=True))
    spread = predictions.iloc[:: max(1, len(predictions) // EXAMPLES)].head(EXAMPLES)
    examples = [(Path(names[i]).name, text) for i, text in zip(spread["image_id"], spread["caption"], strict=True)]
    words = [text.split() for text in said.values()]
    learnt = set(material.captions.loc[material.captions["split"] == material.train_split, "tokens"])
    measures = {
        "cider_shuffled": chance,
        **describe_captions(words),
        "novel": float(np.mean([text not in learnt for text in said.values()])),
        "length": float(np.mean([len(caption) for caption in words])),
    }
    return Summary(
        split=split,
        images=len(predictions),
        data=_digest(references),
        metrics=scores.metrics | measures,
        intervals={name: (found.low, found.high) for name, found in intervals(scores).items()},
        tokenizer=scores.tokenizer,
        examples=tuple(examples),
    )


def _digest(references: References) -> str:
    content = sorted((image, sorted(texts)) for image, texts in references.items())
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _plot(
    captioner: "Captioner",
    material: EvaluationInputs,
    predictions: pd.DataFrame,
    captions: Mapping[int, Caption],
    references: References,
    history: Sequence[Mapping[str, float]],
    folder: Path,
) -> tuple[list[Plot], list[tuple[float, str]]]:
    """Writes the plots; returns them for the page, with captions of one photograph drawn at different temperatures."""
    texts = [" ".join(caption.words) for caption in captions.values()]
    tokens = material.captions.loc[material.captions["image_id"].isin(list(references)), "tokens"].tolist()
    words = captioner.vocabulary.words
    # The caption in the middle: neither one that was easy nor one that failed.
    middle = int(predictions.sort_values("cider")["image_id"].iloc[len(predictions) // 2])
    embedding = material.store.vectors(np.array([middle]))[:]
    before, probabilities = _least_sure(captioner, embedding[0], captions[middle])
    drawn = []

    def keep(name: str, lead: str, plot: Callable[..., None], *figures: object) -> None:
        path = folder / f"{name}.png"
        plot(*figures, path)
        drawn.append(Plot(name, lead, path.read_bytes()))

    if history:
        keep("loss", "After each epoch, on training captions and on those kept apart.", plots.plot_loss, history)
        keep("cider", "After each epoch; the decoder of the best one was kept.", plots.plot_cider, history)
    keep("scores", "Each image counts the same in the mean.", plots.plot_scores, predictions["cider"].to_numpy())
    keep("lengths", "Words in the captions of the model and of people.", plots.plot_lengths, texts, tokens)
    keep(
        "vocabulary",
        "How many of the words that it knows are said, by how frequent they are in training.",
        plots.plot_coverage,
        words[len(SPECIALS) :],
        texts,
        tokens,
    )
    keep(
        "temperature",
        f"The least certain word of “{captions[middle].text}”: low temperatures insist, high ones dare.",
        plots.plot_temperature,
        before,
        words,
        probabilities,
    )
    samples = [
        (temperature, captioner.caption(embedding, Search("sample", temperature=temperature))[0][0].text)
        for temperature in plots.TEMPERATURES
    ]
    return drawn, samples


def _least_sure(captioner: "Captioner", embedding: np.ndarray, caption: Caption) -> tuple[str, np.ndarray]:
    """Where in a caption the most words come into question: what stands before, and the probabilities there."""
    steps = captioner.next_words(embedding, caption)
    entropies = -(steps * np.log(np.where(steps > 0, steps, 1))).sum(axis=1)
    place = int(entropies.argmax())
    return " ".join(caption.words[:place]), steps[place]
