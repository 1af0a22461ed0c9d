"""How far a long loop is: a bar on a terminal, a line now and then elsewhere."""

import logging
import sys
import time
from collections.abc import Generator, Iterable, Iterator
from datetime import timedelta
from typing import TypeVar

Item = TypeVar("Item")
log = logging.getLogger(__name__)

INTERVAL = 15.0
"""Seconds between two lines."""


def track(items: Iterable[Item], total: int, label: str) -> Iterator[Item]:
    """The items, one by one, with their progress on standard error."""
    return _bar(items, total, label) if sys.stderr.isatty() else _lines(items, total, label)


def track_bytes(chunks: Iterable[bytes], done: int, total: int | None, label: str) -> Generator[bytes]:
    """The chunks, with their progress in bytes, rate and time left.

    `done`: bytes that came before; `total`: with those, if known.
    """
    show = _byte_bar if sys.stderr.isatty() else _byte_lines
    return show(chunks, done, total, label)


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


def _byte_bar(chunks: Iterable[bytes], done: int, total: int | None, label: str) -> Generator[bytes]:
    from rich import progress
    from rich.console import Console

    columns = [
        *(progress.TextColumn("{task.description}"), progress.BarColumn(), progress.DownloadColumn()),
        *(progress.TransferSpeedColumn(), progress.TimeRemainingColumn()),
    ]
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total, completed=done)
        for chunk in chunks:
            yield chunk
            bar.advance(task, len(chunk))


def _byte_lines(chunks: Iterable[bytes], done: int, total: int | None, label: str) -> Generator[bytes]:
    started = told = time.monotonic()
    before = done
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        now = time.monotonic()
        if now - told >= INTERVAL:
            rate = max(1.0, (done - before) / (now - started))
            left = f", {timedelta(seconds=round((total - done) / rate))} left" if total else ""
            of = f" of {total / 1e6:.1f}" if total else ""
            log.info("%s: %.1f%s MB, %.1f MB/s%s", label, done / 1e6, of, rate / 1e6, left)
            told = now
