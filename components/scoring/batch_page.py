"""The page of a predictions' data set, with a thumbnail of every picture that can still be read."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
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
from components.scoring.dataset import MANIFEST, read_batches
from components.scoring.inputs import place_of
from components.vocabulary.tokenizer import tokenize

log = logging.getLogger(__name__)

PAGE_FILE, PAGE_FOLDER, THUMBNAILS = "_page.html", "_page", "thumbnails"
"""In the data set's folder. Readers of Parquet folders pass over names that begin with an underscore."""
SIDE, QUALITY = 280, 72
"""Of a thumbnail: longest side (pixels) and JPEG quality."""
WORKERS, AHEAD = 4, 16


def is_stale(folder: Path) -> bool:
    """Whether a batch is newer than the page, as after a kill, or there is no page."""
    page = folder / PAGE_FILE
    batches = [path.stat().st_mtime_ns for path in folder.glob(f"batch=*/{MANIFEST}")]
    return bool(batches) and (not page.exists() or page.stat().st_mtime_ns < max(batches))


def load_batches(folder: Path, images: Location | None = None) -> list[Batch]:
    """The batches of the data set in `folder`, and a thumbnail of every picture of them that can be read.

    `images` says where the last batch was listed. Raises `ConfigurationError` when there is no data set,
    `CaptioningError` when a batch of it is damaged.
    """
    batches = []
    for key, manifest, rows in read_batches(folder):
        words = [len(tokenize(caption)) for caption in rows["caption"]]
        batches.append(Batch(key, _name_of(manifest["model"]), rows.assign(words=words)))
    if not batches:
        raise ConfigurationError(f"there are no predictions in {folder}; `captioning score --out {folder}` makes some")
    thumbnails = folder / PAGE_FOLDER / THUMBNAILS
    wanted = {
        digest: uri
        for batch in batches
        for digest, uri, status in zip(batch.rows["image_id"], batch.rows["uri"], batch.rows["status"], strict=True)
        if status == "ok" and not thumbnail_path(thumbnails, digest).exists()
    }
    make_thumbnails(((digest, *place_of(uri, images)) for digest, uri in wanted.items()), thumbnails)
    return batches


def write_page(folder: Path, batches: Sequence[Batch]) -> Path:
    """Writes the page of all rows into the data set's folder. Returns its path."""
    return write_batch_page(batches, folder / PAGE_FILE, folder / PAGE_FOLDER, folder / PAGE_FOLDER / THUMBNAILS)


def write_single_page(folder: Path, batches: Sequence[Batch], page: Path) -> Path:
    """Writes the page of the last 500 rows with their pictures, one file. Returns its path."""
    return write_batch_page(batches, page, None, folder / PAGE_FOLDER / THUMBNAILS)


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
