"""A process that is to be killed: by itself at its n-th write, or by whoever waits until it has come to a log line.

Writes are what changes a file or a folder below some places, and the commits of SQLite databases. It dies before that
write, so that each state between two of them can be met.
"""

import json
import logging
import os
import re
import runpy
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.truncate", "shutil.rmtree"}
UNIMPORTANT = re.compile(r"lock$|/logs/|/prefect/|/keras/|/matplotlib/")
OURS = ("components", "flows", "data_contracts")


@dataclass(frozen=True)
class Fate:
    """When a process is to die."""

    journal: str
    """A file that appears when the line has come, and at the end says what was done since: `writes`, `seconds`."""
    places: tuple[str, ...]
    after: str = ""
    """What the line holds, a regular expression; without one the process is there from its start."""
    write: int = 0
    """Counted from the line on; 0: it does not kill itself."""


class _Watch(logging.Handler):
    def __init__(self, fate: Fate) -> None:
        super().__init__()
        self.fate, self.writes, self.since = fate, 0, 0.0
        for name in OURS:
            logging.getLogger(name).addHandler(self)
        if not fate.after:
            self.begin()

    def emit(self, record: logging.LogRecord) -> None:
        if not self.since and re.search(self.fate.after, record.getMessage()):
            self.begin()

    def begin(self) -> None:
        self.since = time.monotonic()
        with open(self.fate.journal, "w"):  # noqa: PTH123
            pass

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in CHANGES or (event == "open" and _for_writing(*arguments)):
            place = str(arguments[0])  # a path, or the number of an open file
            if place.startswith(self.fate.places) and not UNIMPORTANT.search(place):
                self.write()

    def write(self) -> None:
        self.writes += bool(self.since)
        if self.writes == self.fate.write > 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def end(self) -> None:
        told = {"writes": self.writes, "seconds": time.monotonic() - self.since if self.since else 0.0}
        with open(self.fate.journal, "w") as file:  # noqa: PTH123
            json.dump(told, file)


def _for_writing(_: object, mode: str | None, flags: int) -> bool:
    return any(letter in mode for letter in "wax+") if mode else bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


@contextmanager
def watched(fate: Fate) -> Iterator[None]:
    """Lets the process have that fate while the block runs."""
    watch = _Watch(fate)

    class Connection(sqlite3.Connection):
        def commit(self) -> None:
            if self.in_transaction:
                watch.write()
            super().commit()

    sqlite3.connect = sqlite3.dbapi2.connect = partial(sqlite3.connect, factory=Connection)
    sys.addaudithook(watch.audit)
    yield
    watch.end()


def call(fate: Fate, function: Callable[..., None], *given: object) -> None:
    """Calls the function; it has that fate."""
    for name in OURS:
        logging.getLogger(name).setLevel(logging.INFO)
    with watched(fate):
        function(*given)


def fate_of(text: str) -> Fate:
    """Reads what `text_of` wrote."""
    fields = json.loads(text)
    return Fate(**{**fields, "places": tuple(fields["places"])})


def text_of(fate: Fate) -> str:
    """A fate as an argument of this module."""
    return json.dumps(asdict(fate))


if __name__ == "__main__":
    told, *sys.argv[1:] = sys.argv[1:]
    with watched(fate_of(told)):
        try:
            runpy.run_module("flows.commands.cli", run_name="__main__", alter_sys=True)
        except SystemExit as end:
            code = end.code
    sys.exit(code)
