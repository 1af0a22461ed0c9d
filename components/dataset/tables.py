"""Tables of text as programs and people export them: comma, semicolon, tab or pipe between the fields."""

import ast
import json
import re
from collections.abc import Container, Sequence
from typing import NamedTuple

import pandas as pd

from components.dataset.spellings import is_image
from components.errors import ConfigurationError

DELIMITERS = (",", ";", "\t", "|")
NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "pipes"}
MAX_CHARACTERS = 100
"""Characters of a faulty line that a message shows."""

_LINE_END = re.compile(r"\r\n|\r|\n")
_NEXT_LINE = re.compile(r"(?:\r\n|\r|\n)([^\r\n]*)")
_DECLARED = re.compile(r'"?sep=([^"\r\n])"?(?=[\r\n])', re.IGNORECASE)
"""Excel's first line, which names the delimiter."""

_QUOTED = r'(?:[^"]|"")*+'
_ESCAPED = r'(?:[^"\\]|\\.|"")*+'
_TO_THE_LAST = r"[^\r\n]*?"
"""What may stand between the quotes of a field: RFC 4180's text, the same with a backslash before a quote as databases
write it, and any text up to the line's first quote that ends a field.
"""

_TEXT = r"""(?:[uU]?'(?:[^'\\]|\\.)*+'|[uU]?"(?:[^"\\]|\\.)*+")"""
_ITEMS = rf"\s*+{_TEXT}(?:\s*+,\s*+{_TEXT})*+"
_LIST = re.compile(rf"\[\s*+{_TEXT}(?:[\s,]++{_TEXT})*+[\s,]*+\]|\{{{_ITEMS}[\s,]*+\}}", re.DOTALL)
"""A list of texts as Python writes it, or NumPy, without commas; or a set."""
_TUPLE = re.compile(rf"\({_ITEMS}\s*+,?\s*+\)", re.DOTALL)
_OPENING = re.compile(r"""[\[{]\s*+[{(\[]?\s*+[uU]?['"]""")


class _Record(NamedTuple):
    fields: list[str]
    end: int
    """Where its last line ends."""


def read_table(
    text: str, where: str, columns: dict[str, str], remedy: str, delimiter: str = "", known: Container[str] = ()
) -> pd.DataFrame:
    """The `columns` (name in the file → ours) of a table, as text, indexed by their first line (the header's is 1).

    Without a `delimiter` it is found: the one by which the header has the columns. Blank lines and empty fields at the
    end of a line do not count. The first column names photographs; `known` are those that there are. Raises
    `ConfigurationError` naming the line of a row that cannot be read, or, with the `remedy`, the missing columns.
    """
    declared = _DECLARED.match(text)
    delimiter = delimiter or (declared[1] if declared else "")
    start = re.compile(r"\s*").match(text, declared.end() if declared else 0)
    assert start
    first = text.rfind("\n", 0, start.end()) + 1 or text.rfind("\r", 0, start.end()) + 1
    if not text[first:].strip():
        raise ConfigurationError(f"{where} is empty")
    header, delimiter, end = _read_header(text, first, columns, delimiter)
    names = [name.strip() for name in header]
    if missing := [column for column in columns if column not in names]:
        there = ", ".join(map(repr, names))
        raise ConfigurationError(f"{where} has no column {', '.join(missing)}; it has {there}. {remedy}")
    if twice := [column for column in columns if names.count(column) > 1]:
        raise ConfigurationError(f"{where} has several columns {', '.join(twice)}; rename all but one")
    places = [names.index(column) for column in columns]
    padded = any(name[:1] == " " for name in header[1:])  # then a space follows each delimiter
    reader = _Reader(delimiter, len(names), places[0])
    reader.read(text, end, len(_LINE_END.findall(text, 0, end)) + 1)
    reader.refuse_swallowed(known)
    if reader.faults:
        more = f" ({len(reader.faults):,} such lines)" if len(reader.faults) > 1 else ""
        number = min(reader.faults)
        raise ConfigurationError(f"{where}, line {number}{reader.faults[number]}{more}")
    rows = [[row[place].strip() if padded else row[place] for place in places] for row in reader.rows]
    return pd.DataFrame(rows, columns=list(columns.values()), index=reader.numbers, dtype="str")


def listed(cell: str) -> list[str]:
    """The texts of a list in a cell, as JSON, Python (also a tuple or a set) or NumPy writes it; of any other cell its
    text alone.

    Raises `ValueError` for what begins and ends as a list of texts, and is none.
    """
    given = cell.strip()
    if given[:1] == "(" and "," in given and _TUPLE.fullmatch(given):
        given = f"[{given[1:-1]}]"
    if not (given.endswith(("]", "}")) and _OPENING.match(given)):
        return [cell]
    try:
        found = json.loads(given)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, list) and all(isinstance(text, str) for text in found):
        return found
    if not _LIST.fullmatch(given):
        raise ValueError(f"{given[:MAX_CHARACTERS]} is not a list of texts")
    try:
        return [str(ast.literal_eval(text)) for text in re.findall(_TEXT, given, re.DOTALL)]
    except SyntaxError as error:
        raise ValueError(f"{given[:MAX_CHARACTERS]} is not a list of texts") from error


def _read_header(text: str, start: int, columns: dict[str, str], delimiter: str) -> tuple[list[str], str, int]:
    """The fields of the header at `start`, the delimiter, and where the line ends."""
    end = found.start() if (found := _LINE_END.search(text, start)) else len(text)

    def split(by: str) -> list[str]:
        record = _fields(_pattern(by, _QUOTED), text[start:end], 0, by)
        return record.fields if record else text[start:end].split(by)

    def fits(by: str) -> tuple[int, int]:
        names = [name.strip() for name in split(by)]
        return sum(column in names for column in columns), len(names)

    best = delimiter or max(DELIMITERS, key=fits)
    return split(best), best, end


class _Reader:
    """Reads rows of `width` fields, of which the one at `name` names a photograph."""

    def __init__(self, delimiter: str, width: int, name: int) -> None:
        self.delimiter, self.width, self.name = delimiter, width, name
        self.rows: list[list[str]] = []
        self.numbers: list[int] = []
        self.faults: dict[int, str] = {}
        self._escapes = False
        self._inside: list[tuple[int, str, str]] = []
        """Lines of quoted fields that have the shape of a row: the first line's number, the name, and what to say."""
        self._quoted, self._escaped, self._to_the_last = (
            _pattern(delimiter, text) for text in (_QUOTED, _ESCAPED, _TO_THE_LAST)
        )

    def read(self, text: str, at: int, header: int) -> None:
        """Every row after the header, which is the line of that number and ends at `at`."""
        self._escapes = '\\"' in text
        for number, found in enumerate(_NEXT_LINE.finditer(text, at), start=header + 1):
            start, line = found.start(1), found[1]
            if start < at:  # inside a quoted field
                continue
            if '"' not in line:
                self._keep(line.split(self.delimiter), number, line)
            elif record := self._quoted_row(text, start):
                at = record.end
                self._keep(record.fields, number, line)
                if at > found.end():
                    self._note_rows_inside(_LINE_END.split(text[start:at])[1:], number, line)
            elif line.count('"') % 2:
                self.faults[number] = f": a quote opens here and is never closed {_shown(line)}; {_MEND}"
            else:
                record = _fields(self._quoted, line, 0, self.delimiter)
                self._keep(record.fields if record else line.split(self.delimiter), number, line)

    def _quoted_row(self, text: str, start: int) -> _Record | None:
        """The row of a line with quotes, by the first reading that gives it as many fields as the header has."""
        escaped = [self._escaped] if self._escapes else []
        for pattern in (self._quoted, *escaped, self._to_the_last):
            record = _fields(pattern, text, start, self.delimiter, escaped=pattern is self._escaped)
            if record and (len(record.fields) == self.width or len(_trimmed(record.fields, self.width)) == self.width):
                return record
        return None

    def _keep(self, fields: list[str], number: int, line: str) -> None:
        kept = fields if len(fields) == self.width else _trimmed(fields, self.width)
        if not "".join(kept).strip():
            return
        kind = NAMES.get(self.delimiter, repr(self.delimiter))
        if len(kept) > self.width:
            fault = f" has {len(kept)} fields, the header {self.width} {_shown(line)}"
            self.faults[number] = f"{fault}; put fields with {kind} in double quotes"
        elif len(kept) < self.width:
            self.faults[number] = f" has {len(kept)} of {self.width} fields {_shown(line)}; put {kind} between them"
        else:
            self.rows.append(kept)
            self.numbers.append(number)

    def _note_rows_inside(self, lines: Sequence[str], number: int, opening: str) -> None:
        for inside, line in enumerate(lines, start=number + 1):
            fields = line.split(self.delimiter)
            if len(fields) >= self.width:
                message = f"a quote opens here and takes in whole rows, such as line {inside}"
                fault = f": {message} {_shown(opening)}; {_MEND}"
                self._inside.append((number, fields[self.name].strip().strip('"'), fault))

    def refuse_swallowed(self, known: Container[str]) -> None:
        """Adds to the faults quoted fields that hold whole rows: their quote was meant as text."""
        names = {row[self.name] for row in self.rows} if self._inside else set()
        suffixes = any(map(is_image, names))
        for number, name, fault in self._inside:
            if name in names or is_image(name) or (not suffixes and name in known):
                self.faults.setdefault(number, fault)


_MEND = "take it out, write it twice inside a quoted field, or put the caption on one line"


def _pattern(delimiter: str, text: str) -> re.Pattern[str]:
    """One field: quoted, with spaces around, or without a quote at its beginning."""
    by, space = re.escape(delimiter), "" if delimiter == " " else " *+"
    quoted = rf'{space}"(?P<quoted>{text})"{space}(?={by}|[\r\n]|\Z)'
    return re.compile(rf'{quoted}|(?P<plain>(?!{space}")[^{by}\r\n]*+)', re.DOTALL)


def _fields(pattern: re.Pattern[str], text: str, at: int, delimiter: str, *, escaped: bool = False) -> _Record | None:
    """The record that begins at `at`; none when a field with quotes is not of the pattern."""
    fields = []
    while found := pattern.match(text, at):
        quoted, at = found["quoted"], found.end()
        doubled = r'\\(["\\])|"(")' if escaped else '"(")'
        fields.append(found["plain"] if quoted is None else re.sub(doubled, lambda pair: pair[pair.lastindex], quoted))
        if not text.startswith(delimiter, at):
            return _Record(fields, at)
        at += 1
    return None


def _shown(line: str) -> str:
    return f"({line[:MAX_CHARACTERS]}{' …' if len(line) > MAX_CHARACTERS else ''})"


def _trimmed(fields: list[str], width: int) -> list[str]:
    """The fields without the empty ones at the end that are more than `width`."""
    count = len(fields)
    while count > width and not fields[count - 1].strip():
        count -= 1
    return fields[:count]
