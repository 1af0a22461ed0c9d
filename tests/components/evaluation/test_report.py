import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from components.config import EvaluationConfig
from components.encoder.pool import Vectors
from components.encoder.store import EmbeddingStore
from components.errors import CaptioningError
from components.evaluation.report import Captions, Material, Summary, evaluate, read_predictions
from components.evaluation.tokenize import find_java

OBJECTS = ("kite", "dog", "boat", "tree", "horse", "lamp", "train", "apple", "clock", "chair", "bird", "car")
DEV = range(100, 112)
HISTORY = [{"epoch": 1, "loss": 4.0, "accuracy": 0.2, "val_loss": 3.5, "val_accuracy": 0.3}]
Evaluate = Callable[..., Path]


def truth(image_id: int) -> list[str]:
    thing = OBJECTS[image_id % 100]
    return [f"A red {thing} near some {thing}s.", f"One {thing} stands beside {OBJECTS[image_id % 100 - 1]}s"]


def photograph(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 12), (shade, shade, 90)).save(file, "JPEG")
    return file.getvalue()


def perfect(embeddings: Vectors) -> list[tuple[str, float]]:
    """Knows each image by its embedding, whose every number is the image's id."""
    return [(truth(int(vector[0]))[0], -2.0) for vector in embeddings[:]]


def blind(embeddings: Vectors) -> list[tuple[str, float]]:
    return [("a red kite near some kites", -3.0)] * len(embeddings)


@pytest.fixture
def run(tmp_path: Path, make_store: Callable[[list[int]], EmbeddingStore], monkeypatch: pytest.MonkeyPatch) -> Evaluate:
    """Evaluates a captioner on twelve images of the split dev, whose ids and rows are in different orders."""
    ids = [*DEV, 1, 2]
    store = make_store(np.random.default_rng(0).permutation([i for i in ids if i != 111]).tolist())
    with ZipFile(tmp_path / "dev.zip", "w") as archive:
        for image_id in ids:
            archive.writestr(f"photos/{image_id}.jpg", photograph(image_id))
    images = pd.DataFrame({"image_id": ids[::-1], "split": "dev", "archive": "dev"})
    images["file_name"] = [f"photos/{image_id}.jpg" for image_id in images["image_id"]]
    pairs = [(i, "dev" if i in DEV else "train", text) for i in ids[::2] + ids[1::2] for text in truth(i)]
    captions = pd.DataFrame(pairs, columns=["image_id", "split", "caption"])
    monkeypatch.setattr("components.evaluation.metrics.find_java", lambda: None)

    material = Material(images, captions, store, {"dev": tmp_path / "dev.zip"})

    def go(
        captioner: Captions, split: str = "dev", gallery: int = 3, history: Sequence[Mapping[str, float]] = HISTORY
    ) -> Path:
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        out.mkdir()
        config = EvaluationConfig(gallery=gallery)
        count = evaluate(captioner, material, split, config, history, {"Model": "toy <1>"}, out)
        assert count == len(read_predictions(out)) == Summary.load(out).images
        return out

    return go


def test_perfect_captions_score_high_and_shuffled_ones_far_below(run: Evaluate) -> None:
    metrics = Summary.load(run(perfect)).metrics
    assert metrics["cider"] > 4
    assert metrics["bleu4"] == pytest.approx(1)
    assert metrics["cider_shuffled"] < metrics["cider"] / 4
    assert metrics["distinct"] > 0.5
    assert metrics["words_used"] > 4


def test_a_captioner_that_looks_at_no_image_scores_low_shuffled_or_not(run: Evaluate) -> None:
    metrics = Summary.load(run(blind)).metrics
    assert metrics["cider"] < 1.5
    assert metrics["cider_shuffled"] == pytest.approx(metrics["cider"])
    assert metrics["distinct"] * Summary.load(run(blind)).images == pytest.approx(1)


def test_every_image_with_an_embedding_has_its_own_caption_and_scores(run: Evaluate) -> None:
    predictions = read_predictions(run(perfect))
    assert predictions["image_id"].tolist() == [i for i in DEV if i != 111]
    assert predictions["caption"].tolist() == [truth(i)[0] for i in predictions["image_id"]]
    assert (predictions[["logprob", "status", "error"]] == [-2.0, "ok", ""]).all(axis=None)
    assert (predictions["cider"] > 2).all()
    assert {"bleu4", "rouge_l"} <= set(predictions.columns)


def test_the_summary_is_what_was_written(run: Evaluate) -> None:
    folder = run(perfect)
    summary = Summary.load(folder)
    content = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert (summary.split, summary.images, summary.tokenizer) == ("dev", 11, "words")
    assert summary.metrics == content["metrics"]
    assert len(summary.examples) == 5
    assert all(truth(int(name.removesuffix(".jpg")))[0] == text for name, text in summary.examples)
    assert hash(summary.examples)


def test_the_gallery_shows_the_best_and_the_worst_with_their_facts(run: Evaluate) -> None:
    def better_later(embeddings: Vectors) -> list[tuple[str, float]]:
        return [
            good if vector[0] >= 106 else ("a <b>lamp</b>", -9.0)
            for good, vector in zip(perfect(embeddings), embeddings[:], strict=True)
        ]

    html = (run(better_later) / "gallery.html").read_text(encoding="utf-8")
    assert html.count("<article") == 6
    well, poorly = html[html.index("worked well") :].split("worked poorly")
    assert "A red" in well
    assert "lamp&lt;/b&gt;" not in well
    assert poorly.count("a &lt;b&gt;lamp&lt;/b&gt;") >= 3
    assert all(text in html for text in ("dev, 11 images", "words", "toy &lt;1&gt;", "data:image/png"))


def test_no_image_is_in_both_halves_of_a_small_gallery(run: Evaluate) -> None:
    html = (run(perfect, gallery=12) / "gallery.html").read_text(encoding="utf-8")
    assert html.count("<article") == 10
    assert all(html.count(f"#{image_id}<") <= 1 for image_id in DEV)


def test_without_a_training_there_are_no_curves(run: Evaluate) -> None:
    assert (run(perfect) / "curves.png").read_bytes().startswith(b"\x89PNG")
    folder = run(perfect, history=[])
    assert {path.name for path in folder.iterdir()} == {"predictions.parquet", "summary.json", "gallery.html"}


@pytest.mark.parametrize("split", ["test", "val"])
def test_a_split_that_is_not_there_names_those_that_are(run: Evaluate, split: str) -> None:
    with pytest.raises(CaptioningError, match=rf"'{split}' one of \['dev', 'train'\]"):
        run(perfect, split=split)


@pytest.mark.skipif(find_java() is None, reason="METEOR and the PTB tokenizer run on Java, which is not installed")
def test_with_java_the_official_tokenizer_is_used_and_recorded(run: Evaluate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.evaluation.metrics.find_java", find_java)
    folder = run(perfect)
    summary = Summary.load(folder)
    assert summary.tokenizer == "ptb"
    assert summary.metrics["meteor"] > 0.9
    assert "meteor" in read_predictions(folder)
    assert "ptb" in (folder / "gallery.html").read_text(encoding="utf-8")
