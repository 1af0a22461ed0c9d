"""What stands beside the pixels changes nothing but the orientation: every kind of it, in every format."""

import contextlib
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from components.errors import BadImageError
from components.images.decoding import decode
from components.images.metadata import count_scans, essentials, orientation_in
from tests.pictures import HOLDERS, SIZES, TRAILERS, chunk, exif, in_png, in_webp, saved, scene, segment, turned, xmp

Changes = list[tuple[int, int]]
TAGS = (0x0100, 0x010E, 0x010F, 0x0112, 0x011A, 0x0128, 0x0132, 0x0213, 0x8298, 0x8769, 0x8825, 0x9286, 0x927C, 0xA005)

FILES = Path(__file__).with_name("files")
CASES = Path(__file__).parents[3].parent / "shared" / "cases"


def in_avif(orientation: int) -> bytes:
    tag = Image.Exif()
    tag[0x0112] = orientation
    return saved("AVIF", exif=tag, quality=95)


TURNED: dict[str, Callable[[int], bytes]] = {
    **{
        f"{holder} {order}": lambda n, write=write, order=order: write(exif([turned(n, order)], order))
        for holder, write in HOLDERS.items()
        for order in "<>"
    },
    "AVIF": in_avif,
    "XMP in JPEG": lambda n: (
        saved("JPEG")[:2] + segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(n)) + saved("JPEG")[2:]
    ),
    "XMP in PNG": lambda n: in_png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(n))),
    "XMP in PNG, packed": lambda n: in_png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp(n)))),
    "XMP in a plain text of PNG": lambda n: in_png(chunk(b"tEXt", b"XML:com.adobe.xmp\0" + xmp(n))),
    "EXIF in a plain text of PNG": lambda n: in_png(chunk(b"tEXt", b"exif\0" + exif([turned(n)]))),
    "XMP in WebP": lambda n: in_webp((b"XMP ", xmp(n))),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", TURNED)
def test_a_picture_is_turned_as_pillow_turns_it(kind: str, orientation: int) -> None:
    data = TURNED[kind](orientation)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert upright.size == scene().size[:: 1 if orientation < 5 else -1]
    assert np.array_equal(np.asarray(decode(data)), np.asarray(upright))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "jpeg"])
def test_a_tiff_is_turned_as_pillow_turns_it(orientation: int, big: bool, compression: str | None) -> None:
    data = saved("TIFF", tiffinfo={0x0112: orientation}, big_tiff=big, compression=compression)
    with Image.open(io.BytesIO(data)) as image:
        upright = image.convert("RGB")  # it turns what it loads
    assert np.array_equal(np.asarray(decode(data)), np.asarray(upright))


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("kind", [*SIZES, 0, 14, 99])
def test_no_tag_of_any_type_decides_over_pixels(holder: str, kind: int) -> None:
    upright = np.asarray(decode(HOLDERS[holder](exif([turned(6)]))))
    for tag in TAGS:
        for count in (0, 1, 3, 2**31):
            value = (b"\xff\xfe\0\x07" * 8)[: min(count, 4) * SIZES.get(kind, 1)]
            entries = sorted([turned(6), (tag, kind, count, value)]) if tag != 0x0112 else [turned(6)]
            assert np.array_equal(np.asarray(decode(HOLDERS[holder](exif(entries)))), upright), (hex(tag), count)


@pytest.mark.parametrize("orientation", [0, 9, 255, 65535])
def test_an_orientation_that_does_not_exist_is_upright(orientation: int) -> None:
    for write in HOLDERS.values():
        assert np.array_equal(np.asarray(decode(write(exif([turned(orientation)])))), np.asarray(decode(write(b""))))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *[(kind, struct.pack(f"<{form}", 6)) for kind, form in ((1, "B"), (4, "I"), (6, "b"), (8, "h"), (9, "i"))],
        *[(5, struct.pack("<II", 6, 1)), (10, struct.pack("<ii", 12, 2))],
        *[(11, struct.pack("<f", 6)), (12, struct.pack("<d", 6))],
    ],
)
def test_an_orientation_of_another_numeric_type_counts(kind: int, value: bytes) -> None:
    assert orientation_in(exif([(0x0112, kind, 1, value)])) == 6


@pytest.mark.parametrize(
    ("kind", "count", "value"),
    [(2, 2, b"6\0"), (7, 1, b"\6"), (3, 2, b"\6\0\6\0"), (5, 1, struct.pack("<II", 6, 0)), (11, 1, b"\0\0\xc0\x7f")],
)
def test_an_orientation_that_is_no_number_does_not(kind: int, count: int, value: bytes) -> None:
    assert orientation_in(exif([(0x0112, kind, count, value)])) == 1


@given(st.binary(max_size=80), st.sampled_from([b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"Exif\0\0II*\0"]))
def test_broken_exif_never_raises(data: bytes, head: bytes) -> None:
    assert orientation_in(head + data) in range(1, 9)


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0+", b"RIFF    WEBP"]),
)
def test_what_is_no_picture_never_raises(data: bytes, head: bytes) -> None:
    assert essentials(head + data).orientation in range(1, 9)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(3 << 20))),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(3 << 20))),
        (b"tEXt", b"Comment\0" + b"x" * (2 << 20)),
        (b"iCCP", b"broken\0\0" + b"no profile"),
        (b"iCCP", b"bomb\0\0" + zlib.compress(bytes(3 << 20))),
        *[
            (kind, b"")
            for kind in (b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"bKGD", b"hIST", b"tIME", b"eXIf", b"acTL")
        ],
        *[(kind, b"\xff" * 5) for kind in (b"pHYs", b"gAMA", b"cHRM", b"eXIf", b"acTL", b"fcTL", b"caBX", b"vpAg")],
        (b"tEXt", b"Raw profile type exif\0\nexif\n  12\nnot hexadecimal\n"),
        (b"zTXt", b"Raw profile type exif\0\0not deflated"),
    ],
)
@pytest.mark.parametrize("crc", [None, 7])
def test_no_ancillary_chunk_refuses_a_png(kind: bytes, content: bytes, crc: int | None) -> None:
    assert np.array_equal(np.asarray(decode(in_png(chunk(kind, content, crc)))), np.asarray(scene()))


@pytest.mark.parametrize("trailer", TRAILERS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"])
def test_what_is_appended_changes_nothing(kind: str, trailer: str) -> None:
    plain = saved(kind)
    assert np.array_equal(np.asarray(decode(plain + TRAILERS[trailer])), np.asarray(decode(plain)))


@pytest.mark.parametrize(
    "extra",
    [
        *[segment(marker, content) for marker in range(0xE0, 0xF0) for content in (b"", b"\0", b"\xff\xda" * 100)],
        *[segment(0xEE, b"Adobe"), segment(0xE0, b"JFIF\0"), segment(0xED, b"Photoshop 3.0\0" + b"8BIM" * 9)],
        *[segment(0xE2, b"MPF\0" + b"\xff" * 40), segment(0xE2, b"ICC_PROFILE\0\x02\x01"), segment(0xFE, b"\xff" * 99)],
        segment(0xE1, b"Exif\0\0"),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"<" * 60000),
        b"\xff" * 9,
        b"\xff\x01",
    ],
)
def test_no_segment_of_an_application_refuses_a_jpeg(extra: bytes) -> None:
    plain = saved("JPEG", progressive=True)
    assert np.array_equal(np.asarray(decode(plain[:2] + extra + plain[2:])), np.asarray(decode(plain)))


def test_a_thumbnail_is_not_taken_for_the_picture() -> None:
    """The length of its segment is wrong, so that a reader stumbles over it."""
    content = b"Exif\0\0" + exif([turned(6)]) + saved("JPEG")
    plain = saved("JPEG", scene().resize((96, 64)))
    broken = segment(0xE1, content)[:2] + (len(content) - 300).to_bytes(2) + content
    with pytest.raises(BadImageError):
        decode(plain[:2] + broken + plain[2:])


@pytest.mark.parametrize("content", [b"", b"\0", b"\0\1\0\2\0", b"\0\1\0\2\0\3"])
def test_a_damaged_transparency_is_left_out(content: bytes) -> None:
    assert np.array_equal(np.asarray(decode(in_png(chunk(b"tRNS", content, 7)))), np.asarray(scene()))


def test_a_tiff_is_turned_as_xmp_says_where_it_has_no_tag() -> None:
    data = saved("TIFF", tiffinfo={700: xmp(6)})
    assert np.array_equal(np.asarray(decode(data)), np.rot90(np.asarray(scene()), -1))


def test_a_tiff_whose_tags_are_cut_off_is_no_sound_one() -> None:
    """It lacks what says how its pixels are stored, which lie before the tags."""
    data = saved("TIFF", compression="tiff_lzw")
    for lost in range(5, 60):
        assert outcome(data[:-lost]) is None


@pytest.mark.parametrize("kind", ["JPEG", "GIF", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("lost", [1, 40, 300])
def test_a_picture_that_is_cut_off_is_no_sound_one(kind: str, lost: int) -> None:
    """PNG may lack its end chunk; what is put in the place of metadata must not fill up what is lost."""
    data = saved(kind, scene().resize((40, 30)))[:-lost]
    assert (outcome(data) is None) == (pillows(data) is None)
    assert lost == 1 or outcome(data) is None


def riff(data: bytes, size: int) -> bytes:
    return data[:4] + struct.pack("<I", size) + data[8:]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(in_webp((b"EXIF", exif([]))).removesuffix(bytes(5)), id="EXIF is cut off"),
        pytest.param(in_webp() + b"EXIF\xff\0\0\0abc", id="EXIF is longer than the file"),
        pytest.param(in_webp((b"EXIF", b"abc"))[:-1], id="no padding"),
        pytest.param(in_webp((b"JUNK", b"abc")), id="an unknown chunk"),
        *[pytest.param(riff(in_webp(), size), id=f"{size} bytes, it says") for size in (0, 50, 2**32 - 1)],
        pytest.param(in_webp()[:20] + b"\x2c" + in_webp()[21:], id="flags of what is not there"),
        pytest.param(saved("WEBP", lossless=True) + in_webp((b"EXIF", exif([turned(6)])))[-34:], id="behind its end"),
    ],
)
def test_damaged_metadata_of_a_webp_change_nothing(data: bytes) -> None:
    assert np.array_equal(np.asarray(decode(data)), np.asarray(scene()))


@pytest.mark.parametrize("kind", [b"Exif", b"mime", b"\xff\xfe\0\1", b"uri "])
def test_no_item_beside_the_picture_ends_the_process(kind: bytes) -> None:
    """The HEIC decoder's binding crashes on a name that is no text."""
    data = (FILES / "turned.heic").read_bytes()
    assert data.count(b"Exif") > 0
    place = data.index(b"Exif")
    named = data[:place] + kind + data[place + 4 :]
    assert np.array_equal(np.asarray(decode(named[:-3])), np.asarray(decode(data)))


def test_scans_are_those_of_the_picture() -> None:
    assert count_scans(saved("JPEG")) == 1
    progressive = saved("JPEG", progressive=True)
    assert count_scans(progressive) == progressive.count(b"\xff\xda") > 4
    plain = saved("JPEG")
    thumbnail = segment(0xE1, b"Exif\0\0" + exif([]) + saved("JPEG"))
    assert count_scans(plain[:2] + thumbnail + plain[2:] + progressive) == 1


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}], ids=str)
@given(changes=st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from([0, 1, 7, *range(0xC0, 0x100)])), min_size=1))
@example(changes=[(1, 1)])
def test_damaged_pixels_of_a_jpeg_are_left_to_the_decoder(options: dict[str, object], changes: Changes) -> None:
    """What is left out of a sound file must not make a damaged one look whole."""
    data = bytearray(saved("JPEG", scene().resize((64, 48)), **options))
    first = data.index(b"\xff\xda")
    for place, value in changes:
        data[first + place % (len(data) - first)] = value
    assert outcome(bytes(data)) == pillows(bytes(data))


def outcome(data: bytes) -> bytes | None:
    with contextlib.suppress(BadImageError):
        return decode(data).tobytes()
    return None


def pillows(data: bytes) -> bytes | None:
    with contextlib.suppress(OSError, SyntaxError), Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB").tobytes()
    return None


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_colours_of_a_jpeg_stay_what_they_were(mode: str) -> None:
    data = saved("JPEG", scene().convert(mode), quality=95)
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(np.asarray(decode(data)), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_png_keeps_what_decides_its_pixels(mode: str) -> None:
    kept = essentials(
        saved("PNG", Image.fromarray(np.full((4, 4), 40000, np.uint16)) if mode == "I;16" else scene().convert(mode))
    )
    kinds = [kept.content[place + 4 : place + 8] for place in chunk_places(kept.content)]
    assert set(kinds) <= {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
    assert kinds[0] == b"IHDR"
    assert kinds[-1] == b"IEND"


def chunk_places(data: bytes) -> list[int]:
    places, place = [], 8
    while place < len(data):
        places.append(place)
        place += 12 + int.from_bytes(data[place : place + 4])
    return places


@pytest.mark.skipif(not CASES.exists(), reason=f"no {CASES}")
@pytest.mark.parametrize(
    "name",
    [
        *(
            "exif-crash/photo.jpg",
            "exif-crash/gps_ref_rational.jpg",
            "jpeg-with-trailer/twelve_megapixels_and_video.jpg",
        ),
        *(f"png-large-text/png_{name}.png" for name in ("exif_bad", "gama", "phys_bad", "rawprofile_bad", "text_huge")),
    ],
)
def test_people_s_own_files_are_read(name: str) -> None:
    picture = np.asarray(decode((CASES / name).read_bytes()))
    assert picture.std() > 20
