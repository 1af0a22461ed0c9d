"""What of an archive is a picture: one answer for training, scoring, one's own pictures and Spark."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from components.dataset.archive import ImageArchive
from components.dataset.folder import Entry

PICTURES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".webp", ".bmp", ".dib", ".tif", ".tiff"}
    | {".avif", ".avifs", ".heic", ".heics", ".heif", ".heifs", ".hif", ".mpo"}
)
"""Suffixes of the formats that are read (`components.encoder.decoding`); such a file is an input whatever is in it."""

OTHERS = frozenset(
    {".aae", ".ai", ".bib", ".cfg", ".csv", ".db", ".doc", ".docx", ".eps", ".gz", ".h5", ".htm", ".html", ".ini"}
    | {".jp2", ".jsonl", ".json", ".jxl", ".log", ".md", ".mid", ".mov", ".mp3", ".mp4", ".mpg", ".npy", ".npz"}
    | {".parquet", ".pdf", ".ps", ".psd", ".py", ".rar", ".raw", ".svg", ".tar", ".token", ".toml", ".tsv", ".txt"}
    | {".wav", ".xls", ".xlsx", ".xml", ".xmp", ".yaml", ".yml", ".zip", ".7z", ".arw", ".cr2", ".cr3", ".dng", ".nef"}
    | {".orf", ".raf", ".rw2"}
)
"""Suffixes of what is no picture, or none that is read. Files with any other suffix, or none, are looked into."""

_JUNK_NAMES = frozenset({".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
_JUNK_FOLDERS = frozenset(
    {"__macosx", ".git", ".dvc", "@eadir", ".ipynb_checkpoints", "$recycle.bin", "system volume information"}
    | {".trashes", ".spotlight-v100", ".fseventsd", ".thumbnails", ".appledouble"}
)
"""What operating systems, storage boxes and version control keep beside one's files."""

SYSTEM = "of the system"
HEAD = 16
"""Bytes by which a picture's format is told."""


@dataclass(frozen=True)
class Listing:
    """Every file of an archive has one place here."""

    inputs: tuple[Entry, ...]
    """Pictures, and what cannot be reached and may be one, sorted by name."""
    ignored: Mapping[str, int]
    """How many files were passed over, by their suffix."""

    @property
    def names(self) -> list[str]:
        """Of the inputs."""
        return [entry.name for entry in self.inputs]

    def summary(self) -> str:
        """The files that were passed over, in a line; empty when there are none."""
        if not self.ignored:
            return ""
        parts = sorted(self.ignored.items(), key=lambda part: (-part[1], part[0]))
        count = sum(self.ignored.values())
        named = ", ".join(f"{number:,} {suffix}" for suffix, number in parts[:8]) + (", …" if len(parts) > 8 else "")
        return f"{count:,} {'file' if count == 1 else 'files'} ignored: {named}"


def list_pictures(archive: ImageArchive) -> Listing:
    """The pictures of an archive, and what else is in it. Raises what `ImageArchive.entries` raises."""
    inputs, ignored = [], Counter[str]()
    for entry in archive.entries():
        suffix = PurePosixPath(entry.name).suffix.lower()
        if is_junk(entry.name):
            ignored[SYSTEM] += 1
        elif suffix in PICTURES or entry.name.endswith("/") or (suffix not in OTHERS and _may_be(entry, archive)):
            inputs.append(entry)
        else:
            ignored[suffix or "without a suffix"] += 1
    return Listing(tuple(inputs), ignored)


def _may_be(entry: Entry, archive: ImageArchive) -> bool:
    return bool(entry.problem) or is_picture(archive.head(entry.name, HEAD))


def is_junk(name: str) -> bool:
    """Whether a file is what an operating system keeps beside others, by its whole name."""
    *folders, last = name.lower().rstrip("/").split("/")
    return last.startswith("._") or last in _JUNK_NAMES or not _JUNK_FOLDERS.isdisjoint([*folders, last])


def is_picture(head: bytes) -> bool:
    """Whether a file that begins like this is of a format that is read."""
    starts = (
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"GIF87a",
        b"GIF89a",
        b"BM",
        b"II*\0",
        b"MM\0*",
        b"II+\0",
        b"MM\0+",
    )
    heif = head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis", b"heic", b"heix", b"hevc", b"mif1", b"msf1")
    return head.startswith(starts) or heif or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def without_junk(entries: Iterable[Entry]) -> list[Entry]:
    """The entries that may be photographs of a captions file."""
    return [entry for entry in entries if not is_junk(entry.name) and not entry.name.endswith("/")]
