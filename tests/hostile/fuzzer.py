"""Seeded damage to bytes: the same seed makes the same input, on any machine."""

from collections.abc import Callable, Sequence
from random import Random

Mutation = Callable[[bytearray, Random, bytes], bytes]
"""Data, never empty, and another sample → changed data."""

MAGIC = (
    *(b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\0\0\0\0WEBP", b"BM", b"II*\0", b"MM\0+", b"%!PS"),
    *(b"PK\3\4", b"PK\5\6", b"PAR1", b"\x1f\x8b", b"\xef\xbb\xbf", b"\xff\xfe", b"\x89HDF\r\n\x1a\n", b"\x80\x04"),
)
EXTREMES = tuple(
    value.to_bytes(size, order)
    for size in (1, 2, 4, 8)
    for value in (0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), 2 ** (8 * size - 1) - 1)
    for order in ("little", "big")
)
"""What a length, a count or an offset is least expected to be."""


def damaged(samples: Sequence[bytes], seed: int) -> bytes:
    """One of the samples, changed in one to four ways."""
    random = Random(seed)
    data = random.choice(samples)
    for _ in range(random.choice((1, 1, 2, 4))):
        data = random.choice(MUTATIONS)(bytearray(data or b"\0"), random, random.choice(samples))
    return data


def _flip_bits(data: bytearray, random: Random, other: bytes) -> bytes:
    for _ in range(random.choice((1, 1, 8, 64))):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(data)


def _truncate(data: bytearray, random: Random, other: bytes) -> bytes:
    return bytes(data[: random.randrange(len(data))])


def _insert(data: bytearray, random: Random, other: bytes) -> bytes:
    place = random.randrange(len(data) + 1)
    data[place:place] = random.randbytes(random.choice((1, 4, 100)))
    return bytes(data)


def _repeat(data: bytearray, random: Random, other: bytes) -> bytes:
    start, end = _block(data, random)
    data[end:end] = data[start:end] * random.choice((1, 2, 30))
    return bytes(data)


def _remove(data: bytearray, random: Random, other: bytes) -> bytes:
    start, end = _block(data, random)
    del data[start:end]
    return bytes(data)


def _zero(data: bytearray, random: Random, other: bytes) -> bytes:
    start, end = _block(data, random)
    data[start:end] = bytes(end - start)
    return bytes(data)


def _splice(data: bytearray, random: Random, other: bytes) -> bytes:
    return bytes(data[: random.randrange(len(data) + 1)]) + other[random.randrange(len(other) + 1) :]


def _swap_magic(data: bytearray, random: Random, other: bytes) -> bytes:
    magic = random.choice((*MAGIC, other[:8]))
    data[: len(magic)] = magic
    return bytes(data)


def _set_number(data: bytearray, random: Random, other: bytes) -> bytes:
    number, place = random.choice(EXTREMES), random.randrange(len(data))
    data[place : place + len(number)] = number
    return bytes(data)


def _block(data: bytearray, random: Random) -> tuple[int, int]:
    start = random.randrange(len(data))
    return start, start + 1 + random.randrange(min(len(data) - start, 512))


MUTATIONS: tuple[Mutation, ...] = (
    *(_flip_bits, _truncate, _insert, _repeat, _remove, _zero, _splice, _swap_magic, _set_number, _set_number),
)
