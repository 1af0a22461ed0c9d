"""All scores of 1,000 captions with five references each, Java's tokenizer and METEOR included.

Run by `make bench-scores`. The baseline are pycocoevalcap's own wrappers, called one after the other as its own
evaluation does (without SPICE). Ends with one JSON line: how much faster we are, and our seconds.
"""

import contextlib
import io
import json
import statistics
import sys
import time
from random import Random

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from components.demo.scene_captions import describe_scene, imagine_scene
from components.evaluation.metrics import intervals, score_captions
from components.evaluation.tokenize import find_java

IMAGES, ROUNDS = 1000, 3


def main() -> None:
    if find_java() is None:
        sys.exit("no working `java` on the PATH")
    scenes = [imagine_scene(rng) for rng in map(Random, range(IMAGES))]
    references = {image: describe_scene(scene, Random(image)) for image, scene in enumerate(scenes)}
    captions = {image: describe_scene(scene, Random(-1 - image))[0] for image, scene in enumerate(scenes)}
    ours, theirs = [], []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        scores = score_captions(captions, references, "ptb")
        scored = time.perf_counter()
        intervals(scores)
        ours.append(scored - started)
        tell(f"ours {ours[-1]:.2f} s, intervals {time.perf_counter() - scored:.2f} s")
        started = time.perf_counter()
        official = official_scores(captions, references)
        theirs.append(time.perf_counter() - started)
        tell(f"pycocoevalcap {theirs[-1]:.2f} s")
        worst = max(abs(scores.metrics[name] - official[name]) for name in official)
        tell(f"largest difference {worst:.1e}")
    seconds = statistics.median(ours)
    tell(json.dumps({"over_official": round(statistics.median(theirs) / seconds, 2), "seconds": round(seconds, 2)}))


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def official_scores(captions: dict[int, str], references: dict[int, list[str]]) -> dict[str, float]:
    with contextlib.redirect_stdout(io.StringIO()):
        tokenizer = PTBTokenizer()
        truths = tokenizer.tokenize({i: [{"caption": text} for text in texts] for i, texts in references.items()})
        candidates = tokenizer.tokenize({i: [{"caption": text}] for i, text in captions.items()})
        bleu, _ = Bleu(4).compute_score(truths, candidates)
        found = {f"bleu{n}": score for n, score in enumerate(bleu, start=1)}
        for name, scorer in (("meteor", Meteor()), ("rouge_l", Rouge()), ("cider", Cider())):
            found[name], _ = scorer.compute_score(truths, candidates)
    return found


if __name__ == "__main__":
    main()
