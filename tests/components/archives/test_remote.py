import base64
import hashlib
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import fsspec
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.archives.remote import Version, open_remote, published_digest
from components.errors import CaptioningError, ConfigurationError

if TYPE_CHECKING:
    from tests.components.conftest import Server

CONTENT = bytes(range(256))


def read(url: str, start: int = 0, known: Version | None = None) -> bytes:
    with open_remote(url, start, known, timeout=10) as file:
        assert file.start == start
        return b"".join(file.chunks)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429, 408])
def test_a_busy_server_is_worth_another_try(server: "Server", status: int) -> None:
    server.next = [lambda handler: handler.answer(status)]
    with pytest.raises(CaptioningError, match=rf"{server.url}/a: the server answers {status} .*Run again") as caught:
        read(f"{server.url}/a")
    assert not isinstance(caught.value, ConfigurationError)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 304, 204])
def test_a_refusal_is_final(server: "Server", status: int) -> None:
    server.next = [lambda handler: handler.answer(status)]
    with pytest.raises(ConfigurationError, match=rf"{server.url}/a: the server answers {status}.*dataset\.root"):
        read(f"{server.url}/a")


@pytest.mark.parametrize("target", ["/moved", "file:///etc/passwd"])
def test_redirects_that_lead_nowhere_are_final(server: "Server", target: str) -> None:
    server.next = [lambda handler: handler.answer(302, Location=target, Content_Length=0)] * 30
    with pytest.raises(ConfigurationError, match=f"cannot download {server.url}/moved"):
        read(f"{server.url}/moved")


def test_a_compressed_answer_is_refused(server: "Server") -> None:
    server.next = [lambda handler: handler.answer(200, b"x", Content_Encoding="gzip", Content_Length=1)]
    with pytest.raises(ConfigurationError, match="compressed"):
        read(f"{server.url}/a")


def test_no_compression_is_asked_for(server: "Server") -> None:
    asked = []
    server.next = [lambda handler: (asked.append(handler.headers["Accept-Encoding"]), handler.answer(200, CONTENT))]
    assert read(f"{server.url}/a") == CONTENT
    assert asked == ["identity"]


def test_no_server_at_all_is_worth_another_try(server: "Server") -> None:
    server.server_close()
    with pytest.raises(CaptioningError, match=f"cannot download {server.url}") as caught:
        read(f"{server.url}/a")
    assert not isinstance(caught.value, ConfigurationError)


@pytest.mark.parametrize("address", ["http://127.0.0.1:port/a", "http:///a"])
def test_impossible_addresses_are_final(address: str) -> None:
    with pytest.raises(ConfigurationError, match=f"cannot download {address}"):
        read(address)


def test_the_proxy_of_the_environment_is_used(server: "Server", monkeypatch: pytest.MonkeyPatch) -> None:
    def set_proxy(address: str) -> None:
        for name in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, address)

    url = "http://images.example.org/a.zip"
    server.files[url] = CONTENT
    set_proxy(server.url)
    assert read(url) == CONTENT
    set_proxy("nonsense://127.0.0.1")
    with pytest.raises(ConfigurationError, match="proxy settings of the environment"):
        read(url)


def encoded(algorithm: str) -> str:
    return base64.b64encode(hashlib.new(algorithm, CONTENT).digest()).decode()


@pytest.mark.parametrize(
    ("header", "value", "algorithm"),
    [
        ("Repr-Digest", f"sha-512=:{encoded('sha512')}:, unknown=:AAAA:", "sha512"),
        ("Repr-Digest", f"sha-512=:{encoded('sha512')}:,sha-256=:{encoded('sha256')}:", "sha256"),
        ("Digest", f"SHA-256={encoded('sha256')}", "sha256"),
        ("Digest", f"UNIXsum=30637, sha={encoded('sha1')}", "sha1"),
        ("Content-MD5", encoded("md5"), "md5"),
        ("x-goog-hash", f"crc32c=AAAAAA==,md5={encoded('md5')}", "md5"),
    ],
)
def test_published_digests_are_read(header: str, value: str, algorithm: str) -> None:
    expected = f"{algorithm}:{hashlib.new(algorithm, CONTENT).hexdigest()}"
    assert published_digest(httpx.Headers({header: value})) == expected


@pytest.mark.parametrize("value", ["sha-256", "sha-256=:not base64:", "sha-256=:AAAA:", "md5=é", "=", "md4=AAAA"])
@pytest.mark.parametrize("header", ["Repr-Digest", "Digest", "x-goog-hash", "Content-MD5"])
def test_a_digest_that_cannot_be_read_is_none(header: str, value: str) -> None:
    assert published_digest(httpx.Headers({header: value.encode()})) == ""


@given(st.sampled_from(["Repr-Digest", "Digest", "x-goog-hash", "Content-MD5"]), st.text())
def test_no_header_breaks_the_reading(header: str, value: str) -> None:
    assert isinstance(published_digest(httpx.Headers({header: value.encode()})), str)


def test_the_hash_of_what_google_stores_compressed_is_not_that_of_what_it_sends() -> None:
    headers = {"x-goog-hash": f"md5={encoded('md5')}", "x-goog-stored-content-encoding": "gzip"}
    assert published_digest(httpx.Headers(headers)) == ""


@pytest.mark.parametrize("name", ["folder", "folder/none.zip"])
@pytest.mark.parametrize("scheme", ["memory", "local"])
def test_a_folder_or_nothing_is_not_a_file(tmp_path: Path, scheme: str, name: str) -> None:
    url = f"{scheme}://{tmp_path}/{name}"
    files, path = fsspec.url_to_fs(f"{scheme}://{tmp_path}/folder/a.zip")
    files.makedirs(path.rpartition("/")[0])
    files.pipe_file(path, CONTENT)
    with pytest.raises(ConfigurationError, match=f"cannot download {url}"):
        read(url)


def test_a_folder_that_a_store_opens_as_an_empty_file_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    files = fsspec.filesystem("memory")
    files.pipe_file("/bucket/folder/a.zip", CONTENT)
    monkeypatch.setattr(files, "open", lambda path, mode: io.BytesIO())
    with pytest.raises(ConfigurationError, match="cannot download memory://bucket/folder"):
        read("memory://bucket/folder")


@pytest.mark.parametrize("kind", [ConnectionResetError, aiohttp.ClientPayloadError])
@pytest.mark.parametrize("step", ["info", "_fetch_range"])
def test_a_failure_of_the_store_is_worth_another_try(
    kind: type[Exception], step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class BrokenFile(fsspec.spec.AbstractBufferedFile):
        def _fetch_range(self, *_: object) -> bytes:
            raise kind("broken")

    def info(*_: object, **__: object) -> None:
        raise kind("broken")

    files = fsspec.filesystem("memory")
    files.pipe_file("/bucket/b.zip", CONTENT)
    if step == "info":
        monkeypatch.setattr(files, "info", info)
    else:
        monkeypatch.setattr(files, "open", lambda path, mode: BrokenFile(files, path, mode))
    with pytest.raises(CaptioningError, match=r"cannot download memory://bucket/b\.zip: broken\. Run again") as caught:
        read("memory://bucket/b.zip")
    assert not isinstance(caught.value, ConfigurationError)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("s3://bucket/a.zip", r"s3://bucket/a\.zip: .*pip install 'captioning\[s3\]'"),
        ("gs://bucket/a.zip", r"gs://bucket/a\.zip: .*pip install 'captioning\[gcs\]'"),
        ("nosuch://bucket/a.zip", r"nosuch://bucket/a\.zip: .*http\(s\)://"),
    ],
)
def test_schemes_that_need_something_say_what(address: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("s3fs", "gcsfs"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigurationError, match=said):
        read(address)
