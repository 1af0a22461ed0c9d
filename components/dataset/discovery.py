"""What a folder of photographs and its captions are, and a profile for them."""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from components.archives.archive import open_archive
from components.archives.listing import Listing, list_pictures
from components.config import DatasetConfig, SourceConfig
from components.dataset.caption_table import read_caption_table
from components.dataset.captions import write_caption_table
from components.dataset.rows import decode
from components.dataset.sources import Source
from components.errors import CaptioningError, ConfigurationError
from components.files import read_file

SUFFIXES = (".json", ".jsonl", ".csv", ".tsv", ".tab", ".token", ".txt")
"""Of files that may hold captions."""
LOOKED_AT = 200
"""Rows of a table by which its columns are told apart."""
MAX_BYTES = 1 << 30


@dataclass(frozen=True)
class Discovery:
    """What there is."""

    root: Path
    images: str
    """The photographs' folder or zip file, relative to `root`."""
    listing: Listing
    captions: str
    """The captions file, relative to `root` where it lies in it."""
    source: dict[str, str]
    """Further keys of the source: format and columns."""
    table: pd.DataFrame
    """The captions, see `data_contracts.schema.CAPTIONS`."""
    without: tuple[str, ...]
    """Photographs without a caption."""
    missing: tuple[str, ...]
    """Photographs that captions name and that are not there."""
    holdout: float | None
    """Share of the photographs to validate on; none when the captions file says which."""
    tried: tuple[str, ...] = ()
    """Other files that may hold captions, and why they do not."""

    @property
    def photographs(self) -> int:
        """Photographs with captions."""
        return int(self.table["image_id"].nunique())


def discover(folder: Path, captions: Path | None = None) -> Discovery:
    """Looks at a folder (or a zip file) of photographs, and for their captions in it unless they are given.

    Raises `ConfigurationError` when there are no photographs, or no captions of them, and why.
    """
    root, images, listing = _photographs(folder)
    candidates = [captions] if captions else _candidates(root)
    found, tried = [], []
    for path in candidates:
        for source in _sources(path, listing.names):
            try:
                found.append(_try(root, images, listing, path, source))
            except (CaptioningError, ValueError) as error:
                tried.append((path.name, str(error).splitlines()[0]))
    if not found:
        raise ConfigurationError(_nothing(folder, listing, [": ".join(pair) for pair in tried]))
    best = max(found, key=lambda each: each.photographs)
    used = Path(best.captions).name
    rest = [
        f"{each.captions}: {len(each.table):,} captions of {each.photographs:,} photographs"
        for each in found
        if each.captions != best.captions
    ]
    rest += [f"{name}: {reason}" for name, reason in tried if name != used]
    return replace(best, tried=tuple(dict.fromkeys(rest)))


def _photographs(folder: Path) -> tuple[Path, str, Listing]:
    """Root, archive and listing of the most photographs: the folder's own, or those of a zip file in it."""
    if not folder.exists():
        raise ConfigurationError(f"there is no {folder}")
    folder = folder.absolute()
    root = folder if folder.is_dir() else folder.parent
    places = [folder, *sorted(folder.glob("*.zip"))] if folder.is_dir() else [folder]
    listings = []
    for place in places:
        with open_archive(place) as archive:
            listings.append(list_pictures(archive))
    most = max(range(len(places)), key=lambda number: len(listings[number].inputs))
    if not listings[most].inputs:
        raise ConfigurationError(f"there are no photographs in {folder}: {listings[0].summary() or 'it is empty'}")
    images = "." if places[most] == root else places[most].name
    return root, images, listings[most]


def _candidates(root: Path) -> list[Path]:
    paths = [*root.glob("*"), *root.glob("*/*")]
    return sorted(path for path in paths if path.suffix.lower() in SUFFIXES and path.is_file() and path.name[0] != ".")


def _sources(path: Path, names: Sequence[str]) -> Iterator[dict[str, str]]:
    """The ways in which the file may be read."""
    suffix = path.suffix.lower()
    if suffix == ".json":
        yield from ({"format": "coco"}, {"format": "karpathy"})
    elif suffix in (".token", ".txt"):
        yield {"format": "flickr"}
    if suffix not in (".json", ".token"):
        kind = "jsonl" if suffix == ".jsonl" else "csv"
        image, caption = _columns(path, kind, names) or (
            "image",
            "caption",
        )  # which are looked for, and told as missing
        yield {"format": kind, "image_column": image, "caption_column": caption}


def _columns(path: Path, kind: str, names: Sequence[str]) -> tuple[str, str] | None:
    """The column with the photographs' names and the one with the longest texts, if both are there."""
    known = {form for name in names for form in _forms(name)}
    for table in _heads(path, kind):
        table.columns = table.columns.map(str).str.strip()
        hits = {str(name): sum(bool(_forms(cell) & known) for cell in table[name]) for name in table}
        image = max(hits, key=lambda name: hits[name], default="")
        others = [name for name in hits if name != image]
        if others and hits[image] > 0:
            lengths = {name: sum(len(str(cell)) for cell in table[name]) for name in others}
            return image, max(lengths, key=lambda name: lengths[name])
    return None


def _heads(path: Path, kind: str) -> Iterator[pd.DataFrame]:
    """The first rows of a table, by each delimiter that it may have."""
    try:
        lines = decode(read_file(path, MAX_BYTES), str(path)).splitlines()[: LOOKED_AT + 1]
        if kind == "jsonl":
            yield pd.DataFrame([json.loads(line) for line in lines if line.strip()])
            return
    except (OSError, ValueError, CaptioningError):
        return
    for delimiter in (",", ";", "\t", "|"):
        with suppress(ValueError):  # pandas' ParserError is one
            yield pd.read_csv(
                StringIO("\n".join(lines)),
                sep=delimiter,
                engine="python",
                dtype=str,
                on_bad_lines="skip",
                index_col=False,
            )


def _forms(name: object) -> set[str]:
    base = PurePosixPath(str(name).replace("\\", "/")).name.casefold()
    return {base, base.rpartition(".")[0] or base}


def _try(root: Path, images: str, listing: Listing, path: Path, keys: dict[str, str]) -> Discovery:
    own = path.absolute()
    captions = own.relative_to(root).as_posix() if own.is_relative_to(root) else str(own)
    source = SourceConfig.model_validate({"images": images, "captions": captions, **keys})
    holdout = None if source.format == "karpathy" else 0.1 if len(listing.inputs) >= 200 else 0.2
    config = DatasetConfig.model_validate({"sources": {"photos": source}, "holdout": holdout})
    place: dict[str, Any] = {"format": source.format}
    for name in ("image_column", "caption_column"):
        place[name] = getattr(source, name)
    with TemporaryDirectory() as folder, _quiet():
        write_caption_table({"photos": Source(root / images, own, **place)}, config, Path(folder))
        found, table = read_caption_table(Path(folder))
    described = set(found.loc[found["image_id"].isin(table["image_id"]), "file_name"]) - {""}
    if not described:
        raise ConfigurationError("it names none of the photographs")
    fields = SourceConfig.model_fields
    told = None if path.suffix.lower() == ".txt" else SourceConfig(images=images, captions=captions).format
    kept = {key: value for key, value in keys.items() if value != (told if key == "format" else fields[key].default)}
    return Discovery(
        root=root,
        images=images,
        listing=listing,
        captions=captions,
        source=kept,
        table=table,
        without=tuple(name for name in listing.names if name not in described),
        missing=tuple(found.loc[found["file_name"] == "", "name"]),
        holdout=holdout,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """What does not fit is no news while several ways of reading a file are tried."""
    logger = logging.getLogger("components.dataset")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _nothing(folder: Path, listing: Listing, tried: Sequence[str]) -> str:
    reasons = "".join(f"\n  {reason}" for reason in dict.fromkeys(tried))
    return (
        f"{folder} has {len(listing.inputs):,} photographs and no captions of them{':' if reasons else '.'}{reasons}\n"
        "Name the captions file with --captions. To see what a model says of the photographs: "
        f"captioning score --images {folder} --out results"
    )
