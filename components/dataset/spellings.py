"""The name of a photograph, read ever more loosely."""

import unicodedata
from urllib.parse import unquote

from components.archives.listing import PICTURES

ONE_FORMAT = {".jpeg": ".jpg", ".jpe": ".jpg", ".jfif": ".jpg", ".tiff": ".tif", ".heif": ".heic", ".hif": ".heic"}
"""Suffixes of one format."""


def spellings(name: str) -> tuple[str, ...]:
    """The path of a name, read ever more loosely: in one Unicode form and with one separator, as an address, without
    letter case, with one suffix per format, without an image's suffix.
    """
    text = _composed(name).replace("\\", "/")
    address = text
    if "://" in text:
        address = text.partition("://")[2].partition("/")[2].partition("?")[0].partition("#")[0]
    elif "?" in text and suffix_of((before := text.partition("?")[0]).lower()):
        address = before
    path = _tidy(text)
    if "%" in address:
        address = _composed(unquote(address)).replace("\\", "/")
    address = path if address is text else _tidy(address)
    folded = _composed(address.casefold())
    suffix = suffix_of(folded)
    stem = folded.removesuffix(suffix)
    return path, address, folded, stem + ONE_FORMAT.get(suffix, suffix), stem


def base_of(name: str) -> str:
    """The last part of a name in its loosest spelling."""
    return spellings(name)[-1].rpartition("/")[2]


def is_image(name: str) -> bool:
    """Whether a name ends in the suffix of an image."""
    return spellings(name)[-1] != spellings(name)[-2]


def suffix_of(path: str) -> str:
    """The suffix of an image in a loosely spelled path; empty when there is none."""
    stem, dot, suffix = path.rpartition("/")[2].rpartition(".")
    return dot + suffix if stem and dot + suffix in PICTURES else ""


def _composed(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _tidy(path: str) -> str:
    """The path without empty parts, dots, and spaces around its parts."""
    kept: list[str] = []
    for part in map(str.strip, path.split("/")):
        if part == ".." and kept:
            kept.pop()
        elif part not in ("", ".", ".."):
            kept.append(part)
    return "/".join(kept)
