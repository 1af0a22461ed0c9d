"""What is an input: one answer for a folder, a zip file and an address, with a place for every file."""

import os
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.archives.archive import open_archive
from components.archives.folder_archive import walk
from components.archives.listing import Listing, is_junk, list_pictures
from components.errors import ConfigurationError

FILES = Path(__file__).parents[1] / "images" / "files"
HEIC = (FILES / "plain.heic").read_bytes()
Photograph = Callable[[int], bytes]


def listing(place: Path | str) -> Listing:
    with open_archive(place) as archive:
        return list_pictures(archive)


@pytest.fixture
def files(photograph: Photograph) -> dict[str, bytes]:
    picture = photograph(1)
    inputs = (
        "_DSC0001.JPG",
        "IMG_0001.HEIC",
        "a: b.jpg",
        "no suffix",
        "odd.jpeg_large",
        "sub/Ä.PnG",
        "sub/.hidden.jpg",
    )
    others = {
        "notes.txt": b"text",
        "clip.MOV": picture,
        "page.pdf": b"%PDF",
        "unknown.bin": b"\1\2",
        "README": b"words",
    }
    junk = ("__MACOSX/._a.jpg", "._b.jpg", ".DS_Store", "sub/Thumbs.db", "sub/desktop.ini", ".git/objects/a.jpg")
    return {name: HEIC if "HEIC" in name else picture for name in inputs} | others | dict.fromkeys(junk, picture)


EXPECTED = sorted(
    ["_DSC0001.JPG", "IMG_0001.HEIC", "a: b.jpg", "no suffix", "odd.jpeg_large", "sub/Ä.PnG", "sub/.hidden.jpg"]
)
IGNORED = {"of the system": 6, ".txt": 1, ".mov": 1, ".pdf": 1, ".bin": 1, "without a suffix": 1}


def folder_of(files: dict[str, bytes], root: Path) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def zip_of(files: dict[str, bytes], root: Path) -> Path:
    with zipfile.ZipFile(root.with_suffix(".zip"), "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return root.with_suffix(".zip")


def address_of(files: dict[str, bytes], root: Path) -> str:
    import fsspec

    for name, content in files.items():
        fsspec.filesystem("memory").pipe(f"/{root.parent.name}/{name}", content)
    return f"memory://{root.parent.name}"


@pytest.mark.parametrize("make", [folder_of, zip_of, address_of])
def test_every_file_has_its_place(
    make: Callable[[dict[str, bytes], Path], Path | str], files: dict[str, bytes], tmp_path: Path
) -> None:
    found = listing(make(files, tmp_path / "in"))
    assert found.names == EXPECTED
    assert dict(found.ignored) == IGNORED
    assert len(found.names) + sum(found.ignored.values()) == len(files)
    assert found.summary() == ("11 files ignored: 6 of the system, 1 .bin, 1 .mov, 1 .pdf, 1 .txt, 1 without a suffix")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_a_later_member_of_the_same_name_replaces_is_counted(photograph: Photograph, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "updated.zip", "w") as archive:
        for name, number in (("a.jpg", 1), ("b.jpg", 2), ("a.jpg", 3)):
            archive.writestr(name, photograph(number))
    found = listing(tmp_path / "updated.zip")
    assert found.names == ["a.jpg", "b.jpg"]
    assert found.summary() == "1 file ignored: 1 replaced by a later one of the same name"
    with open_archive(tmp_path / "updated.zip") as archive:
        assert archive.read("a.jpg") == photograph(3)


def test_nothing_ignored_is_not_told() -> None:
    assert Listing((), {}).summary() == ""
    assert Listing((), {".txt": 1}).summary() == "1 file ignored: 1 .txt"


def test_linked_folders_are_followed_once_and_loops_end(photograph: Photograph, tmp_path: Path) -> None:
    elsewhere = folder_of({"c.jpg": photograph(3), "deep/d.jpg": photograph(4)}, tmp_path / "elsewhere")
    inside = folder_of({"a.jpg": photograph(1), "z/b.jpg": photograph(2)}, tmp_path / "in")
    (inside / "photos").symlink_to(elsewhere)
    (inside / "photos again").symlink_to(elsewhere)
    (inside / "also z").symlink_to(inside / "z")
    (inside / "up").symlink_to(inside)
    (elsewhere / "back").symlink_to(inside)
    (inside / "one.jpg").symlink_to(inside / "a.jpg")
    names = [entry.name for entry in walk(inside)]
    assert {"a.jpg", "one.jpg", "z/b.jpg"} <= set(names)
    assert len(names) == 5
    assert [name.rpartition("/")[2] for name in names].count("c.jpg") == 1
    assert all(entry.problem == "" for entry in walk(inside))


def test_what_cannot_be_reached_is_an_input_with_its_reason(photograph: Photograph, tmp_path: Path) -> None:
    inside = folder_of({"a.jpg": photograph(1)}, tmp_path / "in")
    (inside / "annexed.jpg").symlink_to("../annex/objects/key.jpg")
    (inside / "loop.jpg").symlink_to("loop.jpg")
    (inside / "note.txt").symlink_to("nowhere.txt")
    os.mkfifo(inside / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(inside / "socket.jpg"))
    found = listing(inside)
    problems = {entry.name: entry.problem for entry in found.inputs}
    assert problems["a.jpg"] == ""
    assert problems["annexed.jpg"] == "No such file or directory (a link to ../annex/objects/key.jpg)"
    assert "symbolic links" in problems["loop.jpg"]
    assert problems["pipe.jpg"] == problems["socket.jpg"] == "not a regular file"
    assert dict(found.ignored) == {".txt": 1}


def test_a_folder_that_cannot_be_listed_is_an_input(photograph: Photograph, tmp_path: Path) -> None:
    inside = folder_of({"a.jpg": photograph(1), "locked/b.jpg": photograph(2)}, tmp_path / "in")
    for path in (*inside.parents[:-2], inside):
        path.chmod(path.stat().st_mode | 0o055)
    (inside / "locked").chmod(0)
    if os.getuid() == 0:
        os.seteuid(65534)  # whom permissions hold for
    try:
        found = walk(inside)
    finally:
        os.seteuid(os.getuid())
        (inside / "locked").chmod(0o755)
    assert [(entry.name, entry.problem) for entry in found] == [("a.jpg", ""), ("locked/", "Permission denied")]


def test_files_that_disappear_meanwhile_are_left_out(
    photograph: Photograph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = folder_of({f"{number}.jpg": photograph(1) for number in range(5)}, tmp_path / "in")
    real = os.scandir

    def scan(path: object) -> object:
        entries = real(path)  # type: ignore[call-overload]
        (inside / "3.jpg").unlink(missing_ok=True)
        return entries

    monkeypatch.setattr(os, "scandir", scan)
    assert "3.jpg" not in [entry.name for entry in walk(inside)]


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        listing(tmp_path / "nowhere")


def test_a_name_that_is_no_text_can_be_read(photograph: Photograph, tmp_path: Path) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    Path(os.fsdecode(os.fsencode(inside) + b"/caf\xe9.jpg")).write_bytes(photograph(1))
    (name,) = listing(inside).names
    assert name == "caf\\xe9.jpg"
    with open_archive(inside) as archive:
        assert archive.read(name) == photograph(1)
        assert archive.mark(name)[0] == len(photograph(1))


@pytest.mark.parametrize("name", [b"latin\xe9.jpg", b"\xe9.jpg", b"d\xe9/1.jpg", b"a.\xe9"])
def test_names_that_print_alike_are_different_files(photograph: Photograph, tmp_path: Path, name: bytes) -> None:
    alike = name.replace(b"\xe9", rb"\xe9")
    for number, each in enumerate((name, alike)):
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + each))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(photograph(number))
    with open_archive(tmp_path) as archive:
        contents = {entry.name: archive.read(entry.name) for entry in archive.entries()}
    assert set(contents.values()) == {photograph(0), photograph(1)}
    assert contents[alike.decode()] == photograph(1)


@given(st.text(max_size=30))
def test_any_name_is_junk_or_not(name: str) -> None:
    assert is_junk(name) in (True, False)
    assert is_junk(f"__MACOSX/{name}")
    assert is_junk("sub/._" + name.replace("/", "").replace("\\", ""))
