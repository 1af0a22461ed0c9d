"""From the addresses in a profile to files on this machine: local ones stay in place, remote ones are downloaded."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from components.archives.archive import is_there, open_archive
from components.archives.download import Report, download, recorded_sha256
from components.archives.listing import is_junk
from components.artifacts import file_digest
from components.config import DatasetConfig, Format
from components.errors import ConfigurationError
from components.redaction import redacted


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
    delimiter: str = ""


def locate_sources(config: DatasetConfig, downloads: Path) -> dict[str, Source]:
    """Where each source of the profile lies: as given or under `downloads`."""

    def place(address: str) -> Path:
        return _local_path(_resolve(config.root, address), downloads)

    return {
        name: Source(**source.model_dump() | {"images": place(source.images), "captions": place(source.captions)})
        for name, source in config.sources.items()
    }


def locate_split_file(config: DatasetConfig, downloads: Path) -> Path | None:
    """Where the profile's split file lies, if it has one."""
    return _local_path(_resolve(config.root, config.split_file), downloads) if config.split_file else None


def obtain_sources(config: DatasetConfig, downloads: Path, report: Report | None = None) -> Mapping[str, str]:
    """Downloads what is remote and not here yet. Returns a content fingerprint for each address.

    Raises `ConfigurationError` for an address that leads nowhere or to another file than `config.sha256` says,
    `CaptioningError` for a failed download.
    """
    require_local(config)
    fingerprints = {}
    for address in sorted(config.addresses):
        urls = list(dict.fromkeys(_resolve(root, address) for root in (config.root, *config.mirrors)))
        path = _local_path(urls[0], downloads)
        remote, sha256 = _is_remote(urls[0]), config.sha256.get(address, "")
        if remote and not is_there(path):
            download(urls, path, sha256=sha256, report=report)
        if sha256 and (not path.is_file() or sha256 != ((remote and recorded_sha256(path)) or file_digest(path))):
            raise ConfigurationError(f"{path} has not the SHA-256 that dataset.sha256 says. Delete it, or correct that")
        fingerprints[address] = fingerprint(path)
    return fingerprints


def require_local(config: DatasetConfig) -> None:
    """Raises `ConfigurationError` for a local address that leads nowhere."""
    for address in sorted(config.addresses):
        resolved = _resolve(config.root, address)
        if not _is_remote(resolved) and not is_there(path := _local_path(resolved, Path())):
            raise ConfigurationError(
                f"there is no {path}. Set dataset.root to the folder or URL that holds {address}, "
                "by --set dataset.root=… or CAPTIONING_DATASET__ROOT"
            )


def fingerprint(path: Path) -> str:
    """Identity of a source's content: of a zip or a folder its listing, of any other file its SHA-256.

    A zip's listing has every member's size and CRC-32; a folder's has sizes and modification times, and why something
    cannot be reached. Junk does not count: the Finder writes its `.DS_Store` whenever somebody looks at the folder.
    """
    if path.is_file() and path.suffix.lower() != ".zip":
        return file_digest(path)
    with open_archive(path) as archive:
        entries = [tuple(entry) for entry in archive.entries() if not is_junk(entry.name)]
    return hashlib.sha256(repr(entries).encode()).hexdigest()


def _resolve(root: str, address: str) -> str:
    """`address` under `root`, unless it is absolute or a URL itself."""
    if "://" in address or Path(address).is_absolute() or not root:
        return address
    if "://" in root:
        return f"{root.rstrip('/')}/{address}"
    return str(Path(root).expanduser() / address)


def _is_remote(resolved: str) -> bool:
    return "://" in resolved and urlsplit(resolved).scheme != "file"


def _local_path(resolved: str, downloads: Path) -> Path:
    parts = urlsplit(resolved)
    if "://" not in resolved:
        return Path(resolved).expanduser().absolute()
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    # Nothing of the address may climb out of the downloads folder.
    scheme = "" if parts.scheme in ("http", "https") else f"{parts.scheme}+"
    host, query = parts.netloc.rpartition("@")[2].replace(":", "_"), f"?{parts.query}" if parts.query else ""
    if query != redacted(query):  # a secret is no name of a folder
        query = f"?{hashlib.sha256(query.encode()).hexdigest()[:16]}"
    names = f"{scheme}{host}/{query}/{unquote(parts.path)}".split("/")
    return downloads.joinpath(*(name for name in names if name not in ("", ".", "..")))
