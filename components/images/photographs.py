"""Which photographs there are: each one's size and SHA-256, the key that its embedding is found by."""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pandas as pd

from components.archives.archive import Location, open_archive
from components.errors import TRIED_AGAIN, BadImageError, TransientImageError
from components.images.decoding import MAX_BYTES
from components.images.streaming import map_ahead
from components.progress import track
from data_contracts.schema import PHOTOGRAPHS

PHOTOGRAPHS_FILE = "photographs.parquet"

File = tuple[str, str]
"""An archive's name and a file's name in it."""
Facts = tuple[int, str, str]
"""Bytes, SHA-256, and why it cannot be read."""

READERS, AHEAD = 4, 16
"""Threads that read, and files in memory at most besides theirs."""


def read_photographs(
    images: pd.DataFrame, archives: Mapping[str, Location], earlier: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The table `PHOTOGRAPHS` of the images, each id once, in the order of their ids. Every file is read once.

    `images` has the columns `image_id`, `archive` and `file_name`, and may have `problem`, the reason why a file cannot
    be reached. `earlier` is such a table of the same files: what it has read is taken from there.
    """
    there = images.drop_duplicates("image_id").sort_values("image_id").reset_index(drop=True)
    files = list(zip(there["archive"], there["file_name"], strict=True))
    facts = _facts_of(earlier) if earlier is not None else {}
    if "problem" in there:
        reasons = zip(files, there["problem"], strict=True)
        facts |= {file: (0, "", str(TransientImageError(why))) for file, why in reasons if why}
    unread = [file for file in dict.fromkeys(files) if file not in facts]
    with ExitStack() as stack:
        opened = {name: stack.enter_context(open_archive(path)) for name, path in archives.items()}
        pool = stack.enter_context(ThreadPoolExecutor(READERS, "read"))

        def read(file: File) -> Facts:
            archive, name = file
            try:
                content = opened[archive].read(name, MAX_BYTES)
            except BadImageError as error:
                return 0, "", str(error)
            return len(content), hashlib.sha256(content).hexdigest(), ""

        found = track(map_ahead(pool, read, unread, AHEAD), len(unread), "reading photographs")
        facts |= zip(unread, found, strict=True)
    table = there[["image_id", "archive", "file_name"]].copy()
    table[["bytes", "digest", "error"]] = pd.DataFrame(
        [facts[file] for file in files], columns=["bytes", "digest", "error"]
    )
    return table.astype(PHOTOGRAPHS)


def is_transient(reasons: pd.Series) -> pd.Series:
    """Which of the reasons why images cannot be read may pass."""
    return reasons.str.endswith(TRIED_AGAIN)


def _facts_of(earlier: pd.DataFrame) -> dict[File, Facts]:
    read = earlier[~is_transient(earlier["error"])]
    files = zip(read["archive"], read["file_name"], strict=True)
    return dict(zip(files, zip(read["bytes"], read["digest"], read["error"], strict=True), strict=True))
