"""From the addresses in a profile to files on this machine: local ones stay in place, remote ones are downloaded."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import httpx

from components.artifacts import file_digest, write_atomic
from components.config import DatasetConfig, Format
from components.dataset.archive import open_archive
from components.errors import CaptioningError, ConfigurationError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """One archive of photographs and its captions, on this machine."""

    images: Path
    captions: Path
    annotations: str = ""
    """The captions file inside `captions`, when that is a zip file or a folder."""
    format: Format = "coco"
    image_column: str = "image"
    caption_column: str = "caption"


def locate_sources(config: DatasetConfig, drawn: Path, downloads: Path) -> dict[str, Source]:
    """Where each source of the profile lies: under `drawn` for drawn scenes, else as given or under `downloads`."""

    def place(address: str) -> Path:
        return drawn / address if config.scenes else _local_path(_resolve(config.root, address), downloads)

    return {
        name: Source(
            place(source.images),
            place(source.captions),
            source.annotations,
            source.format,
            source.image_column,
            source.caption_column,
        )
        for name, source in config.sources.items()
    }


def locate_split_file(config: DatasetConfig, downloads: Path) -> Path | None:
    """Where the profile's split file lies, if it has one."""
    return _local_path(_resolve(config.root, config.split_file), downloads) if config.split_file else None


def obtain_sources(config: DatasetConfig, downloads: Path) -> Mapping[str, str]:
    """Downloads what is remote and not here yet. Returns a content fingerprint for each address.

    Raises `ConfigurationError` for an address that leads nowhere, `CaptioningError` for a failed download.
    """
    if config.scenes:
        return {}
    addresses = {a for source in config.sources.values() for a in (source.images, source.captions)}
    if config.split_file:
        addresses.add(config.split_file)
    fingerprints = {}
    for address in sorted(addresses):
        resolved = _resolve(config.root, address)
        path = _local_path(resolved, downloads)
        if not path.exists():
            if not resolved.startswith(("http://", "https://")):
                raise ConfigurationError(
                    f"there is no {path}. Set dataset.root to the folder or URL that holds {address}, "
                    "by --set dataset.root=… or CAPTIONING_DATASET_ROOT"
                )
            download(resolved, path)
        fingerprints[address] = fingerprint(path)
    return fingerprints


def fingerprint(path: Path) -> str:
    """Identity of a source's content: of a zip or a folder its listing, of any other file its SHA-256.

    A zip's listing has every member's size and CRC-32; a folder's has sizes and modification times.
    """
    if path.is_file() and path.suffix.lower() != ".zip":
        return file_digest(path)
    with open_archive(path) as archive:
        return hashlib.sha256(repr(archive.listing()).encode()).hexdigest()


def download(url: str, path: Path) -> None:
    """Streams `url` into `path`, which appears only when all announced bytes have come."""
    path.parent.mkdir(parents=True, exist_ok=True)
    log.info("downloading %s", url)
    try:
        with (
            write_atomic(path) as temporary,
            temporary.open("wb") as file,
            httpx.stream("GET", url, follow_redirects=True, timeout=60) as response,
        ):
            response.raise_for_status()
            for chunk in response.iter_bytes(1 << 20):
                file.write(chunk)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise CaptioningError(f"cannot download {url}: {error}. Run again to try again") from error


def _resolve(root: str, address: str) -> str:
    """`address` under `root`, unless it is absolute or a URL itself."""
    if "://" in address or Path(address).is_absolute() or not root:
        return address
    if "://" in root:
        return f"{root.rstrip('/')}/{address}"
    return str(Path(root).expanduser() / address)


def _local_path(resolved: str, downloads: Path) -> Path:
    parts = urlsplit(resolved)
    if "://" not in resolved:
        return Path(resolved).expanduser().absolute()
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    if parts.scheme in ("http", "https"):
        # Nothing of the address may climb out of the downloads folder.
        host, query = parts.netloc.replace(":", "_"), f"?{parts.query}" if parts.query else ""
        names = f"{host}/{query}/{unquote(parts.path)}".split("/")
        return downloads.joinpath(*(name for name in names if name not in ("", ".", "..")))
    raise ConfigurationError(f"{resolved}: sources are paths, file://, http:// or https:// addresses")
