"""Bytes that are called a photograph."""

import io
import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from components.errors import BadImageError
from components.images.preprocessing import PREPROCESSING, read_pixels
from tests.hostile.fuzzer import damaged
from tests.hostile.watch import try_all
from tests.pictures import HOLDERS, TRAILERS, exif
from tests.pictures import turned as turned_to

HERE = "tests.hostile.test_images"
HEIC = Path(__file__).parents[1] / "components" / "images" / "files"


def image(mode: str, size: tuple[int, int] = (23, 17)) -> Image.Image:
    noise = np.random.default_rng(7).integers(0, 256, (size[1], size[0], 4)).astype(np.uint8)
    if mode in ("I;16", "I", "F"):
        return Image.fromarray(noise[:, :, 0].astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]) * 200)
    return Image.fromarray(noise, "CMYK") if mode == "CMYK" else Image.fromarray(noise, "RGBA").convert(mode)


def saved(mode: str, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image(mode).save(file, kind, **options)
    return file.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "a description"
    exif.get_ifd(0x8769)[0x9286] = b"a comment"
    exif.get_ifd(0x8825)[2] = (0.5, 30.0, 1.0)
    return exif


@cache
def samples() -> tuple[bytes, ...]:
    """Every format and kind that is read."""
    more = [image("RGB"), image("RGB").rotate(90)]
    return (
        *(saved(mode, "JPEG") for mode in ("L", "RGB", "CMYK")),
        saved("RGB", "JPEG", progressive=True, exif=turned(6)),
        saved("RGB", "JPEG", exif=turned(8), comment=b"a comment", dpi=(72, 72)),
        *(saved(mode, "PNG") for mode in ("1", "L", "P", "LA", "RGB", "RGBA", "I;16")),
        saved("P", "PNG", transparency=0),
        saved("RGB", "PNG", transparency=(1, 2, 3), exif=turned(3), dpi=(300, 300)),
        saved("RGB", "PNG", save_all=True, append_images=more),
        interlaced(),
        saved("P", "GIF"),
        saved("P", "GIF", save_all=True, append_images=more, duration=10, loop=0, transparency=3),
        *(saved(mode, "BMP") for mode in ("1", "L", "P", "RGB", "RGBA")),
        saved("RGB", "WEBP", exif=turned(5)),
        saved("RGBA", "WEBP", lossless=True),
        saved("RGB", "WEBP", save_all=True, append_images=more),
        *(saved(mode, "TIFF") for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F")),
        *(saved("RGB", "TIFF", compression=name) for name in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg", "zstd")),
        saved("1", "TIFF", compression="group4"),
        saved("RGB", "TIFF", big_tiff=True, save_all=True, append_images=more),
        saved("RGB", "MPO", save_all=True, append_images=more),
        saved("RGB", "AVIF", exif=turned(6)),
        *(path.read_bytes() for path in sorted((Path(__file__).parents[1] / "components/images/files").glob("*.heic"))),
    )


def png(
    width: int, height: int, depth: int = 8, colour: int = 2, interlace: int = 0, *chunks: tuple[bytes, bytes]
) -> bytes:
    """A PNG with any header."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    whole = ((b"IHDR", header), *chunks, (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in whole
    )


def interlaced() -> bytes:
    """8 × 8 grey, Adam7: seven passes."""
    rows = b"".join(
        b"\0" + bytes(range(w)) for w, h in ((1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4)) for _ in range(h)
    )
    return png(8, 8, 8, 0, 1, (b"IDAT", zlib.compress(rows)))


def bmp(width: int, height: int, bits: int = 24, compression: int = 0, colours: int = 0, offset: int = 54) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, colours, 0)
    return b"BM" + struct.pack("<IHHI", 154, 0, 0, offset) + head + bytes(100)


def tiff(**tags: tuple[int, int, int]) -> bytes:
    """Tags, `t256=(type, count, value or offset)`, over those of a grey picture of 8 × 8."""
    usual = {256: (4, 1, 8), 257: (4, 1, 8), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 273: (4, 1, 8)}
    usual |= {277: (3, 1, 1), 278: (4, 1, 8), 279: (4, 1, 64)}
    whole = sorted((usual | {int(name[1:]): value for name, value in tags.items()}).items())
    entries = b"".join(struct.pack("<HHII", tag, *value) for tag, value in whole)
    return b"II*\0" + struct.pack("<I", 72) + bytes(64) + struct.pack("<H", len(whole)) + entries + bytes(4)


def gif(width: int, height: int, code_size: int = 2, frame: tuple[int, int, int, int] = (0, 0, 1, 1)) -> bytes:
    place = struct.pack("<HHHH", *frame)
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    return screen + b"," + place + b"\0" + bytes([code_size]) + b"\x02\x4c\x01\0;"


def scans(width: int, height: int, number: int) -> bytes:
    """A progressive JPEG of many scans, each of which says in four bytes that no pixel changes."""

    def segment(marker: int, content: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content

    frame = segment(0xC2, struct.pack(">BHHBBBB", 8, height, width, 1, 1, 0x11, 0))
    quantisation = segment(0xDB, b"\0" + b"\1" * 64)
    direct = segment(0xC4, b"\0\1" + bytes(15) + b"\0")
    runs = segment(0xC4, b"\x10\1" + bytes(15) + b"\xe0")  # the only symbol: 16,384 blocks or more have nothing
    blocks = -(-width // 8) * -(-height // 8)
    first = segment(0xDA, b"\1\1\0\0\0\0") + b"\0" * (blocks // 8 + 1)
    codes = "0" + "1" * 14  # 32,767 blocks at a time
    bits = codes * -(-blocks // 32767)
    bits += "1" * (-len(bits) % 8)
    empty = segment(0xDA, b"\1\1\0\1\x3f\0") + int(bits, 2).to_bytes(len(bits) // 8).replace(b"\xff", b"\xff\0")
    return b"\xff\xd8" + quantisation + frame + direct + first + runs + empty * number + b"\xff\xd9"


def rows(width: int, height: int, channels: int) -> tuple[bytes, bytes]:
    """A black PNG's data, which take next to nothing."""
    pack = zlib.compressobj()
    row = bytes(1 + width * channels)
    return b"IDAT", b"".join([*(pack.compress(row) for _ in range(height)), pack.flush()])


TEXT_BOMB = zlib.compress(bytes(80_000_000))
EXIF_LOOP = b"II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x08\0\0\0\x08\0\0\0"
"""Its directory is its own sub-directory, and follows itself."""
EXIF_TEXT = b"II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0abc\0\0\0\0\0"
"""Its orientation is a text."""

GOOD: dict[str, Callable[[], bytes]] = {
    "as large as may be": lambda: png(89_000_000, 1, 1, 0, 0, rows(89_000_000 // 8 - 1, 1, 1)),
    "transparent": lambda: png(3000, 3000, 8, 6, 0, rows(3000, 3000, 4)),
    "an EXIF loop": lambda: saved("RGB", "JPEG", exif=b"Exif\0\0" + EXIF_LOOP),
    "an orientation that is none": lambda: saved("RGB", "JPEG", exif=turned(99)),
    "an orientation that is a text": lambda: saved("RGB", "JPEG", exif=b"Exif\0\0" + EXIF_TEXT),
    "100,000 empty chunks": lambda: (
        saved("L", "PNG")[:33] + png(1, 1)[33:-12] + b"\0\0\0\0emPt\xf8\x1e\xcf\x6a" * 100_000 + saved("L", "PNG")[33:]
    ),
    "some scans": lambda: scans(500, 500, 100),
    "trailing data": lambda: saved("RGB", "JPEG") + b"\xff\xda" * 1000,
    "PNG whose EXIF is none": lambda: png(8, 8, 8, 0, 0, (b"eXIf", b"II*\0\xff\xff\xff\xff"), rows(8, 8, 1)),
    "PNG with an animation of 2³² frames": lambda: png(8, 8, 8, 0, 0, (b"acTL", b"\xff" * 8), rows(8, 8, 1)),
    "TIFF with tiles of 0 pixels": lambda: tiff(t322=(4, 1, 0), t323=(4, 1, 0), t324=(4, 1, 8)),
    "PNG with a text bomb": lambda: png(8, 8, 8, 0, 0, (b"zTXt", b"a\0\0" + TEXT_BOMB), rows(8, 8, 1)),
    "PNG with an international text bomb": lambda: png(
        8, 8, 8, 0, 0, (b"iTXt", b"a\0\1\0\0\0" + TEXT_BOMB), rows(8, 8, 1)
    ),
    "PNG with a profile bomb": lambda: png(8, 8, 8, 0, 0, (b"iCCP", b"a\0\0" + TEXT_BOMB), rows(8, 8, 1)),
}
BAD: dict[str, Callable[[], bytes]] = {
    "infinite greys": lambda: floats(np.inf, np.nan, -np.inf, 1e38),
    "nothing": lambda: b"",
    "a byte": lambda: b"\xff",
    "zeros": lambda: bytes(4096),
    "a million scans": lambda: scans(9400, 9400, 100_000),
    "PNG of 0 pixels": lambda: png(0, 0),
    "PNG of 2³¹ - 1 pixels a side": lambda: png(2**31 - 1, 2**31 - 1),
    "PNG of more pixels than its data": lambda: png(9000, 9000, 8, 6, 0, rows(1, 1, 1)),
    "PNG of unknown depth": lambda: png(8, 8, 3, 5, 7, rows(8, 8, 4)),
    "GIF of 65535 pixels a side": lambda: gif(65535, 65535),
    "GIF whose frame is larger than it": lambda: gif(1, 1, frame=(0, 0, 65535, 65535)),
    "GIF whose codes have 255 bits": lambda: gif(1, 1, 255),
    "BMP of -2³¹ rows": lambda: bmp(1, -(2**31)),
    "BMP of 2³¹ - 1 pixels a side": lambda: bmp(2**31 - 1, 2**31 - 1),
    "BMP with 2³² colours": lambda: bmp(2, 2, 8, colours=2**32 - 1),
    "BMP of no bits": lambda: bmp(8, 8, 0, 99),
    "BMP whose pixels lie at 2³²": lambda: bmp(8, 8, offset=2**32 - 1),
    "WebP of 2²⁴ pixels a side": lambda: b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0" + b"\xff" * 6,
    "WebP without an end": lambda: b"RIFF\xff\xff\xff\xffWEBPVP8L\xff\xff\xff\xff/",
    "TIFF of 2³² - 1 pixels a side": lambda: tiff(t256=(4, 1, 2**32 - 1), t257=(4, 1, 2**32 - 1)),
    "TIFF of 65535 channels": lambda: tiff(t277=(3, 1, 65535)),
    "TIFF with 2³² - 1 strips": lambda: tiff(t273=(4, 2**32 - 1, 8), t279=(4, 2**32 - 1, 8)),
    "TIFF whose width is a text": lambda: tiff(t256=(2, 4, 0x61626364)),
    "TIFF whose width is a fraction by 0": lambda: tiff(t256=(5, 1, 8)),
    "TIFF without strips": lambda: tiff(t273=(4, 0, 0), t279=(4, 0, 0)),
    "EPS": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(%pipe%touch hostile) (w) file\n",
    "SVG": lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><image href='http://192.0.2.1/x.png'/></svg>",
}


def floats(*values: float) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.array([values] * 4, np.float32)).save(file, "TIFF")
    return file.getvalue()


def decode(name: str, folder: Path) -> None:
    for preprocessing in PREPROCESSING:
        if name in GOOD:
            read_pixels(GOOD[name](), 16, preprocessing)
        else:
            with pytest.raises(BadImageError):
                read_pixels(BAD[name](), 16, preprocessing)


def decode_damaged(seed: str, folder: Path) -> None:
    read_pixels(damaged(samples(), int(seed)), 16, ("notebook", "antialias")[int(seed) % 2])


BATCH = 100
"""Pictures of a seed."""
ALL_TAGS = (*sorted({*ExifTags.TAGS, *ExifTags.GPSTAGS}), 0xFFFF)


@cache
def plain(holder: str, orientation: int) -> np.ndarray:
    """What a picture is, whatever else stands beside its pixels."""
    return read_pixels(HOLDERS[holder](exif([turned_to(orientation)])), 16, "antialias")


def read_among_metadata(seed: int) -> None:
    """A sound picture with a tag of any type and value in each of a batch, among other things that decide nothing."""
    random = np.random.default_rng(seed)
    for _ in range(BATCH):
        order, orientation = "<>"[random.integers(2)], int(random.integers(1, 9))
        holder = list(HOLDERS)[random.integers(len(HOLDERS))]
        tag, kind = int(random.choice(ALL_TAGS)), int(random.integers(0, 18))
        count = int(random.choice([0, 1, 1, 1, 2, 3, 7, 255, 65536, 2**32 - 1]))
        value = random.bytes(min(count, 20) * int(random.choice([1, 2, 4, 8])))
        entries = [turned_to(orientation, order)]
        if tag != 0x0112:
            entries = [*entries, (tag, kind, count, value)][:: int(random.choice([1, -1]))]
        data = exif(entries, order)
        if random.integers(4) == 0:  # what follows the directory is cut or overwritten
            place = 10 + 12 * len(entries)
            data = data[:place] + random.bytes(len(data) - place)[: int(random.integers(0, 40))]
        picture = HOLDERS[holder](data)
        if random.integers(3) == 0:
            picture += list(TRAILERS.values())[random.integers(len(TRAILERS))]
        assert np.array_equal(read_pixels(picture, 16, "antialias"), plain(holder, orientation)), picture


def attempt(key: str, folder: Path) -> None:
    if key.startswith("metadata "):
        read_among_metadata(int(key.removeprefix("metadata ")))
    else:
        (decode_damaged if key.isdigit() else decode)(key, folder)


def test_bytes_are_read_as_an_image_or_refused(inputs: range) -> None:
    assert try_all(f"{HERE}:attempt", [*GOOD, *BAD, *inputs]) == {}


def test_no_metadata_decides_over_pixels(inputs: range) -> None:
    """100 pictures an input: `--inputs 3000` are 300,000."""
    assert try_all(f"{HERE}:attempt", [f"metadata {number}" for number in inputs]) == {}
