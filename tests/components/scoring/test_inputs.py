import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from zipfile import ZipFile

import pandas as pd
import pytest

from components.errors import CaptioningError, ConfigurationError
from components.scoring.inputs import fingerprint, list_images, read_inputs, uri_of

Photograph = Callable[[int], bytes]


@pytest.fixture
def files(photograph: Photograph) -> dict[str, bytes]:
    """Good images, a broken one, and what is no image by its name."""
    images = {"b.jpg": photograph(1), "sub/Ä b.JPG": photograph(2), "a.png": b"broken"}
    return images | {"notes.txt": b"text", "sub/jpg": b"no extension"}


def as_folder(files: Mapping[str, bytes], folder: Path) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def as_zip(files: Mapping[str, bytes], path: Path) -> Path:
    with ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def as_table(paths: list[str | None], path: Path) -> Path:
    pd.DataFrame({"path": paths, "other": 1}).to_parquet(path)
    return path


def contents(images: Path | str) -> dict[str, str]:
    """Each input's address with its content's digest, or with the reason why there is none."""
    table = read_inputs(images, list_images(images))
    found = zip(table["file_name"], table["error"], table["digest"], strict=True)
    return {uri_of(images, name): error or digest for name, error, digest in found}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_folders_images_are_found_by_their_extension_sorted(files: dict[str, bytes], tmp_path: Path) -> None:
    folder = as_folder(files, tmp_path / "inbox")
    assert list_images(folder).names == ["a.png", "b.jpg", "sub/Ä b.JPG"]
    assert contents(folder) == {str(folder / name): sha256(files[name]) for name in list_images(folder).names}


def test_a_zip_holds_what_its_folder_does(files: dict[str, bytes], tmp_path: Path) -> None:
    folder, archive = as_folder(files, tmp_path / "inbox"), as_zip(files, tmp_path / "inbox.zip")
    assert list_images(archive).names == list_images(folder).names
    assert contents(archive) == {f"{archive}!{name}": sha256(files[name]) for name in list_images(folder).names}


def test_a_tables_paths_start_at_the_table_and_keep_its_order(files: dict[str, bytes], tmp_path: Path) -> None:
    as_folder(files, tmp_path / "inbox")
    absolute = str(tmp_path / "inbox" / "a.png")
    paths = ["inbox/sub/Ä b.JPG", absolute, "inbox/b.jpg", "inbox/notes.txt"]
    table = as_table([*paths, absolute], tmp_path / "images.parquet")
    assert list_images(table).names == paths
    names = ("sub/Ä b.JPG", "a.png", "b.jpg", "notes.txt")
    assert contents(table) == dict(zip(paths, (sha256(files[name]) for name in names), strict=True))


def test_an_input_that_cannot_be_read_says_why_and_the_others_are_there(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    as_folder(files, tmp_path)
    table = as_table(["gone.jpg", "b.jpg", "sub", None, "null\0byte.jpg", "x" * 5000], tmp_path / "images.parquet")
    found = read_inputs(table, list_images(table))
    assert found["error"].astype(bool).tolist() == [True, False, True, True, True, True]
    assert "No such file" in found["error"][0]
    assert fingerprint(list_images(table)) == fingerprint(list_images(table))


def test_a_damaged_member_of_a_zip_is_one_bad_input(photograph: Photograph, tmp_path: Path) -> None:
    archive = as_zip({"a.jpg": photograph(1), "b.jpg": photograph(2)}, tmp_path / "images.zip")
    archive.write_bytes(archive.read_bytes().replace(photograph(2)[-100:], b"\0" * 100))
    first, second = read_inputs(archive, list_images(archive)).to_dict("records")
    assert (first["digest"], first["bytes"], first["error"]) == (sha256(photograph(1)), len(photograph(1)), "")
    assert (second["digest"], second["bytes"]) == ("", 0)
    assert "cannot be read" in second["error"]


def test_copies_are_inputs_of_their_own(photograph: Photograph, tmp_path: Path) -> None:
    folder = as_folder({"a.jpg": photograph(1), "b.jpg": photograph(1)}, tmp_path / "inbox")
    assert list(contents(folder).values()) == [sha256(photograph(1))] * 2


@pytest.mark.parametrize("name", ["nothing", "nothing.zip", "nothing.parquet"])
def test_what_is_not_there_is_wrong_usage(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        list_images(tmp_path / name)


def test_there_may_be_no_image(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    texts = {"notes.txt": b"text"}
    for images in (
        tmp_path / "empty",
        as_folder(texts, tmp_path / "texts"),
        as_zip(texts, tmp_path / "texts.zip"),
        as_table([], tmp_path / "empty.parquet"),
    ):
        assert list_images(images).names == []
        assert contents(images) == {}


def test_a_table_without_paths_names_the_column(tmp_path: Path) -> None:
    pd.DataFrame({"file": ["a.jpg"]}).to_parquet(tmp_path / "images.parquet")
    with pytest.raises(CaptioningError, match=r"images\.parquet has no column 'path'; it has file"):
        list_images(tmp_path / "images.parquet")
    (tmp_path / "images.parquet").write_bytes(b"no table")
    with pytest.raises(CaptioningError, match=r"images\.parquet is not a list of paths that can be read"):
        list_images(tmp_path / "images.parquet")


def test_a_zip_that_is_none_says_so(tmp_path: Path) -> None:
    (tmp_path / "images.zip").write_bytes(b"no zip")
    with pytest.raises(CaptioningError, match=r"cannot open the archive .*images\.zip"):
        list_images(tmp_path / "images.zip")


def identity(images: Path | str) -> str:
    return fingerprint(list_images(images))


@pytest.mark.parametrize("kind", ["folder", "zip", "table"])
def test_the_identity_follows_the_images(photograph: Photograph, tmp_path: Path, kind: str) -> None:
    files = {"a.jpg": photograph(1), "b.jpg": photograph(2)}

    def given(files: Mapping[str, bytes]) -> str:
        shutil.rmtree(tmp_path / "inbox", ignore_errors=True)
        folder = as_folder(files, tmp_path / "inbox")
        for path in folder.iterdir():
            os.utime(path, (1_000, 1_000))
        if kind == "zip":
            return identity(as_zip(files, tmp_path / "inbox.zip"))
        if kind == "table":
            return identity(as_table([f"inbox/{name}" for name in ("b.jpg", "a.jpg")], tmp_path / "images.parquet"))
        return identity(folder)

    before = given(files)
    assert given(files) == before
    assert given(files | {"notes.txt": b"text"}) == before
    assert given(files | {"b.jpg": photograph(2) + b"more"}) != before
    assert given({"a.jpg": photograph(1), "c.jpg": photograph(2)}) != before


def test_a_change_that_keeps_the_size_is_seen(photograph: Photograph, tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    path, content = tmp_path / "inbox" / "a.jpg", photograph(1)
    table = as_table(["inbox/a.jpg"], tmp_path / "images.parquet")
    path.write_bytes(content)
    os.utime(path, (1_000, 1_000))
    before = identity(path.parent), identity(table), identity(as_zip({"a.jpg": content}, tmp_path / "images.zip"))
    changed = content[:-1] + b"\0"
    path.write_bytes(changed)
    after = identity(path.parent), identity(table), identity(as_zip({"a.jpg": changed}, tmp_path / "images.zip"))
    assert all(old != new for old, new in zip(before, after, strict=True))


def test_addresses_tell_inputs_of_one_name_apart(files: dict[str, bytes], tmp_path: Path) -> None:
    one, other = as_zip(files, tmp_path / "one.zip"), as_folder(files, tmp_path / "other")
    assert len({uri_of(images, name) for images in (one, other) for name in list_images(images).names}) == 6


def test_a_text_file_lists_paths_too(files: dict[str, bytes], tmp_path: Path) -> None:
    as_folder(files, tmp_path / "inbox")
    absolute = str(tmp_path / "inbox" / "a.png")
    (tmp_path / "list.txt").write_text(f"inbox/sub/Ä b.JPG\n\n  {absolute}  \ninbox/sub/Ä b.JPG\n", encoding="utf-8")
    assert contents(tmp_path / "list.txt") == {
        "inbox/sub/Ä b.JPG": sha256(files["sub/Ä b.JPG"]),
        absolute: sha256(files["a.png"]),
    }
    (tmp_path / "list.txt").write_text("\n", encoding="utf-8")
    assert contents(tmp_path / "list.txt") == {}


def test_a_text_file_of_paths_may_be_in_utf_16_and_says_what_else_to_save_it_as(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    as_folder(files, tmp_path / "inbox")
    (tmp_path / "list.txt").write_text("inbox/sub/Ä b.JPG\r\ninbox/b.jpg\r\n", encoding="utf-16")
    assert list(contents(tmp_path / "list.txt")) == ["inbox/sub/Ä b.JPG", "inbox/b.jpg"]
    (tmp_path / "list.txt").write_text("inbox/b.jpg\ninbox/sub/Ä b.JPG\n", encoding="latin-1")
    with pytest.raises(ConfigurationError, match=r"list\.txt, line 2: not UTF-8 .*save the file as UTF-8"):
        list_images(tmp_path / "list.txt")


@pytest.fixture
def bucket(files: dict[str, bytes], tmp_path: Path) -> str:
    """An address of fsspec with the files, their zip, and lists of them."""
    import fsspec

    store, root = fsspec.filesystem("memory"), f"/{tmp_path.name}"
    for name, content in files.items():
        store.pipe(f"{root}/inbox/{name}", content)
    store.pipe(f"{root}/inbox.zip", as_zip(files, tmp_path / "inbox.zip").read_bytes())
    names = ["inbox/b.jpg", f"memory:/{root}/inbox/a.png", "inbox/gone.jpg"]
    store.pipe(f"{root}/list.txt", "\n".join(names).encode())
    store.pipe(f"{root}/list.parquet", as_table(names, tmp_path / "list.parquet").read_bytes())
    return f"memory:/{root}"


def test_a_folder_and_a_zip_at_an_address_hold_the_same(bucket: str, files: dict[str, bytes]) -> None:
    names = ["a.png", "b.jpg", "sub/Ä b.JPG"]
    assert list_images(f"{bucket}/inbox").names == list_images(f"{bucket}/inbox.zip").names == names
    assert contents(f"{bucket}/inbox") == {f"{bucket}/inbox/{name}": sha256(files[name]) for name in names}
    assert contents(f"{bucket}/inbox.zip") == {f"{bucket}/inbox.zip!{name}": sha256(files[name]) for name in names}
    assert identity(f"{bucket}/inbox") == identity(f"{bucket}/inbox")


@pytest.mark.parametrize("kind", ["txt", "parquet"])
def test_a_list_at_an_address_names_files_beside_it_and_elsewhere(
    bucket: str, files: dict[str, bytes], kind: str
) -> None:
    found = contents(f"{bucket}/list.{kind}")
    assert list(found.values())[:2] == [sha256(files["b.jpg"]), sha256(files["a.png"])]
    assert "cannot be read" in found["inbox/gone.jpg"]
    assert identity(f"{bucket}/list.{kind}") == identity(f"{bucket}/list.{kind}")


def test_a_list_here_may_name_addresses(bucket: str, files: dict[str, bytes], tmp_path: Path) -> None:
    table = as_table([f"{bucket}/inbox/b.jpg"], tmp_path / "remote.parquet")
    assert contents(table) == {f"{bucket}/inbox/b.jpg": sha256(files["b.jpg"])}
    assert identity(table) == identity(table)


@pytest.mark.parametrize("place", ["nothing.zip", "nothing.parquet", "nothing.txt"])
def test_nothing_at_an_address_is_wrong_usage(bucket: str, place: str) -> None:
    with pytest.raises(ConfigurationError, match="nothing"):
        list_images(f"{bucket}/{place}")


def test_a_scheme_that_nothing_opens_is_wrong_usage() -> None:
    with pytest.raises(ConfigurationError, match="nosuch"):
        list_images("nosuch://bucket/inbox")
