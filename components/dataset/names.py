"""Which photograph of an archive a captions file means, when it spells the name in another way."""

import logging
import re
from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property

from components.archives.zip_archive import ENCODINGS, reencoded
from components.dataset.spellings import base_of, spellings, suffix_of
from components.errors import ConfigurationError

log = logging.getLogger(__name__)

EXACTLY, NORMALISED, BY_PATH, BY_STEM = "exactly", "but for spelling", "by the end of the path", "but for the suffix"
"""How a name is found, the surest way first."""
DEPTH = 64
"""Parts of a path that are compared; the others stand for themselves."""
NEIGHBOURS = 100
"""Names on either side, in alphabetical order, that the nearest one is looked for among."""


class Names:
    """The names in an archive, by every way in which a captions file may spell them.

    `folders`: those that the captions file names, in their loosest spelling.
    """

    def __init__(self, there: Sequence[str], folders: Iterable[str] = ()) -> None:
        self.there = there
        self.exact = frozenset(there)
        self._named_folders = frozenset(folders)
        self._open: dict[tuple[str, str], list[str]] = {}

    @cached_property
    def _by_base(self) -> dict[str, list[str]]:
        return _grouped((name.rpartition("/")[2], name) for name in self.there)

    @cached_property
    def _spellings(self) -> dict[str, tuple[str, ...]]:
        return {name: spellings(name) for name in self.there}

    @cached_property
    def _by_tail(self) -> dict[str, list[str]]:
        """The names by every end of their loosest spelling, in whole parts."""
        tails = defaultdict(list)
        for name, forms in self._spellings.items():
            parts = forms[-1].split("/")
            for start in range(max(0, len(parts) - DEPTH), len(parts)):
                tails["/".join(parts[start:])].append(name)
        return dict(tails)

    @cached_property
    def _folders(self) -> frozenset[str]:
        return frozenset(folder for forms in self._spellings.values() for folder in forms[-1].split("/")[:-1])

    def __contains__(self, name: object) -> bool:
        """Whether a name may be that of a photograph here, in any spelling and folder."""
        return isinstance(name, str) and bool(name) and base_of(name) in self._by_tail

    def find(self, name: str) -> tuple[str, str]:
        """The archive's name for `name` and how it was found; two empty texts when there is none.

        Of names that end in the same parts the longest such end decides, then the folders that only one of them has,
        then the spelling. Folders may differ only where neither side has both: `cat/1.jpg` is not `dog/1.jpg` when
        captions name `dog/2.jpg`. Raises `ConfigurationError` when two photographs fit equally well.
        """
        if name in self.exact:
            return name, EXACTLY
        if len(same := self._by_base.get(name, [])) == 1 and name:
            return same[0], EXACTLY
        forms = spellings(name)
        parts = forms[-1].split("/")
        for length in range(min(len(parts), DEPTH), 0, -1) if forms[-1] else ():
            fits = [
                (*_fit(forms, self._spellings[each], length), each) for each in self._candidates(forms, parts, length)
            ]
            fits = sorted(fit for fit in fits if fit[1] >= 0)
            if fits:
                folders, spelling, found = fits[0]
                # Another one whose spelling is nearer, or that fits alike, may be meant as well.
                if rivals := [each for other, how, each in fits[1:] if how < spelling or (other, how) == fits[0][:2]]:
                    raise ConfigurationError(
                        f"{name} may be {found} and {rivals[0]}: write the name of the photograph as it is there"
                    )
                return found, BY_STEM if spelling == len(forms) - 1 else BY_PATH if folders else NORMALISED
        return "", ""

    def _candidates(self, forms: Sequence[str], parts: Sequence[str], length: int) -> Sequence[str]:
        """The names that end in the last `length` parts, and may lie in the folders of the one looked for."""
        tail = "/".join(parts[-length:])
        found = self._by_tail.get(tail, ())
        if length == len(parts) or not found:
            return found
        if parts[-length - 1] in self._folders:  # that folder is there, and the photograph is not in it
            return ()
        suffix = suffix_of(forms[-2])
        if (tail, suffix) not in self._open:
            self._open[tail, suffix] = [name for name in found if self._may_be_elsewhere(name, length, suffix)]
        return self._open[tail, suffix]

    def _may_be_elsewhere(self, name: str, length: int, suffix: str) -> bool:
        forms = self._spellings[name]
        parts = forms[-1].split("/")
        unknown = length == len(parts) or parts[-length - 1] not in self._named_folders
        return unknown and (not suffix or suffix_of(forms[-2]) in ("", suffix))

    @cached_property
    def _in_order(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """The last parts with their names, by the first letters and by the last ones."""
        bases = [(forms[-1].rpartition("/")[2], name) for name, forms in self._spellings.items()]
        return sorted(bases), sorted((base[::-1], name) for base, name in bases)

    @cached_property
    def _by_number(self) -> dict[str, str]:
        return {_without_zeros(forms[-1].rpartition("/")[2]): name for name, forms in self._spellings.items()}

    def nearest(self, name: str) -> str:
        """The name most like one that is not there; empty when none is like it."""
        last = base_of(name)
        if same := self._by_number.get(_without_zeros(last)):  # tables drop the zeros a number begins with
            return same
        near: dict[str, str] = {}
        for order, key, step in zip(self._in_order, (last, last[::-1]), (1, -1), strict=True):
            place = bisect(order, (key, ""))
            near |= {base[::step]: found for base, found in order[max(0, place - NEIGHBOURS) : place + NEIGHBOURS]}
        best = get_close_matches(last, near, n=1, cutoff=0.6)
        return near[best[0]] if best else ""


def match_names(
    wanted: Iterable[str], there: Sequence[str], where: str, folder: str = "", unlabelled: Container[str] = ()
) -> dict[str, str]:
    """The archive's name for each name wanted, empty when there is none. Tells how many were found in which way.

    The names may start at `folder`, too, which is relative to the archive. The encoding of those in `unlabelled` is
    not known. Raises `ConfigurationError`, which says `where`, for a name that two photographs fit, and for two
    photographs that would be one.
    """
    different = list(dict.fromkeys(wanted))
    exact = set(there).issuperset(different)
    folders = () if exact else {part for name in different if "/" in name or "\\" in name for part in _folders(name)}
    names = Names(there, folders)
    found: dict[str, str] = {}
    ways: Counter[str] = Counter()
    try:
        for name in different:
            below = folder and name and name not in names.exact
            member, way = names.find(f"{folder}/{name}") if below else ("", "")
            found[name], way = (member, way) if member else names.find(name)
            ways[way] += 1
        again = _find_in_best_encoding(found, [name for name in there if name in unlabelled], folders)
        found |= again
        ways[NORMALISED] += len(again)
        several = _require_one_each(found)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error}") from error
    if set(+ways) - {EXACTLY, ""}:
        message = ", ".join(f"{ways[way]:,} {way}" for way in (EXACTLY, NORMALISED, BY_PATH, BY_STEM) if ways[way])
        log.info("%s: photographs found by name: %s", where, message)
    if several:
        first = " and ".join(several[0][:2])
        log.warning("%s: photographs with several names: %d, the first %s", where, len(several), first)
    return found


def _require_one_each(found: dict[str, str]) -> list[list[str]]:
    """The names, where several mean one photograph: each is the end of the longest, or they cannot be the same."""
    by_member = _grouped((member, name) for name, member in found.items() if member)
    several = [names for names in by_member.values() if len(names) > 1]
    for names in several:
        longest = max(names, key=lambda name: len(spellings(name)[-1]))
        for name in names:
            if not f"/{spellings(longest)[-1]}".endswith(f"/{spellings(name)[-1]}"):
                raise ConfigurationError(
                    f"{name} and {longest} would both be {found[name]}: "
                    "add the missing photograph, or write one name if they are the same"
                )
    return several


def _folders(name: str) -> list[str]:
    return spellings(name)[-1].split("/")[:-1]


def _fit(wanted: Sequence[str], there: Sequence[str], length: int) -> tuple[int, int]:
    """How two names that end in the same `length` parts fit: 0 for all parts, 1 when one of them has more folders, 2
    when both have; and the index of the first spelling in which that end is the same, -1 when only suffixes differ.
    """
    longer = [form[-1].count("/") + 1 > length for form in (wanted, there)]
    suffixes = [suffix_of(form[-2]) for form in (wanted, there)]
    if all(suffixes) and suffixes[0] != suffixes[1]:
        return sum(longer), -1
    pairs = (tuple(path.split("/")[-length:] for path in pair) for pair in zip(wanted, there, strict=True))
    return sum(longer), next(number for number, (first, second) in enumerate(pairs) if first == second)


def _find_in_best_encoding(
    found: Mapping[str, str], unlabelled: Sequence[str], folders: Iterable[str]
) -> dict[str, str]:
    """What else is found when the unlabelled names are read in the one encoding under which the most are."""
    wanted = [name for name, member in found.items() if not member and not name.isascii()]
    if not wanted:
        return {}
    bases = {base_of(name) for name in wanted}
    best: dict[str, str] = {}
    most = len(set(unlabelled) & set(found.values()))
    for encoding in ENCODINGS:
        read = {again: name for name in unlabelled if (again := reencoded(name, encoding))}
        fits = len(bases & {base_of(again) for again in read})
        if fits > most and len(read) == len(unlabelled):
            best, most = read, fits
    names = Names(list(best), folders)
    return {name: best[member] for name in wanted if (member := names.find(name)[0])}


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found = defaultdict(list)
    for key, value in pairs:
        found[key].append(value)
    return dict(found)


def _without_zeros(name: str) -> str:
    return re.sub(r"(?<!\d)0+(?=\d)", "", name)
