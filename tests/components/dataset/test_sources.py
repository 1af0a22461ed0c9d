import os
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.config import DatasetConfig
from components.dataset.sources import (
    download,
    fingerprint,
    locate_sources,
    locate_split_file,
    obtain_sources,
)
from components.errors import CaptioningError, ConfigurationError


class Server(ThreadingHTTPServer):
    """Serves `files` by their path and counts the requests; announces more bytes than it sends while `cutting`."""

    files: dict[str, bytes]
    requests: Counter[str]
    cutting = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        path = unquote(self.path)
        self.server.requests[path] += 1
        if path.startswith("/moved"):
            self.send_response(301)
            self.send_header("Location", path.removeprefix("/moved"))
            self.end_headers()
            return
        if path not in self.server.files:
            self.send_error(404)
            return
        content = self.server.files[path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content) * (2 if self.server.cutting else 1)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server(("127.0.0.1", 0), Handler) as server:
        server.files, server.requests = {}, Counter()
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def zip_at(path: Path, content: bytes = b"1") -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.jpg", content)
    return path.read_bytes()


def config(root: str | Path = "", images: str = "all.zip", captions: str = "captions.json") -> DatasetConfig:
    source = {"images": images, "captions": captions, "annotations": "a.json"}
    return DatasetConfig.model_validate({"root": str(root), "sources": {"all": source}, "holdout": 0.5})


def located(config: DatasetConfig, downloads: Path) -> Path:
    return locate_sources(config, Path("drawn"), downloads)["all"].images


def test_remote_sources_are_downloaded_once(tmp_path: Path, server: Server) -> None:
    server.files = {"/data/all.zip": zip_at(tmp_path / "original.zip"), "/data/é/captions.json": b"{}"}
    of_remote = config(f"{server.url}/data/", captions="é/captions.json")
    first = obtain_sources(of_remote, tmp_path / "downloads")
    assert first["all.zip"] == fingerprint(tmp_path / "original.zip")
    assert obtain_sources(of_remote, tmp_path / "downloads") == first
    assert dict(server.requests) == dict.fromkeys(server.files, 1)
    source = locate_sources(of_remote, Path("drawn"), tmp_path / "downloads")["all"]
    assert source.images.read_bytes() == server.files["/data/all.zip"]
    assert source.captions.read_bytes() == b"{}"
    assert (tmp_path / "downloads") in source.captions.parents


def test_an_archive_of_two_sources_is_downloaded_once(tmp_path: Path, server: Server) -> None:
    server.files = {"/all.zip": zip_at(tmp_path / "original.zip")}
    source = {"images": "all.zip", "captions": "all.zip", "annotations": "a.json"}
    of_two = DatasetConfig.model_validate({"root": server.url, "sources": {"train": source, "val": source}})
    assert list(obtain_sources(of_two, tmp_path / "downloads")) == ["all.zip"]
    assert server.requests.total() == 1


def test_redirects_are_followed(tmp_path: Path, server: Server) -> None:
    server.files = {"/a.json": b"{}"}
    download(f"{server.url}/moved/a.json", tmp_path / "a.json")
    assert (tmp_path / "a.json").read_bytes() == b"{}"


def test_a_cut_download_leaves_nothing_and_can_be_tried_again(tmp_path: Path, server: Server) -> None:
    server.files, server.cutting = {"/a.json": b"x" * 100_000}, True
    with pytest.raises(CaptioningError, match=rf"cannot download {server.url}/a\.json: .* Run again"):
        download(f"{server.url}/a.json", tmp_path / "sub" / "a.json")
    assert not (tmp_path / "sub" / "a.json").exists()
    server.cutting = False
    download(f"{server.url}/a.json", tmp_path / "sub" / "a.json")
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["a.json"]
    assert (tmp_path / "sub" / "a.json").read_bytes() == server.files["/a.json"]


def test_a_failed_download_is_named_and_leaves_nothing(tmp_path: Path, server: Server) -> None:
    with pytest.raises(CaptioningError, match=rf"{server.url}/all\.zip: .*404"):
        obtain_sources(config(server.url), tmp_path)
    assert not located(config(server.url), tmp_path).exists()


def test_no_server_at_all_is_named(tmp_path: Path, server: Server) -> None:
    url = server.url
    server.server_close()
    with pytest.raises(CaptioningError, match=f"cannot download {url}"):
        download(f"{url}/a.zip", tmp_path / "a.zip")


@pytest.mark.parametrize("url", ["http://127.0.0.1:port", "http://127.0.0.1:99999"])
def test_impossible_addresses_are_named(tmp_path: Path, url: str) -> None:
    with pytest.raises(CaptioningError, match=url):
        obtain_sources(config(url), tmp_path)


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
    ],
)
def test_two_addresses_have_two_places(other: str) -> None:
    places = [located(config("", address), Path("x")) for address in ("http://example.org/a.zip", other)]
    assert places[0] != places[1]
    assert [place.suffix for place in places] == [".zip", ".zip"]  # which decides how it is opened


@pytest.mark.parametrize("root", ["s3://bucket", "ftp://example.org"])
def test_other_schemes_are_named(tmp_path: Path, root: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{root}/all.zip: sources are paths, file://"):
        obtain_sources(config(root, captions="all.zip"), tmp_path)


def test_a_missing_local_source_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"there is no .*all\.zip.*dataset\.root.*CAPTIONING_DATASET_ROOT"):
        obtain_sources(config(tmp_path), tmp_path / "downloads")


def test_drawn_scenes_need_nothing(tmp_path: Path) -> None:
    scenes = {"scenes": {"images": {"all": 1}}, "root": "http://example.org"}
    drawn = DatasetConfig.model_validate(config().model_dump() | scenes)
    assert obtain_sources(drawn, tmp_path) == {}
    assert locate_sources(drawn, tmp_path / "drawn", tmp_path)["all"].images == tmp_path / "drawn" / "all.zip"


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


def test_a_split_file_is_a_source_too(tmp_path: Path, server: Server) -> None:
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
    source = locate_sources(told, Path("drawn"), Path("downloads"))["a"]
    assert (source.format, source.image_column, source.caption_column) == ("csv", "file_name", "text")
