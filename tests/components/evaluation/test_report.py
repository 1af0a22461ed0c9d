import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from components.config import EvaluationConfig
from components.decoder.caption import Caption, Search
from components.errors import CaptioningError
from components.evaluation.comparison import compare
from components.evaluation.gallery_selection import EvaluationInputs, OwnPictures
from components.evaluation.plots import TEMPERATURES, plot_temperature
from components.evaluation.report import evaluate
from components.evaluation.summary import Summary, read_predictions
from components.evaluation.tokenize import find_java

SEEN = range(100, 111)
"""The images of val with an embedding."""
HISTORY = [{"phase": 1.0, "epoch": 1.0, "loss": 4.0, "accuracy": 0.2, "val_loss": 3.5, "val_cider": 0.3}]
PLOTS = {"scores.png", "lengths.png", "vocabulary.png", "temperature.png"}
TABLES = {"pictures.parquet", "predictions.parquet", "summary.json", "gallery.html"}

Run = Callable[..., Path]
Make = Callable[..., Any]


def blind(image: int) -> str:
    return "a red kite near some kites"


@pytest.fixture
def run(tmp_path: Path, material: EvaluationInputs, make_captioner: Make, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Evaluates a captioner, by default one that says the first reference."""
    monkeypatch.setattr("components.evaluation.metrics.find_java", lambda: None)

    def go(
        captioner: Any = None,
        split: str = "val",
        history: Sequence[Mapping[str, float]] = HISTORY,
        on: EvaluationInputs = material,
        **config: Any,
    ) -> Path:
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        out.mkdir()
        options = EvaluationConfig(**{"gallery": 3, **config})
        count = evaluate(captioner or make_captioner(), on, split, options, history, "toy", {"Model": "toy <1>"}, out)
        assert count == len(read_predictions(out)) == Summary.load(out).images
        return out

    return go


def page(folder: Path) -> str:
    return (folder / "gallery.html").read_text(encoding="utf-8")


def sections(folder: Path) -> dict[str, str]:
    """The parts of the gallery by kind."""
    parts = page(folder).split('<section class="pictures ')[1:]
    return {part.split('"')[0]: part.split("</section>")[0] for part in parts}


def shown(part: str) -> list[int]:
    """The images on the cards of a section."""
    return [int(piece.split("<")[0].split("image ")[1]) for piece in part.split('<span class="name">')[1:]]


def test_perfect_captions_score_high_and_shuffled_ones_far_below(run: Run) -> None:
    metrics = Summary.load(run()).metrics
    assert metrics["cider"] > 4
    assert metrics["bleu4"] == pytest.approx(1)
    assert metrics["cider_shuffled"] < metrics["cider"] / 4
    assert metrics["distinct"] == 1
    assert metrics["words_used"] == 4 + 2 * len(SEEN)
    assert metrics["length"] == 6
    assert metrics["dangling"] == 0


def test_a_captioner_that_looks_at_no_image_scores_low_shuffled_or_not(run: Run, make_captioner: Make) -> None:
    metrics = Summary.load(run(make_captioner(blind))).metrics
    assert metrics["cider"] < 1.5
    assert metrics["cider_shuffled"] == pytest.approx(metrics["cider"])
    assert metrics["distinct"] == pytest.approx(1 / len(SEEN))


def test_every_image_with_an_embedding_has_its_own_caption_and_scores(run: Run, material: EvaluationInputs) -> None:
    predictions = read_predictions(run())
    first = material.captions.drop_duplicates("image_id").set_index("image_id")["tokens"]
    assert predictions["image_id"].tolist() == list(SEEN)
    assert predictions["caption"].tolist() == [first[image] for image in SEEN]
    assert (predictions[["logprob", "status", "error"]] == [-3.5, "ok", ""]).all(axis=None)
    assert (predictions["cider"] > 2).all()
    assert {"bleu4", "rouge_l", "length", "reference_length", "guess1", "correct4"} <= set(predictions.columns)


def test_the_summary_is_what_was_written(run: Run, material: EvaluationInputs) -> None:
    folder = run()
    summary = Summary.load(folder)
    content = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    first = material.captions.drop_duplicates("image_id").set_index("image_id")["tokens"]
    assert (summary.split, summary.images, summary.tokenizer) == ("val", 11, "words")
    assert summary.metrics == content["metrics"]
    assert len(summary.examples) == 5
    assert all(first[int(name.removesuffix(".jpg"))] == text for name, text in summary.examples)
    assert hash(summary.examples)


def test_every_score_has_an_interval_that_holds_it(run: Run, make_captioner: Make) -> None:
    perfect = make_captioner()
    summary = Summary.load(run(make_captioner(lambda image: perfect.say(image) if image % 3 else blind(image))))
    assert set(summary.intervals) == {"bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider"}
    for name, (low, high) in summary.intervals.items():
        assert low < summary.metrics[name] < high


def test_novel_is_the_share_of_captions_that_no_one_wrote_in_training(
    run: Run, make_captioner: Make, material: EvaluationInputs
) -> None:
    learnt = material.captions.loc[material.captions["split"] == "train", "tokens"].tolist()
    parrot = make_captioner(lambda image: learnt[0] if image in (100, 105) else f"a thing {image}")
    assert Summary.load(run(parrot)).metrics["novel"] == pytest.approx(9 / 11)
    assert Summary.load(run(make_captioner(lambda image: learnt[1]))).metrics["novel"] == 0


def test_the_words_are_the_models_and_not_what_its_text_could_be_divided_into(
    run: Run, make_captioner: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner = make_captioner()
    said = Caption("犬が走る", (-1.0,) * 6, ("犬", "が", "走", "る", "。"))
    monkeypatch.setattr(captioner, "caption", lambda vectors, search: [[said]] * len(vectors))
    monkeypatch.setattr(captioner, "next_words", lambda vector, caption: np.full((6, 8), 1 / 8))
    assert Summary.load(run(captioner)).metrics["length"] == 5


def test_the_lengths_are_those_of_the_captions(run: Run, make_captioner: Make) -> None:
    captioner = make_captioner(lambda image: "a kite of the" if image == 100 else "kite kite")
    metrics = Summary.load(run(captioner)).metrics
    assert metrics["length"] == pytest.approx((4 + 10 * 2) / 11)
    assert metrics["dangling"] == pytest.approx(1 / 11)


def test_the_digest_of_the_data_is_that_of_images_and_references(run: Run, material: EvaluationInputs) -> None:
    def digest(captions: pd.DataFrame) -> str:
        return Summary.load(run(on=dataclasses.replace(material, captions=captions))).data

    captions = material.captions
    of_all = digest(captions)
    images = np.random.default_rng(3).permutation(captions["image_id"].unique())
    other_order = pd.concat([captions[captions["image_id"] == image] for image in images])
    assert digest(other_order) == digest(captions.iloc[::-1]) == of_all
    one = captions.index[captions["image_id"] == 103][0]
    assert digest(captions.assign(caption=captions["caption"].where(captions.index != one, "Else."))) != of_all
    assert digest(captions.drop(one)) != of_all
    assert digest(captions[captions["image_id"] != 103]) != of_all


def test_the_gallery_shows_the_best_the_worst_and_a_random_sample_with_their_facts(
    run: Run, make_captioner: Make, material: EvaluationInputs
) -> None:
    perfect = make_captioner()
    parts = sections(run(make_captioner(lambda image: perfect.say(image) if image >= 106 else "a <b>lamp</b>")))
    assert list(parts) == ["best", "worst", "random", "every"]
    assert all(image >= 106 for image in shown(parts["best"]))
    assert all(image < 106 for image in shown(parts["worst"]))
    assert [len(shown(part)) for part in parts.values()] == [3, 3, 3, 0]  # every image is shown by the script
    assert "a red" in parts["best"]
    assert "lamp&lt;/b&gt;" not in parts["best"]
    assert parts["worst"].count('<h3 dir="auto">a &lt;b&gt;lamp&lt;/b&gt;</h3>') == 3


def test_ones_own_pictures_are_captioned_and_shown(
    run: Run, material: EvaluationInputs, photograph: Callable[[int], bytes]
) -> None:
    own = OwnPictures({"mine.jpg": photograph(1), "<b>.jpg": photograph(2)}, np.array([[203.0] * 5, [204.0] * 5]))
    parts = sections(run(on=dataclasses.replace(material, own=own)))
    assert list(parts) == ["best", "worst", "random", "own", "every"]
    assert parts["own"].count("<article") == 2
    assert parts["own"].index("a red tree") < parts["own"].index("a red horse")
    assert "&lt;b&gt;.jpg" in parts["own"]


def test_the_page_says_what_it_is_about(run: Run) -> None:
    folder = run()
    text, summary = page(folder), Summary.load(folder)
    assert "toy: 11 images, split val" in text
    assert f"split val: 11 images, 22 references, digest {summary.data}" in text
    assert all(f"<dd>{fact}</dd>" in text for fact in ("toy &lt;1&gt;", "greedy", "words"))
    assert f"<dt>CIDEr</dt><dd>{100 * summary.metrics['cider']:.1f}</dd>" in text
    assert f"of {5 + 2 * 12 + 2:,}" in text, "words of the vocabulary"


def test_the_width_of_the_search_is_the_configurations(run: Run, make_captioner: Make) -> None:
    captioner = make_captioner()
    assert "<dd>beam of 7</dd>" in page(run(captioner, beam=7))
    assert captioner.searches[0] == (Search("beam", beam=7), 11)
    greedy = make_captioner()
    run(greedy)
    assert greedy.searches[0] == (Search("greedy"), 11)


def test_one_photographs_captions_are_drawn_at_every_temperature(run: Run, make_captioner: Make) -> None:
    captioner = make_captioner()
    text = page(run(captioner))
    drawn = [(search.temperature, images) for search, images in captioner.searches if search.method == "sample"]
    assert drawn == [(temperature, 1) for temperature in TEMPERATURES]
    assert all(f'<dt>{temperature}</dt><dd dir="auto">a red' in text for temperature in TEMPERATURES)


def test_plots_are_written_and_shown(run: Run) -> None:
    folder = run()
    assert {path.name for path in folder.iterdir()} == TABLES | PLOTS | {"loss.png", "cider.png"}
    for path in folder.glob("*.png"):
        with Image.open(path) as image:
            assert image.size == (960, 640)
        assert f'alt="Plot: {path.stem}"' in page(folder)


def test_the_temperature_plot_is_of_the_place_where_most_words_come_into_question(
    run: Run, make_captioner: Make, tmp_path: Path
) -> None:
    captioner = make_captioner(blind)
    folder = run(captioner)
    steps = captioner.next_words(np.zeros(5), Caption(blind(100), (-1.0,) * 7))  # of which the last is the vaguest
    plot_temperature(blind(100), captioner.vocabulary.words, steps[-1], tmp_path / "expected.png")
    assert (folder / "temperature.png").read_bytes() == (tmp_path / "expected.png").read_bytes()
    assert f"The least certain word of “{blind(100)}”" in page(folder)


def test_without_a_history_there_are_no_plots_of_it(run: Run) -> None:
    folder = run(history=[])
    assert {path.name for path in folder.iterdir()} == TABLES | PLOTS
    assert "Plot: loss" not in page(folder)


def test_captions_without_a_word_are_evaluated_too(run: Run, make_captioner: Make) -> None:
    folder = run(make_captioner(lambda image: ""))
    metrics = Summary.load(folder).metrics
    assert (metrics["cider"], metrics["length"], metrics["words_used"]) == (0, 0, 0)
    assert "(no words)" in page(folder)


@pytest.mark.parametrize("split", ["test", "dev"])
def test_a_split_that_is_not_there_names_those_that_are(run: Run, split: str) -> None:
    with pytest.raises(CaptioningError, match=rf"'{split}' one of \['train', 'val'\]"):
        run(split=split)


def test_two_evaluations_are_compared_and_those_of_other_references_are_not(
    run: Run, make_captioner: Make, material: EvaluationInputs
) -> None:
    found = {one.metric: one.verdict for one in compare(run(), run(make_captioner(blind)))}
    assert found["cider"] == found["rouge_l"] == found["bleu4"] == "better"
    fewer = dataclasses.replace(material, captions=material.captions[material.captions["image_id"] != 100])
    with pytest.raises(CaptioningError, match="cannot be compared"):
        compare(run(), run(on=fewer))


@pytest.mark.skipif(find_java() is None, reason="METEOR and the PTB tokenizer run on Java, which is not installed")
def test_with_java_the_official_tokenizer_is_used_and_recorded(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.evaluation.metrics.find_java", find_java)
    folder = run()
    summary = Summary.load(folder)
    assert summary.tokenizer == "ptb"
    assert summary.metrics["meteor"] > 0.9
    assert summary.intervals["meteor"][0] <= summary.metrics["meteor"] <= summary.intervals["meteor"][1]
    assert "meteor" in read_predictions(folder)
    assert "<dd>ptb</dd>" in page(folder)
    assert "<dt>METEOR</dt>" in page(folder)
