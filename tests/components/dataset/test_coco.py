import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.dataset.formats import read_source
from components.dataset.rows import stable_id
from components.dataset.sources import Source
from components.errors import CaptioningError, ConfigurationError


def source_of(folder: Path, coco: Any, *files: str) -> Source:
    """A folder with empty `files`, and `coco` (as JSON, unless it is text) beside it."""
    images, captions = folder / "images", folder / "captions.json"
    images.mkdir(exist_ok=True)
    for file in files:
        (images / file).parent.mkdir(exist_ok=True)
        (images / file).touch()
    captions.write_text(coco if isinstance(coco, str) else json.dumps(coco), encoding="utf-8")
    return Source(images, captions, "")


def listed(*names: str) -> dict[str, Any]:
    return {"images": [{"id": n, "file_name": name} for n, name in enumerate(names)], "annotations": []}


def test_images_and_captions_come_in_the_order_of_the_file(make_source: Callable[..., Source]) -> None:
    images, captions = read_source(make_source({9: ["A dog.", "Ein Hündchen, 犬"], 4: ["A cat."]}))
    assert images.to_dict("list") == {
        "image_id": [9, 4],
        "name": ["000000000009.jpg", "000000000004.jpg"],
        "file_name": ["train/000000000009.jpg", "train/000000000004.jpg"],
        "nearest": ["", ""],
    }
    assert captions.to_dict("list") == {
        "caption_id": [1, 2, 3],
        "image_id": [9, 9, 4],
        "caption": ["A dog.", "Ein Hündchen, 犬", "A cat."],
    }


def test_zip_files_and_folders_are_read_alike(make_source: Callable[..., Source]) -> None:
    captions = {number: [f"caption {number}"] for number in range(3)}
    for zipped, plain in zip(
        read_source(make_source(captions, zipped=True)), read_source(make_source(captions)), strict=True
    ):
        assert zipped.equals(plain)


@pytest.mark.parametrize(
    ("name", "files", "found"),
    [
        ("a.jpg", ["a.jpg"], "a.jpg"),
        ("a.jpg", ["train2014/a.jpg"], "train2014/a.jpg"),
        ("train2014/a.jpg", ["train2014/a.jpg"], "train2014/a.jpg"),
        ("a.jpg", ["x/a.jpg", "a.jpg"], "a.jpg"),
        ("é.jpg", ["x/é.jpg"], "x/é.jpg"),
        ("a.jpg", ["b.jpg", "aa.jpg"], ""),
        ("../captions.json", ["b.jpg"], ""),  # nothing outside of the archive
        ("", ["b.jpg"], ""),
    ],
)
def test_photographs_are_found_by_name(tmp_path: Path, name: str, files: list[str], found: str) -> None:
    images, _ = read_source(source_of(tmp_path, listed(name), *files))
    assert images["file_name"].tolist() == [found]


def test_a_name_that_two_photographs_fit_is_an_error_that_names_both(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"a\.jpg may be x/a\.jpg and y/a\.jpg"):
        read_source(source_of(tmp_path, listed("a.jpg"), "x/a.jpg", "y/a.jpg"))


@pytest.mark.parametrize(
    ("given", "found"),
    [(42, 42), ("42", 42), (42.0, 42), ("-7", -7), ("000042", 42), ("COCO_val2014_42", stable_id("COCO_val2014_42"))],
)
def test_ids_are_numbers_however_they_are_written(tmp_path: Path, given: Any, found: int) -> None:
    coco = {
        "images": [{"id": given, "file_name": "a.jpg"}],
        "annotations": [{"id": given, "image_id": given, "caption": "x"}],
    }
    images, captions = read_source(source_of(tmp_path, coco, "a.jpg"))
    assert images["image_id"].tolist() == captions["image_id"].tolist() == captions["caption_id"].tolist() == [found]


def test_annotations_lie_in_a_folder_or_as_a_file_beside_it(tmp_path: Path) -> None:
    beside = source_of(tmp_path, listed("a.jpg"), "a.jpg")
    inside = Source(beside.images, tmp_path, "captions.json")
    for from_file, from_folder in zip(read_source(beside), read_source(inside), strict=True):
        assert from_file.equals(from_folder)


@pytest.mark.parametrize(
    ("coco", "fault"),
    [
        ("", "is not valid JSON"),
        ('{"images": [', "It ends in the middle"),
        ([], "is a JSON list"),
        ({"images": []}, "has no list `annotations`"),
        ({"images": [{"id": 1}], "annotations": []}, "image 0 (1): no `file_name`"),
        ({"images": [{"id": None, "file_name": "a.jpg"}], "annotations": []}, "image 0 (a.jpg): its `id` is null"),
        ({"images": [], "annotations": [{"id": 5.5, "image_id": 1, "caption": "x"}]}, "caption 5.5"),
        (
            {"images": [{"id": 7, "file_name": "dog.jpg"}], "annotations": [{"id": 9, "image_id": 7, "caption": None}]},
            "annotation 0 (caption 9, photograph dog.jpg): its caption is null",
        ),
        ({"images": [{"filename": "a"}], "dataset": "x"}, "'images', 'dataset'"),
        ('{"image": "a", "caption": "x"}\n{"image": "b", "caption": "y"}\n', 'set `format` to "jsonl"'),
        (
            {"images": [], "annotations": [{"id": 1, "image_id": 1, "caption": None}]},
            "annotation 0 (caption 1, photograph 1): its caption is null",
        ),
        ({"images": [{}] * 4, "annotations": []}, "and 1 more"),
        ({"images": [{"id": 10**30, "file_name": "a.jpg"}], "annotations": []}, "image 0 (a.jpg): its `id`"),
    ],
)
def test_faulty_captions_file_is_named(tmp_path: Path, coco: Any, fault: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_source(source_of(tmp_path, coco))
    assert fault in str(caught.value)
    assert str(tmp_path / "captions.json") in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 5
    assert "is not a COCO" not in str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_missing_annotations_are_named(make_source: Callable[..., Source], zipped: bool) -> None:
    source = make_source({1: ["A dog."]}, zipped=zipped)
    captions = source.captions if zipped else source.images
    with pytest.raises(CaptioningError, match=r"annotations/captions_test\.json in .* cannot be read"):
        read_source(Source(source.images, captions, "annotations/captions_test.json"))


def test_missing_sources_are_named(tmp_path: Path) -> None:
    source = source_of(tmp_path, listed("a.jpg"))
    with pytest.raises(ConfigurationError, match=r"cannot read .*nowhere\.json: No such file"):
        read_source(Source(source.images, tmp_path / "nowhere.json", ""))
    with pytest.raises(CaptioningError, match=r"cannot open the archive .*nowhere\.zip"):
        read_source(Source(tmp_path / "nowhere.zip", source.captions, ""))
