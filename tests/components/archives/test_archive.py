import io
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.archives.archive import open_archive
from components.archives.image_archive import ImageArchive
from components.errors import BadImageError, CaptioningError

FILES = {"b.jpg": b"second", "sub/a.jpg": b"first" * 100, "été/犬.jpg": b"\x00\xff", "empty.jpg": b""}


def zip_bytes(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def as_zip(folder: Path) -> Path:
    path = folder / "photographs.zip"
    path.write_bytes(zip_bytes(FILES, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(path, "a") as archive:
        archive.mkdir("nothing")
    return path


def as_folder(folder: Path) -> Path:
    path = folder / "photographs.zip" / "inside"  # a folder may be called like a zip file, too
    for name, content in FILES.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    (path / "nothing").mkdir()
    return path.parent


@pytest.fixture(params=[as_zip, as_folder])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> ImageArchive:
    return open_archive(request.param(tmp_path))


def test_every_file_is_listed_and_read(archive: ImageArchive) -> None:
    with archive:
        listed = [entry.name.removeprefix("inside/") for entry in archive.entries()]
        assert listed == sorted(FILES)
        assert [entry.bytes for entry in archive.entries()] == [len(FILES[name]) for name in listed]
        assert [archive.read(entry.name) for entry in archive.entries()] == [FILES[name] for name in listed]


@pytest.mark.parametrize("name", ["missing.jpg", "sub", "a\0.jpg"])
def test_what_is_not_a_file_cannot_be_read(archive: ImageArchive, name: str) -> None:
    with archive, pytest.raises(BadImageError, match="cannot be read"):
        archive.read(name)


def test_threads_read_the_same_bytes(archive: ImageArchive) -> None:
    with archive, ThreadPoolExecutor(8) as pool:
        names = [entry.name for entry in archive.entries()] * 100
        assert list(pool.map(archive.read, names)) == [FILES[name.removeprefix("inside/")] for name in names]


def test_change_marks_tell_contents_apart(tmp_path: Path) -> None:
    marks = []
    for content in (b"1", b"1", b"2"):
        (tmp_path / "a.zip").write_bytes(zip_bytes({"a": content}))
        with open_archive(tmp_path / "a.zip") as archive:
            marks.append(archive.entries())
    assert marks[0] == marks[1] != marks[2]


@pytest.mark.parametrize("content", [None, b"", b"GIF89a", zip_bytes(FILES)[:-30]])
def test_what_is_no_zip_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "train.zip"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CaptioningError, match=r"cannot open the archive .*train\.zip"):
        open_archive(path)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CaptioningError, match=r"train is no zip file and no folder"):
        open_archive(tmp_path / "train")


def with_header(field: int, value: int) -> Callable[[bytes], bytes]:
    """Sets two bytes, `field` bytes into the local header; in the central directory they lie two bytes further on."""

    def change(content: bytes) -> bytes:
        changed = bytearray(content)
        for start in (content.index(b"PK\3\4") + field, content.index(b"PK\1\2") + field + 2):
            changed[start : start + 2] = value.to_bytes(2, "little")
        return bytes(changed)

    return change


def with_data(offset: int) -> Callable[[bytes], bytes]:
    """Sets some bits in the member's data, which begin after its header and name."""

    def change(content: bytes) -> bytes:
        start = content.index(b"\xc3\xa9.jpg") + len(b"\xc3\xa9.jpg") + offset
        return content[:start] + b"\xff" * 9 + content[start + 9 :]

    return change


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(with_header(6, 0x801), id="encrypted"),
        pytest.param(with_header(8, 99), id="unknown compression"),
        pytest.param(lambda content: content.replace(b"\xc3\xa9.jpg", b"\xff\xff.jpg", 1), id="name is no text"),
        pytest.param(with_data(0), id="corrupt start"),
        pytest.param(with_data(9), id="corrupt data"),
    ],
)
def test_a_damaged_member_is_a_bad_image(tmp_path: Path, damage: Callable[[bytes], bytes], method: int) -> None:
    (tmp_path / "a.zip").write_bytes(damage(zip_bytes({"é.jpg": bytes(range(256))}, method)))
    with open_archive(tmp_path / "a.zip") as archive, pytest.raises(BadImageError, match="cannot be read"):
        archive.read("é.jpg")


@given(
    method=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA]),
    changes=st.lists(st.tuples(st.integers(0, 999), st.integers(0, 255)), max_size=4),
    end=st.none() | st.integers(0, 999),
)
def test_damage_of_any_kind_is_one_of_our_errors(
    tmp_path_factory: pytest.TempPathFactory, method: int, changes: list[tuple[int, int]], end: int | None
) -> None:
    content = bytearray(zip_bytes({"é.jpg": b"photograph" * 9, "b.jpg": b"b"}, method))
    for position, value in changes:
        content[position % len(content)] = value
    path = tmp_path_factory.getbasetemp() / "damaged.zip"
    path.write_bytes(content[:end])
    try:
        with open_archive(path) as archive:
            for name, *_ in archive.entries():
                archive.read(name)
    except CaptioningError:
        pass
