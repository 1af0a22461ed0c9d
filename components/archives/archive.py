"""Photographs where they lie: in a zip file, a folder or a store, read one by one and never unpacked."""

import errno
from pathlib import Path
from typing import IO

from components.archives.folder_archive import FolderArchive
from components.archives.image_archive import ImageArchive, is_url
from components.archives.remote import file_system
from components.archives.url_archive import UrlArchive
from components.archives.zip_archive import ZipArchive, failures
from components.errors import CaptioningError, ConfigurationError
from components.files import require_file

Location = Path | str
"""A path, or an address for fsspec (with ://)."""


def is_there(path: Path) -> bool:
    """Whether there is such a file or folder. Raises `CaptioningError` when that cannot be found out."""
    try:
        return path.exists()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise CaptioningError(f"cannot look for {path}: {error}. Make its folder readable, and run again") from error


def is_folder(path: Path) -> bool:
    """Whether it is a folder. Raises as `is_there` does."""
    return is_there(path) and path.is_dir()


def parent_of(location: Location) -> Location:
    """Where it lies."""
    return str(location).rpartition("/")[0] if is_url(location) else Path(location).parent


def open_archive(location: Location) -> ImageArchive:
    """The archive at a path or an address. Raises `ConfigurationError` when there is none or it is damaged."""
    if is_url(location):
        url = str(location)
        if url.startswith("file://") and is_folder(place := Path(file_system(url)[1])):
            return FolderArchive(place)
        return ZipArchive(open_file(url)) if url.lower().endswith(".zip") else UrlArchive(url)
    if is_folder(path := Path(location)):
        return FolderArchive(path)
    if path.suffix.lower() != ".zip":
        raise ConfigurationError(f"{path} is no zip file and no folder")
    return ZipArchive(path)


def open_file(location: Location) -> IO[bytes]:
    """The file at a path or an address. Raises `ConfigurationError` when there is none, or it is a pipe or a device."""
    try:
        if not is_url(location):
            require_file(Path(location))
            return Path(location).open("rb")
        files, path = file_system(str(location))
        file: IO[bytes] = files.open(path, "rb")
    except failures() as error:
        raise ConfigurationError(f"cannot open {location}: {error}") from error
    return file
