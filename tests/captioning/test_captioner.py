"""Captioning from Python: every kind of input, every option, every error."""

import inspect
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import captioning
from captioning import CaptioningError, PhotoCaptioner, Results
from components.model.reference import REFERENCE_FILE
from tests import toy

Photograph = Callable[[int], bytes]


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> PhotoCaptioner:
    folder = tmp_path_factory.mktemp("package")
    with ZipFile(toy.MODEL) as archive:
        archive.extractall(folder)
    return captioning.load_captioner(folder)


@pytest.fixture
def folder(tmp_path: Path, photograph: Photograph) -> Path:
    """Three photographs, one of them broken, and a file that is no picture."""
    place = tmp_path / "photos"
    place.mkdir()
    for number in range(2):
        (place / f"{number}.jpg").write_bytes(photograph(number))
    (place / "broken.jpg").write_bytes(photograph(2)[:200])
    (place / "notes.txt").write_text("not a picture")
    return place


def texts(results: Results) -> list[str]:
    return [result.text for result in results]


def test_at_most_ten_names_are_public_and_all_are_documented() -> None:
    assert len(captioning.__all__) <= 10
    for name in captioning.__all__:
        assert inspect.getdoc(getattr(captioning, name)), name


def test_the_large_libraries_are_not_loaded_before_they_are_used() -> None:
    code = "import sys, captioning; print({'tensorflow', 'keras', 'mlflow', 'prefect'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


INPUTS: dict[str, Callable[[bytes, Path], Any]] = {
    "a path": lambda content, folder: folder / "0.jpg",
    "a path as text": lambda content, folder: str(folder / "0.jpg"),
    "bytes": lambda content, folder: content,
    "a bytearray": lambda content, folder: bytearray(content),
    "a memoryview": lambda content, folder: memoryview(content),
    "an image": lambda content, folder: Image.open(io.BytesIO(content)),
    "an array": lambda content, folder: np.asarray(Image.open(io.BytesIO(content))),
    "a batch": lambda content, folder: np.asarray(Image.open(io.BytesIO(content)))[None],
    "a list": lambda content, folder: [content],
    "a tuple of a path": lambda content, folder: (folder / "0.jpg",),
    "a generator": lambda content, folder: (each for each in [content]),
    "an object array": lambda content, folder: np.array([folder / "0.jpg"], dtype=object),
    "a series": lambda content, folder: pd.Series([str(folder / "0.jpg")]),
}


@pytest.mark.parametrize("kind", INPUTS)
def test_a_photograph_has_the_same_caption_however_it_is_given(
    captioner: PhotoCaptioner, folder: Path, photograph: Photograph, kind: str
) -> None:
    (expected,) = captioner.caption(photograph(0))
    (found,) = captioner.caption(INPUTS[kind](photograph(0), folder))
    assert expected.text
    assert (found.captions, found.error) == (expected.captions, "")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_images_of_any_mode_are_captioned(captioner: PhotoCaptioner, mode: str) -> None:
    image = Image.new(mode, (20, 30)) if mode == "I;16" else Image.new("RGB", (20, 30), "teal").convert(mode)
    assert captioner.caption(image)[0].text


def test_an_image_is_turned_as_its_file_is(captioner: PhotoCaptioner, photograph: Photograph) -> None:
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.open(io.BytesIO(photograph(4))).save(file, "JPEG", exif=exif, quality=95)
    as_file, as_image = (captioner.embed(given).vectors for given in (file.getvalue(), Image.open(file)))
    np.testing.assert_array_equal(as_file, as_image)


def test_a_folder_and_a_zip_file_are_captioned_whole(captioner: PhotoCaptioner, folder: Path) -> None:
    with ZipFile(folder.parent / "photos.zip", "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, path.name)
    for place in (folder, str(folder), folder.parent / "photos.zip"):
        found = captioner.caption(place)
        assert [Path(result.name).name.rpartition("!")[2] for result in found] == ["0.jpg", "1.jpg", "broken.jpg"]
        assert [bool(result.text) for result in found] == [True, True, False]
        assert found[2].error


def test_what_cannot_be_read_is_said_beside_the_others(captioner: PhotoCaptioner, folder: Path) -> None:
    found = captioner.caption([folder / "0.jpg", folder / "gone.jpg", b"", folder / "1.jpg"])
    assert [bool(result.captions) for result in found] == [True, False, False, True]
    assert "no such file" in found[1].error
    assert "empty" in found[2].error
    embeddings = captioner.embed([folder / "0.jpg", folder / "gone.jpg"])
    assert list(embeddings.ids) == [str(folder / "0.jpg")]
    assert "no such file" in embeddings.errors[str(folder / "gone.jpg")]


@pytest.mark.parametrize("given", [12, None, 1.5, {"a": 1}, np.zeros((4, 4)), np.zeros((2, 3, 4, 5, 6), np.uint8)])
def test_what_is_no_photograph_is_refused(captioner: PhotoCaptioner, given: object) -> None:
    with pytest.raises(CaptioningError):
        captioner.caption(given)


@pytest.mark.parametrize("shape", [(0, 4, 3), (4, 0, 3), (3, 20, 20), (1, 2), (5, 8, 9, 2)])
def test_an_odd_array_is_captioned_or_refused(captioner: PhotoCaptioner, shape: tuple[int, ...]) -> None:
    if shape == (1, 2):
        assert captioner.caption(np.zeros(shape, np.uint8))[0].text
    else:
        with pytest.raises(CaptioningError):
            captioner.caption(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("given", [[], (), np.empty((0, 4, 4, 3), np.uint8)])
def test_of_nothing_there_are_no_results(captioner: PhotoCaptioner, given: object) -> None:
    assert len(captioner.caption(given)) == 0
    assert captioner.caption(given).table().empty
    assert captioner.embed(given).vectors.shape == (0, captioner.dimension)


def test_a_folder_without_images_is_refused(captioner: PhotoCaptioner, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CaptioningError, match="no image"):
        captioner.caption(tmp_path / "empty")


OPTIONS: list[dict[str, Any]] = [
    {"beam": 0},
    {"beam": "3"},
    {"beam": 2.0},
    {"beam": True},
    {"top": 0},
    {"top": None},
    {"temperature": 0},
    {"temperature": "hot"},
    {"top_k": -1},
    {"top_p": 0},
    {"top_p": None},
    {"seed": -1},
    {"max_length": -1},
    {"beam": 2, "temperature": 1.0},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_wrong_option_is_refused(captioner: PhotoCaptioner, photograph: Photograph, options: dict[str, Any]) -> None:
    with pytest.raises(CaptioningError) as caught:
        captioner.caption(photograph(0), **options)
    assert next(iter(options)).split("_")[0] in str(caught.value)


def test_searches_give_what_they_are_asked_for(captioner: PhotoCaptioner, photograph: Photograph) -> None:
    photos = [photograph(number) for number in range(3)]
    beam = captioner.caption(photos, beam=np.int64(4), top=3)
    assert [len(result.captions) for result in beam] == [3, 3, 3]
    assert len({caption.text for caption in beam[0].captions}) == 3
    assert texts(captioner.caption(photos, top=3)) == texts(captioner.caption(photos, beam=3))
    drawn = [captioner.caption(photos, temperature=1.5, top=5, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0].table().equals(drawn[1].table())
    assert not drawn[0].table().equals(drawn[2].table())
    assert all(len(result.text.split()) <= 2 for result in captioner.caption(photos, max_length=2))


def test_embeddings_are_captioned_as_their_photographs(captioner: PhotoCaptioner, folder: Path) -> None:
    embeddings = captioner.embed(folder)
    assert (embeddings.vectors.dtype, len(embeddings)) == (np.float32, 2)
    found = captioner.caption(embeddings, beam=2)
    assert texts(found) == texts(captioner.caption(folder, beam=2))[:2]
    with pytest.raises(CaptioningError, match="shape"):
        captioner.caption(captioning.Embeddings(embeddings.ids, embeddings.vectors[:, :2]))


def test_photographs_unlike_the_training_images_are_told(captioner: PhotoCaptioner, folder: Path) -> None:
    far = captioning.Embeddings(np.arange(3), np.full((3, captioner.dimension), 1e4, np.float32))
    found = captioner.caption(far)
    assert [result.unlike_training for result in found] == [True] * 3
    assert found.table()["unlike_training"].all()
    assert "3 of 3" in found.note
    assert found.note in found._repr_html_()
    with ZipFile(toy.MODEL) as archive:
        mean = np.array([json.loads(archive.read(f"artifacts/captioner/{REFERENCE_FILE}"))["mean"]], np.float32)
    near = captioner.caption(captioning.Embeddings(np.arange(1), mean))
    assert near[0].unlike_training is False
    assert near.note == Results(()).note == ""
    read = [result.unlike_training for result in captioner.caption(folder)]
    by_embedding = [result.unlike_training for result in captioner.caption(captioner.embed(folder))]
    assert read[:2] == by_embedding
    assert read[2] is False  # it could not be read


def test_the_table_has_a_row_per_caption_and_per_photograph_without_one(
    captioner: PhotoCaptioner, folder: Path, photograph: Photograph
) -> None:
    table = captioner.caption([folder, photograph(0), folder / "0.jpg", folder / "0.jpg"], top=2).table()
    assert table["rank"].tolist() == [1, 2, 1, 2, 0, 1, 2, 1, 2, 1, 2]
    assert table["mean_probability"].dropna().between(0, 1).all()
    assert (table["error"] != "").sum() == table["logprob"].isna().sum() == 1


def test_a_notebook_shows_picture_and_caption_and_no_markup_of_theirs(
    captioner: PhotoCaptioner, tmp_path: Path, photograph: Photograph
) -> None:
    path = tmp_path / "<script>x'.jpg"
    path.write_bytes(photograph(0))
    (result,) = found = captioner.caption(path)
    shown = result._repr_html_()
    assert "data:image/jpeg;base64," in shown
    assert result.text in shown
    assert "<script>" not in shown
    path.unlink()
    assert result.text in found._repr_html_()  # the picture is gone, and its caption is not
    assert "and 6 more" in captioner.caption([photograph(0)] * 30)._repr_html_()


def test_a_model_that_is_none_is_refused(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere", "captioner"):
        with pytest.raises(CaptioningError, match="is no model"):
            captioning.load_captioner(place)
