import hashlib
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
import pytest

from components.errors import ConfigurationError
from components.images import photographs as photographs_module
from components.images.photographs import is_transient, read_photographs
from data_contracts.schema import PHOTOGRAPHS

FILES = {f"{number}.jpg": bytes([number]) * number for number in (1, 5, 20, 44)} | {"sub/same.jpg": b"\x05" * 5}


def in_zip(folder: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return folder / "photos.zip"


def in_folder(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "photos" / name).write_bytes(content)
    return folder / "photos"


def listed(*rows: tuple[int, str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["image_id", "archive", "file_name"])


def dtypes(table: pd.DataFrame) -> dict[str, str]:
    return {str(name): str(dtype) for name, dtype in table.dtypes.items()}


@pytest.mark.parametrize("place", [in_zip, in_folder])
def test_sizes_and_digests_are_those_of_the_files(
    tmp_path: Path, place: Callable[[Path, Mapping[str, bytes]], Path]
) -> None:
    images = listed(*((number, "a", name) for number, name in enumerate(FILES)))
    table = read_photographs(images, {"a": place(tmp_path, FILES)})
    assert dtypes(table) == PHOTOGRAPHS
    expected = [
        (number, "a", name, len(content), hashlib.sha256(content).hexdigest(), "")
        for number, (name, content) in enumerate(FILES.items())
    ]
    assert list(table.itertuples(index=False, name=None)) == expected


def test_each_photograph_is_read_from_its_own_archive(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    archives = {
        "zip": in_zip(tmp_path / "one", {"a.jpg": b"in the zip file"}),
        "folder": in_folder(tmp_path / "two", {"a.jpg": b"in the folder"}),
    }
    table = read_photographs(listed((2, "zip", "a.jpg"), (1, "folder", "a.jpg")), archives)
    assert table["bytes"].tolist() == [len(b"in the folder"), len(b"in the zip file")]


def test_every_id_is_there_once_in_order(tmp_path: Path) -> None:
    archives = {"a": in_zip(tmp_path, {f"{number}.jpg": bytes(number) for number in range(200)})}
    ids = [number * 37 % 200 for number in range(200)]
    rows = [(number, "a", f"{number}.jpg") for number in ids + ids[:50]]
    table = read_photographs(listed(*rows), archives)
    assert table["image_id"].tolist() == list(range(200))
    assert table["bytes"].tolist() == list(range(200))
    assert table.index.tolist() == list(range(200))
    pd.testing.assert_frame_equal(table, read_photographs(listed(*reversed(rows)), archives))


def test_other_columns_and_the_order_of_columns_do_not_matter(tmp_path: Path) -> None:
    images = listed((1, "a", "1.jpg")).assign(split="train")[["split", "file_name", "archive", "image_id"]]
    table = read_photographs(images, {"a": in_folder(tmp_path, FILES)})
    assert dtypes(table) == PHOTOGRAPHS


def test_what_cannot_be_read_has_an_error_and_no_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"the bytes that are damaged"
    archive = in_zip(tmp_path, {"good.jpg": b"good", "damaged.jpg": content, "large.jpg": bytes(100)})
    archive.write_bytes(archive.read_bytes().replace(content, content.upper(), 1))
    folder = in_folder(tmp_path, {"good.jpg": b"good", "large.jpg": bytes(100)})
    monkeypatch.setattr(photographs_module, "MAX_BYTES", 99)
    names = {
        "good.jpg": "",
        "damaged.jpg": "CRC",
        "large.jpg": "100 bytes are more than 99",
        "missing.jpg": "cannot be read",
        "": "cannot be read",
    }
    rows = [(number, "zip", name) for number, name in enumerate(names)]
    rows += [(number + 10, "folder", name) for number, name in enumerate(names) if name != "damaged.jpg"]
    table = read_photographs(listed(*rows), {"zip": archive, "folder": folder})
    assert dtypes(table) == PHOTOGRAPHS
    assert len(table) == len(rows)
    for row in table.itertuples():
        if row.file_name == "good.jpg":
            assert (row.bytes, row.digest, row.error) == (4, hashlib.sha256(b"good").hexdigest(), "")
        else:
            assert (row.bytes, row.digest) == (0, "")
            assert names[row.file_name] in row.error


def test_an_empty_file_can_be_read(tmp_path: Path) -> None:
    table = read_photographs(listed((1, "a", "empty.jpg")), {"a": in_zip(tmp_path, {"empty.jpg": b""})})
    assert table.loc[0, ["bytes", "digest", "error"]].tolist() == [0, hashlib.sha256(b"").hexdigest(), ""]


def test_no_photographs_give_an_empty_table(tmp_path: Path) -> None:
    table = read_photographs(listed(), {"a": in_zip(tmp_path, {})})
    assert len(table) == 0
    assert dtypes(table) == PHOTOGRAPHS


def test_an_archive_that_is_no_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.zip"):
        read_photographs(listed((1, "a", "1.jpg")), {"a": tmp_path / "nowhere.zip"})


def test_what_was_read_before_is_not_read_again_and_what_may_pass_is(tmp_path: Path) -> None:
    folder = in_folder(tmp_path, {"a.jpg": b"a"})
    images = listed((1, "a", "a.jpg"), (2, "a", "b.jpg"), (3, "a", "link.jpg"))
    (folder / "link.jpg").symlink_to("../annex/c.jpg")
    first = read_photographs(images, {"a": folder})
    assert is_transient(first["error"]).tolist() == [False, True, True]
    (folder / "a.jpg").write_bytes(b"replaced behind our back")
    (folder / "b.jpg").write_bytes(b"b")
    (tmp_path / "annex").mkdir()
    (tmp_path / "photos" / ".." / "annex" / "c.jpg").write_bytes(b"c")
    second = read_photographs(images, {"a": folder}, first)
    assert second["digest"].tolist() == [hashlib.sha256(content).hexdigest() for content in (b"a", b"b", b"c")]
    assert second["error"].tolist() == ["", "", ""]


def test_what_is_too_large_does_not_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photographs_module, "MAX_BYTES", 3)
    table = read_photographs(listed((1, "a", "a.jpg")), {"a": in_folder(tmp_path, {"a.jpg": bytes(4)})})
    assert is_transient(table["error"]).tolist() == [False]


def test_a_problem_of_the_listing_is_the_reason(tmp_path: Path) -> None:
    images = listed((1, "a", "locked/")).assign(problem="Permission denied")
    table = read_photographs(images, {"a": in_folder(tmp_path, {"a.jpg": b"a"})})
    assert table["error"][0].startswith("Permission denied; ")
    assert is_transient(table["error"]).all()


def test_what_an_earlier_attempt_has_read_is_not_read_again(tmp_path: Path) -> None:
    folder = in_folder(tmp_path, {"a.jpg": b"a", "c.jpg": b"c"})
    images = listed((1, "a", "a.jpg"), (2, "a", "b.jpg"), (3, "a", "c.jpg"))
    earlier = read_photographs(images, {"a": folder})
    assert is_transient(earlier["error"]).tolist() == [False, True, False]
    (folder / "a.jpg").unlink()
    (folder / "b.jpg").write_bytes(b"b")
    table = read_photographs(images, {"a": folder}, earlier)
    assert table["digest"].tolist() == [hashlib.sha256(content).hexdigest() for content in (b"a", b"b", b"c")]
    assert dtypes(table) == PHOTOGRAPHS


def test_too_large_a_file_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photographs_module, "MAX_BYTES", 2)
    table = read_photographs(listed((1, "a", "a.jpg")), {"a": in_folder(tmp_path, {"a.jpg": b"abc"})})
    assert is_transient(table["error"]).tolist() == [False]
