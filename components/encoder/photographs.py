"""Which photographs there are: each one's size and SHA-256, the key that its embedding is found by."""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pandas as pd

from components.dataset.archive import Location, open_archive
from components.encoder.decoding import MAX_BYTES
from components.encoder.streaming import map_ahead
from components.errors import BadImageError
from components.progress import track
from data_contracts.schema import PHOTOGRAPHS

PHOTOGRAPHS_FILE = "photographs.parquet"

READERS, AHEAD = 4, 16
"""Threads that read, and files in memory at most besides theirs."""


def read_photographs(images: pd.DataFrame, archives: Mapping[str, Location]) -> pd.DataFrame:
    """The table `PHOTOGRAPHS` of the images, each id once, in the order of their ids. Every file is read once.

    `images` has the columns `image_id`, `archive` and `file_name`.
    """
    there = images.drop_duplicates("image_id").sort_values("image_id")
    files = list(zip(there["archive"], there["file_name"], strict=True))
    with ExitStack() as stack:
        opened = {name: stack.enter_context(open_archive(path)) for name, path in archives.items()}
        pool = stack.enter_context(ThreadPoolExecutor(READERS, "read"))

        def facts(file: tuple[str, str]) -> tuple[int, str, str]:
            archive, name = file
            try:
                content = opened[archive].read(name, MAX_BYTES)
            except BadImageError as error:
                return 0, "", str(error)
            return len(content), hashlib.sha256(content).hexdigest(), ""

        found = list(track(map_ahead(pool, facts, files, AHEAD), len(files), "reading photographs"))
    table = there[["image_id", "archive", "file_name"]].reset_index(drop=True)
    table[["bytes", "digest", "error"]] = pd.DataFrame(found, columns=["bytes", "digest", "error"])
    return table.astype(PHOTOGRAPHS)
