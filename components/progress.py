"""How far a long loop is: a bar on a terminal, a line now and then elsewhere."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
log = logging.getLogger(__name__)

INTERVAL = 15.0
"""Seconds between two lines."""


def track(items: Iterable[Item], total: int, label: str) -> Iterator[Item]:
    """The items, one by one, with their progress on standard error."""
    return _bar(items, total, label) if sys.stderr.isatty() else _lines(items, total, label)


def _bar(items: Iterable[Item], total: int, label: str) -> Iterator[Item]:
    from rich.console import Console
    from rich.progress import track as rich_track

    return iter(rich_track(items, label, total, console=Console(stderr=True), transient=True))


def _lines(items: Iterable[Item], total: int, label: str) -> Iterator[Item]:
    started = told = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - told >= INTERVAL:
            log.info("%s: %d of %d, %.0f a second", label, done, total, done / (now - started))
            told = now
        yield item
