"""What an archive of images is, whatever it lies in: a zip file, a folder or a store."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple, Self

from components.errors import BadImageError

NOT_REGULAR = "not a regular file"
"""The problem of pipes, sockets and devices."""
UNKNOWN = (-1, -1)
"""Bytes and change mark of a file that is not there, or that tells neither."""


class Entry(NamedTuple):
    """A file that an archive lists."""

    name: str
    """Relative to the archive, parts divided by `/`; a folder that cannot be listed ends with one."""
    bytes: int
    mark: int
    """Changes when the content does; see `ImageArchive.mark`."""
    problem: str = ""
    """Why it cannot be reached; empty when it can."""


class ImageArchive(ABC):
    """A set of named files. Reading is safe from several threads."""

    replaced = 0
    """Files that a later one of the same name has replaced."""

    @abstractmethod
    def entries(self) -> list[Entry]:
        """Every file, and what cannot be reached, sorted by name. Raises `CaptioningError` when nothing can."""

    def unlabelled(self) -> frozenset[str]:
        """The names whose encoding is not known (see `components.archives.zip_archive`)."""
        return frozenset()

    @abstractmethod
    def mark(self, name: str) -> tuple[int, int]:
        """(bytes, change mark) of one file; `UNKNOWN` when it is not there."""

    @abstractmethod
    def read(self, name: str, limit: int | None = None, first: int | None = None) -> bytes:
        """The content of one file, or its `first` bytes.

        Raises `TransientImageError` when it cannot be read, `BadImageError` when it has more than `limit` bytes.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:  # noqa: B027 - most have nothing to close
        pass


def is_url(location: Path | str) -> bool:
    """Whether it is fsspec's, and not a path of this machine."""
    return "://" in str(location)


def require_size(size: int, limit: int | None) -> None:
    """Raises `BadImageError` for more bytes than the limit."""
    if limit is not None and size > limit:
        raise BadImageError(f"{size:,} bytes are more than {limit:,}")
