"""Lists of images to score: Parquet tables and text files."""

import io
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.errors import ConfigurationError
from components.scoring.inputs import fingerprint, list_images, read_inputs
from tests.hostile.fuzzer import damaged
from tests.hostile.watch import try_all

HERE = "tests.hostile.test_inputs"
PATHS = ["a.jpg", "sub/ü.jpg", "../photos/a.jpg", "", " "]
ADDRESSES = (
    *(
        "file:///etc/passwd",
        "file:///dev/zero",
        "file://pipe",
        "file:///%00",
        "/dev/zero",
        "/dev/stdin",
        "/dev/tty",
        "/proc/self/mem",
    ),
    *(
        "http://127.0.0.1:9/a.jpg",
        "s3://",
        "http://[",
        "://",
        "a://",
        "nosuch://a",
        "memory://a",
        "memory://",
        "C:\\a.jpg",
        "a\0.jpg",
    ),
    *(
        "simplecache::file:///etc/passwd",
        "filecache::file:///etc/passwd",
        "zip://a::file:///b.zip",
        "file:///a::zip://b",
    ),
    *(
        "hdfs://192.0.2.1/a",
        "ssh://192.0.2.1/a",
        "github://a:b@c/d",
        "reference://",
        "git://a",
        "dask://a",
        "libarchive://a",
        "generic://a",
    ),
    *(
        "../../../../etc/passwd",
        "loop.jpg",
        "pipe",
        "folder",
        "n" * 5000,
        "a/" * 3000,
        "~/a.jpg",
        "\x1b[31m",
        "\u202e",
        "-",
    ),
)


def parquet(column: pa.Array | None = None, name: str = "path", **options: object) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table([pa.array(PATHS) if column is None else column], [name]), file, **options)
    return file.getvalue()


@cache
def tables() -> tuple[bytes, ...]:
    compressed = (parquet(compression=kind) for kind in ("snappy", "gzip", "zstd", "brotli", "lz4", "none"))
    others = (
        parquet(use_dictionary=False),
        parquet(data_page_version="2.0"),
        parquet(pa.array(PATHS).dictionary_encode()),
    )
    return (*compressed, *others, parquet(write_page_checksum=True, write_page_index=True))


TEXTS = (
    b"a.jpg\nsub/\xc3\xbc.jpg\n\n  ../photos/a.jpg  \n",
    b"\xef\xbb\xbfa.jpg\r\n",
    b"file:///etc/passwd\n/dev/zero\n",
)


def read_list(path: Path, content: bytes) -> None:
    """As the scoring flow does; beside it lie two photographs and what is none."""
    for name in ("photos", "sub", "folder"):
        (path.parent / name).mkdir()
    (path.parent / "photos" / "a.jpg").write_bytes(b"1")
    (path.parent / "loop.jpg").symlink_to("loop.jpg")
    os.mkfifo(path.parent / "pipe")
    path.write_bytes(content)
    listing = list_images(path)
    assert len(set(listing.names)) == len(listing.names)
    fingerprint(listing)
    table = read_inputs(path, listing)
    assert ((table["error"] == "") | (table["bytes"] == 0)).all()
    table.to_parquet(path.with_name("inputs.parquet"))


def read_damaged(seed: str, folder: Path) -> None:
    if int(seed) % 5:
        read_list(folder / "list.parquet", damaged(tables(), int(seed)))
    else:
        read_list(folder / "list.txt", damaged(TEXTS, int(seed)))


def repeated(value: str, rows: int) -> bytes:
    """A column of one value, which Parquet holds once."""
    return parquet(pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([value])))


NAMED: dict[str, Callable[[], bytes]] = {
    "list.txt: addresses": lambda: "\n".join(ADDRESSES).encode(),
    "list.txt: nothing": lambda: b"",
    "list.txt: zeros": lambda: bytes(1000),
    "list.txt: a line of ten megabytes": lambda: b"a" * 10_000_000,
    "list.txt: UTF-16": lambda: "ü.jpg".encode("utf-16"),
    "list.txt: Unicode's line ends": lambda: "a.jpg\u2028b.jpg\x85c.jpg\x0cd.jpg".encode(),
    "list.parquet: addresses": lambda: parquet(pa.array(ADDRESSES)),
    "list.parquet: rows without a path": lambda: parquet(pa.array([None, "a.jpg", None])),
    "list.parquet: no path at all": lambda: parquet(pa.array([None, None])),
    "list.parquet: one path a million times": lambda: repeated("a.jpg", 1_000_000),
    "list.parquet: a path of a megabyte, ten thousand times": lambda: repeated("a" * 1_000_000, 10_000),
    "list.parquet: a path of eight megabytes": lambda: parquet(pa.array(["a" * 8_000_000]), compression="zstd"),
    "list.parquet: categories": lambda: parquet(pa.array(PATHS).dictionary_encode()),
    "list.parquet: large strings": lambda: parquet(pa.array(PATHS, pa.large_string())),
}
REFUSED: dict[str, Callable[[], bytes]] = {
    "list.txt: Latin-1": lambda: b"\xfc.jpg",
    "list.parquet: nothing": lambda: b"",
    "list.parquet: the magic number": lambda: b"PAR1PAR1",
    "list.parquet: a footer of 2³¹ bytes": lambda: b"PAR1" + b"\xff\xff\xff\x7fPAR1",
    "list.parquet: no such column": lambda: parquet(name="\x1b[31m" * 1000),
    "list.parquet: twice": lambda: two_columns(),
    "list.parquet: not UTF-8": lambda: parquet(pa.array([b"\xff\xfe"]).view(pa.string())),
    **{
        f"list.parquet: {kind}": lambda kind=kind, values=values: parquet(pa.array(values, kind))
        for kind, values in (
            (pa.int64(), [1]),
            (pa.float64(), [1.5]),
            (pa.binary(), [b"a.jpg"]),
            (pa.list_(pa.string()), [["a.jpg"]]),
            (pa.struct({"path": pa.string()}), [{"path": "a.jpg"}]),
            (pa.map_(pa.string(), pa.string()), [[("a", "b")]]),
            (pa.timestamp("ns"), [1]),
            (pa.decimal128(30), [1]),
            (pa.bool_(), [True]),
        )
    },
}


def two_columns() -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table([pa.array(PATHS), pa.array(PATHS)], ["path", "path"]), file)
    return file.getvalue()


PLACES: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "loop": lambda path: path.symlink_to(path),
    "zero": lambda path: path.symlink_to("/dev/zero"),
    "terabyte": lambda path: path.touch() or os.truncate(path, 1 << 40),
}


def attempt(key: str, folder: Path) -> None:
    name, _, what = key.partition(": ")
    if key.isdigit():
        read_damaged(key, folder)
    elif what in PLACES:
        PLACES[what](folder / name)
        with pytest.raises(ConfigurationError, match="list"):
            list_images(folder / name)
    elif key in NAMED:
        read_list(folder / name, NAMED[key]())
    else:
        with pytest.raises(ConfigurationError, match="list"):
            read_list(folder / name, REFUSED[key]())


def test_lists_are_read_or_refused(inputs: range) -> None:
    places = [f"list{suffix}: {place}" for suffix in (".txt", ".parquet") for place in PLACES]
    assert try_all(f"{HERE}:attempt", [*NAMED, *REFUSED, *places, *inputs]) == {}
