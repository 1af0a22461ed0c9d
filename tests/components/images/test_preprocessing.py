import contextlib
import io
import os
import struct
import zlib
from itertools import islice
from pathlib import Path
from typing import Any, get_args
from zipfile import ZipFile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image

from components.errors import BadImageError, TransientImageError
from components.images import decoding
from components.images.decoding import MAX_PIXELS
from components.images.preprocessing import PREPROCESSING, Preprocessing, read_pixels

MODES = get_args(Preprocessing)
PHOTOS = Path(__file__).parents[3].parent / "shared" / "data" / "coco-photos" / "photos.zip"


def encoded(pixels: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(file, kind, **options)
    return file.getvalue()


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def centre(pixels: np.ndarray) -> np.ndarray:
    """The centre square; where a side is odd, the pixel goes from the top or the left."""
    height, width, _ = pixels.shape
    side = min(height, width)
    top, left = -((side - height) // 2), -((side - width) // 2)
    return pixels[top : top + side, left : left + side]


def bilinear(square: np.ndarray, size: int) -> np.ndarray:
    """Resized as OpenCV's INTER_LINEAR does it: half-pixel centres, no antialiasing, clamped."""
    side = len(square)
    at = np.clip((np.arange(size) + 0.5) * side / size - 0.5, 0, side - 1)
    before = np.floor(at).astype(int)
    after, share = np.minimum(before + 1, side - 1), at - before
    rows = square[before].astype(float) * (1 - share)[:, None, None] + square[after] * share[:, None, None]
    return np.asarray(rows[:, before] * (1 - share)[:, None] + rows[:, after] * share[:, None])


def triangle(square: np.ndarray, size: int) -> np.ndarray:
    """Each new pixel is a mean of old ones, whose weights fall off linearly around its centre."""
    scale = len(square) / size
    distance = (np.arange(size) + 0.5)[:, None] * scale - (np.arange(len(square)) + 0.5)
    weights = np.clip(1 - np.abs(distance) / max(scale, 1), 0, None)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.asarray(np.einsum("yr,rcd,xc->yxd", weights, square, weights))


REFERENCES = {"notebook": (bilinear, 0.51), "antialias": (triangle, 1.01)}
"""How each mode resizes, and by how much it may differ: Pillow rounds twice, after the rows and the columns."""
sides = st.integers(1, 70)


@pytest.mark.parametrize("mode", MODES)
@given(side=sides, size=st.integers(1, 100), seed=st.integers(0, 9))
def test_pixels_are_those_of_a_plain_resize(mode: Preprocessing, side: int, size: int, seed: int) -> None:
    pixels = noise(side, side, seed)
    found = read_pixels(encoded(pixels), size, mode)
    assert found.shape == (size, size, 3)
    assert found.dtype == np.uint8
    reference, tolerance = REFERENCES[mode]
    assert np.abs(found - reference(pixels, size)).max() < tolerance


@pytest.mark.parametrize("mode", MODES)
@given(width=sides, height=sides, size=st.integers(1, 100))
def test_what_lies_outside_the_centre_square_does_not_count(
    mode: Preprocessing, width: int, height: int, size: int
) -> None:
    pixels = noise(width, height)
    cropped = encoded(np.ascontiguousarray(centre(pixels)))
    assert np.array_equal(read_pixels(encoded(pixels), size, mode), read_pixels(cropped, size, mode))


@given(width=sides, height=sides, size=st.integers(1, 100), seed=st.integers(0, 9))
def test_the_notebooks_pixels_are_opencvs(width: int, height: int, size: int, seed: int) -> None:
    cv2 = pytest.importorskip("cv2")
    pixels = noise(width, height, seed)
    expected = cv2.resize(np.ascontiguousarray(centre(pixels)), (size, size)).astype(int)
    assert np.abs(read_pixels(encoded(pixels), size, "notebook") - expected).max() <= 1


@pytest.mark.skipif(not PHOTOS.exists(), reason=f"no {PHOTOS}")
def test_photographs_become_what_opencv_makes_of_them() -> None:
    """The notebook's way from the file on: OpenCV's decoder, its crop, its resize."""
    cv2 = pytest.importorskip("cv2")
    with ZipFile(PHOTOS) as archive:
        files = [archive.read(name) for name in islice(archive.namelist(), 0, None, 3)]
    for data in files:
        decoded = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        expected = cv2.resize(np.ascontiguousarray(centre(decoded)), (299, 299)).astype(int)
        assert np.abs(read_pixels(data, 299, "notebook") - expected).max() <= 1


def test_antialiasing_sees_every_pixel_of_a_fine_checkerboard() -> None:
    board = np.where(np.indices((90, 90)).sum(axis=0) % 2, 255, 0).astype(np.uint8)
    data = encoded(np.stack([board] * 3, -1))
    assert np.abs(read_pixels(data, 30, "antialias").astype(int)[1:-1, 1:-1] - 127.5).max() <= 15
    assert set(np.unique(read_pixels(data, 30, "notebook"))) == {0, 255}


@pytest.mark.parametrize("mode", MODES)
@given(width=sides, height=sides)
def test_a_square_of_the_right_size_is_not_changed(mode: Preprocessing, width: int, height: int) -> None:
    pixels = noise(width, height)
    assert np.array_equal(read_pixels(encoded(pixels), min(width, height), mode), centre(pixels))


def test_every_preprocessing_has_a_name_of_its_own() -> None:
    assert set(PREPROCESSING) == set(MODES)
    assert len(set(PREPROCESSING.values())) == len(MODES)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("width", "height"), [(5, 5), (6, 5), (5, 6), (7, 5), (8, 5), (5, 8)])
def test_the_odd_pixel_goes_from_the_left_or_the_top(width: int, height: int, mode: Preprocessing) -> None:
    pixels = noise(width, height)
    left, top = (width - 5 + 1) // 2, (height - 5 + 1) // 2
    assert np.array_equal(read_pixels(encoded(pixels), 5, mode), pixels[top : top + 5, left : left + 5])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda stored: stored),
        (2, np.fliplr),
        (3, lambda stored: np.rot90(stored, 2)),
        (4, np.flipud),
        (5, lambda stored: stored.transpose(1, 0, 2)),
        (6, lambda stored: np.rot90(stored, -1)),
        (7, lambda stored: np.rot90(stored, 2).transpose(1, 0, 2)),
        (8, np.rot90),
    ],
)
def test_photographs_are_turned_upright_before_they_are_cropped(
    orientation: int, upright: Any, mode: Preprocessing
) -> None:
    stored = noise(8, 5)
    exif = Image.Exif()
    exif[0x0112] = orientation
    expected = read_pixels(encoded(np.ascontiguousarray(upright(stored))), 5, mode)
    assert np.array_equal(read_pixels(encoded(stored, exif=exif), 5, mode), expected)


ramp = np.arange(16, dtype=np.uint8).reshape(4, 4) * 17
grey = np.stack([ramp] * 3, -1)
colours = noise(4, 4, seed=1)


def translucent(alpha: np.ndarray) -> np.ndarray:
    return np.concatenate([colours, alpha[..., None]], -1)


def on_white(alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return np.asarray(colours * share + 255 * (1 - share))


def indexed(**options: Any) -> bytes:
    image = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4), "P")
    image.putpalette(colours.tobytes())
    return encoded(image, **options)


def test_palette_with_transparent_colour_lies_on_white() -> None:
    found = read_pixels(indexed(transparency=2), 4, "notebook")
    expected = colours.copy()
    expected[0, 2] = 255
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(encoded(ramp), grey, id="greyscale"),
        pytest.param(encoded(ramp.astype(np.uint16) * 257), grey, id="16-bit greyscale PNG"),
        pytest.param(encoded(ramp.astype(np.uint16) * 257, "TIFF"), grey, id="16-bit greyscale TIFF"),
        pytest.param(encoded(Image.fromarray(ramp > 100)), np.where(grey > 100, 255, 0), id="black and white"),
        pytest.param(indexed(), colours, id="palette"),
        pytest.param(encoded(translucent(ramp)), on_white(ramp), id="alpha"),
        pytest.param(encoded(np.dstack([ramp, ramp * 0])), grey * 0 + 255, id="transparent greyscale"),
        pytest.param(encoded(colours, "WEBP", lossless=True), colours, id="WebP"),
        pytest.param(encoded(colours, "BMP"), colours, id="BMP"),
        pytest.param(encoded(colours, "TIFF", compression="tiff_lzw"), colours, id="TIFF"),
        pytest.param(encoded(Image.fromarray(255 - colours).convert("CMYK"), "TIFF"), 255 - colours, id="CMYK TIFF"),
    ],
)
def test_any_kind_of_image_becomes_rgb(data: bytes, expected: np.ndarray) -> None:
    assert np.abs(read_pixels(data, 4, "notebook") - expected.astype(float)).max() <= 1


def test_cmyk_jpeg_has_its_colours() -> None:
    orange = Image.new("RGB", (16, 16), (250, 120, 10))
    found = read_pixels(encoded(orange.convert("CMYK"), "JPEG", quality=95), 4, "notebook")
    assert np.abs(found - np.array([250.0, 120, 10])).max() <= 6


def test_an_animation_is_its_first_frame() -> None:
    frames = [Image.new("RGB", (6, 6), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "WEBP"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
        assert read_pixels(data, 1, "notebook").tolist() == [[[pytest.approx(255, abs=3), pytest.approx(0, abs=3), 0]]]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1)])
def test_one_pixel_is_enough(size: tuple[int, int], mode: Preprocessing) -> None:
    found = read_pixels(encoded(Image.new("RGB", size, (1, 2, 3))), 3, mode)
    assert np.array_equal(found, np.full((3, 3, 3), [1, 2, 3]))


def png_header(width: int, height: int) -> bytes:
    """A PNG that ends where its pixels begin."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", 10**6) + b"IDAT"


JPEG = encoded(noise(40, 30), "JPEG")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"<html>not found</html>", "not an image", id="text"),
        pytest.param(JPEG[: len(JPEG) // 2], "truncated", id="half a JPEG"),
        pytest.param(JPEG[:20], "image", id="start of a JPEG"),
        pytest.param(encoded(noise(40, 30))[:-100], "truncated", id="truncated PNG"),
        pytest.param(
            png_header(MAX_PIXELS // 1000 + 1, 1000), f"{MAX_PIXELS // 1000 + 1} × 1000 pixels are more", id="too large"
        ),
        pytest.param(png_header(2**31 - 1, 2**31 - 1), "pixels", id="gigantic"),
        pytest.param(png_header(0, 5), "image", id="no width"),
        pytest.param(b"BLP1" + struct.pack("<iii", -1, 0, 0) + b"\0" * 2000, "image", id="unknown encoding"),
    ],
)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_cannot_be_read_is_a_bad_image(data: bytes, reason: str, mode: Preprocessing) -> None:
    with pytest.raises(BadImageError, match=reason):
        read_pixels(data, 8, mode)


def test_more_bytes_than_allowed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_BYTES", len(JPEG))
    assert read_pixels(JPEG, 8, "notebook").shape == (8, 8, 3)
    with pytest.raises(BadImageError, match=f"{len(JPEG) + 1:,} bytes are more than {len(JPEG):,}"):
        read_pixels(JPEG + b"0", 8, "notebook")


@pytest.mark.parametrize("kind", ["JPEG2000", "ICO", "DDS", "PCX", "PPM", "TGA"])
def test_other_formats_are_not_decoded(kind: str) -> None:
    data = encoded(noise(9, 8), kind)
    Image.open(io.BytesIO(data)).load()
    with pytest.raises(BadImageError, match="not an image of a known format"):
        read_pixels(data, 8, "notebook")


def test_the_reason_is_the_same_each_time() -> None:
    reasons = []
    for _ in range(2):
        with pytest.raises(BadImageError) as caught:
            read_pixels(b"<html>not found</html>", 8, "notebook")
        reasons.append((str(caught.value), caught))  # alive, so that no address in memory is used again
    assert reasons[0][0] == reasons[1][0]


def test_no_program_is_started_for_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow hands PostScript to Ghostscript where that is installed; photographs are not programs."""
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f'#!/bin/sh\n[ "$1" = --version ] || touch {tmp_path}/started\n')
    ghostscript.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    with pytest.raises(BadImageError):
        read_pixels(encoded(noise(9, 8), "EPS"), 8, "notebook")
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("mode", MODES)
def test_too_little_memory_for_the_square_may_pass(mode: Preprocessing, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "crop", fail)
    with pytest.raises(TransientImageError, match="memory"):
        read_pixels(JPEG, 8, mode)


def pixels_or_bad_image(data: bytes) -> None:
    with contextlib.suppress(BadImageError):
        assert read_pixels(data, 8, "notebook").shape == (8, 8, 3)


KINDS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "MPO", "AVIF")
SMALL = {kind: encoded(noise(9, 8), kind) for kind in KINDS}


@given(
    st.binary(max_size=300), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0"])
)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # what Pillow says of odd metadata before it goes on
def test_no_bytes_raise_another_error(data: bytes, signature: bytes) -> None:
    pixels_or_bad_image(signature + data)


@pytest.mark.parametrize("kind", KINDS)
@given(
    changes=st.lists(st.tuples(st.integers(0, 1999), st.integers(0, 255)), min_size=1, max_size=6),
    end=st.none() | st.integers(0, 1999),
)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_images_raise_no_other_error(kind: str, changes: list[tuple[int, int]], end: int | None) -> None:
    data = bytearray(SMALL[kind])
    for position, value in changes:
        data[position % len(data)] = value
    pixels_or_bad_image(bytes(data[:end]))
