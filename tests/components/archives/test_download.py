"""Downloads from servers that misbehave in ten ways, here and in test_remote.py.

It cuts the connection; says a wrong length, or none; answers 500, then well; 429; redirects in a circle; sends a web
page instead of the file; hangs; ignores Range; changes the file between two ranges; sends other bytes than published.
"""

import base64
import hashlib
import logging
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import fsspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.archives import download as module
from components.archives.download import download, recorded_sha256
from components.errors import CaptioningError, ConfigurationError

if TYPE_CHECKING:
    from tests.components.conftest import Handler, Server

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def url(server: "Server") -> str:
    server.files["/a.zip"] = CONTENT
    return f"{server.url}/a.zip"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sub" / "a.zip"


def cutting(size: int, **headers: str | int) -> Callable[["Handler"], None]:
    return lambda handler: handler.serve(size, **headers)


def answering(status: int, body: bytes = b"", **headers: str | int) -> Callable[["Handler"], None]:
    return lambda handler: handler.answer(status, body, **headers)


def cut(url: str, path: Path, server: "Server", size: int = 100_000, **headers: str | int) -> None:
    """An attempt that brings `size` bytes."""
    server.next = [cutting(size, **headers)]
    with pytest.raises(CaptioningError) as caught:
        download([url], path)
    assert not isinstance(caught.value, ConfigurationError)
    assert not path.exists()
    server.requests.clear()


def names(path: Path) -> set[str]:
    return {file.name for file in path.parent.iterdir()}


def test_a_finished_download_is_the_file_with_its_digest_and_nothing_else(
    url: str, path: Path, server: "Server"
) -> None:
    download([url], path)
    assert path.read_bytes() == CONTENT
    assert recorded_sha256(path) == SHA256
    assert names(path) == {"a.zip", "a.zip.sha256", "a.zip.lock"}
    assert path.with_name("a.zip.sha256").read_text() == f"{SHA256}  a.zip\n"
    download([url], path)
    assert len(server.requests) == 1, "what is here is not asked for"


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 9_000), max_size=5), st.binary(max_size=10_000))
def test_however_often_it_is_cut_no_byte_comes_twice(server: "Server", cuts: list[int], content: bytes) -> None:
    server.files["/a"] = content
    server.next, server.requests = [cutting(size) for size in cuts], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        while not path.exists():
            try:
                download([f"{server.url}/a"], path)
            except CaptioningError:
                assert server.requests
        assert path.read_bytes() == content
    starts = [int(asked[6:-1]) if asked else 0 for _, asked in server.requests]
    position = 0
    for start, size in zip(starts, cuts, strict=False):
        assert start == position
        position = start + min(size, len(content) - start)


def test_an_http_date_will_do_where_there_is_no_strong_tag(url: str, path: Path, server: "Server") -> None:
    date = "Wed, 01 Oct 2014 00:00:00 GMT"
    cut(url, path, server, ETag='W/"1"', Last_Modified=date)
    asked = []
    rest = answering(206, CONTENT[100_000:], Content_Range="bytes 100000-255999/256000", Content_Length=156_000)
    server.next = [lambda handler: (asked.append(handler.headers["If-Range"]), rest(handler))]
    download([url], path)
    assert asked == [date]
    assert path.read_bytes() == CONTENT


def test_without_a_tag_it_starts_over(url: str, path: Path, server: "Server") -> None:
    cut(url, path, server, ETag="")
    download([url], path)
    assert server.requests == [("/a.zip", None)]
    assert path.read_bytes() == CONTENT


REST = {"Content_Range": "bytes 100000-255999/256000", "Content_Length": 156_000}


@pytest.mark.parametrize(
    "answer",
    [
        None,
        answering(206, CONTENT[100_000:], ETag='"other"', **REST),
        answering(206, CONTENT[100_000:], **REST | {"Content_Range": "bytes 100000-255999/300000"}),
        answering(206, CONTENT[100_000:], **REST | {"Content_Range": "bytes 90000-245999/256000"}),
        answering(206, CONTENT[100_000:], Content_Length=156_000),
        answering(416, Content_Length=0),
        lambda handler: handler.serve(ranges=False),
    ],
    ids=["well behaved", "other tag", "other size", "other part", "unsaid part", "no such part", "no ranges"],
)
def test_a_file_that_changed_meanwhile_starts_over(
    url: str, path: Path, server: "Server", answer: Callable[["Handler"], None] | None
) -> None:
    cut(url, path, server)
    server.files["/a.zip"] = CONTENT[::-1]
    server.next = [answer] if answer else []
    download([url], path)
    assert path.read_bytes() == CONTENT[::-1]
    assert server.requests[0] == ("/a.zip", "bytes=100000-")


def page(content: bytes) -> Callable[["Handler"], None]:
    return answering(200, content, Content_Length=len(content), Content_Type="text/html")


@pytest.mark.parametrize(
    ("answer", "message", "final"),
    [
        (answering(503), "the server answers 503", False),
        (answering(404), "the server answers 404", True),
        (page(b"<!DOCTYPE html>\n<title>Sign in</title>"), "a web page came instead", False),
        (page(b"  <html lang=en>"), "a web page came instead", False),
        (page(b"\xef\xbb\xbf<HTML>"), "a web page came instead", False),
    ],
)
def test_what_is_not_the_file_leaves_nothing(
    url: str, path: Path, server: "Server", answer: Callable[["Handler"], None], message: str, final: bool
) -> None:
    server.next = [answer]
    with pytest.raises(CaptioningError, match=f"cannot download {url}: {message}") as caught:
        download([url], path)
    assert isinstance(caught.value, ConfigurationError) == final
    assert names(path) == {"a.zip.lock"}
    download([url], path)
    assert path.read_bytes() == CONTENT


def test_redirects_are_followed_also_in_the_middle(url: str, path: Path, server: "Server") -> None:
    moved = answering(302, Location="/a.zip", Content_Length=0)
    server.next = [moved, cutting(1000)]
    with pytest.raises(CaptioningError):
        download([f"{server.url}/moved"], path)
    server.next = [moved]
    download([f"{server.url}/moved"], path)
    assert server.requests[2:] == [("/moved", "bytes=1000-"), ("/a.zip", "bytes=1000-")]
    assert path.read_bytes() == CONTENT


def test_too_little_is_an_error_and_is_completed(url: str, path: Path, server: "Server") -> None:
    cut(url, path, server)
    # A complete response, of fewer bytes than the file has.
    server.next = [cutting(10, Content_Length=10)]
    with pytest.raises(CaptioningError, match="100010 of 256000 bytes came"):
        download([url], path)
    download([url], path)
    assert server.requests[-1] == ("/a.zip", "bytes=100010-")
    assert path.read_bytes() == CONTENT


def test_too_much_is_an_error_and_starts_over(url: str, path: Path, server: "Server") -> None:
    cut(url, path, server)
    server.next = [answering(206, CONTENT[100_000:] + b"more", **REST | {"Content_Length": 156_004})]
    with pytest.raises(CaptioningError, match="more than the 256000 bytes announced came"):
        download([url], path)
    assert names(path) == {"a.zip.lock"}
    download([url], path)
    assert path.read_bytes() == CONTENT


def test_a_length_that_is_not_said_is_taken_and_told(
    url: str, path: Path, server: "Server", caplog: pytest.LogCaptureFixture
) -> None:
    server.next = [answering(200, CONTENT)]
    download([url], path)
    assert path.read_bytes() == CONTENT
    assert "did not say how long the file is" in caplog.text


def test_a_cut_is_noticed_in_a_chunked_response(url: str, path: Path, server: "Server") -> None:
    server.next = [answering(200, b"5\r\nhello\r\n", Transfer_Encoding="chunked")]
    with pytest.raises(CaptioningError, match=f"cannot download {url}"):
        download([url], path)
    assert not path.exists()


def test_a_server_that_stalls_is_left(url: str, path: Path, server: "Server") -> None:
    def stall(handler: "Handler") -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "10")
        handler.end_headers()
        server.released.wait()

    server.next = [stall]
    started = time.monotonic()
    with pytest.raises(CaptioningError, match=f"cannot download {url}: timed out"):
        download([url], path, timeout=0.2)
    assert time.monotonic() - started < 10


def md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content).digest()).decode()


def sha256(content: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


@pytest.mark.parametrize(("header", "published"), [("Repr_Digest", sha256), ("Content_MD5", md5)])
def test_a_published_digest_is_verified_also_of_a_download_in_two_parts(
    url: str, path: Path, server: "Server", header: str, published: Callable[[bytes], str]
) -> None:
    cut(url, path, server, **{header: published(CONTENT)})
    download([url], path)
    assert path.read_bytes() == CONTENT
    path.unlink()
    cut(url, path, server, **{header: published(b"other")})
    with pytest.raises(CaptioningError, match=r"digest that the server publishes\. Run again") as caught:
        download([url], path)
    assert not isinstance(caught.value, ConfigurationError)
    assert not list(path.parent.glob("*.part*"))
    download([url], path)
    assert path.read_bytes() == CONTENT


def test_the_given_digest_decides(url: str, path: Path, server: "Server") -> None:
    with pytest.raises(ConfigurationError, match=rf"{url} has SHA-256 {SHA256}, not {'0' * 64} .*dataset\.sha256"):
        download([url], path, sha256="0" * 64)
    assert names(path) == {"a.zip.lock"}
    server.next = [cutting(len(CONTENT), Content_MD5=md5(b"wrong"))]
    download([url], path, sha256=SHA256)
    assert path.read_bytes() == CONTENT


def test_the_disk_is_checked_before_the_first_byte(
    url: str, path: Path, server: "Server", monkeypatch: pytest.MonkeyPatch
) -> None:
    cut(url, path, server, size=56_000)
    asked = []
    usage = lambda free, folder: (asked.append(folder), SimpleNamespace(free=free))[1]  # noqa: E731
    monkeypatch.setattr(module.shutil, "disk_usage", partial(usage, 199_999))
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    with pytest.raises(ConfigurationError, match=r"sub has too little space: 0\.00 GB needed, 0\.00 GB free"):
        download([url], path)
    assert asked == [path.parent]
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == before
    monkeypatch.setattr(module.shutil, "disk_usage", partial(usage, 200_000))
    download([url], path)
    assert path.read_bytes() == CONTENT


def test_a_folder_that_cannot_be_written_is_named(url: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_atomic", full)
    with pytest.raises(CaptioningError, match=r"cannot write .*a\.zip.*No space left"):
        download([url], path)


def test_the_next_mirror_is_asked_when_one_fails(
    url: str, path: Path, server: "Server", caplog: pytest.LogCaptureFixture
) -> None:
    server.next = [answering(503, Content_Length=0)]
    download([f"{server.url}/root/a.zip", f"{server.url}/none/a.zip", url], path)
    assert path.read_bytes() == CONTENT
    assert [asked for asked, _ in server.requests] == ["/root/a.zip", "/none/a.zip", "/a.zip"]
    assert [record.levelname for record in caplog.records if "cannot download" in record.message] == ["WARNING"] * 2


def test_a_mirror_with_another_file_is_passed_over(url: str, path: Path, server: "Server") -> None:
    server.files["/old/a.zip"] = CONTENT[1:]
    download([f"{server.url}/old/a.zip", url], path, sha256=SHA256)
    assert path.read_bytes() == CONTENT


def test_each_mirror_keeps_its_own_part(url: str, path: Path, server: "Server") -> None:
    server.files["/root/a.zip"] = CONTENT[::-1]
    urls = [f"{server.url}/root/a.zip", url]
    server.next = [cutting(1000), cutting(2000)]
    with pytest.raises(CaptioningError):
        download(urls, path)
    download(urls, path)
    assert server.requests[-1] == ("/root/a.zip", "bytes=1000-")
    assert path.read_bytes() == CONTENT[::-1]
    assert names(path) == {"a.zip", "a.zip.sha256", "a.zip.lock"}


def test_when_all_mirrors_fail_one_that_may_recover_decides(path: Path, server: "Server") -> None:
    server.next = [answering(404), answering(503), answering(404)]
    with pytest.raises(CaptioningError, match="503") as caught:
        download([f"{server.url}/{name}" for name in "abc"], path)
    assert not isinstance(caught.value, ConfigurationError)


def test_a_connection_that_brought_much_is_followed_by_another_at_once(
    url: str, path: Path, server: "Server", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STEADY", 1000)
    server.next = [cutting(1000), cutting(1000)]
    download([url], path)
    assert [asked for _, asked in server.requests] == [None, "bytes=1000-", "bytes=2000-"]
    path.unlink()
    server.next = [cutting(999), cutting(1000)]
    with pytest.raises(CaptioningError):
        download([url], path)


def test_progress_is_reported_from_what_was_here(url: str, path: Path, server: "Server") -> None:
    cut(url, path, server)
    told = []
    download([url], path, report=lambda *values: told.append(values))
    assert {(name, total) for name, _, total in told} == {("a.zip", 256_000)}
    counts = [done for _, done, _ in told]
    assert counts == sorted(counts)
    assert counts[0] > 100_000
    assert counts[-1] == 256_000


CHILD = """
import logging, sys
from pathlib import Path
from components.archives.download import download
logging.basicConfig(level=logging.INFO, stream=sys.stderr)
download([sys.argv[1]], Path(sys.argv[2]))
"""


def child(url: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", CHILD, url, str(path)], stderr=subprocess.PIPE, text=True)


class Held:
    """An answer that sends the first `size` bytes and the rest only when told to."""

    def __init__(self, size: int) -> None:
        self.size, self.sent, self.go_on = size, threading.Event(), threading.Event()

    def __call__(self, handler: "Handler") -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.send_header("ETag", f'"{SHA256[:8]}"')
        handler.end_headers()
        handler.wfile.write(CONTENT[: self.size])
        self.sent.set()
        if self.go_on.wait(60):
            handler.wfile.write(CONTENT[self.size :])
        handler.close_connection = True


def test_a_killed_download_goes_on_where_it_stopped(url: str, path: Path, server: "Server") -> None:
    held = Held(120_000)
    server.next = [held]
    with child(url, path) as process:
        deadline = time.monotonic() + 60
        while sum(part.stat().st_size for part in path.parent.glob("*.part")) < 120_000:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
    held.go_on.set()
    assert not path.exists()
    server.requests.clear()
    download([url], path)
    assert server.requests == [("/a.zip", "bytes=120000-")]
    assert path.read_bytes() == CONTENT


def test_a_download_killed_before_its_last_step_needs_no_server(url: str, path: Path, server: "Server") -> None:
    cut(url, path, server)
    part = next(path.parent.glob("*.part"))
    part.write_bytes(CONTENT)
    download([url], path)
    assert server.requests == []
    assert path.read_bytes() == CONTENT


def test_two_processes_at_once_download_once(url: str, path: Path, server: "Server") -> None:
    held = Held(1000)
    server.next = [held]
    with child(url, path) as first:
        assert held.sent.wait(60)
        with child(url, path) as second:
            assert second.stderr
            assert "waiting for another process" in second.stderr.readline()
            held.go_on.set()
            assert [process.wait(60) for process in (first, second)] == [0, 0]
    assert len(server.requests) == 1
    assert path.read_bytes() == CONTENT


@pytest.fixture(params=["memory", "local"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a file in a filesystem of fsspec."""
    url = "memory://bucket/zips/a é.zip" if request.param == "memory" else f"local://{tmp_path}/zips/a é.zip"
    files, name = fsspec.url_to_fs(url)
    files.makedirs(name.rpartition("/")[0], exist_ok=True)
    files.pipe_file(name, CONTENT * 10)
    return url


class StoppedError(Exception):
    pass


def interrupt(_: str, done: int, __: int | None) -> None:
    if done > 1 << 20:
        raise StoppedError


def test_other_schemes_are_downloaded_in_parts_too(stored: str, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(StoppedError):
        download([stored], path, report=interrupt)
    here = next(path.parent.glob("*.part")).stat().st_size
    assert 0 < here < len(CONTENT) * 10
    with caplog.at_level(logging.INFO):
        download([stored], path)
    assert f"from byte {here} on" in caplog.text
    assert path.read_bytes() == CONTENT * 10
    assert recorded_sha256(path) == hashlib.sha256(CONTENT * 10).hexdigest()


def test_a_stored_file_that_changed_meanwhile_starts_over(stored: str, path: Path) -> None:
    with pytest.raises(StoppedError):
        download([stored], path, report=interrupt)
    time.sleep(0.02)  # for the time stamp
    with fsspec.open(stored, "wb") as file:
        file.write(CONTENT[::-1] * 10)
    download([stored], path)
    assert path.read_bytes() == CONTENT[::-1] * 10


def test_a_stored_file_is_verified(stored: str, path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"dataset\.sha256"):
        download([stored], path, sha256=SHA256)
    assert names(path) == {"a.zip.lock"}
