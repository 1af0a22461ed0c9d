import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from components.errors import CaptioningError
from components.evaluation.comparison import Difference, compare, read_comparison, write_comparison
from components.evaluation.metrics import score_captions
from components.evaluation.summary import Summary

IMAGES = range(40)
THINGS = ("kite", "dog", "boat", "tree", "horse", "lamp", "train", "apple", "clock", "chair")


def truth(image: int) -> str:
    return f"a {THINGS[image % 10]} lies near the {THINGS[image // 4]} under a {THINGS[image * 7 % 9]}"


RIGHT = [truth(image) for image in IMAGES]
WRONG = [truth((image + 13) % 40) for image in IMAGES]
ALIKE = [WRONG[image] if image % 2 else RIGHT[image] for image in IMAGES]
ALIKE_TOO = [RIGHT[image] if image % 2 else WRONG[image] for image in IMAGES]


@pytest.fixture
def evaluation(tmp_path: Path) -> "Evaluation":
    return Evaluation(tmp_path)


class Evaluation:
    """Writes what `report.evaluate` leaves of captions of forty images, as far as a comparison reads it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(
        self,
        captions: Sequence[str],
        data: str = "abc",
        tokenizer: str = "words",
        meteor: tuple[float, Sequence[float]] | None = None,
        order: Sequence[int] = IMAGES,
    ) -> Path:
        folder = self.root / str(len(list(self.root.iterdir())))
        folder.mkdir()
        references = {image: [truth(image), "Something else."] for image in IMAGES}
        scores = score_captions(dict(enumerate(captions)), references, "words")
        metrics, table = dict(scores.metrics), scores.per_image
        if meteor:
            metrics["meteor"], table = meteor[0], table.assign(meteor=meteor[1])
        summary = Summary("val", len(IMAGES), data, metrics | {"distinct": 1.0}, {}, tokenizer, ())
        (folder / "summary.json").write_text(json.dumps(dataclasses.asdict(summary)), encoding="utf-8")
        table.assign(caption=captions).iloc[list(order)].to_parquet(folder / "predictions.parquet", index=False)
        return folder


def by_metric(differences: Sequence[Difference]) -> dict[str, Difference]:
    return {difference.metric: difference for difference in differences}


def test_the_better_model_is_found_from_either_side(evaluation: Evaluation) -> None:
    right, wrong = evaluation(RIGHT), evaluation(WRONG)
    forth, back = by_metric(compare(right, wrong)), by_metric(compare(wrong, right))
    assert set(forth) == {"cider", "rouge_l", "bleu1", "bleu2", "bleu3", "bleu4"}
    for metric, found in forth.items():
        assert (found.verdict, back[metric].verdict) == ("better", "worse")
        assert 0 < found.low < found.first - found.second < found.high
        assert 0 < found.p < 0.01
        assert (found.low, found.high, found.p) == pytest.approx((-back[metric].high, -back[metric].low, found.p))


def test_scores_are_those_of_the_summaries(evaluation: Evaluation) -> None:
    right, wrong = evaluation(RIGHT), evaluation(WRONG)
    summaries = Summary.load(right), Summary.load(wrong)
    for found in compare(right, wrong):
        assert (found.first, found.second) == tuple(summary.metrics[found.metric] for summary in summaries)


def test_models_that_are_as_good_on_other_images_tie(evaluation: Evaluation) -> None:
    for found in compare(evaluation(ALIKE), evaluation(ALIKE_TOO)):
        assert found.verdict == "tie"
        assert found.low < 0 < found.high
        assert found.p > 0.05


def test_a_model_ties_with_itself(evaluation: Evaluation) -> None:
    folder = evaluation(ALIKE)
    assert [(found.low, found.high, found.p, found.verdict) for found in compare(folder, folder)] == 6 * [
        (0, 0, 1, "tie")
    ]


def test_a_small_advantage_on_every_image_is_significant_though_scores_vary_far_more(evaluation: Evaluation) -> None:
    scores = np.random.default_rng(0).uniform(0.1, 0.9, 40)
    ahead = evaluation(ALIKE, meteor=(0.52, scores + 0.01))
    found = by_metric(compare(ahead, evaluation(ALIKE, meteor=(0.51, scores))))
    assert found["meteor"].verdict == "better"
    assert found["meteor"].low == pytest.approx(0.01)
    assert found["cider"].verdict == "tie"


def test_the_interval_of_meteor_is_moved_to_the_scores_of_the_corpus(evaluation: Evaluation) -> None:
    random = np.random.default_rng(1)
    first, second = random.uniform(0, 1, (2, 40))
    found = by_metric(compare(evaluation(RIGHT, meteor=(0.9, first)), evaluation(RIGHT, meteor=(0.2, second))))
    error = (first - second).std() / 40**0.5
    assert found["meteor"].first - found["meteor"].second == pytest.approx(0.7)
    assert found["meteor"].low == pytest.approx(0.7 - 1.96 * error, abs=0.01)
    assert found["meteor"].high == pytest.approx(0.7 + 1.96 * error, abs=0.01)


def test_what_only_one_was_scored_by_is_left_out(evaluation: Evaluation) -> None:
    with_meteor = evaluation(RIGHT, meteor=(0.5, np.full(40, 0.5)))
    assert "meteor" not in by_metric(compare(with_meteor, evaluation(RIGHT)))
    assert "meteor" not in by_metric(compare(evaluation(RIGHT), with_meteor))


def test_the_order_of_rows_does_not_matter(evaluation: Evaluation) -> None:
    first, second = evaluation(RIGHT), evaluation(ALIKE)
    turned = evaluation(ALIKE, order=np.random.default_rng(2).permutation(40).tolist())
    assert compare(first, turned) == compare(first, second)


def test_other_references_or_another_tokenizer_are_refused(evaluation: Evaluation) -> None:
    folder = evaluation(RIGHT)
    with pytest.raises(CaptioningError, match="cannot be compared: their data is abc and xyz"):
        compare(folder, evaluation(RIGHT, data="xyz"))
    with pytest.raises(CaptioningError, match="their tokenizer is words and ptb"):
        compare(folder, evaluation(RIGHT, tokenizer="ptb"))


def test_a_comparison_is_read_as_it_was_written(evaluation: Evaluation, tmp_path: Path) -> None:
    found = compare(evaluation(RIGHT), evaluation(ALIKE))
    assert write_comparison(found, tmp_path) == 6
    assert read_comparison(tmp_path) == found
    assert (tmp_path / "comparison.json").is_file()


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.1, 0.3, "better"), (-0.3, -0.1, "worse"), (-0.1, 0.2, "tie"), (0, 0.2, "tie"), (-0.2, 0, "tie")],
)
def test_the_verdict_is_that_of_the_interval(low: float, high: float, verdict: str) -> None:
    assert Difference("cider", 0.5, 0.4, low, high, 0.04).verdict == verdict
