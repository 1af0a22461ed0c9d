"""The field's scores of generated captions, computed by the official COCO scorers."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd
from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from components.errors import CaptioningError
from components.evaluation import java_scorers
from components.evaluation.bootstrap import Interval, interval, resample
from components.evaluation.tokenize import (
    Tokenized,
    find_java,
    is_latin,
    tokenize_ptb,
    tokenize_unicode,
    tokenize_words,
)
from components.vocabulary.tokenizer import normalise

logger = logging.getLogger(__name__)

Tokenizer = Literal["ptb", "words", "unicode"]
NGRAMS: Final = 4
MEANS: Final = ("cider", "meteor", "rouge_l", "spice")
"""Metrics that an image has, and whose mean tells of many."""
COUNTS: Final = ("length", "reference_length", *(f"{what}{n}" for what in ("guess", "correct") for n in range(1, 5)))
"""What BLEU is computed from: an image's words, those of the closest reference, n-grams, and those in references."""
FIGURES: Final = (*MEANS, *COUNTS)


@dataclass(frozen=True)
class Scores:
    """Scores of one set of captions, as fractions (1.0 is what papers print as 100).

    Attributes:
        metrics: `bleu1`…`bleu4` (Papineni et al. 2002, over the corpus), `rouge_l` (Lin 2004), `cider`
            (CIDEr-D, Vedantam et al. 2015; 0…10), with Java `meteor`, and where its models are `spice`
            (see `java_scorers`).
        per_image: one row per image, in the predictions' order: `image_id` int64; `bleu4`, what there is of MEANS, and
            COUNTS, float64.
        tokenizer: `ptb` or `words`, both made for English, or `unicode`; scores of different tokenizers must not be
            compared.
    """

    metrics: dict[str, float]
    per_image: pd.DataFrame
    tokenizer: Tokenizer


def corpus_scores(means: pd.DataFrame, images: int) -> pd.DataFrame:
    """Each metric's score of the whole, from the means of that many images' figures; one row per corpus.

    Of METEOR it is the images' mean; the corpus' own, in `Scores.metrics`, weighs long captions more.
    """
    found = {name: means[name] for name in MEANS if name in means}
    sums = means[list(COUNTS)] * images
    # The official scorer's, with its two small numbers against division by zero.
    brevity = np.exp(np.minimum(0, 1 - (sums["reference_length"] + 1e-9) / (sums["length"] + 1e-15)))
    product = np.ones(len(means))
    for n in range(1, NGRAMS + 1):
        product = product * (sums[f"correct{n}"] + 1e-15) / (sums[f"guess{n}"] + 1e-9)
        found[f"bleu{n}"] = product ** (1 / n) * brevity
    return pd.DataFrame(found)


def intervals(scores: Scores) -> dict[str, Interval]:
    """What holds each metric with 95 % confidence, by the bootstrap over images.

    BLEU is computed anew for each resample; CIDEr's weights of words stay those of all images. METEOR's interval is
    that of the images' mean, moved to the corpus' score.
    """
    figures = scores.per_image[[name for name in scores.per_image if name in FIGURES]]
    whole = corpus_scores(figures.mean().to_frame().T, len(figures))
    resampled = corpus_scores(pd.DataFrame(resample(figures.to_numpy()), columns=figures.columns), len(figures))
    return {
        str(name): interval((column + scores.metrics[str(name)] - whole[name].iloc[0]).to_numpy())
        for name, column in resampled.items()
    }


def score_captions(
    predictions: Mapping[int, str],
    references: Mapping[int, Sequence[str]],
    tokenizer: Literal["auto"] | Tokenizer = "auto",
    *,
    java_scores: bool = True,
) -> Scores:
    """Scores one caption per image against that image's reference captions.

    Both map image ids; a caption without words scores 0. `ptb` is the official tokenisation and adds METEOR and SPICE
    (unless `java_scores` says not to: they take their time), all on Java; `words` is plain Python; `unicode` divides
    captions in any script as training does. `auto` is `unicode` where the references are not in Latin script, else
    `ptb`; where no Java runs, that is `words`.
    CIDEr weighs words by how many of the given images mention them: compare it only between scores of the same
    images, and expect 0 from a single image.

    Raises `CaptioningError` when the two are not of the same images, no reference has a word, or Java fails.
    """
    if not predictions or set(predictions) != {image for image, texts in references.items() if texts}:
        raise CaptioningError("there are no captions to score, or they and the references are not of the same images")
    if tokenizer == "auto" and not is_latin([text for texts in references.values() for text in texts]):
        tokenizer = "unicode"
    java = None if tokenizer in ("words", "unicode") else find_java()
    used: Tokenizer = "unicode" if tokenizer == "unicode" else "ptb" if java else "words"
    candidates, truths = _tokenize(predictions, references, used, java)
    bleu, image_bleu4, counts = _bleu(truths, candidates)
    _, image_rouge = Rouge().compute_score(truths, candidates)
    cider, image_cider = Cider().compute_score(truths, candidates)
    # Rouge gives 1 to an empty caption when a reference is empty too.
    image_rouge = np.where([bool(words) for (words,) in candidates.values()], image_rouge, 0.0)
    metrics = {f"bleu{n}": float(score) for n, score in enumerate(bleu, start=1)}
    metrics |= {"rouge_l": float(image_rouge.mean()), "cider": float(cider)}
    columns = {"bleu4": image_bleu4, "rouge_l": image_rouge, "cider": image_cider}
    if java and java_scores:
        metrics["meteor"], columns["meteor"] = java_scorers.meteor(truths, candidates, java)
        if missing := java_scorers.missing_spice_models():
            where = java_scorers.spice_folder()
            logger.info("without SPICE, which is optional: it needs %s in %s", " and ".join(missing), where)
        else:
            columns["spice"] = java_scorers.spice(truths, candidates, java)
            metrics["spice"] = float(np.mean(columns["spice"]))
    ids = np.array(list(candidates), dtype="int64")
    return Scores(metrics, pd.DataFrame({"image_id": ids, **columns, **counts}), used)


def _bleu(truths: Tokenized, candidates: Tokenized) -> tuple[list[float], list[float], dict[str, np.ndarray]]:
    """BLEU-1 to BLEU-4 of the whole, each image's BLEU-4, and its COUNTS."""
    scorer = BleuScorer(n=NGRAMS)
    for image, (candidate,) in candidates.items():
        scorer += (candidate, truths[image])
    whole, (*_, image_bleu4) = scorer.compute_score("closest")
    rows = []
    for found in scorer.ctest:
        _, closest = min((abs(length - found["testlen"]), length) for length in found["reflen"])
        rows.append([found["testlen"], closest, *found["guess"], *found["correct"]])
    return whole, image_bleu4, dict(zip(COUNTS, np.array(rows, "float64").T, strict=True))


def _tokenize(
    predictions: Mapping[int, str], references: Mapping[int, Sequence[str]], tokenizer: Tokenizer, java: str | None
) -> tuple[Tokenized, Tokenized]:
    given = [*predictions.values(), *(text for image in predictions for text in references[image])]
    captions = [normalise(text) for text in given]
    if java:
        words = iter(tokenize_ptb(captions, java))
    else:
        words = iter(tokenize_unicode(captions) if tokenizer == "unicode" else tokenize_words(captions))
    candidates = {image: [next(words)] for image in predictions}
    truths = {image: [next(words) for _ in references[image]] for image in predictions}
    if not any(any(texts) for texts in truths.values()):
        raise CaptioningError("No reference caption contains a word. Check the captions file of the split.")
    return candidates, truths
