"""Captions files that go by the photographs' names (CSV, JSON Lines, Flickr's, Karpathy's): one row per caption.

Each reader gives the columns `name` and `caption`, which is null for a photograph without one; the index says, for
messages, where a row comes from.
"""

import codecs
import hashlib
import json
import re
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import BaseModel, Field, ValidationError, create_model

from components.dataset.tables import MAX_CHARACTERS, listed, read_table
from components.errors import ConfigurationError
from components.files import read_file

MAX_BYTES = 1 << 30
"""Of a captions or split file; COCO's has 66 MB."""

Id = Annotated[int, Field(ge=-(2**63), lt=2**63)]


@dataclass(slots=True)  # 600,000 of them: half the time of a pydantic model
class _Sentence:
    raw: str


class _Image(BaseModel):
    filename: str
    filepath: str = ""
    cocoid: Id | None = None
    split: str
    sentences: list[_Sentence]


class _Karpathy(BaseModel):
    images: list[_Image]


def read_text(path: Path) -> str:
    """The text of a captions or split file.

    Raises `ConfigurationError` for what is no file, or too large, too for what is neither UTF-8 nor UTF-16.
    """
    try:
        return decode(read_file(path, MAX_BYTES), str(path))
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error


def decode(content: bytes, where: str) -> str:
    """The text of a file in UTF-8, or UTF-16 that says so. Raises `ConfigurationError` naming the line that is not."""
    utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if utf_16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        fault = f"not UTF-8 ({error.reason}); save the file as UTF-8 (a table in Excel: CSV UTF-8)"
        raise ConfigurationError(f"{where}, line {line}: {fault}") from error


def read_csv(
    text: str, where: str, image: str, caption: str, delimiter: str = "", known: Container[str] = ()
) -> pd.DataFrame:
    """The rows of a table, indexed by their line; a list of captions in a cell becomes as many rows.

    `known`: names of photographs. Raises what `components.dataset.tables.read_table` raises.
    """
    remedy = "Set image_column and caption_column to the right ones, or delimiter"
    rows = read_table(text, where, {image: "name", caption: "caption"}, remedy, delimiter, known)
    rows["name"] = rows["name"].str.strip()
    captions = []
    for number, cell in zip(rows.index.tolist(), rows["caption"].tolist(), strict=True):
        try:
            captions.append(listed(cell))
        except ValueError as error:
            raise ConfigurationError(f"{where}, line {number}: {error}") from error
    if any(len(texts) > 1 for texts in captions):
        return rows.assign(caption=pd.Series(captions, index=rows.index, dtype=object)).explode("caption").astype("str")
    return rows.assign(caption=[text for (text,) in captions]).astype("str")


def read_jsonl(text: str, where: str, image: str, caption: str) -> pd.DataFrame:
    """The lines of a JSON Lines file, indexed by their number; a list of captions becomes as many rows."""
    line_model = create_model("Line", name=(str, Field(alias=image)), caption=(str | list[str], Field(alias=caption)))
    numbers, names, captions = [], [], []
    for number, line in enumerate(text.split("\n"), start=1):  # JSON may hold the other line ends of Unicode
        if line.strip():
            try:
                row = line_model.model_validate_json(line).model_dump()
            except ValidationError as error:
                hint = "image_column and caption_column say which keys to read"
                whose = f" ({name})" if (name := _value(line, image)) else ""
                raise ConfigurationError(f"{where}, line {number}{whose}, {explain(error)}\n  ({hint})") from error
            numbers.append(number)
            names.append(row["name"])
            captions.append(row["caption"])
    return pd.DataFrame({"name": names, "caption": captions}, index=numbers).explode("caption").astype("str")


def read_flickr(text: str, where: str) -> pd.DataFrame:
    """The lines of a Flickr token file, `name.jpg#0`, a tab, the caption, indexed by their number."""
    lines = {n: line.removesuffix("\r") for n, line in enumerate(text.split("\n"), start=1) if line.strip()}
    if untabbed := [n for n, line in lines.items() if "\t" not in line]:
        line = lines[untabbed[0]][:MAX_CHARACTERS]
        fault = f"there is no tab between the name of a photograph and its caption ({line})"
        raise ConfigurationError(f"{where}, line {untabbed[0]}: {fault} ({len(untabbed):,} such lines)")
    parts = [line.partition("\t") for line in lines.values()]
    table = {"name": [re.sub(r"#\d+$", "", key) for key, _, _ in parts], "caption": [part[2] for part in parts]}
    return pd.DataFrame(table, index=list(lines), dtype="str")


def read_karpathy(text: str, where: str) -> pd.DataFrame:
    """The sentences of a Karpathy file, indexed by their image's place in it, with `image_id` (null unless of COCO)
    and `split`, in which `restval` is `train`.
    """
    try:
        images = _Karpathy.model_validate_json(text).images
    except ValidationError as error:
        place = error.errors()[0]["loc"][:2]
        whose = f", image {name}," if (name := _value(text, *place, "filename")) else ""
        raise ConfigurationError(f"{where}, read as a Karpathy file{whose} {explain(error)}") from error
    table = {
        "name": [f"{image.filepath}/{image.filename}".lstrip("/") for image in images],
        "image_id": pd.array([image.cocoid for image in images], dtype="Int64"),
        "split": ["train" if image.split == "restval" else image.split for image in images],
        "caption": [[sentence.raw for sentence in image.sentences] for image in images],
    }
    return pd.DataFrame(table).explode("caption").astype({"caption": "str"})


def _value(text: str, *place: str | int) -> str:
    """The text at a place in JSON; empty when there is none."""
    try:
        found: Any = json.loads(text)
        for key in place:
            found = found[key]
    except (ValueError, RecursionError, LookupError, TypeError):
        return ""
    return found if isinstance(found, str) else ""


def stable_id(name: str) -> int:
    """63 bits that a name always has, whichever file it is in."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) >> 1


def explain(error: ValidationError) -> str:
    """How many faults there are, and the first three."""
    faults = [": ".join(filter(None, (".".join(map(str, f["loc"])), f["msg"]))) for f in error.errors()[:3]]
    return f"(faults: {error.error_count()}):\n  " + "\n  ".join(faults)
