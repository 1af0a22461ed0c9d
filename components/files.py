"""Files that somebody hands in."""

import errno
from pathlib import Path
from stat import S_ISREG
from typing import IO

PART = 1 << 20


def require_file(path: Path) -> int:
    """A regular file's bytes. Raises `OSError` for anything else: a pipe or a device may never end."""
    status = path.stat()
    if not S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "It is no file", str(path))
    return status.st_size


def read_file(path: Path, limit: int) -> bytes:
    """A regular file's content. Raises `OSError`, also for more than `limit` bytes."""
    size = require_file(path)
    if size > limit:
        raise _too_large(limit)
    with path.open("rb") as file:
        return read_all(file, limit)


def read_all(file: IO[bytes], limit: int | None) -> bytes:
    """What is left of an open file. Raises `OSError` when it has more than `limit` bytes, whatever it said before.

    In parts: a connection may give less than is asked for, and Python takes the memory for all that is asked for.
    """
    content = bytearray()
    while part := file.read(PART):
        content += part
        if limit is not None and len(content) > limit:
            raise _too_large(limit)
    return bytes(content)


def _too_large(limit: int) -> OSError:
    return OSError(errno.EFBIG, f"It has more than {limit:,} bytes")
