"""From a caption to words, in any script; in English as the notebook does it."""

import re
import unicodedata
from functools import cache
from typing import Any

from components.vocabulary.spacing import UNSPACED

_UNSPACED = re.compile(f"[{UNSPACED}]")
_RUN = re.compile(rf"[{UNSPACED}]+|[^{UNSPACED}]+")
_JOINERS = frozenset("\u200c\u200d")
"""They shape the letters around them, as in Persian and Hindi, and part no word."""
_UNSEEN = re.compile("[\u00ad\u034f\u2060\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""Soft hyphens, joiners of lines, and selectors of a glyph: they change how a word looks, not what it is."""


def tokenize(caption: str) -> list[str]:
    """The words of a caption: lower-case runs of letters, digits and underscores, with the marks that belong to them.

    The text is in Unicode's normal form C first, so that one word has one spelling. Everything else separates words.
    Runs of scripts without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese) are divided by ICU's dictionaries
    (UAX #29). Spelling stays as people read it: `ß` is not `ss`, as case folding would have it.
    """
    if caption.isascii():
        return re.findall(r"\w+", caption.lower())
    text = unicodedata.normalize("NFC", normalise(_UNSEEN.sub("", caption)).lower())
    return [part for word in _words(text) for part in _parts(word)]


def normalise(text: str) -> str:
    """The text in Unicode's form NFC, fit to be lowered: the dotted I of Turkish would become an i and a dot."""
    return unicodedata.normalize("NFC", text).replace("\u0130", "i")


def _parts(word: str) -> list[str]:
    """The word, divided where it is of a script without spaces. A mark stays with what is before it."""
    if not _UNSPACED.search(word):
        return [word]
    found: list[str] = []
    for run in _RUN.findall(word):
        for part in _divide(run) if _UNSPACED.match(run) else [run]:
            if found and _goes_on(part[0]):
                found[-1] += part
            else:
                found.append(part)
    return found


def _words(text: str) -> list[str]:
    """Runs of letters, digits and underscores; marks and joiners go on a run that has begun."""
    kept = []
    inside = False
    for character in text:
        begins = character.isalnum() or character == "_"
        inside = begins or (inside and _goes_on(character))
        kept.append(character if inside else " ")
    return [word for word in (word.strip("\u200c\u200d") for word in "".join(kept).split(" ")) if word]


def _goes_on(character: str) -> bool:
    return character in _JOINERS or unicodedata.category(character) in ("Mn", "Mc")


def _divide(run: str) -> list[str]:
    """The words of a run without spaces."""
    # ICU counts in UTF-16.
    encoded = run.encode("utf-16-le")
    return [encoded[2 * start : 2 * end].decode("utf-16-le") for start, end in _breaker()(run, "und").segments()]


@cache
def _breaker() -> Any:
    from icu4py.breakers import WordBreaker

    return WordBreaker
