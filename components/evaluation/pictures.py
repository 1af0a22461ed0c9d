"""Every image of an evaluation as a page shows it: its name, what people wrote about it, and a thumbnail."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pandas as pd

from components.archives.archive import open_archive
from components.errors import BadImageError
from components.images.decoding import MAX_BYTES, decode
from components.images.streaming import map_ahead
from components.pages.thumbnails import jpeg

PICTURES_FILE = "pictures.parquet"
MAX_THUMBNAILS = 1000
"""More would make a page too heavy to be mailed; further images are shown by name."""
SIDE, QUALITY = 140, 45
"""Of a thumbnail: longest side (pixels) and JPEG quality; 2 to 3 kB."""
WORKERS, AHEAD = 4, 16


def write_pictures(
    images: pd.DataFrame, references: Mapping[int, Sequence[str]], archives: Mapping[str, Path], folder: Path
) -> pd.DataFrame:
    """Writes and returns a row per image: `image_id`, `name`, `references`, `thumbnail` (JPEG, or empty)."""
    rows = images.drop_duplicates("image_id").set_index("image_id").loc[list(references)]
    shown = rows.head(MAX_THUMBNAILS)
    with ExitStack() as stack:
        opened = {name: stack.enter_context(open_archive(path)) for name, path in archives.items()}
        pool = stack.enter_context(ThreadPoolExecutor(WORKERS, "thumbnail"))

        def thumbnail(place: tuple[str, str]) -> bytes:
            archive, name = place
            try:
                return jpeg(decode(opened[archive].read(name, MAX_BYTES)), SIDE, QUALITY)
            except BadImageError:  # it is gone since it was embedded
                return b""

        places = zip(shown["archive"], shown["file_name"], strict=True)
        thumbnails = list(map_ahead(pool, thumbnail, places, AHEAD))
    table = pd.DataFrame({
        "image_id": list(references),
        "name": [Path(name).name for name in rows["file_name"]],
        "references": [list(texts) for texts in references.values()],
        "thumbnail": thumbnails + [b""] * (len(rows) - len(shown)),
    })  # fmt: skip
    table.to_parquet(folder / PICTURES_FILE, index=False)
    return table


def read_pictures(folder: Path, image_ids: Iterable[int]) -> pd.DataFrame:
    """What `write_pictures` wrote; of an evaluation by an earlier version the ids of its images."""
    path = folder / PICTURES_FILE
    if path.exists():
        return pd.read_parquet(path)
    ids = list(image_ids)
    return pd.DataFrame({"image_id": ids, "name": "", "references": [[]] * len(ids), "thumbnail": b""})
