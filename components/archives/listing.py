"""What of an archive is a picture: one answer for training, scoring, one's own pictures and Spark."""

from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath

from components.archives.image_archive import NOT_REGULAR, Entry, ImageArchive
from components.errors import TRIED_AGAIN, BadImageError

PICTURES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".webp", ".bmp", ".dib", ".tif", ".tiff"}
    | {".avif", ".avifs", ".heic", ".heics", ".heif", ".heifs", ".hif", ".mpo"}
)
"""Suffixes of the formats that are read (`components.images.decoding`); such a file is an input whatever is in it."""

OTHERS = frozenset(
    {".aae", ".ai", ".bib", ".cfg", ".csv", ".db", ".doc", ".docx", ".eps", ".gz", ".h5", ".htm", ".html", ".ini"}
    | {".jp2", ".jsonl", ".json", ".jxl", ".log", ".md", ".mid", ".mov", ".mp3", ".mp4", ".mpg", ".npy", ".npz"}
    | {".parquet", ".pdf", ".ps", ".psd", ".py", ".rar", ".raw", ".svg", ".tar", ".token", ".toml", ".tsv", ".txt"}
    | {".wav", ".xls", ".xlsx", ".xml", ".xmp", ".yaml", ".yml", ".zip", ".7z", ".m4v", ".avi", ".mkv", ".mts", ".thm"}
    # Raw files begin like TIFF and hold a small preview; unfinished downloads begin like what they will be.
    | {".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".kdc", ".mef", ".mos"}
    | {".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"}
    | {".crdownload", ".download", ".part", ".partial", ".temp", ".tmp"}
)
"""Suffixes of what is no picture, or none that is read. Files with any other suffix, or none, are looked into."""

_JUNK_NAMES = frozenset(
    {".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", ".directory", ".nomedia", ".picasa.ini"}
)
_JUNK_FOLDERS = frozenset(
    {"__macosx", ".git", ".svn", ".hg", ".dvc", ".ipynb_checkpoints", "$recycle.bin", "system volume information"}
    | {".trashes", ".trash", ".spotlight-v100", ".fseventsd", ".thumbnails", ".appledouble", "lost+found"}
    | {"@eadir", "#recycle", "@recycle", ".@__thumb"}
)
"""What operating systems, storage boxes and version control keep beside one's files."""

SYSTEM = "of the system"
REPLACED = "replaced by a later one of the same name"
HEAD = 32
"""Bytes by which a picture's format is told."""
LOOKERS = 8
"""Threads that look into files whose suffix does not say what they are."""
_BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_BRANDS = frozenset({b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"mif2", b"msf1"})


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
    entries = archive.entries()
    with ThreadPoolExecutor(LOOKERS, "look") as pool:
        unclear = [entry for entry in entries if _is_unclear(entry)]
        looked = dict(zip(unclear, pool.map(lambda entry: _look_into(entry, archive), unclear), strict=True))
    inputs, ignored = [], Counter[str]()
    for entry in entries:
        found = looked.get(entry, entry)
        if is_junk(entry.name):
            ignored[SYSTEM] += 1
        elif found and _may_be_input(found):
            inputs.append(found)
        else:
            ignored[_suffix(entry) or "without a suffix"] += 1
    if archive.replaced:
        ignored[REPLACED] = archive.replaced
    return Listing(tuple(inputs), ignored)


def _suffix(entry: Entry) -> str:
    return PurePosixPath(entry.name.rstrip(" .")).suffix.lower()


def _is_unclear(entry: Entry) -> bool:
    return not entry.problem and not is_junk(entry.name) and _suffix(entry) not in PICTURES | OTHERS


def _may_be_input(entry: Entry) -> bool:
    """Whether it is a picture, or cannot be reached and may be one. If its name is unclear, it was looked into."""
    suffix, is_folder = _suffix(entry), entry.name.endswith("/")
    return is_folder or suffix in PICTURES or (suffix not in OTHERS and entry.problem != NOT_REGULAR)


def _look_into(entry: Entry, archive: ImageArchive) -> Entry | None:
    """The entry, with its problem if it cannot be read; none when it is no picture."""
    try:
        return entry if is_picture(archive.read(entry.name, first=HEAD)) else None
    except BadImageError as error:
        return Entry(entry.name, -1, -1, str(error).removesuffix(f"; {TRIED_AGAIN}"))


def is_junk(name: str) -> bool:
    """Whether a file is what an operating system keeps beside others, by its whole name."""
    parts = name.lower().replace("\\", "/").rstrip("/").split("/")  # \ in zip files made on Windows
    folders = any(part in _JUNK_FOLDERS or part.startswith(".trash-") for part in parts)
    return folders or parts[-1].startswith("._") or parts[-1] in _JUNK_NAMES


def is_picture(head: bytes) -> bool:
    """Whether a file that begins like this is of a format that is read."""
    starts = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    # Any text may begin with BM; the size of the second header is one of a few. A film has other brands than HEIF.
    bmp = head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS
    brands = {head[8:12], *(head[i : i + 4] for i in range(16, len(head), 4))}
    heif = head[4:8] == b"ftyp" and not _BRANDS.isdisjoint(brands)
    return head.startswith(starts) or bmp or heif or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def without_junk(entries: Iterable[Entry]) -> list[Entry]:
    """The entries that may be photographs of a captions file."""
    return [entry for entry in entries if not is_junk(entry.name) and not entry.name.endswith("/")]
