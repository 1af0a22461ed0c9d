"""Tables of text as programs and people export them: comma, semicolon, tab or pipe between the fields."""

import ast
import csv
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import pandas as pd

from components.dataset.names import SUFFIXES
from components.errors import ConfigurationError

DELIMITERS = (",", ";", "\t", "|")
NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "pipes"}
LONGEST_FIELD = 1 << 20
"""Characters of a field."""
LONGEST_LIST = 100_000
"""Characters of a list in a cell."""


def read_table(text: str, where: str, columns: dict[str, str], remedy: str, delimiter: str = "") -> pd.DataFrame:
    """The `columns` (name in the file → ours) of a table, as text, indexed by their first line (the header's is 1).

    Without a `delimiter` it is found: the one by which the header has the columns. Blank lines and empty fields at the
    end of a line do not count. Raises `ConfigurationError` naming the line of a row that cannot be read, or, with the
    `remedy`, the missing columns.
    """
    if "\n" not in text:
        text = text.replace("\r", "\n")  # as old Macs end lines
    declared = re.match(r"sep=(.)\r?\n", text)  # Excel's first line
    delimiter = delimiter or (declared[1] if declared else "")
    lines = text.split("\n")
    skipped = 1 if declared else 0
    first = next((number for number in range(skipped, len(lines)) if lines[number].strip()), None)
    if first is None:
        raise ConfigurationError(f"{where} is empty")
    try:
        header, delimiter = _read_header(lines[first].rstrip("\r"), columns, delimiter)
    except csv.Error as error:
        raise ConfigurationError(f"{where}, line {first + 1} is no header: {error}") from error
    names = [name.strip() for name in header]
    if missing := [column for column in columns if column not in names]:
        there = ", ".join(map(repr, names))
        raise ConfigurationError(f"{where} has no column {', '.join(missing)}; it has {there}. {remedy}")
    if twice := [column for column in columns if names.count(column) > 1]:
        raise ConfigurationError(f"{where} has several columns {', '.join(twice)}; rename all but one")
    places = [names.index(column) for column in columns]
    padded = any(name != name.strip() for name in header)  # then a space follows each delimiter
    rows, numbers = [], []
    for number, fields in _records("\n".join(lines[first + 1 :]), where, delimiter, first + 1):
        kept = _fit(fields, len(names), f"{where}, line {number}", delimiter)
        if any(field.strip() for field in kept):
            _refuse_swallowed(kept, len(names), places[0], f"{where}, line {number}", delimiter)
            rows.append([kept[place].strip() if padded else kept[place] for place in places])
            numbers.append(number)
    return pd.DataFrame(rows, columns=list(columns.values()), index=numbers, dtype="str")


def listed(cell: str) -> list[str]:
    """The texts of a list in a cell, as JSON or Python writes it; of any other cell its text alone."""
    if not (cell.startswith("[") and cell.endswith("]") and len(cell) <= LONGEST_LIST):
        return [cell]
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(cell)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(found, list) and found and all(isinstance(text, str) for text in found):
            return found
    return [cell]


def _read_header(line: str, columns: dict[str, str], delimiter: str) -> tuple[list[str], str]:
    def split(by: str) -> list[str]:
        return next(csv.reader([line], delimiter=by, skipinitialspace=False), [])

    if delimiter:
        return split(delimiter), delimiter
    headers = {by: split(by) for by in DELIMITERS}

    def fits(by: str) -> tuple[int, int]:
        names = [name.strip() for name in headers[by]]
        return sum(column in names for column in columns), len(names)

    best = max(DELIMITERS, key=fits)
    return headers[best], best


def _records(text: str, where: str, delimiter: str, before: int) -> Iterator[tuple[int, list[str]]]:
    """Each record's fields, with the number of its first line; `before` lines stand before the text."""
    csv.field_size_limit(LONGEST_FIELD)
    lines = text.split("\n")
    lines = lines[:-1] if lines[-1] == "" else lines
    reader, last = csv.reader((line + "\n" for line in lines), delimiter=delimiter), 0
    while True:
        place = f"{where}, line {before + last + 1}"
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise ConfigurationError(f"{place}: {error}; {_MEND}") from error
        if fields is None:
            return
        if reader.line_num == len(lines) and "".join(lines[last:]).count('"') % 2 and _opens(lines[last], delimiter):
            raise ConfigurationError(f"{place}: a quote opens here and is never closed; {_MEND}")
        yield before + last + 1, fields
        last = reader.line_num


_MEND = "take it out, or write it twice inside a quoted field"


def _opens(line: str, delimiter: str) -> bool:
    """Whether a field of the line begins with a quote."""
    return any(field.startswith('"') for field in line.split(delimiter))


def _fit(fields: Sequence[str], width: int, where: str, delimiter: str) -> list[str]:
    """The fields as many as the header has. Raises `ConfigurationError` for more, or for fewer than one but none."""
    while len(fields) > width and not fields[-1].strip():
        fields = fields[:-1]
    if len(fields) > width:
        kind = NAMES.get(delimiter, repr(delimiter))
        raise ConfigurationError(
            f"{where} has {len(fields)} fields, the header {width}; put fields with {kind} in double quotes"
        )
    if any(field.strip() for field in fields) and len(fields) < width:
        raise ConfigurationError(
            f"{where} has {len(fields)} of {width} fields ({', '.join(fields)[:100]}); write what is missing"
        )
    return list(fields)


def _refuse_swallowed(fields: Sequence[str], width: int, name: int, where: str, delimiter: str) -> None:
    """Raises `ConfigurationError` when a quoted field holds whole rows: its quote was meant as text."""
    for field in fields:
        for number, line in enumerate(field.split("\n")[1:], start=1):
            inside = line.split(delimiter)
            if len(inside) >= width and PurePosixPath(inside[name].strip().strip('"')).suffix.lower() in SUFFIXES:
                raise ConfigurationError(
                    f"{where}: a quote opens here and takes in whole rows, the first {number} lines further on; {_MEND}"
                )
