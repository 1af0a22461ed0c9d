"""The page of a predictions' data set, with a thumbnail of every picture that can still be read."""

import logging
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from components.archives.archive import Location, open_archive
from components.archives.image_archive import ImageArchive
from components.errors import BadImageError, CaptioningError, ConfigurationError
from components.images.decoding import MAX_BYTES, decode
from components.images.streaming import map_ahead
from components.pages.batch import Batch, thumbnail_path, write_batch_page
from components.pages.thumbnails import jpeg
from components.progress import track
from components.scoring.dataset import read_batches
from components.scoring.inputs import place_of
from components.vocabulary.tokenizer import tokenize

log = logging.getLogger(__name__)

PAGE_FILE, PAGE_FOLDER = "_page.html", "_page"
"""In the data set's folder. Readers of Parquet folders pass over names that begin with an underscore."""
SIDE, QUALITY = 280, 72
"""Of a thumbnail: longest side (pixels) and JPEG quality."""
WORKERS, AHEAD = 4, 16


def write_page(folder: Path, images: Location | None = None, single_file: Path | None = None) -> Path:
    """Writes the page of the data set in `folder`; `images` says where the last batch was listed. Returns its path.

    With `single_file` that page holds its pictures, of the last 500 rows. Raises `ConfigurationError` when there is no
    data set, `CaptioningError` when a batch of it is damaged.
    """
    batches = [
        Batch(
            key, _name_of(manifest["model"]), rows.assign(words=[len(tokenize(caption)) for caption in rows["caption"]])
        )
        for key, manifest, rows in read_batches(folder)
    ]
    if not batches:
        raise ConfigurationError(f"there are no predictions in {folder}; `captioning score --out {folder}` makes some")
    thumbnails = folder / PAGE_FOLDER / "thumbnails"
    wanted = {
        digest: uri
        for batch in batches
        for digest, uri, status in zip(batch.rows["image_id"], batch.rows["uri"], batch.rows["status"], strict=True)
        if status == "ok" and not thumbnail_path(thumbnails, digest).exists()
    }
    make_thumbnails(((digest, *place_of(uri, images)) for digest, uri in wanted.items()), thumbnails)
    if single_file:
        return write_batch_page(batches, single_file, single_file.parent, thumbnails, single_file=True)
    return write_batch_page(batches, folder / PAGE_FILE, folder / PAGE_FOLDER, thumbnails)


def _name_of(model: str) -> str:
    """`models:/captioner/3` as people say it."""
    name, _, version = model.removeprefix("models:/").partition("/")
    return f"{name} version {version}" if version else name


def make_thumbnails(wanted: Iterable[tuple[str, Location, str]], thumbnails: Path) -> None:
    """Writes a thumbnail per content, archive and name. A picture that cannot be read any more has none."""
    places: dict[Location, list[tuple[str, str]]] = defaultdict(list)
    for digest, archive, name in wanted:
        places[archive].append((digest, name))
    for location, pictures in places.items():
        try:
            with open_archive(location) as opened, ThreadPoolExecutor(WORKERS, "thumbnail") as pool:
                lost = _write_all(opened, pictures, thumbnails, pool)
        except CaptioningError:  # the archive is gone
            lost = len(pictures)
        if lost:
            log.warning("%s: %s pictures cannot be read any more: the page shows their captions only", location, lost)


def _write_all(
    archive: ImageArchive, pictures: list[tuple[str, str]], thumbnails: Path, pool: ThreadPoolExecutor
) -> int:
    """Returns how many could not be read."""

    def write(picture: tuple[str, str]) -> bool:
        digest, name = picture
        path = thumbnail_path(thumbnails, digest)
        try:
            content = jpeg(decode(archive.read(name, MAX_BYTES)), SIDE, QUALITY)
        except BadImageError:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(content)
        temporary.replace(path)
        return True

    written = track(map_ahead(pool, write, pictures, AHEAD), len(pictures), "thumbnails")
    return len(pictures) - sum(written)
