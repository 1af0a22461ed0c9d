"""From an image file's bytes to an upright RGB picture, or to the reason why there is none.

This module is copied into every registered model.
"""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from components.errors import BadImageError, TransientImageError
from components.images.metadata import count_scans, essentials, orientation_in

MAX_BYTES = 100_000_000
"""Larger files are refused before they are read: a zip file can claim any size."""

MAX_PIXELS = 89_000_000
"""Larger pictures are refused before they are decoded: a small file can claim any size."""

MAX_SCANNED = 50 * MAX_PIXELS
"""Pixels times scans of a JPEG: each scan of a few bytes goes over all of them again, and a file has room for many."""

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF")
"""What Pillow decodes here. Its other readers are rarely needed, and one of them (EPS) starts a program."""
READ = "JPEG, PNG, GIF, WebP, BMP, TIFF, AVIF and HEIC are read"

_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_STARTS = {
    **{b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"GIF8": "GIF", b"BM": "BMP"},
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "TIFF"),
}
_OTHERS = {
    b"%PDF": "a PDF document",
    b"8BPS": "a Photoshop document",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"version https://git-lfs": "a Git LFS pointer: fetch the file itself",
    b"PK\3\4": "a zip file",
    b"<": "a web page or an SVG drawing",
    b"{": "a JSON text",
}
"""What files that are called images also begin with."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What an orientation asks for (EXIF 2.32, tag 0x0112)."""

_DEPTHS = {
    **dict.fromkeys(((16, False), (32, True)), (8, 10, 12, 16)),
    (32, False): (8, 10, 12, 16, 32),
    (16, True): (8, 10, 12, 15),
}
"""Bits that grey levels are stored in, and whether signed → bits that they have."""
_ROUNDING = 1e-4
"""What floating-point numbers are beside 0, 1 and 255 when they mean them."""


def decode(data: bytes) -> Image.Image:
    """The first picture in an image file, upright, in RGB, transparent parts on white.

    Raises `BadImageError` when the bytes are not a whole picture, or too many (`MAX_BYTES`, `MAX_PIXELS`), or when its
    numbers can be read in more than one way; `TransientImageError` when this machine cannot decode it now.
    """
    if not data:
        raise BadImageError("the file is empty")
    if len(data) > MAX_BYTES:
        raise BadImageError(f"{len(data):,} bytes are more than {MAX_BYTES:,}")
    brands = _brands(data)
    try:
        return _decode_heif(data) if brands & _HEIF_BRANDS and not brands & _AVIF_BRANDS else _decode(data)
    except BadImageError:
        raise
    except MemoryError as error:
        raise TransientImageError("this machine has too little memory to decode it") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImageError(f"it claims more than {MAX_PIXELS:,} pixels") from error
    except UnidentifiedImageError as error:
        raise BadImageError(_what_it_is(data)) from error
    except Exception as error:
        raise BadImageError(f"the image cannot be decoded: {str(error) or type(error).__name__}") from error


def _decode(data: bytes) -> Image.Image:
    content, orientation = essentials(data)
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        width, height = image.size
        _require_size(width, height)
        # What looks like the start of a scan is counted quickly, and is seldom too often there.
        if image.format == "JPEG" and width * height * content.count(b"\xff\xda") > MAX_SCANNED:
            scans = count_scans(content)
            if width * height * scans > MAX_SCANNED:
                raise BadImageError(f"{scans:,} scans are too many for {width} × {height} pixels")
        deep = data[24:25] == b"\x10" if image.format == "PNG" else _bits(image) == 16
        if image.format == "AVIF":  # Pillow tells the turn that is stored with the pixels as EXIF
            orientation = orientation_in(image.info.get("exif", b""))
        if deep and image.format == "TIFF":
            _read_planes_of_16_bits(image, "B" if content.startswith(b"MM") else "L")
        image.load()
        rgb = _to_rgb(image, deep=deep)
    return rgb.transpose(_TURNS[orientation]) if orientation in _TURNS else rgb


def _what_it_is(data: bytes) -> str:
    """Why no decoder took the file."""
    kind = next((kind for start, kind in _STARTS.items() if data.startswith(start)), "")
    kind = kind or ("WebP" if data[8:12] == b"WEBP" else "AVIF" if _brands(data) & _AVIF_BRANDS else "")
    if kind:
        return f"the {kind} image is damaged, or of a variety that is not decoded; save it as JPEG or PNG"
    kind = next((kind for start, kind in _OTHERS.items() if data.lstrip().startswith(start)), "")
    kind = kind or ("a video or a camera's raw file" if data[4:8] == b"ftyp" else "")
    return f"not an image of a known format{kind and f' but {kind}'}; {READ}"


def _require_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise BadImageError(f"{width} × {height} pixels are more than {MAX_PIXELS:,}")


def _brands(data: bytes) -> set[bytes]:
    """What a file of the ISO family says it is."""
    end = min(int.from_bytes(data[:4]), 512) if data[4:8] == b"ftyp" else 0
    return {data[place : place + 4] for place in (8, *range(16, end, 4))} if end else set()


def _decode_heif(data: bytes) -> Image.Image:
    try:
        import pi_heif
    except ImportError as error:
        raise TransientImageError("HEIC needs the package pi-heif: pip install pi-heif") from error
    # libheif turns it as the file says. Its bytes are taken as they lie: pi-heif's own conversions of them write beyond
    # their end where a header is wrong about their depth.
    picture = pi_heif.open_heif(essentials(data).content, hdr_to_16bit=False, remove_stride=False)
    _require_size(*picture.size)
    rows = np.frombuffer(picture.data, np.uint8).reshape(picture.size[1], -1)
    mode, _, depth = picture.mode.partition(";")  # such as RGBA, or I;10 of 10 bits in 16
    length = picture.size[0] * len(mode) * (2 if depth else 1)
    if rows.shape[1] < length:
        raise BadImageError("its header does not fit its pixels")
    pixels = np.ascontiguousarray(rows[:, :length])
    if depth:
        pixels = np.minimum(pixels.view("<u2") >> (int(depth) - 8), 255).astype(np.uint8)
    return _to_rgb(Image.frombytes("L" if mode == "I" else mode, picture.size, pixels.tobytes()), deep=False)


def _bits(image: Image.Image) -> int:
    """Bits of a TIFF's first channel; 0 for other formats."""
    bits = getattr(image, "tag_v2", {}).get(258, (0,))
    return int(bits[0] if isinstance(bits, tuple) else bits)


def _read_planes_of_16_bits(image: ImageFile.ImageFile, order: str) -> None:
    """Has Pillow read uncompressed planes of 16 bits, one per colour, as such: it takes each byte for a pixel."""
    image.tile = [
        tile._replace(args=(f"{tile.args[0]};16{order}", *tile.args[1:]))
        if tile.codec_name == "raw" and isinstance(tile.args, tuple) and tile.args[0] in tuple("RGBA")
        else tile
        for tile in image.tile
    ]


def _to_rgb(image: Image.Image, *, deep: bool) -> Image.Image:
    """`deep`: its channels were stored in 16 bits."""
    tags = getattr(image, "tag_v2", {})
    signed = tags.get(339) in (2, (2,))
    if image.mode == "F" or image.mode.startswith("I"):
        bits = _bits(image) or 16
        numbers = np.asarray(image)
        if image.mode == "I" and bits == 32 and not signed:  # Pillow reads unsigned numbers as signed ones
            numbers = numbers.view(np.uint32)
        grey = _grey(numbers, _DEPTHS.get((bits, signed), (bits,)))
        image = Image.fromarray(255 - grey if tags.get(262) == 0 else grey)  # then 0 is white
    elif deep or signed:  # of 16 bits Pillow has kept the upper 8, of signed ones the sign as brightness
        brightest = int(np.asarray(image)[..., :3].max())
        if deep and brightest < 64:
            raise _ambiguous("colours", 0, brightest * 256 + 255)
        if signed and brightest > 127:
            raise _ambiguous("grey levels", -128, 127)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _grey(values: np.ndarray, depths: Sequence[int]) -> np.ndarray:
    """Grey levels as uint8, scaled by what they are and not by what they are stored in.

    Floating-point numbers are shares of white, or levels up to 255. Whole ones have the fewest of the `depths`, bits,
    that hold the brightest, as long as it is in the upper half of what those bits can say: less can be a dark picture
    just as well. Of a single depth there is no doubt.
    """
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise BadImageError("it has numbers that are not finite")
    if low < -_ROUNDING * abs(high):
        raise _ambiguous("grey levels", low, high)
    if high == 0:
        return np.zeros(values.shape, np.uint8)
    if values.dtype.kind == "f":
        scale = 255.0 if 0.1 <= high <= 1 + _ROUNDING else 1.0 if 127.5 < high <= 255 + _ROUNDING else 0.0
    else:
        bits = next((bits for bits in depths if high < 2**bits), 0)
        top = 2**bits - 1
        scale = 255 / top if bits and (high > top / 2 or (bits <= 16 and high > 2**14) or len(depths) == 1) else 0.0
    if not scale:
        raise _ambiguous("grey levels", low, high)
    scaled: np.ndarray = np.clip(np.multiply(values, scale, dtype=np.float32) + np.float32(0.5), 0, 255)
    return scaled.astype(np.uint8)


def _ambiguous(what: str, low: float, high: float) -> BadImageError:
    return BadImageError(
        f"its {what} go from {low:g} to {high:g}, which can be read in more than one way; save it with 8 bits a channel"
    )
