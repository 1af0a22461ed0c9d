"""The images a scoring run is given: a folder, a zip file, or a Parquet table of paths."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
from PIL import Image

from components.dataset.archive import open_archive
from components.encoder.photographs import read_photographs
from components.errors import ConfigurationError

PATH_COLUMN = "path"
INPUT = "input"
"""What the photographs' table calls the only archive there is."""


def list_images(images: Path) -> list[str]:
    """The names of the inputs, sorted for a folder or a zip, in the table's order for Parquet.

    In a folder or a zip every file with an image's extension counts, whatever is in it.
    Raises `ConfigurationError` when there is nothing of the kind at `images`.
    """
    if not images.exists():
        raise ConfigurationError(f"there is no {images}. Give a folder, a zip or a Parquet file")
    if images.suffix == ".parquet":
        return _listed_paths(images)
    if images.is_file() and images.suffix.lower() != ".zip":
        raise ConfigurationError(
            f"{images} is no folder, zip or Parquet file. Single photographs: captioning caption {images}"
        )
    extensions = Image.registered_extensions()
    with open_archive(images) as archive:
        names = [name for name, _, _ in archive.listing() if Path(name).suffix.lower() in extensions]
    if not names:
        raise ConfigurationError(f"{images} holds no image (a file ending in .jpg, .png, .webp …)")
    return names


def uri_of(images: Path, name: str) -> str:
    """What the predictions table calls an input."""
    if images.suffix == ".parquet":
        return name
    return f"{images}!{name}" if images.is_file() else str(images / name)


def archives_of(images: Path) -> dict[str, Path]:
    """Where the inputs lie, as `read_photographs` and `embed_shards` want it. A table's paths start at the table."""
    return {INPUT: images.parent if images.suffix == ".parquet" else images}


def read_inputs(images: Path, names: Sequence[str]) -> pd.DataFrame:
    """The named inputs as `schema.PHOTOGRAPHS`, with their position as `image_id`."""
    table = pd.DataFrame({"image_id": range(len(names)), "archive": INPUT, "file_name": list(names)})
    return read_photographs(table, archives_of(images))


def fingerprint(images: Path, names: Sequence[str]) -> str:
    """Identity of the inputs' content, by their sizes and change marks (see `ImageArchive.listing`)."""
    wanted = set(names)
    if images.suffix == ".parquet":
        listing = [(name, *_mark(images.parent / name)) for name in names]
    else:
        with open_archive(images) as archive:
            listing = [entry for entry in archive.listing() if entry[0] in wanted]
    return hashlib.sha256(repr(listing).encode()).hexdigest()


def _mark(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return -1, -1
    return stat.st_size, stat.st_mtime_ns


def _listed_paths(table: Path) -> list[str]:
    try:
        columns = pq.read_schema(table).names
        if PATH_COLUMN not in columns:
            raise ConfigurationError(f"{table} has no column {PATH_COLUMN!r}; it has {', '.join(columns)}")
        paths = pd.read_parquet(table, columns=[PATH_COLUMN])[PATH_COLUMN]
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise ConfigurationError(f"{table} is not a Parquet table that can be read: {error}") from error
    if paths.empty:
        raise ConfigurationError(f"{table} lists no image")
    return list(dict.fromkeys(map(str, paths)))  # a path listed twice is one image
