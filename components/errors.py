"""The errors this project raises on purpose. Each says what is wrong, where, and what to do."""

import errno
import re
from collections.abc import Iterator

from components.redaction import redacted

LONGEST = 4000
"""Characters of a message; names and values in it come from files, and may be of any length."""
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What would write over the terminal, turn its text around, or cannot be encoded."""


def readable(text: str) -> str:
    """The text, fit to be shown: shortened in its middle, control characters escaped."""
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class CaptioningError(Exception):
    """Something the user can act on; shown without a traceback. The command line exits with `exit_code`."""

    exit_code = 1

    def __str__(self) -> str:
        return readable(redacted(super().__str__()))


class ConfigurationError(CaptioningError):
    """A profile, an override or a command-line argument is wrong; nothing was started."""

    exit_code = 2


class BadImageError(CaptioningError):
    """The bytes given are not an image that can be read. Quarantines the image, never stops a run."""


TRIED_AGAIN = "it is tried again at the next run"
"""How the reason of an image ends that a later run may be able to read; such a reason is never kept as a result."""


class TransientImageError(BadImageError):
    """The image cannot be read now; a later run may (an outage, a full memory, a decoder that is not installed)."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}; {TRIED_AGAIN}")


ROOM = "Make room there; CAPTIONING_HOME moves what this project writes, TMPDIR what is written meanwhile"
_READ_ONLY = "Its file system can only be read: mount it for writing, or set CAPTIONING_HOME to another folder"
_FILES = "Too many files are open: raise the limit (`ulimit -n 65536`)"
_LOCKED = "Another process keeps the database locked: end it, or wait for it (`captioning doctor` says what runs)"
_REMEDIES = {
    errno.ENOSPC: ROOM,
    errno.EDQUOT: ROOM,
    errno.EROFS: _READ_ONLY,
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
}
_SIGNS = {
    r"no space left on device|disk is full|\d+ requested and \d+ written": ROOM,  # the last is NumPy's
    r"read-only file system|readonly database": _READ_ONLY,
    r"too many open files": _FILES,
    r"database is locked": _LOCKED,
}
"""What libraries say that do not pass the operating system's number on."""


def find_remedy(error: BaseException) -> str:
    """What to do when the machine is why this failed (a full disk, too many files); empty when it is not."""
    for cause in causes(error):
        if isinstance(cause, OSError) and cause.errno in _REMEDIES:
            return _REMEDIES[cause.errno]
        if found := remedy_in(str(cause)):
            return found
    return ""


def remedy_in(message: str) -> str:
    """The same of what a library or a server says."""
    return next((remedy for sign, remedy in _SIGNS.items() if re.search(sign, message, re.IGNORECASE)), "")


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what it came from, and so on."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__
