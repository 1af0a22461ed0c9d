"""How far a long loop is: a bar on a terminal, a line now and then elsewhere."""

import logging
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from datetime import timedelta
from typing import TypeVar

Item = TypeVar("Item")
log = logging.getLogger(__name__)

INTERVAL = 15.0
"""Seconds between two lines."""


def track(items: Iterable[Item], total: int, label: str) -> Iterator[Item]:
    """The items, one by one, with their progress on standard error."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track as rich_track

        return iter(rich_track(items, label, total, console=Console(stderr=True), transient=True))

    def words(done: int, rate: float) -> str:
        return f"{label}: {done} of {total}, {rate:.0f} per second, {_left(total - done, rate)} left"

    return _tell(items, lambda _: 1, words)


def track_bytes(chunks: Iterable[bytes], done: int, total: int | None, label: str) -> Generator[bytes]:
    """The chunks, with their progress in bytes, rate and time left.

    `done`: bytes that came before; `total`: with those, if known.
    """

    def words(come: int, rate: float) -> str:
        left = f", {_left(total - done - come, rate)} left" if total else ""
        of = f" of {total / 1e6:.1f}" if total else ""
        return f"{label}: {(done + come) / 1e6:.1f}{of} MB, {rate / 1e6:.1f} MB/s{left}"

    return _byte_bar(chunks, done, total, label) if sys.stderr.isatty() else _tell(chunks, len, words)


def _left(rest: int, rate: float) -> timedelta:
    return timedelta(seconds=round(rest / rate))


def _tell(items: Iterable[Item], size: Callable[[Item], int], words: Callable[[int, float], str]) -> Generator[Item]:
    """The items; now and then what is done, and how much of it a second, is logged in `words`."""
    started = last_report = time.monotonic()
    done = 0
    for item in items:
        yield item
        done += size(item)
        now = time.monotonic()
        if now - last_report >= INTERVAL:
            log.info("%s", words(done, max(done, 1) / (now - started)))
            last_report = now


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
