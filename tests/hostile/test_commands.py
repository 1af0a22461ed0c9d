"""The nastiest of it through the command itself: its exit code, and one message."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from components.errors import LONGEST
from tests import commands
from tests.hostile.test_archives import parcel
from tests.hostile.test_profiles import GOOD

Make = Callable[[Path], object]
TRAIN, DEMO, SCORE = ("train", "--profile", "mine.toml"), ("train", "--profile", "demo", "--set"), ("score", "--images")
OUT = ("--out", "out")


def file(name: str, content: str | bytes) -> Make:
    return lambda folder: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def pipe(name: str) -> Make:
    return lambda folder: os.mkfifo(folder / name)


def device(name: str) -> Make:
    return lambda folder: (folder / name).symlink_to("/dev/zero")


def nothing(folder: Path) -> None:
    pass


COMMANDS: dict[str, tuple[tuple[str, ...], str, Make]] = {
    "a deep profile": (TRAIN, "nested too deep", file("mine.toml", f"x = {'[' * 9999}")),
    "a number of 5,000 digits": (TRAIN, "not valid TOML", file("mine.toml", f"x = {'1' * 5000}")),
    "a profile that never ends": (("check", *TRAIN[1:]), "mine.toml: ", device("mine.toml")),
    "a profile that is a pipe": (TRAIN, "mine.toml: ", pipe("mine.toml")),
    "no address": ((*TRAIN, "--set", "dataset.root=http://["), "no path and no address", file("mine.toml", GOOD)),
    "a stranger": ((*TRAIN, "--set", "dataset.root=~nobody-here"), "no path and no address", file("mine.toml", GOOD)),
    "a deep change": ((*DEMO, f"x={'[' * 9999}"), "nested too deep", nothing),
    "a change that is no text": ((*DEMO, "name=\udcff"), "not UTF-8", nothing),
    "scenes that climb": ((*DEMO, "dataset.root=scenes://../../x=1"), "cannot download", nothing),
    "a name that rings": (("train", "--profile", "\x1b[31m\x07.toml"), "\\x1b[31m\\x07.toml", nothing),
    "a name of great length": ((*DEMO, f"{'k' * 100_000}=1"), " … ", nothing),
    "a list that is a pipe": ((*SCORE, "list.txt", *OUT), "list.txt", pipe("list.txt")),
    "a table that is none": (
        (*SCORE, "list.parquet", *OUT),
        "not a list of paths that can be read",
        file("list.parquet", b"PAR1\xff\xff\xff\x7fPAR1"),
    ),
    "photographs that are a device": ((*SCORE, "photos.zip", *OUT), "photos.zip", device("photos.zip")),
    "a chain of addresses": ((*SCORE, "simplecache::file:///dev/zero", *OUT), "it is a chain", nothing),
    "a model from the root": (
        ("import-model", "model.zip"),
        "does not lie below",
        file("model.zip", parcel(b"//hostile/a")),
    ),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_nasty_command_ends_with_its_code_and_one_message(name: str, tmp_path: Path) -> None:
    arguments, message, make = COMMANDS[name]
    make(tmp_path)
    own = {"CAPTIONING_HOME": str(tmp_path / "home"), "PREFECT_HOME": str(tmp_path / "prefect")}
    done = commands.captioning(tmp_path, *arguments, environment=own)
    assert done.returncode == (1 if arguments[0] == "import-model" else 2)
    assert done.stdout == ""
    assert message in done.stderr
    assert done.stderr.count("error: ") == 1
    assert "Traceback" not in done.stderr
    assert len(done.stderr) < LONGEST + 1000
