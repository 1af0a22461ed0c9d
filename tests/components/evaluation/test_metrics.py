import dataclasses
import json
import math
import os
import shutil
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.errors import CaptioningError
from components.evaluation.metrics import FIGURES, Scores, corpus_scores, intervals, score_captions

needs_java = pytest.mark.skipif(
    shutil.which("java") is None, reason="METEOR and the PTB tokenizer run on Java, which is not installed"
)
GOLDEN = Path(__file__).parents[3].parent / "shared" / "data" / "metrics"


def of_means(scores: Scores) -> dict[str, float]:
    """The corpus' scores from the means of the images' figures."""
    figures = scores.per_image[[name for name in scores.per_image if name in FIGURES]]
    return corpus_scores(figures.mean().to_frame().T, len(figures)).iloc[0].to_dict()


def some_captions(count: int) -> Scores:
    """Scores of so many captions, each of which says some of what there is."""
    random = np.random.default_rng(count)
    texts = [[f"w{word}" for word in random.integers(0, 30, 9)] for _ in range(count)]
    said = [[word if random.random() < 0.8 else "thing" for word in text[: random.integers(3, 10)]] for text in texts]
    references = {image: [" ".join(text), "w1 w2 w3"] for image, text in enumerate(texts)}
    return score_captions({image: " ".join(words) for image, words in enumerate(said)}, references, "words")


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
        found = {name: scores.metrics[name] for name in names}
        assert found == pytest.approx(dict(zip(names, map(float, values), strict=True)), abs=1e-6)
        again = of_means(scores)
        for name in set(names) - {"meteor"}:
            assert again[name] == pytest.approx(found[name], abs=1e-4 if name == "bleu4" else 1e-9)
        assert intervals(scores)["meteor"].low <= found["meteor"] <= intervals(scores)["meteor"].high


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
    figures = rows.drop(columns="reference_length")
    assert figures.loc[[1, 2, 3]].to_numpy() == pytest.approx(0, abs=1e-9)
    assert (rows.loc[4].drop(["guess4", "correct4"]) > 0).all()
    assert rows["reference_length"].tolist() == [2, 3, 0, 3], "the closest"
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


def test_captions_and_references_of_different_images_are_refused() -> None:
    for predictions, references in (({1: "a", 8: "b"}, {1: ["a"], 8: []}), ({1: "a"}, {1: ["a"], 5: ["c"]}), ({}, {})):
        with pytest.raises(CaptioningError, match="no captions to score, or they and the references are not of"):
            score_captions(predictions, references)
    with pytest.raises(CaptioningError, match="contains a word"):
        score_captions({1: "a cat"}, {1: ["..."]}, "words")


def install_java(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    java = folder / "java"
    java.write_text(f'#!/bin/sh\necho $$ > "{folder}/pid"\n{script}\n')
    java.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def test_without_a_working_java_words_are_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_java(tmp_path, monkeypatch, "exit 1")
    assert score_captions({1: "a cat"}, {1: ["a cat"]}).tokenizer == "words"


def test_the_scores_of_images_make_those_of_the_corpus() -> None:
    scores = some_captions(200)
    assert of_means(scores) == pytest.approx(scores.metrics, abs=1e-9)


WORDS = st.lists(st.sampled_from(["a", "cat", "dog", "runs", "on", "grass"]), max_size=7).map(" ".join)


@given(st.lists(st.tuples(WORDS, st.lists(WORDS, min_size=1, max_size=3)), min_size=1, max_size=6))
@settings(max_examples=60)
def test_the_scores_of_a_few_images_make_those_of_the_corpus_too(captioned: list[tuple[str, list[str]]]) -> None:
    references = dict(enumerate(texts for _, texts in captioned)) | {99: ["a cat runs on grass"]}
    predictions = dict(enumerate(caption for caption, _ in captioned)) | {99: "a cat runs on"}
    scores = score_captions(predictions, references, "words")
    assert of_means(scores) == pytest.approx(scores.metrics, abs=1e-9)


def test_captions_without_a_common_run_of_words_have_next_to_no_bleu_from_means_either() -> None:
    scores = score_captions({1: "a cat sits", 2: ""}, {1: ["dogs run on grass"], 2: ["a horse"]}, "words")
    again = of_means(scores)
    assert all(again[f"bleu{n}"] == pytest.approx(scores.metrics[f"bleu{n}"], abs=1e-4) for n in range(1, 5))


def test_intervals_hold_the_scores_and_shrink_with_more_images() -> None:
    few, many = some_captions(30), some_captions(270)
    wide, narrow = intervals(few), intervals(many)
    assert set(wide) == set(narrow) == set(many.metrics) == {"bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider"}
    for name in wide:
        assert wide[name].low < few.metrics[name] < wide[name].high
        assert narrow[name].low < many.metrics[name] < narrow[name].high
        assert (narrow[name].high - narrow[name].low) < 0.6 * (wide[name].high - wide[name].low), "9 times the images"
    assert intervals(few) == wide


def test_the_interval_of_a_mean_is_that_of_its_standard_error() -> None:
    scores = some_captions(270)
    cider, found = scores.per_image["cider"], intervals(scores)["cider"]
    error = cider.std() / math.sqrt(270)
    assert found.low == pytest.approx(cider.mean() - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(cider.mean() + 1.96 * error, abs=0.1 * error)


def test_the_interval_of_meteor_lies_around_the_score_of_the_corpus() -> None:
    scores = some_captions(60)
    meteor = np.random.default_rng(0).uniform(0.1, 0.5, 60)
    with_meteor = dataclasses.replace(
        scores, metrics=scores.metrics | {"meteor": 0.42}, per_image=scores.per_image.assign(meteor=meteor)
    )
    found, error = intervals(with_meteor)["meteor"], meteor.std() / math.sqrt(60)
    assert found.low == pytest.approx(0.42 - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(0.42 + 1.96 * error, abs=0.1 * error)


def test_without_java_scores_none_is_computed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install_java(tmp_path, monkeypatch, f'echo "$1" >> "{tmp_path}/calls"; [ "$1" = -version ] || exec cat')
    scores = score_captions({1: "a cat"}, {1: ["a cat"]}, java_scores=False)
    assert scores.tokenizer == "ptb"
    assert set(scores.metrics) == {"bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider"}
    assert len((tmp_path / "calls").read_text().splitlines()) == 2, "one to see whether it runs, one to tokenise"


def test_captions_of_another_script_are_scored_without_what_is_made_for_english() -> None:
    references = {1: ["犬が芝生の上を走る", "犬が走っている"], 2: ["赤い服の男の子", "男の子が立っている"]}
    same = score_captions({image: texts[0] for image, texts in references.items()}, references)
    swapped = score_captions({1: references[2][0], 2: references[1][0]}, references)
    assert same.tokenizer == swapped.tokenizer == "unicode"
    assert "meteor" not in same.metrics
    assert same.metrics["bleu1"] > 0.99 > 0.5 > swapped.metrics["bleu1"]
    assert same.metrics["cider"] > swapped.metrics["cider"]


def test_decomposed_text_scores_like_composed_text() -> None:
    references = {1: ["Một con chó đang chạy", "Con chó"], 2: ["Hai người đàn ông", "Hai người"]}
    captions = {1: "một con chó", 2: "hai người đàn ông"}
    apart = {image: unicodedata.normalize("NFD", text) for image, text in captions.items()}
    assert score_captions(apart, references, "words").metrics == score_captions(captions, references, "words").metrics


def test_a_capital_with_a_dot_is_the_letter_that_training_makes_of_it() -> None:
    references = {1: ["İstanbul'da bir köpek"], 2: ["Bir kedi"]}
    scores = score_captions({1: "istanbul da bir köpek", 2: "bir kedi"}, references, "words")
    assert scores.metrics["bleu1"] > 0.99
