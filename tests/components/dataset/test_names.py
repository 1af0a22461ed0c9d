"""A photograph is found as a person would find it, whatever spells its name: never a wrong one, never silently."""

import json
import logging
import unicodedata
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.config import DatasetConfig
from components.dataset.caption_table import read_caption_table
from components.dataset.captions import write_caption_table
from components.dataset.formats import read_source
from components.dataset.names import Names, match_names, spellings
from components.dataset.sources import Source
from components.errors import ConfigurationError

NFD = unicodedata.normalize("NFD", "photos/Café 1.JPG")
FORMS = {
    "exact": ("photos/Café 1.JPG", "photos/Café 1.JPG"),
    "the last part": ("Café 1.JPG", "photos/Café 1.JPG"),
    "decomposed here": ("photos/Café 1.JPG", NFD),
    "decomposed there": (NFD, "photos/Café 1.JPG"),
    "backslashes here": ("photos\\Café 1.JPG", "photos/Café 1.JPG"),
    "backslashes there": ("Café 1.JPG", "photos\\Café 1.JPG"),
    "dot here": ("./photos/Café 1.JPG", "photos/Café 1.JPG"),
    "dot there": ("photos/Café 1.JPG", "./photos/Café 1.JPG"),
    "a folder here": ("train2014/Café 1.JPG", "Café 1.JPG"),
    "folders on both sides": ("train2014/Café 1.JPG", "photos/Café 1.JPG"),
    "an absolute path": ("/home/me/data/photos/Café 1.JPG", "photos/Café 1.JPG"),
    "a path of Windows": ("C:\\Users\\me\\photos\\Café 1.JPG", "photos/Café 1.JPG"),
    "an address": ("https://host.example/photos/Caf%C3%A9%201.JPG?width=300#x", "photos/Café 1.JPG"),
    "an address of S3": ("s3://bucket/photos/Café 1.JPG", "Café 1.JPG"),
    "letter case": ("PHOTOS/café 1.jpg", "photos/Café 1.JPG"),
    "another suffix of JPEG": ("photos/Café 1.jpeg", "photos/Café 1.JPG"),
    "no suffix here": ("Café 1", "photos/Café 1.JPG"),
    "no suffix there": ("Café 1.JPG", "photos/Café 1"),
    "spaces around": (" Café 1.JPG ", "photos/Café 1.JPG"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_name_is_found_in_any_form(form: str) -> None:
    wanted, there = FORMS[form]
    others = ["11.jpg", "1.jpg", "café.png"]
    assert match_names([wanted], [*others, there], "file") == {wanted: there}


def written(kind: str, name: str, folder: Path) -> Source:
    """A captions file of a kind that names one photograph, and no photographs yet."""
    texts = {
        "coco": json.dumps(
            {
                "images": [{"id": 1, "file_name": name}],
                "annotations": [{"id": 1, "image_id": 1, "caption": "A dog."}],
            }
        ),
        "csv": f'image,caption\n"{name}",A dog.\n',
        "jsonl": json.dumps({"image": name, "caption": "A dog."}),
        "flickr": f"{name}#0\tA dog.\n",
        "karpathy": json.dumps({"images": [{"filename": name, "split": "train", "sentences": [{"raw": "A dog."}]}]}),
    }
    path = folder / "captions"
    path.write_text(texts[kind], encoding="utf-8")
    return Source(folder / "images", path, format=kind)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["coco", "csv", "jsonl", "flickr", "karpathy"])
@pytest.mark.parametrize("place", ["folder", "zip"])
@pytest.mark.parametrize(
    "form",
    ["decomposed there", "backslashes here", "folders on both sides", "an address", "letter case", "no suffix there"],
)
def test_every_format_finds_it_in_a_folder_and_in_a_zip(kind: str, place: str, form: str, tmp_path: Path) -> None:
    wanted, there = FORMS[form]
    source = written(kind, wanted, tmp_path)
    if place == "zip":
        source = Source(tmp_path / "images.zip", source.captions, format=source.format)
        with zipfile.ZipFile(source.images, "w") as archive:
            archive.writestr(there, b"1")
    else:
        (source.images / there).parent.mkdir(parents=True)
        (source.images / there).write_bytes(b"1")
    images, captions = read_source(source)
    assert images["file_name"].tolist() == [there]
    assert captions["caption"].tolist() == ["A dog."]


@pytest.mark.parametrize("encoding", ["utf-8", "cp932", "gbk", "euc_kr", "cp1252", "cp866", "cp437"])
def test_a_zip_that_does_not_say_its_encoding_is_read_by_what_is_looked_for(encoding: str, tmp_path: Path) -> None:
    letters = {"cp932": "犬の写真", "gbk": "狗在草地", "euc_kr": "개와고양이", "cp866": "собака"}.get(
        encoding, "Hündchen"
    )
    names = [f"{letters}{number}.jpg" for number in range(3)]
    source = written("csv", names[0], tmp_path)
    source.captions.write_text("image,caption\n" + "".join(f"{name},A dog.\n" for name in names), encoding="utf-8")
    content = io_zip({name.encode(encoding): name.encode() for name in names})
    (tmp_path / "images.zip").write_bytes(content)
    images, _ = read_source(Source(tmp_path / "images.zip", source.captions, format="csv"))
    assert (images["file_name"] != "").all()
    assert images["name"].tolist() == names


def io_zip(files: dict[bytes, bytes]) -> bytes:
    """A zip file whose names have these bytes, without the flag that says UTF-8."""
    import io

    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for number, data in enumerate(files.values()):
            archive.writestr(f"{number:>0{len(list(files)[number])}}", data)
    raw = content.getvalue()
    for number, name in enumerate(files):
        raw = raw.replace(f"{number:>0{len(name)}}".encode(), name)
    return raw


@pytest.mark.parametrize(
    ("wanted", "there"),
    [
        ("1.jpg", ["a/1.jpg", "b/1.jpg"]),
        ("IMG.jpg", ["img.jpg", "Img.jpg"]),
        ("c/1.jpg", ["a/c/1.jpg", "b/c/1.jpg"]),
        ("1", ["1.jpg", "1.png"]),
    ],
)
def test_two_photographs_that_fit_are_an_error_that_names_both(wanted: str, there: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        match_names([wanted], there, "captions.csv")
    assert all(name in str(caught.value) for name in (*there, wanted, "captions.csv"))


@pytest.mark.parametrize(
    ("wanted", "there"),
    [
        ("1.jpg", ["11.jpg", "x1.jpg", "1.png", "1.jpg/2.jpg"]),
        ("cat/1.jpg", ["dog/2.jpg"]),
        ("", ["a.jpg"]),
        ("..", ["a.jpg"]),
        ("IMG.jpg", []),
    ],
)
def test_a_name_that_nothing_fits_is_not_there(wanted: str, there: list[str]) -> None:
    assert match_names([wanted], there, "file") == {wanted: ""}


def test_the_same_last_part_in_other_folders_is_another_photograph() -> None:
    wanted = ["cat/1.jpg", "dog/1.jpg"]
    assert match_names(wanted, ["dog/1.jpg"], "file") == {"cat/1.jpg": "", "dog/1.jpg": "dog/1.jpg"}


def test_an_exact_name_is_never_ambiguous() -> None:
    there = ["a.jpg", "A.JPG", "x/a.jpg"]
    assert match_names(there, there, "file") == {name: name for name in there}


def test_how_names_were_found_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    match_names(["a.jpg", "B.jpg", "x/c.jpg", "d"], ["a.jpg", "b.jpg", "c.jpg", "d.jpg"], "captions.json")
    assert "1 exactly, 1 but for spelling, 1 by the end of the path, 1 but for the suffix" in caplog.text
    caplog.clear()
    match_names(["a.jpg"], ["a.jpg"], "captions.json")
    assert caplog.text == ""


def test_a_missing_photograph_is_told_with_the_nearest_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = written("csv", "IMG_0001.jpg", tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "IMG_0001_edited.jpg").write_bytes(b"1")
    images, _ = read_source(source)
    assert images[["name", "file_name", "nearest"]].to_numpy().tolist() == [["IMG_0001.jpg", "", "IMG_0001_edited.jpg"]]
    assert "first IMG_0001.jpg (the nearest is IMG_0001_edited.jpg)" in caplog.text


def test_a_split_file_may_spell_names_in_another_way(tmp_path: Path) -> None:
    (tmp_path / "splits.csv").write_text("image;split\nPHOTOS\\A.JPG;train\nb;val\n", encoding="utf-8")
    (tmp_path / "images").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "images" / name).write_bytes(name.encode())
    (tmp_path / "captions.csv").write_text("image,caption\na.jpg,A dog.\nb.jpg,A cat.\n", encoding="utf-8")
    config = DatasetConfig.model_validate(
        {
            "split_file": "splits.csv",
            "sources": {"photos": {"images": "images", "captions": "captions.csv"}},
        }
    )
    source = Source(tmp_path / "images", tmp_path / "captions.csv", format="csv")
    write_caption_table({"photos": source}, config, tmp_path, tmp_path / "splits.csv")
    images, _ = read_caption_table(tmp_path)
    assert images["split"].tolist() == ["train", "val"]


paths = st.text(st.sampled_from("aäAb1./\\ %é"), max_size=12)


@given(st.lists(paths, max_size=6, unique=True), paths)
def test_what_is_found_is_there(there: list[str], wanted: str) -> None:
    try:
        (found,) = match_names([wanted], there, "file").values()
    except ConfigurationError:
        return
    assert found == "" or found in there
    if found:
        ends = [spellings(name)[-1].rpartition("/")[2] for name in (found, wanted)]
        assert ends[0] == ends[1] or found == wanted


@given(st.lists(st.tuples(paths, paths), max_size=5))
def test_the_order_of_an_archive_does_not_matter(pairs: list[tuple[str, str]]) -> None:
    there = list(dict.fromkeys(name for name, _ in pairs))

    def found(names: Iterable[str]) -> Callable[[str], object]:
        def find(wanted: str) -> object:
            try:
                return Names(list(names)).find(wanted)
            except ConfigurationError as error:
                return str(error)

        return find

    for _, wanted in pairs:
        assert found(there)(wanted) == found(reversed(there))(wanted)
