"""Captions and split files of every format."""

import codecs
import contextlib
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.config import DatasetConfig, Format
from components.dataset.captions import write_caption_table
from components.dataset.coco import read_coco
from components.dataset.formats import read_source
from components.dataset.rows import read_csv, read_flickr, read_jsonl, read_karpathy
from components.dataset.sources import Source
from components.dataset.splits import read_splits
from components.errors import CaptioningError
from tests.hostile.fuzzer import damaged
from tests.hostile.watch import forbidding, try_all

HERE = "tests.hostile.test_captions"
ROWS = [("a.jpg", "A dog runs."), ("a.jpg", 'A dog, "brown".'), ("ü.jpg", "Zwei Hunde\u2028laufen.")]


def coco(images: object = None, annotations: object = None) -> bytes:
    usual = [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "ü.jpg"}]
    texts = [{"id": n, "image_id": 7 if name == "a.jpg" else 8, "caption": text} for n, (name, text) in enumerate(ROWS)]
    return json.dumps({"images": images or usual, "annotations": annotations or texts}).encode()


def karpathy(**changes: object) -> bytes:
    image = {"filename": "a.jpg", "split": "train", "sentences": [{"raw": text} for _, text in ROWS], **changes}
    other = {"filename": "ü.jpg", "split": "val", "cocoid": 8, "sentences": [{"raw": "A cat."}]}
    return json.dumps({"images": [image, other]}).encode()


SAMPLES: dict[Format, bytes] = {
    "coco": coco(),
    "karpathy": karpathy(),
    "csv": b'image,caption\r\na.jpg,A dog runs.\r\na.jpg,"A dog, ""brown""."\r\n"\xc3\xbc.jpg",A cat.\r\n',
    "jsonl": b'{"image": "a.jpg", "caption": ["A dog.", "One dog."]}\n{"image": "\xc3\xbc.jpg", "caption": "A cat."}\n',
    "flickr": b"a.jpg#0\tA dog runs.\na.jpg#1\tA dog.\n\xc3\xbc.jpg#0\tA cat.\n",
}
SPLITS = {"splits.csv": b"image,split\na.jpg,train\n\xc3\xbc.jpg,val\n", "splits.json": karpathy()}


def build(
    folder: Path, kind: Format, content: bytes, split_file: str = "", splits: bytes = b"", **columns: str
) -> None:
    """The caption table of a source with the photographs `a.jpg` and `ü.jpg`."""
    (folder / "captions").write_bytes(content)
    with zipfile.ZipFile(folder / "photos.zip", "w") as photos:
        photos.writestr("a.jpg", b"1")
        photos.writestr("ü.jpg", b"2")
    if split_file:
        (folder / split_file).write_bytes(splits)
    source = {"images": "photos.zip", "captions": "captions", "format": kind, **columns}
    divided = {"split_file": split_file} if split_file else {"holdout": 0.5}
    config = DatasetConfig.model_validate({"sources": {"s": source}, **divided})
    given = Source(folder / "photos.zip", folder / "captions", format=kind, **columns)
    write_caption_table({"s": given}, config, folder, folder / split_file if split_file else None)


def build_damaged(seed: str, folder: Path) -> None:
    number = int(seed)
    if number % 7 < 5:
        kind = list(SAMPLES)[number % 7]
        build(folder, kind, damaged([SAMPLES[kind], *SAMPLES.values()][: 1 + number % 3], number))
    else:
        name = list(SPLITS)[number % 7 - 5]
        build(folder, "csv", SAMPLES["csv"], name, damaged([SPLITS[name]], number))


DEEP = 200_000
NUMBERS = (
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e999",
    b"1" * 5000,
    b"-1",
    b"1.0",
    b"1.5",
    b"true",
    b"null",
    b'"7"',
    b"9223372036854775808",
)
"""What an id might be, as JSON has it or nearly."""
JSON: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "zeros": lambda: bytes(1000),
    "a BOM": lambda: codecs.BOM_UTF8 + coco(),
    "two BOMs": lambda: codecs.BOM_UTF8 * 2 + coco(),
    "UTF-16": lambda: coco().decode().encode("utf-16"),
    "Latin-1": lambda: "ü".encode("latin-1"),
    "a list": lambda: b"[]",
    "null": lambda: b"null",
    "deep lists": lambda: b"[" * DEEP + b"]" * DEEP,
    "deep lists without an end": lambda: b"[" * DEEP,
    "deep objects": lambda: b'{"images": ' * DEEP + b"1" + b"}" * DEEP,
    "deep and ignored": lambda: coco()[:-1] + b', "info": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "half a character": lambda: coco().replace(b"A dog runs.", b"\\ud800"),
    "half a character for a key": lambda: coco()[:-1] + b', "\\ud800": 1}',
    "half a character for a name": lambda: coco().replace(b"a.jpg", b"\\udfff.jpg"),
    "a null byte": lambda: coco().replace(b"a.jpg", b"a\\u0000.jpg"),
    "control characters": lambda: coco().replace(b"A dog runs.", b"\\u001b[31m\\r\\n\\u202e"),
    "raw control characters": lambda: coco().replace(b"A dog runs.", b"\x1b[31m"),
    "a caption of a million characters": lambda: coco().replace(b"A dog runs.", b"dog " * 250_000),
    "a word of a million characters": lambda: coco().replace(b"A dog runs.", b"d" * 1_000_000),
    "a name of a million characters": lambda: coco().replace(b"a.jpg", b"a" * 1_000_000),
    "a million separators": lambda: coco().replace(b"A dog runs.", b"-" * 1_000_000),
    "keys twice": lambda: coco()[:-1] + b', "images": []}',
    "an unknown key of a million characters": lambda: b'{"' + b"k" * 1_000_000 + b'": 1}',
    "no images": lambda: coco()[:1] + b'"images": [], ' + coco()[1:].partition(b"]")[2].lstrip(b", "),
    "ids twice": lambda: coco([{"id": 7, "file_name": "a.jpg"}, {"id": 7, "file_name": "ü.jpg"}]),
    "an image twice": lambda: coco([{"id": 7, "file_name": "a.jpg"}] * 2),
    "annotations of annotations": lambda: coco(annotations=[[{"id": 1}]]),
    "ten thousand faults": lambda: coco(annotations=[{"id": None, "image_id": [], "caption": 5}] * 10_000),
    "names that climb": lambda: coco(
        [{"id": 7, "file_name": "../../../etc/passwd"}, {"id": 8, "file_name": "/etc/passwd"}]
    ),
    **{f"an id {n[:10]!r}": lambda n=n: coco().replace(b'"id": 7', b'"id": ' + n, 1) for n in NUMBERS},
    **{f"an image id {n[:10]!r}": lambda n=n: coco().replace(b'"image_id": 7', b'"image_id": ' + n) for n in NUMBERS},
    **{f"a caption {n[:10]!r}": lambda n=n: coco().replace(b'"A dog runs."', n) for n in NUMBERS},
}
KARPATHY: dict[str, Callable[[], bytes]] = {
    "no sentences": lambda: karpathy(sentences=[]),
    "no image": lambda: b'{"images": []}',
    "a sentence that is none": lambda: karpathy(sentences=[1, None, "a"]),
    "an empty split": lambda: karpathy(split=""),
    "a split that climbs": lambda: karpathy(split="../../x"),
    "a name of slashes": lambda: karpathy(filepath="/" * 1000, filename="/"),
    "the id of another": lambda: karpathy(cocoid=8),
    "a name in two splits": lambda: karpathy(filename="ü.jpg"),
    "half a character": lambda: karpathy().replace(b"A cat.", b"\\ud800"),
    "deep": lambda: b'{"images": ' * DEEP,
    **{f"an id {n[:10]!r}": lambda n=n: karpathy().replace(b'"cocoid": 8', b'"cocoid": ' + n) for n in NUMBERS},
}
CSV: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "a line end": lambda: b"\n\n\n",
    "a BOM": lambda: codecs.BOM_UTF8 + SAMPLES["csv"],
    "a null byte": lambda: b"image,caption\na\0.jpg,A \0 dog.\n",
    "null bytes": lambda: bytes(1000),
    "a quote without an end": lambda: b'image,caption\na.jpg,"A dog' + b" runs" * 100_000,
    "quotes only": lambda: b"image,caption\n" + b'"' * 100_001,
    "a field of 3 MB": lambda: b"image,caption\na.jpg," + b"dog " * 750_000,
    "a header of a hundred thousand columns": lambda: b",".join(b"c%d" % n for n in range(100_000)) + b"\n",
    "a row of a hundred thousand fields": lambda: SAMPLES["csv"] + b"a," * 100_000 + b"\n",
    "five thousand columns": lambda: b"image,caption," + b",".join(b"c%d" % n for n in range(4990)) + b"\n",
    "more fields than columns": lambda: b"image,caption\na.jpg,A dog, brown, old\n",
    "more fields than columns, later": lambda: SAMPLES["csv"] + b"a.jpg,A dog, brown, old\n",
    "fewer fields than columns": lambda: SAMPLES["csv"] + b"a.jpg\n",
    "an empty caption": lambda: SAMPLES["csv"] + b"a.jpg,\n",
    "columns twice": lambda: b"image,image,caption,caption\na.jpg,b.jpg,A dog.,A cat.\n",
    "a column without a name": lambda: b",image,caption\n1,a.jpg,A dog.\n",
    "the old Mac's line ends": lambda: SAMPLES["csv"].replace(b"\r\n", b"\r"),
    "a formula": lambda: b"image,caption\na.jpg,\"=cmd|' /C calc'!A0\"\n",
    "NA": lambda: b"image,caption\nNA,NaN\nnull,None\n",
    "numbers": lambda: b"image,caption\n1,2\n1e999,0x10\n",
    "semicolons": lambda: SAMPLES["csv"].replace(b",", b";"),
    "a column called name": lambda: b"image,caption,name,split,image_id\na.jpg,A dog.,b,c,d\n",
}
JSONL: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "no caption": lambda: b'{"image": "a.jpg", "caption": []}\n',
    "empty captions": lambda: b'{"image": "a.jpg", "caption": ["", " "]}\n',
    "deep": lambda: b'{"image": "a.jpg", "caption": ' + b"[" * DEEP + b"]" * DEEP + b"}\n",
    "half a character": lambda: b'{"image": "\\ud800", "caption": "A dog."}\n',
    "a list": lambda: b"[1]\n",
    "without an end": lambda: b'{"image": "a.jpg", "caption": "' + b"dog " * 100_000,
    "the name of another type": lambda: b'{"image": {"a": 1}, "caption": "A dog."}\n',
}
FLICKR: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "tabs": lambda: b"\t\t\t\n" * 1000,
    "no tab": lambda: b"a.jpg#0 A dog.\n",
    "a name of number signs": lambda: b"#0#0#0#" + b"#1" * 50_000 + b"\tA dog.\n",
    "many digits": lambda: b"a.jpg#" + b"1" * 100_000 + b"x\tA dog.\n",
    "null bytes": lambda: b"a.jpg\0#0\tA\0dog.\n",
}
CASES: dict[Format, dict[str, Callable[[], bytes]]] = {
    "coco": JSON,
    "karpathy": {**JSON, **KARPATHY},
    "csv": CSV,
    "jsonl": JSONL,
    "flickr": FLICKR,
}
SPLIT_FILES: dict[str, Callable[[], bytes]] = {
    **{f"splits.json: {name}": case for name, case in KARPATHY.items()},
    **{f"splits.csv: {name}": lambda case=case: case().replace(b"caption", b"split") for name, case in CSV.items()},
}


def attempt(key: str, folder: Path) -> None:
    kind, _, name = key.partition(": ")
    if key.isdigit():
        build_damaged(key, folder)
    elif kind == "place":
        attempt_place(name, folder)
    elif kind == "column":
        attempt_column(COLUMNS[int(name)], folder)
    elif kind in SPLITS:
        build(folder, "csv", SAMPLES["csv"], kind, SPLIT_FILES[key]())
    else:
        build(folder, kind, CASES[kind][name]())


COLUMNS = (
    "image",
    "name",
    "split",
    "image_id",
    "",
    "\0",
    "__class__",
    "model_config",
    "c" * 100_000,
)


def attempt_column(name: str, folder: Path) -> None:
    for kind in ("csv", "jsonl"):
        build(folder, kind, SAMPLES[kind], image_column=name)


PLACES: dict[str, Callable[[Path], object]] = {
    "a device that never ends": lambda path: path.symlink_to("/dev/zero"),
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a terabyte of nothing": lambda path: path.touch() or os.truncate(path, 1 << 40),
}


def attempt_place(key: str, folder: Path) -> None:
    place, _, suffix = key.rpartition(" ")
    path = folder / f"captions{suffix}"
    PLACES[place](path)
    with pytest.raises(CaptioningError, match="captions"):
        read_source(Source(folder, path, format="csv"))
    with pytest.raises(CaptioningError, match="captions"):
        read_splits(path)


def test_captions_and_splits_are_read_or_refused(inputs: range) -> None:
    keys = [f"{kind}: {name}" for kind, cases in CASES.items() for name in cases]
    columns = [f"column: {number}" for number in range(len(COLUMNS))]
    places = [f"place: {place} {suffix}" for place in PLACES for suffix in (".csv", ".json", ".zip")]
    assert try_all(f"{HERE}:attempt", [*keys, *SPLIT_FILES, *columns, *places, *inputs]) == {}


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
KEYS = st.sampled_from(["id", "image_id", "file_name", "caption", "images", "annotations", "filename", "split", "raw"])
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(KEYS | st.text(), inner), max_leaves=20)
ENTRY = st.dictionaries(KEYS, st.just("a.jpg") | st.integers(0, 9) | VALUES)
DOCUMENT = st.fixed_dictionaries(
    {"images": st.lists(ENTRY) | VALUES}, optional={"annotations": st.lists(ENTRY) | VALUES}
)


def refused_or(read: Callable[[str], object], text: str, folder: Path) -> None:
    with forbidding(folder) as deeds, contextlib.suppress(CaptioningError):
        read(text)
    assert deeds == []


@pytest.mark.parametrize("read", [read_coco, read_karpathy])
@given(document=DOCUMENT | VALUES)
def test_json_of_any_shape_is_read_or_refused(
    read: Callable[[str, str], object], document: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = json.dumps(document)
    refused_or(lambda text: read(text, "captions.json"), text, tmp_path_factory.getbasetemp())


LINES = st.lists(st.lists(st.text("a,\"'\0\r\n\t;#1\ufeff", max_size=9) | st.text(max_size=9), max_size=5), max_size=9)


@given(lines=LINES, comma=st.sampled_from([",", "\t", "#0\t"]), end=st.sampled_from(["\n", "\r\n", "\r"]))
def test_lines_of_any_kind_are_read_or_refused(
    lines: list[list[str]], comma: str, end: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = end.join(comma.join(fields) for fields in lines)
    for read in (
        lambda text: read_flickr(text, "a.token"),
        lambda text: read_csv(f"image,caption{end}{text}", "captions.csv", "image", "caption"),
        lambda text: read_csv(text, "captions.csv", "image", "caption"),
        lambda text: read_jsonl(text, "captions.jsonl", "image", "caption"),
    ):
        refused_or(read, text, tmp_path_factory.getbasetemp())
