"""The watch sees what it is there for."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from components.errors import CaptioningError
from tests.hostile import watch


def complain(message: str) -> None:
    raise CaptioningError(message)


def write(path: Path) -> None:
    path.write_text("")
    path.unlink()


def make(path: Path) -> None:
    path.mkdir()
    path.rmdir()


def connect(address: tuple[str, int]) -> None:
    with socket.socket() as connection:
        connection.settimeout(0.01)
        connection.connect(address)


WELL: dict[str, Callable[[Path], object]] = {
    "write inside": lambda folder: write(folder / "file"),
    "refuse": lambda folder: complain("what is wrong"),
}
BADLY: dict[str, tuple[Callable[[Path], object], str]] = {
    "refuse without a word": (lambda folder: complain(""), "says nothing"),
    "raise": (lambda folder: {}["what"], "KeyError: 'what'"),
    "write outside": (lambda folder: write(folder / ".." / "hostile-file"), "hostile-file"),
    "make a folder": (lambda folder: make(folder / ".." / "hostile-folder"), "hostile-folder"),
    "start a program": (lambda folder: subprocess.run(["true"], check=True), "subprocess.Popen"),
    "connect": (lambda folder: connect(("192.0.2.1", 9)), "192.0.2.1"),
    "run code": (lambda folder: eval("1 + 1"), "compile"),
    "allocate": (lambda folder: bytearray(watch.MEMORY), "MemoryError"),
    "crash": (lambda folder: os.kill(os.getpid(), signal.SIGSEGV), "ended with -11"),
}


def behave(how: str, folder: Path) -> None:
    (WELL[how] if how in WELL else BADLY[how][0])(folder)


def hang(key: str, folder: Path) -> None:
    time.sleep(60)


def test_every_misdeed_is_told_and_nothing_else() -> None:
    failures = watch.try_all("tests.hostile.test_watch:behave", ["refuse", *BADLY, "write inside"])
    assert failures.keys() == BADLY.keys()
    assert [how for how, fault in failures.items() if BADLY[how][1] not in fault] == []


def test_what_does_not_end_is_told() -> None:
    assert "Timeout" in watch.try_all("tests.hostile.test_watch:hang", ["key"], seconds=1)["key"]
