"""Which photograph of an archive a captions file means, when it spells the name in another way."""

import logging
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from pathlib import PurePosixPath
from urllib.parse import unquote

from components.errors import ConfigurationError

log = logging.getLogger(__name__)

EXACTLY, NORMALISED, BY_PATH, BY_STEM = "exactly", "but for spelling", "by the end of the path", "but for the suffix"
"""How a name is found, the surest way first."""
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".heic"}
)
LEGACY = (
    *("cp932", "gbk", "big5", "euc_kr", "cp1252", "cp850", "cp852", "cp866", "cp1251", "koi8_r"),
    *("cp1250", "cp1253", "cp1254"),
)
"""Encodings of names in zip files that do not say UTF-8, which Python reads as code page 437 (APPNOTE 6.3.10, D.1)."""
CANDIDATES = 2000
"""Names that the nearest one is looked for among."""


@dataclass(frozen=True)
class Names:
    """The names in an archive, by every way in which others may spell them."""

    there: Sequence[str]
    exact: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "exact", frozenset(self.there))

    @cached_property
    def by_base(self) -> dict[str, list[str]]:
        """The names by their last part."""
        return _grouped((name.rpartition("/")[2], name) for name in self.there)

    @cached_property
    def by_parts(self) -> dict[str, list[tuple[tuple[str, ...], str]]]:
        """The normal form of each name and the name, by the last part of the form."""
        return _grouped((parts[-1], (parts, name)) for name in self.there if (parts := normal_parts(name)))

    @cached_property
    def by_stem(self) -> dict[str, list[str]]:
        """The names by the last part of their normal form, without the suffix of an image."""
        return _grouped((_stem(parts[-1]), name) for name in self.there if (parts := normal_parts(name)))

    def find(self, name: str, *, alone: bool) -> tuple[str, str]:
        """The archive's name for `name` and how it was found; two empty texts when there is none.

        `alone`: no other name in the captions file has the same last part. Raises `ConfigurationError` when two
        photographs fit equally well.
        """
        if name in self.exact:
            return name, EXACTLY
        parts = normal_parts(name)
        if parts and len(same := self.by_base.get(name, [])) == 1:
            return same[0], EXACTLY
        for candidates, way in self._candidates(parts, alone=alone):
            if len(candidates) > 1:
                both = " and ".join(sorted(candidates)[:2])
                raise ConfigurationError(f"{name} may be {both}: write the name of the photograph as it is there")
            if candidates:
                return candidates[0], way
        return "", ""

    def _candidates(self, parts: tuple[str, ...], *, alone: bool) -> Iterable[tuple[list[str], str]]:
        if not parts:
            return
        near = self.by_parts.get(parts[-1], [])
        yield [name for form, name in near if form == parts], NORMALISED
        tails = [(len(form), name) for form, name in near if _is_tail(form, parts) or _is_tail(parts, form)]
        longest = max((length for length, _ in tails if length <= len(parts)), default=0)
        yield [name for length, name in tails if length == longest or not longest], BY_PATH
        if alone and len(near) == 1:  # other folders on both sides, as of an absolute path or an address
            yield [near[0][1]], BY_PATH
        stems = self.by_stem.get(_stem(parts[-1]), [])
        has_suffix = parts[-1] != _stem(parts[-1])
        yield [name for name in stems if not (has_suffix and _has_suffix(name)) and alone], BY_STEM

    def nearest(self, name: str) -> str:
        """The name most like one that is not there; empty when none is like it."""
        parts = normal_parts(name)
        last = parts[-1] if parts else name
        pool = [form for form in self.by_parts if form[:2] == last[:2]] or list(self.by_parts)
        found = get_close_matches(last, pool[:CANDIDATES], n=1, cutoff=0.6)
        return self.by_parts[found[0]][0][1] if found else ""


def match_names(wanted: Sequence[str], there: Sequence[str], where: str) -> dict[str, str]:
    """The archive's name for each name wanted, empty when there is none. Tells how many were found in which way.

    Raises `ConfigurationError`, which says `where`, for a name that two photographs fit.
    """
    names = Names(there)
    different = list(dict.fromkeys(wanted))
    if not names.exact.issuperset(different):
        names = _in_best_encoding(different, names)
    renamed = dict(zip(names.there, there, strict=True))
    last = Counter(parts[-1] for name in different if (parts := normal_parts(name)))
    found: dict[str, str] = {}
    ways: Counter[str] = Counter()
    for name in different:
        parts = normal_parts(name)
        try:
            member, way = names.find(name, alone=bool(parts) and last[parts[-1]] == 1)
        except ConfigurationError as error:
            raise ConfigurationError(f"{where}: {error}") from error
        found[name] = renamed.get(member, "")
        ways[way] += 1
    if set(ways) - {EXACTLY, ""}:
        told = ", ".join(f"{ways[way]:,} {way}" for way in (EXACTLY, NORMALISED, BY_PATH, BY_STEM) if ways[way])
        log.info("%s: photographs found by name: %s", where, told)
    return found


def normal_parts(name: str) -> tuple[str, ...]:
    """The parts of a name's path as a person reads it: whatever the system, letter case and spelling of its marks."""
    if "://" in name:
        name = unquote(name.partition("://")[2].partition("?")[0].partition("#")[0])
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()).replace("\\", "/")
    parts = [part.strip() for part in text.split("/")]
    kept = [part for part in parts if part not in ("", ".")]
    if kept and _stem(kept[-1]) != kept[-1]:
        kept[-1] = kept[-1].removesuffix(".jpeg") + (".jpg" if kept[-1].endswith(".jpeg") else "")
    return tuple(kept)


def _in_best_encoding(wanted: Sequence[str], names: Names) -> Names:
    """The names, read in the encoding under which most of those wanted are among them."""
    strange = [name for name in names.there if not name.isascii()]
    missing = {normal_parts(name)[-1:] for name in wanted if not name.isascii()}
    if not strange or not missing or missing <= {normal_parts(name)[-1:] for name in strange}:
        return names
    best, most = names, len(missing & {normal_parts(name)[-1:] for name in strange})
    for encoding in LEGACY:
        decoded = [_decoded(name, encoding) for name in names.there]
        fits = len(missing & {normal_parts(name)[-1:] for name in decoded})
        if fits > most:
            best, most = Names(decoded), fits
    return best


def _decoded(name: str, encoding: str) -> str:
    try:
        return name if name.isascii() else name.encode("cp437").decode(encoding)
    except UnicodeError:
        return name


def _grouped(pairs: Iterable[tuple[str, object]]) -> dict[str, list]:  # type: ignore[type-arg]
    found = defaultdict(list)
    for key, value in pairs:
        found[key].append(value)
    return dict(found)


def _is_tail(short: tuple[str, ...], long: tuple[str, ...]) -> bool:
    return long[-len(short) :] == short


def _stem(last: str) -> str:
    suffix = PurePosixPath(last).suffix
    return last.removesuffix(suffix) if suffix in SUFFIXES else last


def _has_suffix(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES
