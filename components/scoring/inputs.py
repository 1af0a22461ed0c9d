"""The images a scoring run is given: a folder, a zip file, or a list of addresses; here or wherever fsspec reaches."""

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from components.archives.archive import Location, is_there, open_archive, open_file, parent_of
from components.archives.image_archive import UNKNOWN, Entry, is_url
from components.archives.listing import Listing, list_pictures
from components.dataset.rows import decode
from components.errors import ConfigurationError
from components.files import read_all
from components.images.photographs import read_photographs
from components.redaction import redacted

PATH_COLUMN = "path"
INPUT = "input"
"""What the photographs' table calls the only archive there is."""
MAX_INPUTS, LIST_BYTES = 10_000_000, 1 << 27
"""Images that a list may name, and bytes that a text file of them may have."""
LISTS = (".parquet", ".txt")
READERS = 8
"""Threads that ask for change marks."""


def list_images(images: Location, *, marked: bool = True) -> Listing:
    """The inputs: sorted for a folder or a zip, in the list's order for Parquet and text.

    Unless `marked` is false, sizes and change marks that a listing does not have are asked for, a request each.

    A Parquet table has a column `path`, a text file a path a line; they are relative to the list, or whole. All that a
    list names is an input; a path listed twice is one. Of a folder or a zip see
    `components.archives.listing.list_pictures`. Raises `ConfigurationError` when there is nothing of the kind at
    `images`.
    """
    if not is_url(images) and not is_there(Path(images)):
        raise ConfigurationError(f"there is no {images}. Give a folder, a zip, a Parquet table or a text file of paths")
    if _is_list(images):
        listing = Listing(tuple(Entry(name, *UNKNOWN) for name in _listed(images)), {})
        return _with_marks(images, listing) if marked else listing
    if not is_url(images) and Path(images).is_file() and Path(images).suffix.lower() != ".zip":
        raise ConfigurationError(
            f"{images} is no folder, zip, Parquet or text file. Single photographs: captioning caption {images}"
        )
    with open_archive(images) as archive:
        listing = list_pictures(archive)
    return _with_marks(images, listing) if marked else listing


def _with_marks(images: Location, listing: Listing) -> Listing:
    unknown = [entry.name for entry in listing.inputs if not entry.problem and (entry.bytes, entry.mark) == UNKNOWN]
    if not unknown:
        return listing
    with open_archive(archives_of(images)[INPUT]) as archive, ThreadPoolExecutor(READERS, "mark") as pool:
        marks = dict(zip(unknown, pool.map(archive.mark, unknown), strict=True))
    inputs = (Entry(each.name, *marks.get(each.name, each[1:3]), each.problem) for each in listing.inputs)
    return Listing(tuple(inputs), listing.ignored)


def uri_of(images: Location, name: str) -> str:
    """What the predictions table calls an input."""
    if _is_list(images):
        return name
    if str(images).lower().endswith(".zip") and (is_url(images) or Path(images).is_file()):
        return f"{redacted(str(images))}!{name}"
    return f"{redacted(str(images)).rstrip('/')}/{name}"


def place_of(uri: str, images: Location | None = None) -> tuple[Location, str]:
    """Archive and name of what the predictions table calls `uri`; `images` is where it was listed, if that is known."""
    if images is not None and not _is_list(images) and uri.startswith(start := uri_of(images, "")):
        return images, uri.removeprefix(start)
    if in_zip := re.fullmatch(r"(.+?\.zip)!(.*)", uri, re.IGNORECASE | re.DOTALL):
        return in_zip[1], in_zip[2]
    if images is not None and _is_list(images):
        return parent_of(images), uri
    folder, _, name = uri.rpartition("/")
    return folder or ".", name


def archives_of(images: Location) -> dict[str, Location]:
    """Where the inputs lie, as `read_photographs` and `embed_shards` want it. A list's paths start at the list."""
    return {INPUT: parent_of(images) if _is_list(images) else images}


def read_inputs(images: Location, listing: Listing, earlier: pd.DataFrame | None = None) -> pd.DataFrame:
    """The inputs as `schema.PHOTOGRAPHS`, with their position as `image_id`, and the column `uri`.

    `earlier`: the same of an earlier attempt. What it could read, and has not changed since, is not read again.
    """
    table = pd.DataFrame({"image_id": range(len(listing.inputs)), "archive": INPUT, "file_name": listing.names})
    table["problem"] = [entry.problem for entry in listing.inputs]
    unknown = [entry.name for entry in listing.inputs if (entry.bytes, entry.mark) == UNKNOWN]
    if earlier is not None:
        earlier = earlier[~earlier["file_name"].isin(unknown)]
    photographs = read_photographs(table, archives_of(images), earlier)
    return photographs.assign(uri=[uri_of(images, name) for name in photographs["file_name"]])


def fingerprint(listing: Listing) -> str:
    """Identity of the inputs' content, by their sizes and change marks (see `ImageArchive.entries`)."""
    return hashlib.sha256(repr([tuple(entry) for entry in listing.inputs]).encode()).hexdigest()


def may_change_unseen(listing: Listing) -> bool:
    """Whether an input has neither a size nor a mark, so that only its content tells a change."""
    return any((entry.bytes, entry.mark) == UNKNOWN for entry in listing.inputs)


def _is_list(images: Location) -> bool:
    return str(images).lower().endswith(LISTS)


def _listed(images: Location) -> list[str]:
    try:
        with open_file(images) as file:
            paths = _lines(file, images) if str(images).lower().endswith(".txt") else _rows(file, images)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ConfigurationError(f"{images} is not a list of paths that can be read: {error}") from error
    if len(paths) > MAX_INPUTS:
        raise ConfigurationError(f"{images} lists more than {MAX_INPUTS:,} images: divide it")
    return list(paths)


def _lines(file: IO[bytes], images: Location) -> dict[str, None]:
    lines = decode(read_all(file, LIST_BYTES), str(images)).splitlines()
    return dict.fromkeys(line.strip() for line in lines if line.strip())


def _rows(file: IO[bytes], images: Location) -> dict[str, None]:
    """The values of the column, each once: a few bytes can stand for any number of equal ones."""
    table = pq.ParquetFile(file)
    schema = table.schema_arrow
    if PATH_COLUMN not in schema.names:
        has = ", ".join(schema.names)[:1000]
        raise ConfigurationError(f"{images} has no column {PATH_COLUMN!r}; it has {has}")
    if schema.names.count(PATH_COLUMN) > 1:
        raise ValueError(f"it has several columns {PATH_COLUMN!r}")
    if not table.metadata.num_rows:
        return {}
    kind = schema.field(PATH_COLUMN).type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        table = pq.ParquetFile(file, read_dictionary=[PATH_COLUMN])
    elif not pa.types.is_null(kind) and not pa.types.is_dictionary(kind):
        raise ValueError(f"its column {PATH_COLUMN!r} holds {str(kind)[:100]}, not text")
    paths: dict[str, None] = {}
    for batch in table.iter_batches(columns=[PATH_COLUMN]):
        paths |= dict.fromkeys(map(str, batch.column(0).unique().to_pylist()))
        if len(paths) > MAX_INPUTS:
            break
    return paths
