"""The nastiest of it through the command itself: its exit code, and one message."""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from components.errors import LONGEST
from tests.hostile.test_archives import parcel
from tests.hostile.test_profiles import GOOD

Make = Callable[[Path], object]
COMMANDS: dict[str, tuple[int, tuple[str, ...], str, Make]] = {
    "a deep profile": (
        2,
        ("train", "--profile", "mine.toml"),
        "nested too deep",
        lambda p: p.write_text(f"x = {'[' * 9999}"),
    ),
    "a number of 5,000 digits": (
        2,
        ("train", "--profile", "mine.toml"),
        "not valid TOML",
        lambda p: p.write_text(f"x = {'1' * 5000}"),
    ),
    "a profile that never ends": (
        2,
        ("check", "--profile", "mine.toml"),
        "It is no file",
        lambda p: p.symlink_to("/dev/zero"),
    ),
    "a profile that is a pipe": (2, ("train", "--profile", "mine.toml"), "It is no file", os.mkfifo),
    "an address that is none": (
        *(2, ("train", "--profile", "mine.toml", "--set", "dataset.root=http://["), "no path and no address"),
        lambda path: path.write_text(GOOD),
    ),
    "somebody's folder": (
        *(2, ("train", "--profile", "mine.toml", "--set", "dataset.root=~nobody-here"), "no path and no address"),
        lambda path: path.write_text(GOOD),
    ),
    "a deep change": (
        2,
        ("train", "--profile", "demo", "--set", f"x={'[' * 9999}"),
        "nested too deep",
        lambda path: None,
    ),
    "a change that is no text": (
        2,
        ("train", "--profile", "demo", "--set", "name=\udcff"),
        "not UTF-8",
        lambda path: None,
    ),
    "scenes that climb": (
        *(2, ("train", "--profile", "demo", "--set", "dataset.root=scenes://../../x=1"), "cannot download"),
        lambda path: None,
    ),
    "a name that rings": (2, ("train", "--profile", "\x1b[31m\x07.toml"), "\\x1b[31m\\x07.toml", lambda path: None),
    "a name of great length": (
        2,
        ("train", "--profile", "demo", "--set", f"{'k' * 100_000}=1"),
        " … ",
        lambda path: None,
    ),
    "a list that is a pipe": (2, ("score", "--images", "list.txt", "--out", "out"), "It is no file", os.mkfifo),
    "a table that is none": (
        *(2, ("score", "--images", "list.parquet", "--out", "out"), "not a list of paths that can be read"),
        lambda path: path.write_bytes(b"PAR1\xff\xff\xff\x7fPAR1"),
    ),
    "photographs that are a device": (
        *(2, ("score", "--images", "photos.zip", "--out", "out"), "It is no file"),
        lambda path: path.symlink_to("/dev/zero"),
    ),
    "a chain of addresses": (
        *(2, ("score", "--images", "simplecache::file:///dev/zero", "--out", "out"), "it is a chain"),
        lambda path: None,
    ),
    "a model from the root": (
        *(1, ("import-model", "model.zip"), "does not lie below"),
        lambda path: path.write_bytes(parcel(b"//hostile/a")),
    ),
}


def run(name: str, folder: Path) -> tuple[int, str, str]:
    _, arguments, _, make = COMMANDS[name]
    folder.mkdir()
    made = next(
        (word for word in arguments if word in ("mine.toml", "list.txt", "list.parquet", "photos.zip", "model.zip")), ""
    )
    make(folder / made)
    environment = {**os.environ, "CAPTIONING_HOME": str(folder / "home"), "PREFECT_HOME": str(folder / "prefect")}
    command = [sys.executable, "-m", "flows.commands.cli", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=300, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, str]]:
    folder = tmp_path_factory.mktemp("commands")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        places = [folder / str(number) for number in range(len(COMMANDS))]
        return dict(zip(COMMANDS, pool.map(run, COMMANDS, places), strict=True))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_nasty_command_ends_with_its_code_and_one_message(
    name: str, results: dict[str, tuple[int, str, str]]
) -> None:
    (expected, _, told, _), (code, out, message) = COMMANDS[name], results[name]
    assert code == expected
    assert out == ""
    assert told in message
    assert message.count("error: ") == 1
    assert "Traceback" not in message
    assert len(message) < LONGEST + 1000
