import json
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from components.dataset import formats
from components.dataset.formats import read_source
from components.dataset.sources import Source
from components.errors import CaptioningError, ConfigurationError


def source_of(folder: Path, name: str, content: str | bytes, *files: str, **options: Any) -> Source:
    """Empty `files` in a folder, and the captions file `name` beside it; the suffix tells the format."""
    images, captions = folder / "images", folder / name
    images.mkdir(parents=True, exist_ok=True)
    for file in files:
        (images / file).parent.mkdir(parents=True, exist_ok=True)
        (images / file).touch()
    captions.parent.mkdir(parents=True, exist_ok=True)
    captions.write_bytes(content if isinstance(content, bytes) else content.encode())
    kinds = {".json": "karpathy", ".token": "flickr"}
    given = {"format": kinds.get(captions.suffix, captions.suffix[1:])} | options
    return Source(images, captions, **given)


def told(source: Source) -> dict[str, list[str]]:
    """The captions of each image, by its name in the captions file."""
    images, captions = read_source(source)
    assert images["image_id"].is_unique
    assert captions["caption_id"].is_unique
    assert images["image_id"].dtype == captions["image_id"].dtype == captions["caption_id"].dtype == "int64"
    found: dict[str, list[str]] = {name: [] for name in images["name"]}
    name_of = dict(zip(images["image_id"], images["name"], strict=True))
    for image_id, caption in zip(captions["image_id"], captions["caption"], strict=True):
        found[name_of[image_id]].append(caption)
    return found


def karpathy(*images: dict[str, Any]) -> str:
    defaults: dict[str, Any] = {"split": "train", "sentences": []}
    return json.dumps({"images": [defaults | image for image in images], "dataset": "mine"})


DOG = {"dog.jpg": ["A dog.", "Two dogs, one cat"], "sub/cat.jpg": ['A "cat"; été']}
SAME = {
    "a.csv": 'image,caption\ndog.jpg,A dog.\ndog.jpg,"Two dogs, one cat"\nsub/cat.jpg,"A ""cat""; été"\n',
    "a.jsonl": '{"image": "dog.jpg", "caption": ["A dog.", "Two dogs, one cat"]}\n'
    '{"image": "sub/cat.jpg", "caption": "A \\"cat\\"; \\u00e9t\\u00e9", "width": 3}\n',
    "a.token": 'dog.jpg#0\tA dog.\ndog.jpg#1\tTwo dogs, one cat\nsub/cat.jpg#0\tA "cat"; été\n',
    "a.json": karpathy(
        {"filename": "dog.jpg", "sentences": [{"raw": "A dog."}, {"raw": "Two dogs, one cat"}]},
        {"filename": "cat.jpg", "filepath": "sub", "sentences": [{"raw": 'A "cat"; été', "sentid": 3}]},
    ),
}


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_every_format_tells_the_same(tmp_path: Path, line_end: str, mark: str) -> None:
    tables = []
    for name, text in SAME.items():
        source = source_of(tmp_path, name, mark + text.replace("\n", line_end), "x/dog.jpg", "sub/cat.jpg")
        assert told(source) == DOG
        images, captions = read_source(source)
        assert images["file_name"].tolist() == ["x/dog.jpg", "sub/cat.jpg"]
        tables.append((images[["image_id", "name"]], captions))
    for images, captions in tables[1:]:
        assert images.equals(tables[0][0])
        assert captions.equals(tables[0][1])


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@hypothesis_settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(["a.jpg", "b/c.jpg", "é, 1.png"]), texts), min_size=1))
def test_any_caption_survives(tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]) -> None:
    folder = tmp_path_factory.mktemp("any")
    expected: dict[str, list[str]] = {}
    for name, caption in pairs:
        expected.setdefault(name, []).append(caption)
    quoted = ['"' + text.replace('"', '""') + '"' for pair in pairs for text in pair]
    table = "".join(f"{name},{caption}\n" for name, caption in zip(quoted[::2], quoted[1::2], strict=True))
    lines = "".join(
        json.dumps({"image": name, "caption": caption}, ensure_ascii=False) + "\n" for name, caption in pairs
    )
    assert told(source_of(folder, "a.csv", "image,caption\n" + table)) == expected
    assert told(source_of(folder, "a.jsonl", lines)) == expected


def test_other_line_ends_of_unicode_end_no_line(tmp_path: Path) -> None:
    assert told(source_of(tmp_path, "a.jsonl", '{"image": "a", "caption": "x\u2028y\x85z"}')) == {
        "a": ["x\u2028y\x85z"]
    }
    assert told(source_of(tmp_path, "a.token", "a#0\tx\u2028y\x0bz")) == {"a": ["x\u2028y\x0bz"]}


def test_a_flickr_caption_has_any_number(tmp_path: Path) -> None:
    assert told(source_of(tmp_path, "a.token", "a#2.jpg#9\tx\na#2.jpg#10\ty\n")) == {"a#2.jpg": ["x", "y"]}


def test_columns_have_the_names_the_profile_says(tmp_path: Path) -> None:
    columns = {"image_column": "file_name", "caption_column": "text"}
    table = source_of(tmp_path, "a.csv", "id,text,file_name\n1,A dog.,dog.jpg\n", **columns)
    lines = source_of(tmp_path, "a.jsonl", '{"text": ["A dog."], "file_name": "dog.jpg"}', **columns)
    assert told(table) == told(lines) == {"dog.jpg": ["A dog."]}


def test_words_that_look_like_missing_values_are_captions(tmp_path: Path) -> None:
    assert told(source_of(tmp_path, "a.csv", "image,caption\n007,NA\n1.50,null\n")) == {"007": ["NA"], "1.50": ["null"]}


def test_blank_lines_are_no_rows(tmp_path: Path) -> None:
    assert told(source_of(tmp_path, "a.csv", 'image,caption\n\na,"x\n\ny"\n\n')) == {"a": ["x\n\ny"]}
    assert told(source_of(tmp_path, "a.jsonl", '\n{"image": "a", "caption": "x"}\r\n\n')) == {"a": ["x"]}
    assert told(source_of(tmp_path, "a.token", "\na#0\tx\n \n")) == {"a": ["x"]}


def test_an_image_without_captions_stays_for_the_contract(tmp_path: Path) -> None:
    assert told(source_of(tmp_path, "a.jsonl", '{"image": "a.jpg", "caption": []}')) == {"a.jpg": []}
    assert told(source_of(tmp_path, "a.json", karpathy({"filename": "a.jpg"}))) == {"a.jpg": []}


def test_equal_captions_of_a_photograph_are_kept_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = source_of(tmp_path, "a.csv", "image,caption\na,x\nb,x\na,x\na,y\n", "a", "b")
    assert told(source) == {"a": ["x", "x", "y"], "b": ["x"]}
    assert "a.csv: 1 captions repeat one of their photograph, first in line 4" in caplog.text


def test_photographs_that_the_archive_lacks_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images, _ = read_source(source_of(tmp_path, "a.token", "a.jpg#0\tx\nb.jpg#0\tx\nb.jpg#1\ty\n", "a.jpg"))
    assert images["file_name"].tolist() == ["a.jpg", ""]
    assert f"1 of 2 photographs are not in {tmp_path / 'images'}, first b.jpg" in caplog.text


def test_ids_come_from_names_alone(tmp_path: Path) -> None:
    some = read_source(source_of(tmp_path, "a.csv", "image,caption\na.jpg,x\nb.jpg,y\nb.jpg,z\n"))
    more = read_source(source_of(tmp_path, "b.csv", "image,caption\nb.jpg,other\nc.jpg,x\na.jpg,x\n", "x/a.jpg"))
    ids = [dict(zip(images["name"], images["image_id"], strict=True)) for images, _ in (some, more)]
    assert ids[0] == {name: ids[1][name] for name in ("a.jpg", "b.jpg")}
    assert ids[0]["a.jpg"] == 9161438751103734724  # forever: a later version must not divide the images anew
    assert all(0 <= image_id < 2**63 for found in ids for image_id in found.values())
    assert len(set(some[1]["caption_id"]) & set(more[1]["caption_id"])) == 2  # a.jpg's first and b.jpg's first


def test_two_names_with_one_id_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "stable_id", lambda name: 5)
    with pytest.raises(CaptioningError, match=r"a\.csv: b and c get the same id by chance; rename one"):
        read_source(source_of(tmp_path, "a.csv", "image,caption\nb,x\nc,x\n"))


def test_karpathy_files_bring_coco_ids_and_splits(tmp_path: Path) -> None:
    entries = [
        {"filename": f"{n}.jpg", "split": split, "imgid": n, "sentences": [{"raw": "x"}]}
        for n, split in enumerate(["train", "restval", "val", "test"])
    ]
    entries[1]["cocoid"] = 391895
    images, captions = read_source(source_of(tmp_path, "a.json", karpathy(*entries)))
    assert images["split"].tolist() == ["train", "train", "val", "test"]
    assert images["image_id"][1] == captions["image_id"][1] == 391895
    assert images["image_id"].min() >= 391895  # the other three are made from the names, not from the places


def test_karpathy_folders_are_a_hint(tmp_path: Path) -> None:
    entry = {"filename": "a.jpg", "filepath": "val2014"}
    for files, found in (
        (["a.jpg"], "a.jpg"),
        (["val2014/a.jpg", "a.jpg"], "val2014/a.jpg"),
        (["x/a.jpg", "val2014/a.jpg"], "val2014/a.jpg"),
    ):
        images, _ = read_source(source_of(tmp_path / files[0], "a.json", karpathy(entry), *files))
        assert images["file_name"].tolist() == [found]


@pytest.mark.parametrize("zipped", [True, False])
def test_captions_among_the_photographs_name_them_from_their_folder(tmp_path: Path, zipped: bool) -> None:
    table = "image,caption\n1.jpg,x\ntrain/2.jpg,y\n3.jpg,z\n"
    files = ["train/1.jpg", "test/1.jpg", "train/2.jpg", "test/3.jpg"]
    source = source_of(tmp_path, "images/train/metadata.csv", table, *files)
    if zipped:
        path = tmp_path / "images.zip"
        with ZipFile(path, "w") as archive:
            archive.write(source.captions, "train/metadata.csv")
            for file in files:
                archive.writestr(file, b"")
        source = Source(path, path, "train/metadata.csv", "csv")
    images, _ = read_source(source)
    assert images["file_name"].tolist() == ["train/1.jpg", "train/2.jpg", "test/3.jpg"]
    assert images["name"].tolist() == ["train/1.jpg", "train/2.jpg", "3.jpg"]


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "image,caption\n", "holds no captions"),
        ("a.csv", "image,caption\nb,x\nc,\n", "line 3: a caption is missing"),
        ("a.csv", "image,caption\nb,x\n\nc\n", "line 4 has 1 of 2 fields (c)"),
        ("a.csv", 'image,caption\n"b","x\ny"\n , x\n', "line 4: the name of a photograph is missing"),
        ("a.csv", "image,caption\nb,x\nc,x, y\n", "line 3 has 3 fields, the header 2"),
        ("a.csv", "image,caption\nb,x, y\nc,x, y\n", "line 2 has 3 fields, the header 2"),
        ("a.csv", 'image,caption\nb,"x\n', "line 2: a quote opens here and is never closed"),
        ("a.csv", "image,caption\nb,\xe9\n".encode("latin-1"), "line 2: not UTF-8"),
        ("a.csv", "image,caption\n".encode("utf-16"), "holds no captions"),
        ("a.jsonl", "", "holds no captions"),
        ("a.jsonl", '{"image": "b", "caption": "x"}\n{"image":\n', "line 2, (faults: 1):\n  Invalid JSON"),
        ("a.jsonl", '\n{"image": "b", "text": "x"}', "line 2 (b), (faults: 1):\n  caption: Field required"),
        ("a.jsonl", '{"image": 5, "caption": "x"}', "line 1, (faults: 1):\n  image: Input should be a valid string"),
        ("a.jsonl", '{"image": "b", "caption": ["x", null]}', "caption.list[str].1: Input should be a valid string"),
        ("a.jsonl", '{"image": "b", "caption": ["x", ""]}', "line 1: a caption is missing"),
        ("a.token", "", "holds no captions"),
        ("a.token", "b#0\tx\nc#0 x\n", "line 2: there is no tab between"),
        ("a.token", "a.jpg#0\t\n", "line 1: a caption is missing"),
        ("a.token", "#0\tx\n", "line 1: the name of a photograph is missing"),
        ("a.json", "", "read as a Karpathy file (faults: 1):\n  Invalid JSON"),
        ("a.json", '{"images": [{"filename": "b"}]}', "images.0.split: Field required"),
        (
            "a.json",
            karpathy({"filename": "b", "sentences": [{"raw": None}]}),
            "read as a Karpathy file, image b, (faults",
        ),
        ("a.json", '{"images": []}', "holds no captions"),
        ("a.json", karpathy({"filename": "b", "sentences": [{"raw": ""}]}), "image 0: a caption is missing"),
    ],
)
def test_faulty_captions_are_told_with_file_and_place(
    tmp_path: Path, name: str, content: str | bytes, fault: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:  # exit code 2, whatever is wrong with the file
        read_source(source_of(tmp_path, name, content))
    assert fault in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


def test_only_the_first_faulty_rows_are_named(tmp_path: Path) -> None:
    with pytest.raises(CaptioningError, match=r"line 2, 3, 4: a caption is missing \(1,000 in all\)"):
        read_source(source_of(tmp_path, "a.csv", "image,caption\n" + "b,\n" * 1000))


def test_missing_columns_say_what_there_is_and_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no column image; it has 'file_name', 'caption'\. Set image_column"):
        read_source(source_of(tmp_path, "a.csv", "file_name,caption\nb,x\n"))


def test_two_spellings_of_one_photograph_are_one_image(tmp_path: Path) -> None:
    table = "image,caption\nb.jpg,x\na.jpg,x\nx/b.jpg,y\nX\\B.JPG,z\n"
    assert told(source_of(tmp_path, "a.csv", table, "x/b.jpg", "a.jpg")) == {"x/b.jpg": ["x", "y", "z"], "a.jpg": ["x"]}


def test_a_quote_that_takes_in_photographs_without_suffixes_is_told(tmp_path: Path) -> None:
    table = 'image,caption\nx/1,a\nx/2,"b\nx/3,c\n4,d"\n'
    with pytest.raises(ConfigurationError, match="line 3: a quote opens here and takes in whole rows, such as line 4"):
        read_source(source_of(tmp_path, "a.csv", table, "1.jpg", "2.jpg", "3.jpg", "4.jpg"))


def test_a_folder_of_captions_needs_to_know_which(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="set `annotations`"):
        read_source(Source(tmp_path, tmp_path, "", "csv"))
