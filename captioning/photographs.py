"""Photographs as a notebook has them: paths, folders, bytes, PIL images and arrays, one at a time or many."""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image, ImageOps

from components.archives.archive import Location, is_folder, is_there, open_archive
from components.archives.image_archive import is_url
from components.errors import BadImageError, ConfigurationError
from components.files import read_file
from components.images.decoding import MAX_BYTES
from components.scoring.inputs import INPUT, LISTS, archives_of, list_images, uri_of

Photographs: TypeAlias = Any
"""One of these, or an iterable of them:

- the path or fsspec URL of an image, a folder, a zip file or a list of paths (.txt, .parquet);
- the bytes of an image file;
- a PIL image;
- an array, uint8, (height, width), (height, width, 3 or 4) or (images, height, width, 3 or 4).
"""

PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


@dataclass(frozen=True)
class Photograph:
    """One photograph, read."""

    name: str
    content: bytes
    """As image files have it; empty when it could not be read."""
    error: str = ""
    source: tuple[Location, str] | None = None
    """Archive and name to read it again from; none when it was given in memory."""

    def again(self) -> bytes:
        """The content, read again where it was not kept. Raises `BadImageError` or `OSError`."""
        if self.content or not self.source:
            return self.content
        archive, name = self.source
        if not name:
            return read_file(Path(archive), MAX_BYTES)
        with open_archive(archive) as opened:
            return opened.read(name, MAX_BYTES)


def photographs(given: Photographs) -> Iterator[Photograph]:
    """Every photograph of `given`, in its order; a folder's and a zip file's are sorted by name.

    One that cannot be read, or is not there, has an `error`. Raises `ConfigurationError` for a folder or an archive
    without images, and for what is no photograph.
    """
    if isinstance(given, str | Path):
        yield from _at(given)
    elif isinstance(given, bytes | bytearray | memoryview):
        yield Photograph("bytes", bytes(given))
    elif isinstance(given, Image.Image):
        yield Photograph(Path(str(getattr(given, "filename", ""))).name or "image", _encoded(given))
    elif isinstance(given, np.ndarray) and given.dtype != object:
        yield from _of_array(given)
    elif isinstance(given, Iterable) and not isinstance(given, dict):
        for position, each in enumerate(given):
            for photograph in photographs(each):
                name = photograph.name if photograph.source else f"{photograph.name} {position}"
                yield Photograph(name, photograph.content, photograph.error, photograph.source)
    else:
        raise ConfigurationError(
            f"{type(given).__name__} is no photograph: give a path, a folder, bytes, a PIL image, an array, or a list"
        )


def _at(place: Location) -> Iterator[Photograph]:
    path = Path(place)
    if not is_url(place) and not is_there(path):
        yield Photograph(str(place), b"", "cannot be read: there is no such file or folder", (path, ""))
        return
    if is_url(place) or is_folder(path) or path.suffix.lower() in (".zip", *LISTS):
        images = place if is_url(place) else path
        listing = list_images(images, marked=False)
        if not listing.inputs:
            raise ConfigurationError(f"there is no image in {place}: {listing.summary() or 'it is empty'}")
        archive = archives_of(images)[INPUT]
        with open_archive(archive) as opened:
            for name in listing.names:
                where = (archive, name)
                try:
                    yield Photograph(uri_of(images, name), opened.read(name, MAX_BYTES), source=where)
                except BadImageError as error:
                    yield Photograph(uri_of(images, name), b"", str(error), where)
        return
    try:
        yield Photograph(str(place), read_file(path, MAX_BYTES), source=(path, ""))
    except OSError as error:
        yield Photograph(str(place), b"", f"cannot be read: {error.strerror or error}", (path, ""))


def _of_array(pixels: np.ndarray) -> Iterator[Photograph]:
    if pixels.dtype != np.uint8:
        raise ConfigurationError(
            f"an array of pixels is uint8, from 0 to 255, not {pixels.dtype}; "
            "of values from 0 to 1: (255 * array).round().astype('uint8')"
        )
    shape = pixels.shape
    if pixels.ndim == 2 or (pixels.ndim == 3 and shape[-1] in (3, 4)):
        yield Photograph("array", _encoded(_image_of(pixels)))
    elif pixels.ndim == 4 and shape[-1] in (3, 4):
        for number, each in enumerate(pixels):
            yield Photograph(f"array[{number}]", _encoded(_image_of(each)))
    else:
        raise ConfigurationError(
            f"an array of pixels has the shape (height, width), (height, width, 3 or 4) or (images, height, width, "
            f"3 or 4), not {shape}; of channels first: array.transpose(1, 2, 0)"
        )


def _image_of(pixels: np.ndarray) -> Image.Image:
    if 0 in pixels.shape:
        raise ConfigurationError(f"an array of the shape {pixels.shape} has no pixels")
    return Image.fromarray(np.ascontiguousarray(pixels))


def _encoded(image: Image.Image) -> bytes:
    """Without loss, as a PNG file; turned as its EXIF data say, as files are."""
    try:
        upright = ImageOps.exif_transpose(image)
        upright = upright if upright.mode in PNG_MODES else upright.convert("RGB")
        file = io.BytesIO()
        upright.save(file, "PNG", compress_level=1)
    except (OSError, SyntaxError, ValueError) as error:  # a file that is read only now, and is damaged; or closed
        raise ConfigurationError(f"the PIL image cannot be read: {error}") from error
    return file.getvalue()
