import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from components.encoder.pool import EmbeddingPool, EncoderCard
from components.registry.captioner import Caption, Captioner, Embeddings, Search
from components.registry.reference import Reference
from components.scoring import score
from components.scoring.inputs import list_images
from components.scoring.score import caption_images, read_predictions, write_predictions
from data_contracts.schema import DRIFT, PREDICTIONS

Photograph = Callable[[int], bytes]
REFERENCE = Reference([128.0, 128.0, 128.0], [64.0, 32.0, 0.0], 1.5, 4.0)
CARD = EncoderCard("colours", "0123456789abcdef", 3, 8, "antialias", "float32")


class ForeignError(Exception):
    """What a registered model's own code reports."""


class Colours(Captioner):
    """Reads photographs as every captioner does, and calls each by its mean colour."""

    def __init__(self) -> None:
        self.card = {"encoder": {"input_size": 8, "preprocessing": "antialias"}}
        self.embedded = 0

    def read_one(self, photograph: bytes) -> Any:
        found = super().read_one(photograph)
        return found if isinstance(found, np.ndarray) else ForeignError(str(found))

    def embed(self, pixels: Any) -> np.ndarray:
        self.embedded += len(pixels)
        return np.array([image.mean(axis=(0, 1)) for image in pixels], np.float32).reshape(-1, 3)

    def caption(self, embeddings: Embeddings, search: Search) -> list[list[Caption]]:
        words = "{:.1f} {:.1f} {:.1f}".format
        worse = Caption(f"not by {search.method}", -9.0)
        return [[Caption(words(*colour), -float(colour.mean())), worse] for colour in embeddings[0 : len(embeddings)]]


def colours(photograph: bytes) -> str:
    captioner = Colours()
    ((best, _),) = captioner.caption(captioner.embed(captioner.read([photograph])), Search())
    return best.text


@pytest.fixture
def score_files(tmp_path: Path) -> Callable[..., tuple[pd.DataFrame, pd.DataFrame]]:
    """Predictions and drift for files of these names and contents; a name without content is not there."""
    REFERENCE.save(tmp_path / "reference.json")

    def make(
        captioner: Captioner | None = None, search: Search | None = None, **files: bytes | None
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        for name, content in files.items():
            if content is not None:
                (tmp_path / name).write_bytes(content)
        table = tmp_path / "images.parquet"
        pd.DataFrame({"path": list(files)}).to_parquet(table)
        pool = EmbeddingPool(tmp_path / "pool", CARD)
        captioner = captioner or Colours()
        captioner.folder = tmp_path
        return caption_images(table, list_images(table), captioner, search or Search(), "7", pool)

    return make


@pytest.fixture
def predictions_of(score_files: Callable[..., tuple[pd.DataFrame, pd.DataFrame]]) -> Callable[..., pd.DataFrame]:
    """The predictions alone."""
    return lambda *args, **files: score_files(*args, **files)[0]


@pytest.mark.parametrize("shard", [1, 2, 1024])
def test_every_input_has_a_row_in_its_place(
    photograph: Photograph, predictions_of: Callable[..., pd.DataFrame], monkeypatch: pytest.MonkeyPatch, shard: int
) -> None:
    monkeypatch.setattr(score, "SHARD", shard)
    cut = photograph(3)[:150]
    files = {"one": photograph(1), "cut": cut, "two": photograph(2), "gone": None, "copy": photograph(1)}
    table = predictions_of(**files)
    assert table["uri"].tolist() == list(files)
    one, two = colours(photograph(1)), colours(photograph(2))
    assert one != two
    assert table["caption"].tolist() == [one, "", two, "", one]
    assert table["status"].tolist() == ["ok", "quarantined", "ok", "quarantined", "ok"]
    assert table["logprob"].isna().tolist() == [False, True, False, True, False]
    assert table["image_id"].tolist() == [hashlib.sha256(content or b"").hexdigest() for content in files.values()]
    assert [bool(error) for error in table["error"]] == [False, True, False, True, False]
    assert "decoded" in table["error"][1]
    assert "No such file" in table["error"][3]


def test_what_was_embedded_before_is_not_embedded_again(
    photograph: Photograph, predictions_of: Callable[..., pd.DataFrame]
) -> None:
    first, second = Colours(), Colours()
    predictions_of(first, one=photograph(1), copy=photograph(1), bad=b"bad")
    table = predictions_of(second, renamed=photograph(1), new=photograph(2), bad=b"bad")
    assert (first.embedded, second.embedded) == (1, 1)
    assert table["caption"].tolist() == [colours(photograph(1)), colours(photograph(2)), ""]


def test_every_row_says_what_made_it_and_when(
    photograph: Photograph, predictions_of: Callable[..., pd.DataFrame]
) -> None:
    table = predictions_of(good=photograph(1), bad=b"bad")
    assert set(table["model_version"]) == {"7"}
    assert set(table["encoder_fingerprint"]) == {"0123456789abcdef"}
    assert ((datetime.now(UTC) - table["scored_at"]) < timedelta(minutes=1)).all()


def test_the_best_of_a_beam_is_taken(photograph: Photograph, predictions_of: Callable[..., pd.DataFrame]) -> None:
    table = predictions_of(search=Search("beam", beam=2), one=photograph(1))
    assert table["caption"].tolist() == [colours(photograph(1))]


@pytest.mark.parametrize("good", [0, 2])
def test_the_columns_are_the_contracts_before_and_after_storing(
    photograph: Photograph, predictions_of: Callable[..., pd.DataFrame], tmp_path: Path, good: int
) -> None:
    table = predictions_of(**{f"good {n}": photograph(n) for n in range(good)}, bad=b"bad")
    assert {name: str(dtype) for name, dtype in table.dtypes.items()} == PREDICTIONS
    write_predictions(table, tmp_path)
    pd.testing.assert_frame_equal(read_predictions(tmp_path), table)


def test_drift_is_that_of_the_captioned_images(
    photograph: Photograph, score_files: Callable[..., tuple[pd.DataFrame, pd.DataFrame]]
) -> None:
    _, drift = score_files(one=photograph(1), bad=b"bad", two=photograph(2), gone=None, copy=photograph(1))
    captioner = Colours()
    embeddings = captioner.embed(captioner.read([photograph(1), photograph(2), photograph(1)]))
    deviations = ((embeddings - 128) / [64, 32, 1])[:, :2]
    far = np.sqrt((deviations**2).mean(axis=1)) > 1.5
    [found] = drift.to_dict("records")
    assert {name: str(dtype) for name, dtype in drift.dtypes.items()} == DRIFT
    assert found == pytest.approx(
        {
            "images": 3,
            "embedding_shift": np.sqrt((deviations.mean(axis=0) ** 2).mean()),
            "outlier_share": far.mean(),
            "caption_words": 3,
            "training_caption_words": 4,
        }
    )


def test_drift_of_no_readable_image_is_a_row(score_files: Callable[..., tuple[pd.DataFrame, pd.DataFrame]]) -> None:
    _, drift = score_files(bad=b"bad", gone=None)
    assert {name: str(dtype) for name, dtype in drift.dtypes.items()} == DRIFT
    assert drift["images"].tolist() == [0]
    assert drift["embedding_shift"].tolist() == [0]


class Interrupted(pd.DataFrame):
    """Predictions whose writing ends half-way."""

    def to_parquet(self, path: Path, **_: Any) -> None:  # type: ignore[override]
        path.write_bytes(b"half")
        raise OSError("disk full")


def test_predictions_replace_those_before_them_or_nothing(
    photograph: Photograph, predictions_of: Callable[..., pd.DataFrame], tmp_path: Path
) -> None:
    first, second = (predictions_of(**{name: photograph(1)}) for name in ("first", "second"))
    path = write_predictions(first, tmp_path / "new" / "folder")
    with pytest.raises(OSError, match="disk full"):
        write_predictions(Interrupted(second), path.parent)
    assert read_predictions(path.parent)["uri"].tolist() == ["first"]
    assert write_predictions(second, path.parent) == path
    assert read_predictions(path.parent)["uri"].tolist() == ["second"]
    assert [file.name for file in path.parent.iterdir()] == ["predictions.parquet"]
