"""Which servers `captioning up` has running for a home."""

import json
from dataclasses import dataclass, fields
from pathlib import Path

from filelock import FileLock, Timeout

RUNNING, LOCK = "up.json", "up.lock"
"""What `captioning up` writes into the home folder, and what it holds as long as it runs."""


@dataclass(frozen=True)
class Services:
    """Where what `captioning up` started answers, and where it writes."""

    prefect: str
    mlflow: str
    logs: str


def find_services(home: Path) -> Services | None:
    """What `captioning up` has running for this home, if it has."""
    if not (home / LOCK).exists():  # to try the lock would make it, and the home
        return None
    try:
        with FileLock(home / LOCK, timeout=0):
            return None
    except Timeout:
        try:
            state = json.loads((home / RUNNING).read_text(encoding="utf-8"))
            return Services(*(str(state[field.name]) for field in fields(Services)))
        except (OSError, ValueError, TypeError, LookupError, RecursionError):  # it is just starting
            return None
