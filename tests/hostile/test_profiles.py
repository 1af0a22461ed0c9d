"""Profiles, and what `--set` says."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.dataset.sources import locate_sources, locate_split_file, obtain_sources
from components.errors import ConfigurationError
from components.profile import Profile, load_profile
from flows.named_profiles import PROFILES, read_changes
from tests.hostile.fuzzer import damaged
from tests.hostile.watch import forbidding, try_all

HERE = "tests.hostile.test_profiles"
GOOD = """
name = "mine"
[dataset]
root = "data"
holdout = 0.1
[dataset.sources.photos]
images = "photos.zip"
captions = "captions.json"
[encoder]
name = "efficientnet_lite0"
weights = "package"
"""
SAMPLES = (GOOD.encode(), *(path.read_bytes() for path in sorted(PROFILES.glob("*.toml"))))


def load(content: bytes, folder: Path, *changes: str) -> Profile:
    """The profile, of which the addresses were looked at."""
    (folder / "mine.toml").write_bytes(content)
    profile = load_profile(folder / "mine.toml", read_changes(list(changes)))
    assert profile.model_dump_json()
    return profile


def look(content: bytes, folder: Path, *changes: str) -> None:
    profile = load(content, folder, *changes)
    locate_sources(profile.dataset, folder / "downloads")
    locate_split_file(profile.dataset, folder / "downloads")
    if not any(address.startswith("http") for address in (profile.dataset.root, *profile.dataset.addresses)):
        obtain_sources(profile.dataset, folder / "downloads")


def load_damaged(seed: str, folder: Path) -> None:
    load(damaged(SAMPLES, int(seed)), folder)


HUGE = (
    "1" * 5000,
    "0x" + "f" * 5000,
    "9223372036854775808",
    "-1",
    "1e999",
    "nan",
    "inf",
    "-inf",
    "true",
    "1979-05-27",
    '"x"',
    "[1]",
    "{a = 1}",
)
NUMBERED = (
    "training.epochs",
    "training.learning_rate",
    "dataset.seed",
    "dataset.holdout",
    "evaluation.beam",
    "limits.max_vocabulary",
    "runtime.gpus",
)
WRONG: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "zeros": lambda: bytes(100),
    "not UTF-8": lambda: b"name = '\xff'",
    "a BOM": lambda: b"\xef\xbb\xbf" + GOOD.encode(),
    "deep lists": lambda: b"x = " + b"[" * 30_000 + b"]" * 30_000,
    "deep tables": lambda: b"x = " + b"{a = " * 10_000 + b"1" + b"}" * 10_000,
    "a deep key": lambda: b".".join([b"a"] * 30_000) + b" = 1",
    "a deep header": lambda: b"[" + b".".join([b"a"] * 30_000) + b"]",
    "a deep known key": lambda: b"dataset.sources." + b".".join([b"a"] * 30_000) + b" = 1",
    "a key of great length": lambda: b"k" * 60_000 + b" = 1",
    "an unknown key of every section": lambda: b"\n".join(b"k%d = 1" % n for n in range(6000)),
    "a hundred megabytes": lambda: GOOD.encode() + b"# comment\n" * 10_000_000,
    "a date that is none": lambda: b"x = 2024-99-99T99:99:99Z",
    "a number of 5,000 digits": lambda: b"x = " + b"1" * 5000,
    "an exponent of 5,000 digits": lambda: b"x = 1e" + b"9" * 5000,
    "half a character": lambda: b'x = "\\ud800"',
    "a character too far": lambda: b'x = "\\Uffffffff"',
    "control characters": lambda: b'"\\u001b[31m" = 1',
    "code": lambda: b"x = \"{{ ''.__class__ }} $(touch hostile) %s %(a)s {0}\"",
    "a list for a section": lambda: GOOD.replace("[encoder]", "[[encoder]]").encode(),
    "a value for a section": lambda: b"dataset = 5",
    "a section for a value": lambda: GOOD.replace('root = "data"', "root.a = 1").encode(),
    "the dunder": lambda: GOOD.encode() + b"__class__ = 1\nmodel_config = 2\n",
    "an infinite rate": lambda: GOOD.encode() + b"[training]\nlearning_rate = inf\n",
    "a rate that is no number": lambda: GOOD.encode() + b"[training]\nlearning_rate = nan\n",
    "a number beyond 64 bits": lambda: GOOD.encode() + b"[training]\nepochs = 99999999999999999999\n",
    "one column for two": lambda: GOOD.replace("captions =", 'image_column = "caption"\ncaptions =').encode(),
}


def refuse(name: str, folder: Path) -> None:
    with pytest.raises(ConfigurationError):
        load(WRONG[name](), folder)


ADDRESSES = (
    *(
        "",
        " ",
        ".",
        "..",
        "../../..",
        "/",
        "//",
        "~nobody-here/data",
        "~",
        "a\\u0000b",
        "\\u001b[31m",
        "x" * 5000,
        "a/" * 3000,
    ),
    *(
        "file://",
        "file:///",
        "file:///dev/zero",
        "file:///%00",
        "file://host/etc",
        "file:///etc/passwd",
        "FILE:///etc/passwd",
    ),
    *(
        "http://",
        "http://[",
        "http://[::1",
        "http://a:b",
        "http://192.0.2.1:99999/a",
        "https://\\u0000",
        "http://%00/",
        "http://a b/",
    ),
    *(
        "s3://",
        "s3://[",
        "gs://",
        "nosuch://a",
        "://",
        "a://",
        "ssh://192.0.2.1/a",
        "github://",
        "reference://",
        "python://",
    ),
    *(
        "simplecache::file:///etc/passwd",
        "zip://a::file:///b",
        "filecache::http://192.0.2.1/a",
        "memory://a",
        "dir::file:///etc",
    ),
)


def look_at(key: str, folder: Path) -> None:
    place, which = key.split()
    address = ADDRESSES[int(which)]
    text = GOOD.replace(
        {"root": '"data"', "images": '"photos.zip"', "captions": '"captions.json"'}[place], f'"{address}"'
    )
    text = (
        text
        if "://" in address or "::" in address or place != "captions"
        else text.replace("captions =", 'format = "csv"\ncaptions =')
    )
    look(text.encode(), folder)


CHANGES = (
    *(
        "",
        "=",
        "=x",
        "x",
        "a.b.c=1",
        "..=1",
        "dataset=1",
        "dataset.=1",
        ".dataset=1",
        "dataset.root.x=1",
        "name=",
        "recipe.x=1",
    ),
    *(
        "x=" + "[" * 20_000,
        "x=[" + "{a=" * 5000,
        "training.epochs=[",
        "training.epochs={",
        "training.epochs=[1]\n[x]",
        "x=[1]\ny=2",
    ),
    *(
        "training.epochs=" + "9" * 5000,
        "dataset.sources={}",
        "dataset.sources.x=y",
        ".".join("a" * 20_000) + "=1",
        "a" * 100_000 + "=1",
    ),
    *(
        "training.epochs=\ud800",
        "\ud800=1",
        "registry.licence=\ud800",
        "dataset.root=\0",
        "dataset.root=~nobody-here",
        "name=\x1b[31m",
    ),
    *("dataset.root=scenes://../../hostile=1", "dataset.sha256={'a' = 'b'}", "encoder.name=" + "n" * 100_000),
    *(f"{key}={value}" for key in NUMBERED for value in HUGE),
)


def change(number: str, folder: Path) -> None:
    look(GOOD.encode(), folder, CHANGES[int(number)])


def place(kind: str, folder: Path) -> None:
    path = folder / "mine.toml"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "loop":
            path.symlink_to(path)
        case _:
            path.symlink_to(kind)
    with pytest.raises(ConfigurationError, match=r"mine\.toml"):
        load_profile(path, {})


ATTEMPTS = {
    "refuse": (refuse, WRONG),
    "look_at": (look_at, [f"{place} {n}" for place in ("root", "images", "captions") for n in range(len(ADDRESSES))]),
    "change": (change, map(str, range(len(CHANGES)))),
    "place": (place, ("pipe", "folder", "loop", "/dev/zero", "/dev/stdin", "/nowhere")),
}
KEYS = [f"{kind}: {key}" for kind, (_, keys) in ATTEMPTS.items() for key in keys]


def attempt(key: str, folder: Path) -> None:
    kind, _, name = key.partition(": ")
    if key.isdigit():
        load_damaged(key, folder)
    else:
        ATTEMPTS[kind][0](name, folder)


def test_profiles_and_changes_are_read_or_refused(inputs: range) -> None:
    assert try_all(f"{HERE}:attempt", [*KEYS, *inputs]) == {}


@given(key=st.text() | st.sampled_from(NUMBERED), value=st.text() | st.from_regex(r"[\[{][\[\]{}=a,1\"' \n]*"))
def test_changes_of_any_text_are_read_or_refused(
    key: str, value: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    with forbidding(folder) as deeds, contextlib.suppress(ConfigurationError):
        load(GOOD.encode(), folder, f"{key}={value}")
    assert deeds == []
