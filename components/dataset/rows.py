"""Captions files that go by the photographs' names (CSV, JSON Lines, Flickr's, Karpathy's): a row a caption.

Each reader gives the columns `name` and `caption`, which is null for a photograph without one; the index says, for
messages, where a row comes from.
"""

import re
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import BaseModel, Field, ValidationError, create_model

from components.errors import CaptioningError, ConfigurationError
from components.files import read_file

MAX_BYTES = 1 << 30
"""Of a captions or split file; COCO's has 66 MB."""
MOST_COMMAS = 5000
"""Of a line of a CSV file."""

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

    Raises `ConfigurationError` for what is no file, or too large, and `CaptioningError` for what is not UTF-8.
    """
    try:
        return decode(read_file(path, MAX_BYTES), str(path))
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error


def decode(content: bytes, where: str) -> str:
    """The text of a file in UTF-8. Raises `CaptioningError` naming the line that is not."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise CaptioningError(f"{where}, line {line}: not UTF-8 ({error.reason}); save the file as UTF-8") from error


def read_csv(text: str, where: str, columns: dict[str, str], remedy: str) -> pd.DataFrame:
    """The rows of a CSV file, indexed by their number (the header's is 1): the `columns` (name in the file → ours).

    Raises `CaptioningError` for rows that cannot be told apart, `ConfigurationError` with `remedy` for missing columns.
    """
    for number, line in enumerate(text.splitlines(), start=1):
        if line.count(",") > MOST_COMMAS:  # pandas takes the square of a table's width
            raise CaptioningError(f"{where}, line {number}: more than {MOST_COMMAS:,} commas are no row of captions")
    try:
        # Blank lines are dropped below, so that the numbers stay those of the file.
        rows = pd.read_csv(StringIO(text), dtype=str, keep_default_na=False, skip_blank_lines=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise CaptioningError(
            f"{where} is not a CSV file: {str(error).strip()}. "
            "Put fields with a comma, a quote or a line end in double quotes"
        ) from error
    if missing := [column for column in columns if column not in rows]:
        there = ", ".join(map(repr, rows))
        raise ConfigurationError(f"{where} has no column {', '.join(missing)}; it has {there}. {remedy}")
    if not isinstance(rows.index, pd.RangeIndex):  # pandas takes the first fields for an index then
        raise CaptioningError(f"{where}: rows have more fields than the header; put fields with a comma in quotes")
    rows.index += 2
    rows = rows[(rows != "").any(axis=1)]
    return rows[list(columns)].rename(columns=columns)


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
                raise CaptioningError(f"{where}, line {number}, {explain(error)}\n  ({hint})") from error
            numbers.append(number)
            names.append(row["name"])
            captions.append(row["caption"])
    return pd.DataFrame({"name": names, "caption": captions}, index=numbers).explode("caption").astype("str")


def read_flickr(text: str) -> pd.DataFrame:
    """The lines of a Flickr token file, `name.jpg#0`, a tab, the caption, indexed by their number."""
    lines = {n: line.removesuffix("\r") for n, line in enumerate(text.split("\n"), start=1) if line.strip()}
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
        raise CaptioningError(f"{where} is not a Karpathy file {explain(error)}") from error
    table = {
        "name": [f"{image.filepath}/{image.filename}".lstrip("/") for image in images],
        "image_id": pd.array([image.cocoid for image in images], dtype="Int64"),
        "split": ["train" if image.split == "restval" else image.split for image in images],
        "caption": [[sentence.raw for sentence in image.sentences] for image in images],
    }
    return pd.DataFrame(table).explode("caption").astype({"caption": "str"})


def explain(error: ValidationError) -> str:
    """How many faults there are, and the first three."""
    faults = [": ".join(filter(None, (".".join(map(str, f["loc"])), f["msg"]))) for f in error.errors()[:3]]
    return f"(faults: {error.error_count()}):\n  " + "\n  ".join(faults)
