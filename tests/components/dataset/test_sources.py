import hashlib
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.config import DatasetConfig
from components.dataset.sources import fingerprint, locate_sources, locate_split_file, obtain_sources
from components.demo.file_system import SEED
from components.errors import CaptioningError, ConfigurationError
from tests.toy import draw_scenes

if TYPE_CHECKING:
    from tests.components.conftest import Server


def zip_at(path: Path, content: bytes = b"1") -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.jpg", content)
    return path.read_bytes()


def config(root: str | Path = "", images: str = "all.zip", captions: str = "captions.json") -> DatasetConfig:
    source = {"images": images, "captions": captions, "annotations": "a.json"}
    return DatasetConfig.model_validate({"root": str(root), "sources": {"all": source}, "holdout": 0.5})


def located(config: DatasetConfig, downloads: Path) -> Path:
    return locate_sources(config, downloads)["all"].images


def test_remote_sources_are_downloaded_once(tmp_path: Path, server: "Server") -> None:
    server.files = {"/data/all.zip": zip_at(tmp_path / "original.zip"), "/data/é/captions.json": b"{}"}
    of_remote = config(f"{server.url}/data/", captions="é/captions.json")
    first = obtain_sources(of_remote, tmp_path / "downloads")
    assert first["all.zip"] == fingerprint(tmp_path / "original.zip")
    assert obtain_sources(of_remote, tmp_path / "downloads") == first
    assert sorted(path for path, _ in server.requests) == sorted(server.files)
    source = locate_sources(of_remote, tmp_path / "downloads")["all"]
    assert source.images.read_bytes() == server.files["/data/all.zip"]
    assert source.captions.read_bytes() == b"{}"
    assert (tmp_path / "downloads") in source.captions.parents


def test_an_archive_of_two_sources_is_downloaded_once(tmp_path: Path, server: "Server") -> None:
    server.files = {"/all.zip": zip_at(tmp_path / "original.zip")}
    source = {"images": "all.zip", "captions": "all.zip", "annotations": "a.json"}
    of_two = DatasetConfig.model_validate({"root": server.url, "sources": {"train": source, "val": source}})
    assert list(obtain_sources(of_two, tmp_path / "downloads")) == ["all.zip"]
    assert len(server.requests) == 1


def test_a_failed_download_is_named_and_leaves_nothing(tmp_path: Path, server: "Server") -> None:
    with pytest.raises(CaptioningError, match=rf"{server.url}/all\.zip: .*404"):
        obtain_sources(config(server.url), tmp_path)
    assert not located(config(server.url), tmp_path).exists()


@pytest.mark.parametrize("as_url", [True, False])
def test_local_sources_stay_in_place(tmp_path: Path, as_url: bool) -> None:
    root = tmp_path / "my data" / "été"
    zip_at(root / "all.zip")
    (root / "captions.json").write_text("{}")
    local = config(root.as_uri() if as_url else root)
    assert set(obtain_sources(local, tmp_path / "downloads")) == {"all.zip", "captions.json"}
    assert located(local, tmp_path / "downloads") == root / "all.zip"
    assert not (tmp_path / "downloads").exists()


def test_relative_addresses_are_under_the_root_and_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    expected = {
        ("/data", "a.zip"): Path("/data/a.zip"),
        ("/data", "/other/a.zip"): Path("/other/a.zip"),
        ("/data", "file:///other/a.zip"): Path("/other/a.zip"),
        ("~/data", "a.zip"): tmp_path / "home" / "data" / "a.zip",
        ("data", "a.zip"): tmp_path / "data" / "a.zip",
        ("", "a.zip"): tmp_path / "a.zip",
        ("https://example.org/x", "/other/a.zip"): Path("/other/a.zip"),
    }
    assert {case: located(config(*case), tmp_path / "downloads") for case in expected} == expected


segments = st.sampled_from(["..", ".", "%2e%2e", "..%2f..", "%2F", "", "a", "é", "a%20b", "%5c..", "..."])


@given(st.lists(segments, max_size=6), st.sampled_from(["example.org", "example.org:80", "..", ".", "..:80", "[::1]"]))
def test_downloads_never_leave_their_folder(parts: list[str], host: str) -> None:
    downloads = Path("/home/downloads")
    path = located(config("", "/".join([f"http://{host}", *parts, "a.zip"])), downloads)
    assert downloads in Path(os.path.normpath(path)).parents


@pytest.mark.parametrize(
    "other",
    [
        "http://example.org/b.zip",
        "http://example.org/sub/a.zip",
        "http://example.com/a.zip",
        "http://example.org:81/a.zip",
        "http://example.org/a.zip?version=2",
        "s3://example.org/a.zip",
    ],
)
def test_two_addresses_have_two_places(other: str) -> None:
    places = [located(config("", address), Path("x")) for address in ("http://example.org/a.zip", other)]
    assert places[0] != places[1]
    assert [place.suffix for place in places] == [".zip", ".zip"]  # which decides how it is opened


@pytest.mark.parametrize("root", ["nosuch://bucket", "http://example.org:port"])
def test_impossible_roots_are_named(tmp_path: Path, root: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{root}/all.zip"):
        obtain_sources(config(root, captions="all.zip"), tmp_path)


def test_other_schemes_are_downloaded(tmp_path: Path) -> None:
    zip_at(tmp_path / "bucket" / "all.zip")
    (tmp_path / "bucket" / "captions.json").write_text("{}")
    stored = config(f"local://{tmp_path}/bucket")
    downloads = tmp_path / "downloads"
    assert obtain_sources(stored, downloads)["all.zip"] == fingerprint(tmp_path / "bucket" / "all.zip")
    assert downloads in located(stored, downloads).parents
    assert located(stored, downloads).read_bytes() == (tmp_path / "bucket" / "all.zip").read_bytes()


def test_mirrors_stand_in_for_the_root_only(tmp_path: Path, server: "Server") -> None:
    server.files = {"/mirror/all.zip": zip_at(tmp_path / "original.zip"), "/captions.json": b"{}"}
    mirrors = {"mirrors": [f"{server.url}/none", f"{server.url}/mirror/"]}
    given = config(f"{server.url}/root", captions=f"{server.url}/captions.json").model_dump() | mirrors
    mirrored = DatasetConfig.model_validate(given)
    obtain_sources(mirrored, tmp_path / "downloads")
    asked = ["/root/all.zip", "/none/all.zip", "/mirror/all.zip", "/captions.json"]
    assert sorted(path for path, _ in server.requests) == sorted(asked)
    assert located(mirrored, tmp_path / "downloads").read_bytes() == server.files["/mirror/all.zip"]


def of_digest(config: DatasetConfig, **sha256: str) -> DatasetConfig:
    digests = {name.replace("_", "."): digest for name, digest in sha256.items()}
    return DatasetConfig.model_validate(config.model_dump() | {"sha256": digests})


def test_digests_of_the_profile_are_verified_now_and_later(tmp_path: Path, server: "Server") -> None:
    content = zip_at(tmp_path / "original.zip")
    server.files = {"/all.zip": content, "/captions.json": b"{}"}
    good, downloads = hashlib.sha256(content).hexdigest(), tmp_path / "downloads"
    with pytest.raises(ConfigurationError, match=r"dataset\.sha256"):
        obtain_sources(of_digest(config(server.url), all_zip="0" * 64), downloads)
    assert not located(config(server.url), downloads).exists()
    obtain_sources(of_digest(config(server.url), all_zip=good), downloads)
    with pytest.raises(ConfigurationError, match=r"all\.zip has not the SHA-256 .*Delete it"):
        obtain_sources(of_digest(config(server.url), all_zip="0" * 64), downloads)


def test_digests_of_the_profile_are_verified_of_local_files(tmp_path: Path) -> None:
    content = zip_at(tmp_path / "all.zip")
    (tmp_path / "captions.json").write_text("{}")
    obtain_sources(of_digest(config(tmp_path), all_zip=hashlib.sha256(content).hexdigest()), tmp_path)
    (tmp_path / "all.zip.sha256").write_text(f"{'0' * 64}  all.zip")  # someone else's, of who knows what
    with pytest.raises(ConfigurationError, match=r"all\.zip has not the SHA-256"):
        obtain_sources(of_digest(config(tmp_path), all_zip="0" * 64), tmp_path)


def test_a_missing_local_source_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"there is no .*all\.zip.*dataset\.root.*CAPTIONING_DATASET__ROOT"):
        obtain_sources(config(tmp_path), tmp_path / "downloads")


def test_the_demo_is_drawn_once_and_then_like_any_downloaded_data_set(tmp_path: Path) -> None:
    drawn = config("scenes://all=2", captions="captions.zip")
    first = obtain_sources(drawn, tmp_path)
    place = located(drawn, tmp_path)
    draw_scenes(tmp_path, {"all": 2}, SEED)
    assert place.read_bytes() == (tmp_path / "all.zip").read_bytes()
    written = place.stat().st_mtime_ns
    assert (obtain_sources(drawn, tmp_path), place.stat().st_mtime_ns) == (first, written)
    with pytest.raises(ConfigurationError, match=r"scenes://all=2/dev\.zip.*FileNotFoundError"):
        obtain_sources(config("scenes://all=2", images="dev.zip", captions="captions.zip"), tmp_path)


def test_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    file, folder = tmp_path / "a.json", tmp_path / "photographs"
    folder.mkdir()
    found = []
    for content in (b"1", b"1", b"2"):
        zip_at(tmp_path / "a.zip", content)
        file.write_bytes(content)
        (folder / "a.jpg").write_bytes(content)
        os.utime(folder / "a.jpg", (int(content), int(content)))
        found.append([fingerprint(path) for path in (tmp_path / "a.zip", file, folder)])
    assert found[0] == found[1]
    assert all(before != after for before, after in zip(found[1], found[2], strict=True))
    (folder / "a.jpg").rename(folder / "b.jpg")
    assert fingerprint(folder) != found[2][2]


def test_a_damaged_archive_is_named_before_anything_is_done(tmp_path: Path) -> None:
    (tmp_path / "all.zip").write_bytes(b"not a zip file")
    (tmp_path / "captions.json").write_text("{}")
    with pytest.raises(CaptioningError, match=r"cannot open the archive .*all\.zip"):
        obtain_sources(config(tmp_path), tmp_path / "downloads")


def test_a_split_file_is_a_source_too(tmp_path: Path, server: "Server") -> None:
    server.files = {
        "/all.zip": zip_at(tmp_path / "original.zip"),
        "/captions.json": b"{}",
        "/splits.csv": b"image,split",
    }
    divided = DatasetConfig.model_validate(
        config(server.url).model_dump() | {"holdout": None, "split_file": "splits.csv"}
    )
    assert set(obtain_sources(divided, tmp_path)) == {"all.zip", "captions.json", "splits.csv"}
    found = locate_split_file(divided, tmp_path)
    assert found is not None
    assert found.read_bytes() == b"image,split"
    assert locate_split_file(config(server.url), tmp_path) is None


def test_a_source_knows_how_to_read_its_captions() -> None:
    columns = {"image_column": "file_name", "caption_column": "text"}
    told = DatasetConfig.model_validate(
        {"sources": {"a": {"images": "a", "captions": "a.csv"} | columns}, "holdout": 0.5, "root": "/data"}
    )
    source = locate_sources(told, Path("downloads"))["a"]
    assert (source.format, source.image_column, source.caption_column) == ("csv", "file_name", "text")
