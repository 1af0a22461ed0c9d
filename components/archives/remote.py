"""A remote file, opened from any byte on: by HTTP Range, or by seeking in what fsspec opens."""

import base64
import hashlib
import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import urlsplit

import httpx

from components.errors import CaptioningError, ConfigurationError

BLOCK = 1 << 20
TRANSIENT = frozenset({408, 425, 429})
ENCODINGS = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd"})
ALGORITHMS = {"sha-256": "sha256", "sha-512": "sha512", "sha": "sha1", "md5": "md5"}
"""Names of digests in headers → in hashlib; the preferred ones first."""
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
CLIENT_ERRORS = {
    "aiohttp": "ClientError",
    "botocore.exceptions": "BotoCoreError",
    "gcsfs.retry": "HttpError",
    "google.auth.exceptions": "GoogleAuthError",
}
HTTP_SECONDS = {"total": 300, "sock_connect": 10, "sock_read": 30}
"""fsspec's limits over HTTP: for a whole file, for a connection, and without a byte. Its own are 300 for all three."""
DEMO = "components.demo.file_system.SceneFileSystem"
"""What serves scenes://, the demo's data: fsspec imports it when such an address is opened."""
HINT = "Run again to go on from where it stopped"


class FileChangedError(CaptioningError):
    """What an earlier attempt left cannot be continued: the file is another one now."""


@dataclass(frozen=True)
class Version:
    """What a server says about the present content of a file."""

    tag: str
    """ETag, Last-Modified or fsspec's key; empty when there is none, and then no attempt can be continued."""
    size: int | None
    digest: str
    """As published, `<hashlib's name>:<hex digits>`; empty when there is none."""


@dataclass(frozen=True)
class RemoteFile:
    """A file open for reading."""

    version: Version
    start: int
    """Position of the first byte of `chunks`: the one asked for, or 0."""
    chunks: Iterator[bytes]
    """Raises `CaptioningError` when the connection fails."""


def open_remote(url: str, start: int, known: Version | None, timeout: float) -> AbstractContextManager[RemoteFile]:
    """The file at `url`, from byte `start` if it is still the `known` version, else from its beginning.

    `timeout`: seconds without a byte (HTTP). HTTP uses the proxies that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY
    name. Raises `ConfigurationError` where trying again is of no use (no such file, not allowed, no such scheme),
    `FileChangedError` where only the beginning can be asked for, `CaptioningError` for any other failure.
    """
    if urlsplit(url).scheme in ("http", "https"):
        return _open_http(url, start, known, timeout)
    return _open_fsspec(url, start, known)


@contextmanager
def _open_http(url: str, start: int, known: Version | None, timeout: float) -> Iterator[RemoteFile]:
    headers = {"Accept-Encoding": "identity"}  # sizes, positions and digests are those of the bytes sent
    if known and start:
        headers |= {"Range": f"bytes={start}-", "If-Range": known.tag}
    with ExitStack() as stack:
        try:
            client = stack.enter_context(httpx.Client(follow_redirects=True, timeout=timeout))
        except (ImportError, ValueError) as error:
            raise ConfigurationError(f"the proxy settings of the environment cannot be used: {error}") from error
        try:
            response = stack.enter_context(client.stream("GET", url, headers=headers))
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.TooManyRedirects) as error:
            raise ConfigurationError(f"cannot download {url}: {error}. Correct the address") from error
        except (httpx.HTTPError, OSError) as error:
            raise _failed(url, error) from error
        yield _accept(response, url, start, known)


def _accept(response: httpx.Response, url: str, start: int, known: Version | None) -> RemoteFile:
    """The response as a file. Raises for one that is not the file, or not the part asked for."""
    status, headers = response.status_code, response.headers
    if status >= 500 or status in TRANSIENT:
        raise _failed(url, f"the server answers {status} {response.reason_phrase}")
    if status not in (200, 206, 416):
        advice = "Correct dataset.root or the address in the profile"
        raise ConfigurationError(
            f"cannot download {url}: the server answers {status} {response.reason_phrase}. {advice}"
        )
    if headers.get("Content-Encoding", "").lower() in ENCODINGS:
        raise ConfigurationError(f"cannot download {url}: the server sends it compressed though asked not to")
    tag = headers.get("ETag", "")
    if not tag or tag.startswith("W/"):  # a weak tag does not promise the same bytes
        tag = headers.get("Last-Modified", "")
    chunks = _http_chunks(response, url)
    if status == 200:
        length = headers.get("Content-Length", "")
        version = Version(tag, int(length) if length.isdecimal() else None, published_digest(headers))
        return RemoteFile(version, 0, chunks)
    part = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
    same = known and part and int(part[1]) == start and part[2] in ("*", str(known.size)) and tag in ("", known.tag)
    if status == 416 or not (known and same):
        raise FileChangedError(f"cannot download {url}: the server answers with another part than asked for. {HINT}")
    return RemoteFile(known, start, chunks)


def _http_chunks(response: httpx.Response, url: str) -> Iterator[bytes]:
    try:
        yield from response.iter_raw()
    except httpx.HTTPError as error:
        raise _failed(url, error) from error


def published_digest(headers: httpx.Headers) -> str:
    """The whole file's digest from a complete response's headers, `<hashlib's name>:<hex digits>`, or nothing."""
    items = [item for name in ("Repr-Digest", "Digest") for item in headers.get_list(name, split_commas=True)]
    if headers.get("x-goog-stored-content-encoding", "identity") == "identity":
        items += headers.get_list("x-goog-hash", split_commas=True)
    items += [f"md5={value}" for value in headers.get_list("Content-MD5")]
    found = {}
    for item in items:
        name, _, value = item.partition("=")
        try:
            digest = base64.b64decode(value.strip().strip(":"), validate=True)
        except ValueError:
            continue
        algorithm = ALGORITHMS.get(name.strip().lower())
        if algorithm and len(digest) == hashlib.new(algorithm, usedforsecurity=False).digest_size:
            found[algorithm] = digest.hex()
    return next((f"{algorithm}:{found[algorithm]}" for algorithm in ALGORITHMS.values() if algorithm in found), "")


@contextmanager
def _open_fsspec(url: str, start: int, known: Version | None) -> Iterator[RemoteFile]:
    with ExitStack() as stack:
        files, path = file_system(url)
        try:
            about = files.info(path)
            if about["type"] != "file":  # object stores open a folder as an empty file
                raise IsADirectoryError(path)
            version = Version(files.ukey(path), about["size"], "")
            file = stack.enter_context(files.open(path, "rb"))
            begin = start if known == version else 0
            file.seek(begin)
        except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
            raise ConfigurationError(f"cannot download {url}: {error!r}. Correct the address in the profile") from error
        except client_errors() as error:
            raise _failed(url, error) from error
        yield RemoteFile(version, begin, _fsspec_chunks(file, url))


def _fsspec_chunks(file: IO[bytes], url: str) -> Iterator[bytes]:
    try:
        while chunk := file.read(BLOCK):
            yield chunk
    except client_errors() as error:
        raise _failed(url, error) from error


def file_system(url: str) -> tuple[Any, str]:
    """fsspec's file system for an address, and the path in it. Raises `ConfigurationError` where there is none.

    Chains of schemes (`simplecache::http://…`) are refused: some of fsspec's links write files.
    """
    from fsspec import register_implementation
    from fsspec.core import url_to_fs

    register_implementation("scenes", DEMO)
    try:
        if "::" in url:
            raise ValueError("it is a chain (::)")
        files, path = url_to_fs(url, **_options(url))
    except ImportError as error:
        extra = EXTRAS.get(url.partition("://")[0])
        advice = f"Install the extra `{extra}`: pip install 'captioning[{extra}]'" if extra else str(error)
        raise ConfigurationError(f"{url}: its scheme needs a package that is not installed. {advice}") from error
    except (ValueError, TypeError, LookupError, RuntimeError, OSError) as error:
        raise ConfigurationError(f"{url}: {error}. Sources are paths, http(s)://, s3:// or gs:// URLs") from error
    return files, path


def _options(url: str) -> dict[str, Any]:
    if urlsplit(url).scheme.lower() not in ("http", "https"):
        return {}
    from aiohttp import ClientTimeout

    return {"client_kwargs": {"timeout": ClientTimeout(**HTTP_SECONDS)}}


def client_errors() -> tuple[type[Exception], ...]:
    """What fsspec and the clients beneath it raise; the clients are installed only with the extras."""
    loaded = ((sys.modules.get(module), name) for module, name in CLIENT_ERRORS.items())
    found = (getattr(module, name, None) for module, name in loaded if module)  # none: another thread is loading it
    return (OSError, *(error for error in found if error))


def _failed(url: str, why: object) -> CaptioningError:
    return CaptioningError(f"cannot download {url}: {str(why) or repr(why)}. {HINT}")
