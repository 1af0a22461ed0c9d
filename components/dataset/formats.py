"""Captions files of every format, joined with the photographs they name."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from components.archives.archive import open_archive
from components.archives.image_archive import UNKNOWN
from components.archives.listing import without_junk
from components.dataset.coco import read_coco
from components.dataset.names import Names, match_names
from components.dataset.rows import (
    MAX_BYTES,
    decode,
    read_csv,
    read_flickr,
    read_jsonl,
    read_karpathy,
    read_text,
    stable_id,
)
from components.dataset.sources import Source
from components.errors import BadImageError, ConfigurationError

log = logging.getLogger(__name__)

NEAREST = 20
"""Missing photographs that the most alike name is looked for."""


def read_source(source: Source) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The source's images and its captions (caption_id, image_id, caption), in the file's order.

    Images have image_id, `name` as in the captions file, `file_name`, the photograph's whole name in the archive or
    empty when the archive does not have it, `nearest`, the name that is most like a missing one, and `split` if the
    format knows it. Ids that the format does not have are made from the names. Raises `ConfigurationError` naming the
    file and the first faulty rows, or two photographs that one name may mean.
    """
    inside = source.captions.is_dir() or source.captions.suffix.lower() == ".zip"
    place = source.captions / source.annotations if inside else source.captions
    where = f"{source.annotations} in {source.captions}" if inside else str(place)
    text = decode(_read_inside(source, where), where) if inside else read_text(source.captions)
    there, unlabelled = _list_photographs(source)
    inside_images = place.parent.is_relative_to(source.images) and place.parent != source.images
    folder = place.parent.relative_to(source.images).as_posix() if inside_images else ""
    if source.format == "coco":
        images, captions = read_coco(text, where)
        members = match_names(images["name"].tolist(), there, where, folder, unlabelled)
    else:
        rows = _read_rows(text, where, source, there)
        _require_content(rows, where, source)
        rows["name"] = _below(folder, rows["name"], there) if folder else rows["name"]
        members = match_names(rows["name"].tolist(), there, where, folder, unlabelled)
        rows["name"] = rows["name"].map(_one_name_each(members))
        images, captions = _with_ids(rows, where)
    images["file_name"] = images["name"].map(members).astype("str")
    lost = images.loc[images["file_name"] == "", "name"]
    nearest = dict.fromkeys(lost, "")
    if len(lost):
        names = Names(there)
        nearest |= {name: names.nearest(name) for name in lost.iloc[:NEAREST]}
        first = [f"{name} (the nearest is {nearest[name]})" if nearest[name] else name for name in lost[:3]]
        message = "%s: %d of %d photographs are not in %s, first %s"
        log.warning(message, where, len(lost), len(images), source.images, ", ".join(first))
    images["nearest"] = images["name"].map(lambda name: nearest.get(name, "")).astype("str")
    return images, captions


def _list_photographs(source: Source) -> tuple[list[str], frozenset[str]]:
    """The names in the archive, and those among them whose encoding is not known."""
    with open_archive(source.images) as archive:
        names, unlabelled = [entry.name for entry in without_junk(archive.entries())], archive.unlabelled()
    return names, unlabelled | {name for name in names if "\\x" in name}  # bytes that a folder's listing escapes


def _one_name_each(members: Mapping[str, str]) -> dict[str, str]:
    """Each name, or the first one that means the same photograph."""
    first = {member: name for name, member in members.items() if member == name}
    for name, member in members.items():
        first.setdefault(member or f"missing {name}", name)
    return {name: first[member or f"missing {name}"] for name, member in members.items()}


def _read_inside(source: Source, where: str) -> bytes:
    with open_archive(source.captions) as archive:
        if not source.annotations:
            raise ConfigurationError(f"{source.captions}: set `annotations` to the captions file inside it")
        name = source.annotations
        if archive.mark(name) == UNKNOWN:
            name = match_names([name], [entry.name for entry in without_junk(archive.entries())], where)[name] or name
        try:
            return archive.read(name, MAX_BYTES)
        except BadImageError as error:
            raise ConfigurationError(f"{where} {error}") from error


def _read_rows(text: str, where: str, source: Source, there: Sequence[str]) -> pd.DataFrame:
    match source.format:
        case "csv":
            columns = (source.image_column, source.caption_column)
            return read_csv(text, where, *columns, source.delimiter, Names(there))
        case "jsonl":
            return read_jsonl(text, where, source.image_column, source.caption_column)
        case "flickr":
            return read_flickr(text, where)
        case _:
            return read_karpathy(text, where)


def _require_content(rows: pd.DataFrame, where: str, source: Source) -> None:
    unit = "image" if source.format == "karpathy" else "line"
    if rows.empty:
        raise ConfigurationError(f"{where} holds no captions")
    for column, what in (("name", "the name of a photograph"), ("caption", "a caption")):
        faulty = rows.index[rows[column].str.strip() == ""]
        if len(faulty):
            raise ConfigurationError(
                f"{where}, {unit} {', '.join(map(str, faulty[:3]))}: {what} is missing ({len(faulty):,} in all); "
                f"write it, or delete the {unit}"
            )
    twice = rows.index[rows["caption"].notna() & rows.duplicated(["name", "caption"])]
    if len(twice):
        message = "%s: %d captions repeat one of their photograph, first in %s %s; they count twice"
        log.warning(message, where, len(twice), unit, twice[0])


def _below(folder: str, names: pd.Series, there: Sequence[str]) -> pd.Series:
    """The names from the archive's root, where they are from the `folder` of a captions file among the photographs."""
    whole = folder + "/" + names
    return names.where(~whole.isin(set(there)), whole)


def _with_ids(rows: pd.DataFrame, where: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows as images and captions; a caption's id is that of its photograph's name and its place among the captions."""
    ids = pd.Series({name: stable_id(name) for name in rows["name"].unique()}, dtype="int64")
    if (same := ids.duplicated(keep=False)).any():
        raise ConfigurationError(f"{where}: {' and '.join(ids.index[same][:2])} get the same id by chance; rename one")
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
