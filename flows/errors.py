"""How a command ends that cannot go on: interrupted, or because of the machine, with what to do."""

import shutil
import signal
from contextlib import suppress

from components.errors import ROOM, CaptioningError, causes, find_remedy, remedy_in
from flows.settings import settings

SCARCE = 1 << 20
"""Bytes: with less, databases cannot be written."""
END = 5000


def suggest_remedy(error: BaseException | None = None, log: str = "") -> str:
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


class RunInterruptedError(CaptioningError):
    """Ctrl-C, or SIGTERM."""

    def __init__(self, error: BaseException) -> None:
        super().__init__("interrupted; the same command resumes this run")
        ended = any(isinstance(cause, _Ended) for cause in causes(error))
        self.exit_code = 128 + (signal.SIGTERM if ended else signal.SIGINT)


class _Ended(KeyboardInterrupt):
    """SIGTERM, which ends a run as Ctrl-C does: told in Prefect and in MLflow, and nothing left behind."""


def end_at_sigterm() -> None:
    """Lets SIGTERM interrupt this process as Ctrl-C does."""

    def end(*_: object) -> None:
        raise _Ended

    signal.signal(signal.SIGTERM, end)
