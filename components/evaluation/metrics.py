"""The field's scores of generated captions, computed by the official COCO scorers."""

import contextlib
import subprocess
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor import meteor as meteor_package
from pycocoevalcap.rouge.rouge import Rouge

from components.errors import CaptioningError
from components.evaluation.tokenize import JAVA_OPTIONS, find_java, tokenize_ptb, tokenize_words

Tokenized = dict[int, list[str]]
"""Image id → tokenised captions, as the scorers want it."""


@dataclass(frozen=True)
class Scores:
    """Scores of one set of captions, as fractions (1.0 is what papers print as 100).

    Attributes:
        metrics: `bleu1`…`bleu4` (Papineni et al. 2002, over the corpus), `rouge_l` (Lin 2004), `cider`
            (CIDEr-D, Vedantam et al. 2015; 0…10) and, with Java, `meteor` (1.5, Denkowski and Lavie 2014).
        per_image: one row an image, in the predictions' order: `image_id` int64; `bleu4`, `rouge_l`, `cider`
            and, with Java, `meteor` float64.
        tokenizer: `ptb` or `words`; scores of different tokenizers must not be compared.
    """

    metrics: dict[str, float]
    per_image: pd.DataFrame
    tokenizer: Literal["ptb", "words"]


def score_captions(
    predictions: Mapping[int, str],
    references: Mapping[int, Sequence[str]],
    tokenizer: Literal["auto", "ptb", "words"] = "auto",
    *,
    meteor: bool = True,
) -> Scores:
    """Scores one caption an image against that image's reference captions.

    Both map image ids; a caption without words scores 0. `ptb` is the official tokenisation and adds METEOR (unless
    `meteor` says not to: it takes seconds), both on Java; `words` is plain Python; `auto` is `ptb` where Java runs.
    CIDEr weighs words by how many of the given images mention them: compare it only between scores of the same
    images, and expect 0 from a single image.

    Raises:
        CaptioningError: the two are not of the same images, no reference has a word, or Java is missing or
            fails.
    """
    _check_same_images(predictions, references)
    java = None if tokenizer == "words" else find_java()
    if java is None and tokenizer == "ptb":
        raise CaptioningError(
            'tokenizer="ptb" needs Java and no working `java` is on the PATH. '
            'Install a Java runtime (8 or newer), or score with tokenizer="words".'
        )
    used: Literal["ptb", "words"] = "ptb" if java else "words"
    candidates, truths = _tokenize(predictions, references, java)
    bleu, image_bleus = Bleu(4).compute_score(truths, candidates, verbose=0)
    _, image_rouge = Rouge().compute_score(truths, candidates)
    cider, image_cider = Cider().compute_score(truths, candidates)
    # Rouge gives 1 to an empty caption when a reference is empty too.
    image_rouge = np.where([bool(words) for (words,) in candidates.values()], image_rouge, 0.0)
    metrics = {f"bleu{n}": float(score) for n, score in enumerate(bleu, start=1)}
    metrics |= {"rouge_l": float(image_rouge.mean()), "cider": float(cider)}
    columns = {"bleu4": image_bleus[3], "rouge_l": image_rouge, "cider": image_cider}
    if java and meteor:
        metrics["meteor"], columns["meteor"] = _meteor(truths, candidates, java)
    ids = np.array(list(candidates), dtype="int64")
    return Scores(metrics, pd.DataFrame({"image_id": ids, **columns}), used)


def _check_same_images(predictions: Mapping[int, str], references: Mapping[int, Sequence[str]]) -> None:
    unreferenced = [image for image in predictions if not references.get(image)]
    uncaptioned = [image for image in references if image not in predictions]
    if unreferenced or uncaptioned:
        faults = [
            f"{len(images)} without a {what}: {_first(images)}"
            for images, what in ((unreferenced, "reference"), (uncaptioned, "prediction"))
            if images
        ]
        raise CaptioningError(
            f"Predictions and references are not of the same images ({'; '.join(faults)}). "
            "Score exactly the images that have both."
        )
    if not predictions:
        raise CaptioningError("There are no captions to score. Check that the split has images.")


def _first(images: Collection[int], limit: int = 20) -> str:
    named = ", ".join(str(image) for image in sorted(images)[:limit])
    return named if len(images) <= limit else f"{named}, …"


def _tokenize(
    predictions: Mapping[int, str], references: Mapping[int, Sequence[str]], java: str | None
) -> tuple[Tokenized, Tokenized]:
    captions = [*predictions.values(), *(text for image in predictions for text in references[image])]
    words = iter(tokenize_ptb(captions, java) if java else tokenize_words(captions))
    candidates = {image: [next(words)] for image in predictions}
    truths = {image: [next(words) for _ in references[image]] for image in predictions}
    if not any(any(texts) for texts in truths.values()):
        raise CaptioningError("No reference caption contains a word. Check the captions file of the split.")
    return candidates, truths


def _meteor(truths: Tokenized, candidates: Tokenized, java: str) -> tuple[float, list[float]]:
    """METEOR of the corpus and of each image. One Java process, gone when this returns or raises.

    pycocoevalcap's own wrapper never drains the process's stderr, keeps its lock after an error and waits
    for that lock for ever when it is collected; so the same jar is driven here.
    """
    jar = Path(meteor_package.__file__).with_name(meteor_package.METEOR_JAR)
    command = [java, "-Xmx2G", *JAVA_OPTIONS, "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]
    with (
        tempfile.TemporaryFile() as complaints,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            encoding="utf-8",
            errors="replace",
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            statistics = []
            for image, (candidate,) in candidates.items():
                fields = (text.replace("|||", "") for text in (*truths[image], candidate))
                process.stdin.write(" ||| ".join(("SCORE", *fields)) + "\n")
                process.stdin.flush()
                statistics.append(process.stdout.readline().strip())
            process.stdin.write(" ||| ".join(("EVAL", *statistics)) + "\n")
            process.stdin.flush()
            *images, corpus = [float(process.stdout.readline()) for _ in range(len(candidates) + 1)]
        except (OSError, ValueError) as error:
            complaints.seek(0)
            complaint = complaints.read().decode(errors="replace")[-500:].strip()
            raise CaptioningError(
                f"METEOR ({java}, {jar.name}) stopped: {complaint}\n"
                'Mend the Java installation (8 or newer, 2 GB of memory), or score with tokenizer="words".'
            ) from error
        finally:
            process.kill()
            with contextlib.suppress(OSError):  # unsent words to a dead process would hide the error above
                process.stdin.close()
    return corpus, images
