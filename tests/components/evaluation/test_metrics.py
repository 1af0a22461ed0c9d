import json
import math
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.errors import CaptioningError
from components.evaluation.metrics import Scores, score_captions

needs_java = pytest.mark.skipif(
    shutil.which("java") is None, reason="METEOR and the PTB tokenizer run on Java, which is not installed"
)
GOLDEN = Path(__file__).parents[3].parent / "shared" / "data" / "metrics"


@needs_java
@pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"the golden case of the official scorers is not at {GOLDEN}")
def test_equals_the_official_scorers() -> None:
    table = [line.strip(" |").split("|") for line in (GOLDEN / "README.md").read_text().splitlines() if "|" in line]
    names = [name.strip().lower().replace("bleu-", "bleu").replace("-", "_") for name in table[0][1:]]
    references = json.loads((GOLDEN / "refs.json").read_text())
    ids = {name: number for number, name in enumerate(references)}

    def score(row: list[str]) -> Scores:
        captions = json.loads((GOLDEN / f"{row[0].strip()}_captions.json").read_text())
        return score_captions(
            {ids[name]: caption for name, caption in captions.items()},
            {ids[name]: texts for name, texts in references.items()},
        )

    assert len(table) == 4
    with ThreadPoolExecutor() as pool:  # METEOR takes seconds to start
        results = list(pool.map(score, table[2:]))
    for (_, *values), scores in zip(table[2:], results, strict=True):
        assert scores.tokenizer == "ptb"
        assert scores.metrics == pytest.approx(dict(zip(names, map(float, values), strict=True)), abs=1e-6)
        for name in ("cider", "rouge_l"):  # METEOR and BLEU of a corpus are not means
            assert scores.per_image[name].mean() == pytest.approx(scores.metrics[name])


def test_hand_computed_case(capfd: pytest.CaptureFixture[str]) -> None:
    predictions = {7: "A dog runs fast.", 3: "a bird"}
    references = {3: ["A bird sings loudly!"], 7: ["a dog, runs fast"]}
    scores = score_captions(predictions, references, tokenizer="words")
    brevity = math.exp(1 - 8 / 6)
    recalled = (1 + 1.2**2) * 0.5 / (0.5 + 1.2**2)  # precision 1, recall 1/2
    rows = scores.per_image.set_index("image_id")
    assert scores.tokenizer == "words"
    assert scores.metrics["bleu1"] == pytest.approx(brevity)
    assert scores.metrics["bleu4"] == pytest.approx(brevity * (6 / 6 * 4 / 4 * 2 / 2 * 1 / 1) ** 0.25)
    assert scores.metrics["rouge_l"] == pytest.approx((1 + recalled) / 2)
    assert rows.loc[[7], ["bleu4", "rouge_l", "cider"]].to_numpy() == pytest.approx(np.array([[1, 1, 10]]))
    assert rows.loc[3, "rouge_l"] == pytest.approx(recalled)
    # "a" is in both images and weighs nothing, all else weighs log 2. Of the reference's three other words
    # and of its three pairs the caption has one each (cosine 1/√3), and no longer run. It is two pairs
    # shorter, sigma is 6.
    cosines = (1 / math.sqrt(3), 1 / math.sqrt(3), 0, 0)
    assert rows.loc[3, "cider"] == pytest.approx(10 * sum(cosines) / 4 * math.exp(-(2**2) / (2 * 6**2)))
    assert "meteor" not in scores.metrics
    assert capfd.readouterr().out == ""


def test_captions_without_words_score_nothing() -> None:
    predictions = {1: "", 2: "\n", 3: "...", 4: "a red kite"}
    references = {1: ["a cat"], 2: ["a dog\nruns"], 3: ["!", "a horse"], 4: ["a red kite", "", "a kite"]}
    scores = score_captions(predictions, references, "words")
    rows = scores.per_image.set_index("image_id")
    assert rows.loc[[1, 2, 3]].to_numpy() == pytest.approx(0, abs=1e-9)
    assert (rows.loc[4] > 0).all()
    assert all(math.isfinite(value) for value in scores.metrics.values())


@given(st.permutations(range(4)), st.lists(st.sampled_from(["cat", "dog", "runs", ".", "'"]), max_size=8))
@settings(max_examples=25, deadline=None)
def test_scores_are_bounded_and_do_not_depend_on_the_order(order: list[int], words: list[str]) -> None:
    references = {0: ["a cat sits"], 1: ["a red dog", "dogs"], 2: ["a cat runs"], 3: ["two birds"]}
    predictions = {0: " ".join(words), 1: "a dog runs", 2: "a cat runs", 3: ""}
    scores = score_captions(predictions, references, "words")
    shuffled = score_captions({i: predictions[i] for i in order}, references, "words")
    assert shuffled.metrics == pytest.approx(scores.metrics)
    assert shuffled.per_image["image_id"].tolist() == list(order)
    assert all(0 <= value <= (10 if name == "cider" else 1) for name, value in scores.metrics.items())


def test_different_images_are_named() -> None:
    with pytest.raises(CaptioningError, match=r"1 without a reference: 8; 2 without a prediction: 5, 6"):
        score_captions({1: "a", 8: "b"}, {1: ["a"], 6: ["b"], 5: ["c"], 8: []})
    with pytest.raises(CaptioningError, match=r"\(1 without a prediction: 5\)"):
        score_captions({1: "a"}, {1: ["a"], 5: ["c"]})
    with pytest.raises(CaptioningError, match="no captions to score"):
        score_captions({}, {})
    with pytest.raises(CaptioningError, match="contains a word"):
        score_captions({1: "a cat"}, {1: ["..."]}, "words")


def install_java(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    java = folder / "java"
    java.write_text(f'#!/bin/sh\necho $$ > "{folder}/pid"\n{script}\n')
    java.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def test_without_a_working_java_auto_falls_back_and_ptb_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_java(tmp_path, monkeypatch, "exit 1")
    assert score_captions({1: "a cat"}, {1: ["a cat"]}).tokenizer == "words"
    with pytest.raises(CaptioningError, match="Install a Java runtime"):
        score_captions({1: "a cat"}, {1: ["a cat"]}, "ptb")


@pytest.mark.parametrize("fault", ["exec <&-; sleep 0.1; exit 1", "yes '?' | head -50; exec sleep 60"])
def test_meteor_failing_is_an_error_and_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    programs = f"-version) exit 0;; -Xmx2G) echo not enough memory >&2; {fault};; *) exec cat;;"
    install_java(tmp_path, monkeypatch, f'case "$1" in {programs} esac')
    started = time.monotonic()
    with pytest.raises(CaptioningError, match=r"(?s)not enough memory.*tokenizer=\"words\""):
        score_captions(dict.fromkeys(range(5), "a cat"), {image: ["a cat"] for image in range(5)})
    assert time.monotonic() - started < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
