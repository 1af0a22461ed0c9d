"""Captions files of every format, joined with the photographs they name."""

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from components.dataset.archive import open_archive, whole_names
from components.dataset.coco import read_coco
from components.dataset.listing import without_junk
from components.dataset.rows import MAX_BYTES, decode, read_csv, read_flickr, read_jsonl, read_karpathy, read_text
from components.dataset.sources import Source
from components.errors import BadImageError, CaptioningError, ConfigurationError

log = logging.getLogger(__name__)


def read_source(source: Source) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The source's images and its captions (caption_id, image_id, caption), in the file's order.

    Images have image_id, `name` as in the captions file, `file_name`, the photograph's whole name in the archive or
    empty when the archive does not have it, and `split` if the format knows it. Ids that the format does not have are
    made from the names. Raises `CaptioningError` naming the file and the first faulty rows.
    """
    inside = source.captions.is_dir() or source.captions.suffix.lower() == ".zip"
    place = source.captions / source.annotations if inside else source.captions
    where = f"{source.annotations} in {source.captions}" if inside else str(place)
    text = decode(_read_inside(source, where), where) if inside else read_text(source.captions)
    with open_archive(source.images) as archive:
        entries = archive.entries()
    members = whole_names(entry.name for entry in without_junk(entries))
    if source.format == "coco":
        images, captions = read_coco(text, where)
        images["file_name"] = _members_of(images["name"], members)
    else:
        rows = _read_rows(text, where, source)
        _require_content(rows, where, source)
        if place.parent.is_relative_to(source.images):
            rows["name"] = _below(place.parent.relative_to(source.images), rows["name"], members)
        images, captions = _with_ids(rows, where)
        images["file_name"] = _members_of(images["name"], members)
        if source.format == "karpathy":  # its folders are those of COCO's archives; its names are unique without them
            bare = _members_of(images["name"].str.rpartition("/")[2], members)
            images["file_name"] = images["file_name"].where(images["file_name"] != "", bare)
        _require_one_name(images, where)
    lost = images.loc[images["file_name"] == "", "name"]
    if len(lost):
        message = "%s: %d of %d photographs are not in %s, first %s"
        log.warning(message, where, len(lost), len(images), source.images, ", ".join(lost[:3]))
    return images, captions


def stable_id(name: str) -> int:
    """63 bits that a name always has, whichever file it is in."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) >> 1


def _read_inside(source: Source, where: str) -> bytes:
    with open_archive(source.captions) as archive:
        if not source.annotations:
            raise ConfigurationError(f"{source.captions}: set `annotations` to the captions file inside it")
        try:
            return archive.read(source.annotations, MAX_BYTES)
        except BadImageError as error:
            raise CaptioningError(f"{where} {error}") from error


def _read_rows(text: str, where: str, source: Source) -> pd.DataFrame:
    match source.format:
        case "csv":
            columns = {source.image_column: "name", source.caption_column: "caption"}
            return read_csv(text, where, columns, "Set image_column and caption_column to the right ones")
        case "jsonl":
            return read_jsonl(text, where, source.image_column, source.caption_column)
        case "flickr":
            return read_flickr(text)
        case _:
            return read_karpathy(text, where)


def _require_content(rows: pd.DataFrame, where: str, source: Source) -> None:
    unit = {"csv": "row", "karpathy": "image"}.get(source.format, "line")
    if rows.empty:
        raise CaptioningError(f"{where} holds no captions")
    for column, what in (("name", "the name of a photograph"), ("caption", "a caption")):
        faulty = rows.index[rows[column].str.strip() == ""]
        if len(faulty):
            raise CaptioningError(
                f"{where}, {unit} {', '.join(map(str, faulty[:3]))}: {what} is missing ({len(faulty):,} in all); "
                f"write it, or delete the {unit}"
            )
    twice = rows.index[rows["caption"].notna() & rows.duplicated(["name", "caption"])]
    if len(twice):
        message = "%s: %d captions repeat one of their photograph, first in %s %s; they count twice"
        log.warning(message, where, len(twice), unit, twice[0])


def _below(folder: Path, names: pd.Series, members: Mapping[str, str]) -> pd.Series:
    """The names from the archive's root, where they are from the `folder` of a captions file among the photographs."""
    whole = folder.as_posix() + "/" + names
    return names.where(whole.map(members) != whole, whole)


def _members_of(names: pd.Series, members: Mapping[str, str]) -> pd.Series:
    return names.map(lambda name: members.get(name, "")).astype("str")


def _with_ids(rows: pd.DataFrame, where: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows as images and captions; a caption's id is that of its photograph's name and its place among the captions."""
    ids = pd.Series({name: stable_id(name) for name in rows["name"].unique()}, dtype="int64")
    if (same := ids.duplicated(keep=False)).any():
        raise CaptioningError(f"{where}: {' and '.join(ids.index[same][:2])} get the same id by chance; rename one")
    image_id = rows["name"].map(ids)
    if "image_id" in rows:
        image_id = rows["image_id"].fillna(image_id)
    rows = rows.assign(image_id=image_id.astype("int64"))
    captions = rows.dropna(subset="caption")
    places = zip(captions["name"], captions.groupby("name").cumcount(), strict=True)
    caption_ids = [stable_id(f"{name}#{place}") for name, place in places]
    captions = captions.assign(caption_id=np.array(caption_ids, np.int64))
    images = rows.drop(columns="caption").drop_duplicates(ignore_index=True)
    return images, captions[["caption_id", "image_id", "caption"]].reset_index(drop=True)


def _require_one_name(images: pd.DataFrame, where: str) -> None:
    names = images.loc[images["file_name"] != "", ["name", "file_name"]].drop_duplicates()
    twice = names[names.duplicated("file_name", keep=False)].sort_values("file_name")
    if len(twice):
        both, file = " and ".join(twice["name"][:2]), twice["file_name"].iloc[0]
        raise CaptioningError(f"{where}: {both} are one photograph, {file}; call it by one name")
