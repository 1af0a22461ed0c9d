"""Numbers become colours by what they are; what cannot be decoded, or read in one way only, has its reason."""

import io
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.errors import BadImageError, TransientImageError
from components.images import decoding
from components.images.decoding import decode
from tests import pictures

FILES = Path(__file__).with_name("files")
CASES = Path(__file__).parents[3].parent / "shared" / "cases"
GREY = np.linspace(0, 255, 48 * 32).reshape(32, 48).round().astype(np.uint8)
"""Every level from black to white."""


def avif() -> bytes:
    file = io.BytesIO()
    Image.fromarray(GREY).save(file, "AVIF")
    return file.getvalue()


def tiff(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, "TIFF")
    return file.getvalue()


def png(values: np.ndarray) -> bytes:
    """16 bits a channel: (height, width) or (height, width, 3)."""
    height, width = values.shape[:2]
    colour = 0 if values.ndim == 2 else 2
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)), (b"IDAT", zlib.compress(rows))]
    packed = (
        struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in [*chunks, (b"IEND", b"")]
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def tagged(values: np.ndarray, **tags: int) -> bytes:
    """A TIFF of one channel, little-endian, as NumPy has it; `tags` as `t258=16`."""
    height, width = values.shape
    usual = {256: width, 257: height, 258: values.itemsize * 8, 262: 1, 273: 8, 277: 1, 278: height}
    usual |= {279: values.nbytes, 339: {"u": 1, "i": 2, "f": 3}[values.dtype.kind]}
    listed = sorted((usual | {int(tag[1:]): value for tag, value in tags.items()}).items())
    entries = b"".join(
        struct.pack("<HHII", tag, 4 if tag in (256, 257, 273, 278, 279) else 3, 1, v) for tag, v in listed
    )
    directory = struct.pack("<H", len(listed)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + values.nbytes) + values.tobytes() + directory


def packed(values: np.ndarray) -> np.ndarray:
    """12 bits each, two in three bytes."""
    a, b = values[:, ::2].astype(int), values[:, 1::2].astype(int)
    return np.stack([a >> 4, (a & 15) << 4 | b >> 8, b & 255], axis=2).reshape(len(values), -1).astype(np.uint8)


def share(bits: int, kind: type) -> np.ndarray:
    """The grey levels in so many bits."""
    return np.asarray((GREY / 255 * (2**bits - 1)).round(), kind)


@pytest.mark.parametrize(
    ("data", "tolerance"),
    [
        pytest.param(tiff((GREY / 255).astype(np.float32)), 0, id="float, 0 to 1"),
        pytest.param(tiff((GREY / 255 * 0.4).astype(np.float32)), 160, id="float, a dim one"),
        pytest.param(tiff(GREY.astype(np.float32)), 0, id="float, 0 to 255"),
        pytest.param(tiff(GREY.astype(np.int32)), 0, id="8 bits in 32"),
        pytest.param(tiff(share(10, np.int32)), 1, id="10 bits in 32"),
        pytest.param(tiff(share(12, np.int32)), 1, id="12 bits in 32"),
        pytest.param(tiff(share(16, np.int32)), 1, id="16 bits in 32"),
        pytest.param(tiff(GREY.astype(np.uint16)), 0, id="8 bits in 16"),
        pytest.param(tiff(share(10, np.uint16)), 1, id="10 bits in 16"),
        pytest.param(tiff(share(12, np.uint16)), 1, id="12 bits in 16"),
        pytest.param(tiff(share(16, np.uint16)), 1, id="16 bits"),
        pytest.param(png(share(12, np.uint16)), 1, id="12 bits in a PNG of 16"),
        pytest.param(png(share(16, np.uint16)), 1, id="a PNG of 16 bits"),
        pytest.param(png(np.stack([share(16, np.uint16)] * 3, axis=2)), 1, id="a PNG of 16 bits a colour"),
        pytest.param(tiff((GREY / 255 * 1.000001).astype(np.float32)), 0, id="float, a little over 1"),
        pytest.param(tagged((1 - GREY / 255).astype(np.float32), t262=0), 1, id="float, 0 is white"),
        pytest.param(tagged(share(16, np.uint16)), 1, id="16 bits, by hand"),
        pytest.param(tagged(65535 - share(16, np.uint16), t262=0), 1, id="16 bits, 0 is white"),
        pytest.param(tagged(share(15, np.int16)), 1, id="16 bits with a sign"),
        pytest.param(tagged(packed(share(12, np.uint16)), t256=48, t258=12), 1, id="12 bits as they are"),
        pytest.param(tagged(share(16, np.uint32)), 1, id="16 bits in 32 without a sign"),
        pytest.param(tagged(share(32, np.int64).astype(np.uint32)), 1, id="32 bits without a sign"),
        pytest.param(tiff(GREY), 0, id="8 bits"),
    ],
)
def test_levels_are_scaled_by_what_they_are(data: bytes, tolerance: int) -> None:
    found = np.asarray(decode(data)).astype(int)
    assert np.abs(found - GREY[:, :, None].astype(int)).max() <= tolerance
    assert found.max() > 90


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(tiff((GREY / 255 * 4).astype(np.float32)), id="float, 0 to 4"),
        pytest.param(tiff((GREY * 100.0).astype(np.float32)), id="float, 0 to 25,500"),
        pytest.param(tiff((GREY / 255 - 0.5).astype(np.float32)), id="float, negative"),
        pytest.param(tiff(np.full((4, 4), np.nan, np.float32)), id="not a number"),
        pytest.param(tiff(np.full((4, 4), np.inf, np.float32)), id="infinite"),
        pytest.param(tiff((GREY / 255 * 0.01).astype(np.float32)), id="float, nearly black"),
        pytest.param(tiff((GREY // 4).astype(np.uint16)), id="at most 63 in 16 bits"),
        pytest.param(tiff(share(14, np.uint16)), id="14 bits in 16, or a dim picture"),
        pytest.param(tiff(share(11, np.uint16) // 3 * 2), id="between 10 and 12 bits"),
        pytest.param(tiff(GREY.astype(np.int32) - 100), id="negative"),
        pytest.param(tiff(share(24, np.int32)), id="24 bits in 32"),
        pytest.param(tagged(share(31, np.int64).astype(np.uint32) // 2), id="30 bits in 32 without a sign"),
        pytest.param(png(np.stack([share(12, np.uint16)] * 3, axis=2)), id="12 bits in a PNG of 16 a colour"),
        pytest.param(png(np.stack([share(8, np.uint16)] * 3, axis=2)), id="8 bits in a PNG of 16 a colour"),
        pytest.param(tagged((GREY.astype(int) - 128).astype(np.int8)), id="8 bits with a sign"),
    ],
)
def test_what_can_be_read_in_several_ways_has_its_reason(data: bytes) -> None:
    with pytest.raises(BadImageError, match=r"more than one way; save it with 8 bits|not finite"):
        decode(data)


def in_planes(colours: np.ndarray, order: str, strips: int) -> bytes:
    """An uncompressed TIFF (height, width, channels) of 16 bits with one plane per colour, each in some strips."""
    height, width, channels = colours.shape
    rows = height // strips
    parts = [
        colours[at : at + rows, :, channel].astype(f"{order}u2").tobytes()
        for channel in range(channels)
        for at in range(0, height, rows)
    ]
    fields = {256: [width], 257: [height], 258: [16] * channels, 262: [2], 277: [channels], 278: [rows], 284: [2]}
    fields |= {273: [8 + sum(map(len, parts[:n])) for n in range(len(parts))], 279: [len(part) for part in parts]}
    fields |= {338: [2]} if channels == 4 else {}
    end = 8 + sum(map(len, parts))
    beyond, entries = b"", b""
    for tag, values in sorted(fields.items()):
        packed = struct.pack(f"{order}{len(values)}I", *values)
        if len(values) > 1:
            place = struct.pack(f"{order}I", end + 2 + 12 * len(fields) + 4 + len(beyond))
            beyond += packed
            packed = place
        entries += struct.pack(f"{order}HHI", tag, 4, len(values)) + packed
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", end)
    return start + b"".join(parts) + struct.pack(f"{order}H", len(fields)) + entries + bytes(4) + beyond


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("strips", [1, 4])
@pytest.mark.parametrize("order", ["<", ">"])
def test_planes_of_16_bits_are_read_as_such(order: str, strips: int, channels: int) -> None:
    scene = np.asarray(pictures.scene()).astype(np.uint16) * 257
    opaque = np.full((*scene.shape[:2], 1), 65535, np.uint16)
    colours = np.concatenate([scene, opaque], axis=2)[..., :channels]
    np.testing.assert_array_equal(np.asarray(decode(in_planes(colours, order, strips))), scene // 257)


def test_a_dark_picture_stays_dark_where_its_depth_is_told() -> None:
    data = tagged(packed(share(12, np.uint16) // 16), t256=48, t258=12)
    assert np.asarray(decode(data)).max() == 16


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.float32])
def test_a_black_picture_is_one_whatever_it_is_stored_in(kind: Any) -> None:
    assert not np.asarray(decode(tiff(np.zeros((5, 6), kind)))).any()


CORNERS = {"plain": (0, 0), "deep": (0, 0), "turned": (0, 3), "transparent": (0, 0)}


@pytest.mark.parametrize("name", CORNERS)
def test_a_heic_picture_is_decoded_upright(name: str) -> None:
    picture = np.asarray(decode((FILES / f"{name}.heic").read_bytes())).astype(int)
    assert picture.shape == ((96, 64, 3) if name == "turned" else (64, 96, 3))
    height, width, _ = picture.shape
    found = [picture[y, x] for y, x in ((height // 4, width // 4), (height // 4, 3 * width // 4))]
    found += [picture[y, x] for y, x in ((3 * height // 4, 3 * width // 4), (3 * height // 4, width // 4))]
    red, green, white, blue = (250, 10, 10), (10, 250, 10), (240, 240, 240), (10, 10, 250)
    expected = [red, green, white, blue]
    if name == "turned":
        expected = [blue, red, green, white]
    if name == "transparent":
        expected[0] = (255, 255, 255)
    assert np.abs(np.array(found) - np.array(expected)).max() < 6


def test_a_grey_heic_picture_is_decoded() -> None:
    picture = np.asarray(decode((FILES / "grey.heic").read_bytes()))
    assert picture.shape == (64, 96, 3)
    assert (picture[:, :, 0] == picture[:, :, 1]).all()


def test_a_grey_heic_picture_of_10_bits_is_scaled() -> None:
    """From black to white, row by row."""
    picture = np.asarray(decode((FILES / "deep-grey.heic").read_bytes())).astype(int)
    assert np.abs(picture - np.linspace(0, 255, 64 * 96).reshape(64, 96, 1)).max() <= 1


def test_a_heic_header_that_is_wrong_about_the_depth_is_refused() -> None:
    """pi-heif's conversion to 16 bits wrote beyond the end of such a picture, and the process died of it."""
    data = bytearray((FILES / "grey.heic").read_bytes())
    depth = data.index(b"hvcC") + 4 + 17  # bitDepthLumaMinus8, ISO/IEC 14496-15, 8.3.3.1
    data[depth] |= 4
    for _ in range(20):
        with pytest.raises(BadImageError, match="header does not fit"):
            decode(bytes(data))


@pytest.mark.parametrize("cut", [8, 24, 100, 300, 500])
def test_a_damaged_heic_picture_has_its_reason(cut: int) -> None:
    with pytest.raises(BadImageError):
        decode((FILES / "plain.heic").read_bytes()[:cut])


def test_heic_without_its_decoder_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(TransientImageError, match="pip install pi-heif"):
        decode((FILES / "plain.heic").read_bytes())


def test_the_limits_hold_for_heic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_PIXELS", 64 * 96 - 1)
    with pytest.raises(BadImageError, match="96 × 64 pixels are more than"):
        decode((FILES / "plain.heic").read_bytes())


@pytest.mark.parametrize(
    "raised", [AttributeError("x"), AssertionError(), RecursionError("deep"), KeyError("a"), ZeroDivisionError("by 0")]
)
def test_whatever_a_decoder_raises_is_the_picture_s_reason(raised: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise raised

    monkeypatch.setattr(decoding.Image, "open", fail)
    with pytest.raises(BadImageError, match=str(raised) or type(raised).__name__):
        decode(tiff(GREY))


def test_too_little_memory_may_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(decoding.Image, "open", fail)
    with pytest.raises(TransientImageError, match="memory"):
        decode(tiff(GREY))


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit])
def test_an_interruption_is_no_picture_s_reason(raised: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise raised

    monkeypatch.setattr(decoding.Image, "open", fail)
    with pytest.raises(raised):
        decode(tiff(GREY))


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"%PDF-1.7\n", "PDF"),
        (b"8BPS\0\1", "Photoshop"),
        (b"\xff\x0a\xfa", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\n<!DOCTYPE html><html>", "web page"),
        (b'{"message": "Not Found"}', "JSON"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "a video"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "are read"),
        (b"ftypheic", "HEIC are read"),
        (b"\1\2\3\4\5\6\7", "are read"),
    ],
)
def test_a_file_of_another_kind_is_called_by_its_name(start: bytes, kind: str) -> None:
    with pytest.raises(BadImageError, match=f"not an image of a known format.*{kind}"):
        decode(start)


@pytest.mark.parametrize(
    "data",
    [
        tagged((GREY / 255).astype(np.float64)),
        tagged(GREY, t262=32803),
        tagged(GREY, t258=7),
        avif()[:60],
        png(GREY)[:29] + png(GREY),
    ],
)
def test_a_known_format_that_is_not_decoded_is_not_called_unknown(data: bytes) -> None:
    with pytest.raises(
        BadImageError, match=r"the (TIFF|AVIF|PNG) image is damaged, or of a variety that is not decoded"
    ):
        decode(data)


@pytest.mark.skipif(not CASES.exists(), reason=f"no {CASES}")
@pytest.mark.parametrize("name", ["float01", "g12in16", "int32_8bit"])
def test_people_s_own_scientific_pictures_are_not_black(name: str) -> None:
    picture = np.asarray(decode((CASES / "float-tiff" / f"{name}.tif").read_bytes()))
    assert picture.max() > 200
    assert picture.mean() > 50
