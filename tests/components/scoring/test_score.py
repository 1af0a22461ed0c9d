import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from components.registry.captioner import Caption, Captioner, Search
from components.scoring import score
from components.scoring.inputs import ImageFile
from components.scoring.score import caption_images, read_predictions, write_predictions
from data_contracts.schema import PREDICTIONS

Photograph = Callable[[int], bytes]


class ForeignError(Exception):
    """What a registered model's own code reports."""


class Colours(Captioner):
    """Reads photographs as every captioner does, and calls each by its mean colour."""

    def __init__(self) -> None:
        self.card = {"encoder": {"fingerprint": "0123456789abcdef", "input_size": 8, "dimension": 3}}

    def read(self, photographs: Sequence[bytes]) -> list[Any]:
        found = super().read(photographs)
        return [image if isinstance(image, np.ndarray) else ForeignError(str(image)) for image in found]

    def embed(self, pixels: Sequence[np.ndarray]) -> np.ndarray:
        return np.array([image.mean(axis=(0, 1)) for image in pixels], np.float32).reshape(-1, 3)

    def caption(self, embeddings: np.ndarray, search: Search) -> list[list[Caption]]:
        words = "{:.1f} {:.1f} {:.1f}".format
        worse = Caption(f"not by {search.method}", -9.0)
        return [[Caption(words(*colour), -float(colour.mean())), worse] for colour in embeddings]


def colours(photograph: bytes) -> str:
    captioner = Colours()
    ((best, _),) = captioner.caption(captioner.embed(captioner.read([photograph])), Search())
    return best.text


def predictions_of(*files: ImageFile) -> pd.DataFrame:
    return caption_images(iter(files), Colours(), Search(), "7")


@pytest.mark.parametrize("batch", [1, 2, 256])
def test_every_input_has_a_row_in_its_place(
    photograph: Photograph, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(score, "BATCH", batch)
    cut = photograph(3)[:150]
    table = predictions_of(
        ImageFile("one", photograph(1)),
        ImageFile("cut", cut),
        ImageFile("two", photograph(2)),
        ImageFile("gone", b"", "cannot be read: no such file"),
        ImageFile("copy of one", photograph(1)),
    )
    assert table["uri"].tolist() == ["one", "cut", "two", "gone", "copy of one"]
    one, two = colours(photograph(1)), colours(photograph(2))
    assert one != two
    assert table["caption"].tolist() == [one, "", two, "", one]
    assert table["status"].tolist() == ["ok", "quarantined", "ok", "quarantined", "ok"]
    assert table["logprob"].isna().tolist() == [False, True, False, True, False]
    ids = [hashlib.sha256(content).hexdigest() for content in (photograph(1), cut, photograph(2), b"", photograph(1))]
    assert table["image_id"].tolist() == ids
    assert [bool(error) for error in table["error"]] == [False, True, False, True, False]
    assert "decoded" in table["error"][1]
    assert table["error"][3] == "cannot be read: no such file"


def test_every_row_says_what_made_it_and_when(photograph: Photograph) -> None:
    table = predictions_of(ImageFile("good", photograph(1)), ImageFile("bad", b"bad"))
    assert set(table["model_version"]) == {"7"}
    assert set(table["encoder_fingerprint"]) == {"0123456789abcdef"}
    assert ((datetime.now(UTC) - table["scored_at"]) < timedelta(minutes=1)).all()


def test_the_best_of_a_beam_is_taken(photograph: Photograph) -> None:
    table = caption_images([ImageFile("one", photograph(1))], Colours(), Search("beam", beam=2), "7")
    assert table["caption"].tolist() == [colours(photograph(1))]


@pytest.mark.parametrize("good", [0, 2])
def test_the_columns_are_the_contracts_before_and_after_storing(
    photograph: Photograph, tmp_path: Path, good: int
) -> None:
    files = [ImageFile(f"good {n}", photograph(n)) for n in range(good)]
    table = predictions_of(*files, ImageFile("bad", b"bad"))
    assert {name: str(dtype) for name, dtype in table.dtypes.items()} == PREDICTIONS
    write_predictions(table, tmp_path)
    pd.testing.assert_frame_equal(read_predictions(tmp_path), table)


class Interrupted(pd.DataFrame):
    """Predictions whose writing ends half-way."""

    def to_parquet(self, path: Path, **_: Any) -> None:  # type: ignore[override]
        path.write_bytes(b"half")
        raise OSError("disk full")


def test_predictions_replace_those_before_them_or_nothing(photograph: Photograph, tmp_path: Path) -> None:
    first, second = (predictions_of(ImageFile(name, photograph(1))) for name in ("first", "second"))
    path = write_predictions(first, tmp_path / "new" / "folder")
    with pytest.raises(OSError, match="disk full"):
        write_predictions(Interrupted(second), path.parent)
    assert read_predictions(path.parent)["uri"].tolist() == ["first"]
    assert write_predictions(second, path.parent) == path
    assert read_predictions(path.parent)["uri"].tolist() == ["second"]
    assert [file.name for file in path.parent.iterdir()] == ["predictions.parquet"]
