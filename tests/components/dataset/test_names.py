"""A photograph is found as a person would find it, whatever spells its name: never a wrong one, never silently."""

import io
import json
import logging
import os
import struct
import time
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from components.archives.archive import open_archive
from components.config import DatasetConfig
from components.dataset.caption_table import read_caption_table
from components.dataset.captions import write_caption_table
from components.dataset.formats import read_source
from components.dataset.names import Names, match_names
from components.dataset.sources import Source
from components.dataset.spellings import spellings
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
    "a way up": ("../x/../photos/Café 1.JPG", "photos/Café 1.JPG"),
    "percents here": ("photos/Caf%C3%A9%201.JPG", "photos/Café 1.JPG"),
    "percents there": ("Café 1.JPG", "photos/Caf%C3%A9%201.JPG"),
    "a query": ("/photos/Café 1.JPG?width=300", "Café 1.JPG"),
    "a file's address": ("file:///C:/photos/Caf%C3%A9%201.JPG", "Café 1.JPG"),
    "no suffix, folders on both sides": ("train/Café 1", "photos/Café 1.JPG"),
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
@pytest.mark.parametrize("form", FORMS)
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
        there = Path(there).as_posix()  # without ./
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


@pytest.mark.parametrize("names", [["Ä.jpg"], ["Ä.jpg", "Größe.jpg"]])
def test_another_encoding_is_not_tried_where_it_is_known(names: list[str], tmp_path: Path) -> None:
    """Byte 8E is Ä in code page 437 and é on old Macs: a photograph that is not there must not become another."""
    source = written("csv", "é.jpg", tmp_path)
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for name in names:
            archive.writestr(name, b"1")
    images, _ = read_source(Source(tmp_path / "images.zip", source.captions, format="csv"))
    assert images["file_name"].tolist() == [""]


def test_a_folder_may_hold_names_that_are_not_utf_8(tmp_path: Path) -> None:
    source = written("csv", "café.jpg", tmp_path)
    source.images.mkdir()
    (Path(os.fsdecode(os.fsencode(source.images) + b"/caf\xe9.jpg"))).write_bytes(b"1")
    images, _ = read_source(source)
    assert images["file_name"].tolist() == ["caf\\xe9.jpg"]


def test_the_unicode_field_of_a_zip_tells_a_name(tmp_path: Path) -> None:
    raw = "собака.jpg".encode("cp866")
    for crc, name in ((zlib.crc32(raw), "собака.jpg"), (0, raw.decode("cp437"))):
        field = struct.pack("<BI", 1, crc) + "собака.jpg".encode()
        member = zipfile.ZipInfo("x" * len(raw))
        member.extra = struct.pack("<HH", 0x9999, 1) + b"?" + struct.pack("<HH", 0x7075, len(field)) + field
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr(member, b"photograph")
        (tmp_path / "a.zip").write_bytes(content.getvalue().replace(b"x" * len(raw), raw))
        with open_archive(tmp_path / "a.zip") as archive:
            assert [entry.name for entry in archive.entries()] == [name]
            assert archive.read(name) == b"photograph"


def test_the_captions_file_in_an_archive_may_be_spelled_in_another_way(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "A.jpg").write_bytes(b"1")
    with zipfile.ZipFile(tmp_path / "captions.zip", "w") as archive:
        archive.writestr("data\\Captions.csv", "image,caption\na.jpg,A dog.\n")
    source = Source(tmp_path / "images", tmp_path / "captions.zip", "data/captions.csv", "csv")
    assert read_source(source)[0]["file_name"].tolist() == ["A.jpg"]


@pytest.mark.parametrize("name", ["1.JPG", "./1.jpg", "train/1.JPG", "1"])
def test_captions_among_the_photographs_name_those_of_their_folder_first(name: str, tmp_path: Path) -> None:
    for folder in ("train", "test"):
        (tmp_path / "images" / folder).mkdir(parents=True)
        (tmp_path / "images" / folder / "1.jpg").write_bytes(b"1")
    (tmp_path / "images" / "train" / "metadata.csv").write_text(f"image,caption\n{name},A dog.\n", encoding="utf-8")
    source = Source(tmp_path / "images", tmp_path / "images" / "train" / "metadata.csv", format="csv")
    assert read_source(source)[0]["file_name"].tolist() == ["train/1.jpg"]


def io_zip(files: dict[bytes, bytes]) -> bytes:
    """A zip file whose names have these bytes, without the flag that says UTF-8."""
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
        ("data/1.jpg", ["x/1.jpg", "y/1.jpg"]),
        ("./a.jpg", ["x/a.jpg", "A.JPG"]),
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
        ("val/a.jpg", ["a.jpg", "val/b.jpg"]),
        ("Ä.jpg", ["Ö.jpg", "é.jpg", "é.png"]),
    ],
)
def test_a_name_that_nothing_fits_is_not_there(wanted: str, there: list[str]) -> None:
    assert match_names([wanted], there, "file") == {wanted: ""}


def test_the_same_last_part_in_other_folders_is_another_photograph() -> None:
    wanted = ["cat/1.jpg", "dog/1.jpg"]
    assert match_names(wanted, ["dog/1.jpg"], "file") == {"cat/1.jpg": "", "dog/1.jpg": "dog/1.jpg"}


def test_folders_that_captions_name_are_other_folders() -> None:
    wanted = ["cat/1.jpg", "dog/2.jpg"]
    assert match_names(wanted, ["dog/1.jpg", "dog/2.jpg"], "file") == {"cat/1.jpg": "", "dog/2.jpg": "dog/2.jpg"}


@pytest.mark.parametrize(
    ("wanted", "there"),
    [
        (["x/aBc.jpg", "x/abc.jpg"], ["aBc.jpg", "abc.jpg"]),
        (["É.jpg", "é.jpg"], [unicodedata.normalize("NFD", name) for name in ("É.jpg", "é.jpg")]),
        (["data/a/1.jpg", "data/b/1.jpg"], ["photos/a/1.jpg", "photos/b/1.jpg"]),
        (["data\\A\\1.jpg", "data\\B\\1.jpg"], ["photos/a/1.JPG", "photos/b/1.JPG"]),
        (["a/1", "b/1"], ["a/1.jpg", "b/1.jpg"]),
        (["/home/me/a.jpg", "/home/me/sub/a.jpg"], ["a.jpg", "sub/a.jpg"]),
        (["./a.jpg", "./b.jpg"], ["x/a.jpg", "x/b.jpg", "y/a.jpeg", "y/B.jpg"]),
    ],
)
def test_the_nearest_of_several_is_meant(wanted: list[str], there: list[str]) -> None:
    assert list(match_names(wanted, there, "file").values()) == there[:2]


def test_two_names_that_cannot_be_the_same_photograph_are_an_error() -> None:
    with pytest.raises(ConfigurationError, match=r"file: val/1\.jpg and train/1\.jpg would both be 1\.jpg"):
        match_names(["val/1.jpg", "train/1.jpg"], ["1.jpg"], "file")


def test_two_spellings_of_one_photograph_are_told(caplog: pytest.LogCaptureFixture) -> None:
    assert match_names(["a.jpg", ".\\A.JPG"], ["a.jpg"], "file") == {"a.jpg": "a.jpg", ".\\A.JPG": "a.jpg"}
    assert "file: photographs with several names: 1, the first a.jpg and .\\A.JPG" in caplog.text


@pytest.mark.parametrize(
    ("name", "nearest"), [("10", "000010.jpg"), ("10.jpg", "000010.jpg"), ("val_7", "val_000000007.jpg"), ("9", "")]
)
def test_numbers_without_their_zeros_are_near(name: str, nearest: str) -> None:
    assert Names(["000001.jpg", "000010.jpg", "val_000000007.jpg"]).nearest(name) == nearest


def test_a_hundred_thousand_names_are_found_in_seconds() -> None:
    """A search that looks at each pair would take hours."""
    count = 100_000
    wanted = [f"data/{number}/1.jpg" for number in range(count)]
    there = [f"{number}/1.jpeg" for number in range(count)]
    start = time.monotonic()
    assert list(match_names(wanted, there, "file").values()) == there
    assert len(set(map(Names(there).nearest, ["x/1.jpeg", "y"]))) == 2
    assert time.monotonic() - start < 60


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


@pytest.mark.parametrize("kind", ["csv", "json"])
@pytest.mark.parametrize("form", FORMS)
def test_a_split_file_may_spell_names_in_another_way(form: str, kind: str, tmp_path: Path) -> None:
    wanted, there = FORMS[form]
    if kind == "csv":
        splits = f'image;split\n"{wanted}";train\nb;val\n'
    else:
        images = [
            {"filename": name, "split": split, "sentences": []} for name, split in ((wanted, "train"), ("b", "val"))
        ]
        splits = json.dumps({"images": images})
    split_file = tmp_path / f"splits.{kind}"
    split_file.write_text(splits, encoding="utf-8")
    (tmp_path / "images").mkdir()
    lines = [json.dumps({"image": name, "caption": "A dog."}) for name in (there, "b.jpg")]
    (tmp_path / "captions.jsonl").write_text("\n".join(lines), encoding="utf-8")
    sources = {"photos": {"images": "images", "captions": "captions.jsonl"}}
    config = DatasetConfig.model_validate({"split_file": split_file.name, "sources": sources})
    source = Source(tmp_path / "images", tmp_path / "captions.jsonl", format="jsonl")
    write_caption_table({"photos": source}, config, tmp_path, split_file)
    images, _ = read_caption_table(tmp_path)
    assert images["split"].tolist() == ["train", "val"]


paths = st.text(st.sampled_from("aäAb1./\\ %é"), max_size=12)


@given(st.lists(paths, max_size=6, unique=True), paths)
@example(["1/\\"], "\\")
def test_what_is_found_is_there(there: list[str], wanted: str) -> None:
    try:
        (found,) = match_names([wanted], there, "file").values()
    except ConfigurationError:
        return
    assert found == "" or found in there
    if found:
        exact = [name.rpartition("/")[2] for name in (found, wanted)]
        loose = [spellings(name)[-1].rpartition("/")[2] for name in (found, wanted)]
        assert exact[0] == exact[1] or loose[0] == loose[1]


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
