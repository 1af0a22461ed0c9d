import json
from pathlib import Path

import pytest

from components.dataset.splits import read_splits
from components.errors import CaptioningError, ConfigurationError


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_csv_of_splits(tmp_path: Path) -> None:
    path = written(tmp_path / "s.csv", "note,split,image\r\n,train,x/a.jpg\r\n,val,b.jpg\r\n,val,b.jpg\r\n")
    assert read_splits(path) == {"x/a.jpg": "train", "b.jpg": "val"}


def test_names_stay_whole(tmp_path: Path) -> None:
    path = written(tmp_path / "s.csv", "image,split\nx/a.jpg,train\ny/a.jpg,val\n")
    assert read_splits(path) == {"x/a.jpg": "train", "y/a.jpg": "val"}


def test_splits_of_a_karpathy_file(tmp_path: Path) -> None:
    images = [
        {"filename": f"{split}.jpg", "filepath": "x", "split": split, "sentences": [{"raw": "a"}, {"raw": "b"}]}
        for split in ("train", "restval", "val", "test")
    ]
    splits = read_splits(written(tmp_path / "s.json", json.dumps({"images": images})))
    assert splits == {"x/train.jpg": "train", "x/restval.jpg": "train", "x/val.jpg": "val", "x/test.jpg": "test"}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("image,split\na,train\nb,val\na,val\n", r"s\.csv, line 4 \(a\): this image is in another split already"),
        ("image,split\na,train\nb,\n", r"s\.csv, line 3 \(b\): the image or its split is missing"),
        ("image,split\na,train\nb\n", r"s\.csv, line 3 has 1 of 2 fields \(b\)"),
        ("", r"s\.csv is empty"),
    ],
)
def test_faulty_splits_are_told_with_file_and_row(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(CaptioningError, match=fault):
        read_splits(written(tmp_path / "s.csv", text))


def test_missing_columns_are_told(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"s\.csv has no column image; it has 'name', 'split'. A split file is"
    ):
        read_splits(written(tmp_path / "s.csv", "name,split\na,train\n"))
