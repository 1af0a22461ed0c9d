"""What to do when the machine is why a run failed."""

import shutil
from contextlib import suppress

from components.errors import ROOM, find_remedy, remedy_in
from flows.settings import settings

SCARCE = 1 << 20
"""Bytes: with less, databases cannot be written."""
END = 5000


def advise(error: BaseException | None = None, log: str = "") -> str:
    """What to do about the error, or about what the end of a log in `logs` tells; empty when the machine is fine.

    A server does not pass on that it found no room, and may not be able to log it.
    """
    if error and (found := find_remedy(error)):
        return found
    with suppress(OSError):
        if shutil.disk_usage(settings().home).free < SCARCE:
            return f"The disk of {settings().home} is full. {ROOM}"
    with suppress(OSError):
        return remedy_in((settings().logs / log).read_text(encoding="utf-8", errors="replace")[-END:]) if log else ""
    return ""
