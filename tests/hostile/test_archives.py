"""Zip files and folders of photographs, and exported models."""

import contextlib
import hashlib
import io
import json
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import pytest

from components.archives.archive import open_archive
from components.errors import BadImageError, CaptioningError, ConfigurationError
from components.model.model_archive import read_model_archive, write_model_archive
from components.scoring.inputs import fingerprint, list_images, read_inputs
from tests.hostile.fuzzer import damaged
from tests.hostile.watch import try_all

HERE = "tests.hostile.test_archives"
LIMIT = 1 << 20
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


def zipped(files: Iterable[tuple[str | zipfile.ZipInfo, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in files:
            archive.writestr(name, content, method)
        archive.comment = b"a comment"
    return file.getvalue()


def parcel_of(files: dict[str, bytes], folder: Path) -> bytes:
    """What `export-model` would write of the files."""
    for name, content in files.items():
        path = folder / "sent" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    write_model_archive(folder / "sent", {"name": "captioner"}, folder / "sent.zip")
    return (folder / "sent.zip").read_bytes()


@cache
def samples() -> tuple[bytes, ...]:
    files = [("a.jpg", b"first" * 9), ("sub/ü.png", os.urandom(0) + bytes(range(256))), ("sub/", b""), ("b.gif", b"")]
    large = io.BytesIO()
    with zipfile.ZipFile(large, "w") as archive, archive.open("a.jpg", "w", force_zip64=True) as member:
        member.write(b"as if it were large")
    return (*(zipped(files, method) for method in METHODS), large.getvalue())


def read_all(images: Path) -> None:
    """As the scoring and the training flow do."""
    with open_archive(images) as archive:
        for name, size, mark, _ in archive.entries():
            assert archive.mark(name) in ((size, mark), (-1, -1))
            with contextlib.suppress(BadImageError):
                assert len(archive.read(name, LIMIT)) <= LIMIT
    listing = list_images(images)
    assert len(set(listing.names)) == len(listing.names)
    fingerprint(listing)
    read_inputs(images, listing).to_parquet(images.with_name("inputs.parquet"))


def read_damaged(seed: str, folder: Path) -> None:
    (folder / "photos.zip").write_bytes(damaged(samples(), int(seed)))
    read_all(folder / "photos.zip")


def open_damaged(seed: str, folder: Path) -> None:
    sample = parcel_of({"model/MLmodel": b"a: 1", "model/data/x": bytes(100)}, folder)
    (folder / "got.zip").write_bytes(damaged((sample,), int(seed)))
    (folder / "got").mkdir()
    read_model_archive(folder / "got.zip", folder / "got")


def stored(*members: tuple[bytes, bytes, dict[str, int]], entries: int | None = None) -> bytes:
    """A zip file whose every number can be chosen: the name as bytes, the data as they lie there, and fields."""
    whole, directory = b"", b""
    for name, data, fields in members:
        value = {"flags": 0, "method": 0, "crc": zlib.crc32(data), "packed": len(data), "size": len(data)} | fields
        head = struct.pack("<HHHHH", 20, value["flags"], value["method"], 0, 33)
        sizes = struct.pack("<III", value["crc"], value["packed"], value["size"])
        place = fields.get("place", len(whole))
        local = b"PK\x03\x04" + head + sizes + struct.pack("<HH", len(name), 0) + name + data
        mode = fields.get("mode", stat.S_IFREG | 0o644) << 16
        directory += b"PK\x01\x02\x14\x03" + head + sizes
        directory += struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, mode, place) + name
        whole += b"" if "place" in fields else local
    count = min(len(members) if entries is None else entries, 65535)
    return (
        whole + directory + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), len(whole), 0)
    )


def deflate_bomb(size: int) -> bytes:
    """A raw stream of `size` zeros, packed once and repeated."""
    pack, part = zlib.compressobj(wbits=-15), 16 << 20
    block = pack.compress(bytes(part)) + pack.flush(zlib.Z_FULL_FLUSH)
    return block * (size // part) + zlib.compressobj(wbits=-15).flush()


GIGABYTE = 1 << 30
JPEG = b"any content"
NAMES = (
    *(b"/etc/a.jpg", b"../../a.jpg", b"a/../../../b.jpg", b"..\\..\\a.jpg", b"C:\\a.jpg", b"//host/a.jpg", b"./a.jpg"),
    *(b"a.jpg\0.png", b"\xff\xfe.jpg", b"\x1b[31m\r\n\t.jpg", b"~/a.jpg", b"", b".jpg", b"a//b.jpg", b"con.jpg"),
    *(
        b"http://192.0.2.1/a.jpg",
        b"file:///etc/passwd.jpg",
        b"zip://a.jpg::http://192.0.2.1/a.zip",
        b"n" * 60_000 + b".jpg",
    ),
)
ZIPS: dict[str, Callable[[], bytes]] = {
    **{f"named {name[:40]!r}": lambda name=name: stored((name, JPEG, {})) for name in NAMES},
    **{f"named in UTF-8 {name[:40]!r}": lambda name=name: stored((name, JPEG, {"flags": 0x800})) for name in NAMES},
    "a symlink": lambda: stored((b"a.jpg", b"/etc/passwd", {"mode": stat.S_IFLNK | 0o777})),
    "a device": lambda: stored((b"a.jpg", b"", {"mode": stat.S_IFCHR | 0o666})),
    "a name twice": lambda: stored((b"a.jpg", b"1", {}), (b"a.jpg", b"2", {})),
    "a name in two cases": lambda: stored((b"a.jpg", b"1", {}), (b"A.JPG", b"2", {})),
    "a file and a folder of one name": lambda: stored((b"a.jpg", b"1", {}), (b"a.jpg/b.jpg", b"2", {})),
    "a wrong CRC": lambda: stored((b"a.jpg", b"1", {"crc": 7})),
    "encrypted": lambda: stored((b"a.jpg", b"1" * 12, {"flags": 1})),
    "strongly encrypted": lambda: stored((b"a.jpg", b"1", {"flags": 0x41})),
    "a patch": lambda: stored((b"a.jpg", b"1", {"flags": 0x20})),
    "an unknown compression": lambda: stored((b"a.jpg", b"1", {"method": 99})),
    "larger than its data": lambda: stored((b"a.jpg", b"1", {"size": 2**32 - 2, "packed": 2**32 - 2})),
    "one file's data twice": lambda: stored((b"a.jpg", b"1", {}), (b"b.jpg", b"1", {"place": 0})),
    "data beyond the end": lambda: stored((b"a.jpg", b"1", {"place": 2**32 - 2})),
    "fewer than it says": lambda: stored((b"a.jpg", b"1", {}), entries=65535),
    "more than it says": lambda: stored((b"a.jpg", b"1", {}), entries=0),
    "zip64 without an extra field": lambda: stored((b"a.jpg", b"1", {"size": 2**32 - 1, "packed": 2**32 - 1})),
    "a cut directory": lambda: stored((b"a.jpg", b"1", {}))[:-30],
    "no directory": lambda: stored((b"a.jpg", b"1", {}))[:40],
    "something in front": lambda: b"#!/bin/sh\nexit 1\n" + stored((b"a.jpg", b"1", {})),
    "a bomb that says so": lambda: stored((b"a.jpg", deflate_bomb(GIGABYTE), {"method": 8, "size": GIGABYTE})),
    "a deflated bomb": lambda: stored((b"a.jpg", deflate_bomb(2 * GIGABYTE), {"method": 8, "size": 100})),
    "nothing": lambda: b"",
    "no files": lambda: stored(),
}


def read_nasty(name: str, folder: Path) -> None:
    (folder / "photos.zip").write_bytes(ZIPS[name]())
    read_all(folder / "photos.zip")


def link(target: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "a.jpg").symlink_to(target)


def nested(folder: Path) -> None:
    """Deeper than a path may be long."""
    here = os.open(folder, os.O_RDONLY)
    for _ in range(40):
        os.mkdir("d" * 200, dir_fd=here)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.mknod("a.jpg", dir_fd=here)
    os.close(here)


def sparse(folder: Path) -> None:
    with (folder / "a.jpg").open("wb") as file:
        file.truncate(1 << 40)


FOLDERS: dict[str, Callable[[Path], object]] = {
    "a link to a file elsewhere": link("/etc/passwd"),
    "a link to a device that never ends": link("/dev/zero"),
    "a link to nothing": link("nowhere"),
    "a link to itself": link("a.jpg"),
    "a link to its folder": link("."),
    "a link to the root": link("/"),
    "a pipe": lambda folder: os.mkfifo(folder / "a.jpg"),
    "a folder called like a photograph": lambda folder: (folder / "a.jpg").mkdir(),
    "a name that is not UTF-8": lambda folder: (folder / os.fsdecode(b"\xff\xfe.jpg")).write_bytes(JPEG),
    "a name of control characters": lambda folder: (folder / "\x1b[31m\r\n\t.jpg").write_bytes(JPEG),
    "a name like an address": lambda folder: (
        (folder / "http:").mkdir(),
        (folder / "http:" / "a.jpg").write_bytes(JPEG),
    ),
    "a terabyte": sparse,
    "deeper than a path can be": nested,
}


def read_folder(name: str, folder: Path) -> None:
    (folder / "photos").mkdir()
    FOLDERS[name](folder / "photos")
    read_all(folder / "photos")


PLACES: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a device that never ends": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a terabyte of nothing": lambda path: path.touch() or os.truncate(path, 1 << 40),
}


def read_place(name: str, folder: Path) -> None:
    for suffix in (".zip", ".ZIP", ".jpg", ""):
        PLACES[name](folder / f"photos{suffix}")
        with pytest.raises(ConfigurationError, match=f"photos{suffix}"):
            read_all(folder / f"photos{suffix}")


def manifest(**files: object) -> bytes:
    return json.dumps({"schema": 1, "contents": {}, "files": files}).encode()


def whole(content: bytes) -> dict[str, object]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def parcel(name: bytes, content: bytes = b"1", told: dict[str, object] | None = None, **fields: int) -> bytes:
    """A parcel of one file, which its manifest lists."""
    text = name.decode("utf-8", "surrogateescape")
    listed = manifest(**{text: whole(content) if told is None else told})
    return stored((b"manifest.json", listed, {}), (name, content, {"flags": 0x800, **fields}))


def with_manifest(content: bytes) -> bytes:
    return stored((b"manifest.json", content, {}))


PARCELS: dict[str, Callable[[], bytes]] = {
    **{
        f"named {name[:40]!r}": lambda name=name: parcel(name)
        for name in (*NAMES, b"manifest.json", b"a/", b".", b"..")
    },
    "a symlink": lambda: parcel(b"a", b"/etc/passwd", mode=stat.S_IFLNK | 0o777),
    "a pipe": lambda: parcel(b"a", mode=stat.S_IFIFO | 0o666),
    "encrypted": lambda: parcel(b"a", b"1" * 12, flags=0x801),
    "a wrong CRC": lambda: parcel(b"a", crc=7),
    "a file below a file": lambda: stored(
        (b"manifest.json", manifest(**{"a": whole(b"1"), "a/b": whole(b"2")}), {}), (b"a", b"1", {}), (b"a/b", b"2", {})
    ),
    "a bomb": lambda: parcel(b"a", deflate_bomb(2 * GIGABYTE), {"sha256": "0" * 64, "bytes": 10}, method=8, size=10),
    "a bomb that says so": lambda: parcel(
        b"a", deflate_bomb(2 * GIGABYTE), {"sha256": "0" * 64, "bytes": 2**62}, method=8, size=2**32 - 2
    ),
    "a bomb for a manifest": lambda: stored((b"manifest.json", deflate_bomb(2 * GIGABYTE), {"method": 8, "size": 100})),
    "a deep manifest": lambda: with_manifest(b'{"schema": 1, "contents": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "a manifest of a number": lambda: with_manifest(b"1" * 10_000),
    "a manifest that is not UTF-8": lambda: with_manifest(b"\xff"),
    "a manifest with half a character": lambda: with_manifest(manifest(**{"\ud800": whole(b"1")})),
    "files of a negative size": lambda: parcel(b"a", told={"sha256": "0" * 64, "bytes": -1}),
    "files of no size": lambda: with_manifest(
        manifest().replace(b"{}}", b'{"a": {"sha256": "' + b"0" * 64 + b'", "bytes": NaN}}}')
    ),
    "files of a size of 4,300 digits": lambda: with_manifest(
        b'{"schema": 1, "contents": {}, "files": {"a": {"sha256": "%s", "bytes": %s}}}' % (b"0" * 64, b"9" * 4300)
    ),
    "two files of a size of 4,300 digits": lambda: stored(
        (
            b"manifest.json",
            manifest(**{n: {"sha256": "0" * 64, "bytes": 9} for n in "ab"}).replace(b"9", b"9" * 4300),
            {},
        ),
        *((name, b"1", {}) for name in (b"a", b"b")),
    ),
    "a schema of another kind": lambda: with_manifest(b'{"schema": {"a": [1]}}'),
    "a schema of great length": lambda: with_manifest(b'{"schema": "' + b"1" * 1_000_000 + b'"}'),
    "a name of great length": lambda: with_manifest(manifest(**{"n" * 1_000_000: whole(b"")})),
    "contents that are none": lambda: with_manifest(b'{"schema": 1, "contents": [], "files": []}'),
}


def unpack(name: str, folder: Path) -> None:
    (folder / "got.zip").write_bytes(PARCELS[name]())
    (folder / "got").mkdir()
    read_model_archive(folder / "got.zip", folder / "got")


def unpack_place(name: str, folder: Path) -> None:
    PLACES[name](folder / "got.zip")
    (folder / "got").mkdir()
    with pytest.raises(CaptioningError, match=r"got\.zip"):
        read_model_archive(folder / "got.zip", folder / "got")


def refuse_compression(method: str, folder: Path) -> None:
    """`zipfile` unpacks these without a limit: a kilobyte becomes gigabytes."""
    (folder / "photos.zip").write_bytes(zipped([("a.jpg", JPEG)], int(method)))
    with (
        open_archive(folder / "photos.zip") as archive,
        pytest.raises(BadImageError, match="neither stored nor deflated"),
    ):
        archive.read("a.jpg", LIMIT)


ATTEMPTS: dict[str, tuple[Callable[[str, Path], object], Iterable[str]]] = {
    "zip": (read_nasty, ZIPS),
    "folder": (read_folder, FOLDERS),
    "place": (read_place, PLACES),
    "parcel": (unpack, PARCELS),
    "place of a parcel": (unpack_place, PLACES),
    "compression": (refuse_compression, map(str, METHODS[2:])),
}
NASTY = [f"{kind}: {name}" for kind, (_, names) in ATTEMPTS.items() for name in names]


def attempt(key: str, folder: Path) -> None:
    kind, _, name = key.partition(": ")
    if key.isdigit():
        (read_damaged if int(key) % 2 else open_damaged)(key, folder)
    else:
        ATTEMPTS[kind][0](name, folder)


def test_archives_are_read_or_refused(inputs: range) -> None:
    assert try_all(f"{HERE}:attempt", [*NASTY, *inputs]) == {}
