"""Ctrl-C and SIGTERM at any moment: exit code, last line, no process left, the next run as if undisturbed."""

import random
import signal
import subprocess
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

if TYPE_CHECKING:
    from tests.faults.conftest import Ended, Home

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
AwaitEnd = Callable[[subprocess.Popen], "Ended"]
Interrupt = Callable[[subprocess.Popen, signal.Signals], None]
LeftBehind = Callable[["Home"], list[str]]


def requires_an_orderly_end(done: "Ended", number: signal.Signals, left: list[str]) -> None:
    """Of a command that was interrupted; one that was faster than the signal ended well."""
    assert not left
    if done.code != 0:
        done.has_said("interrupted; the same command resumes this run", code=CODES[number])
        assert done.told.splitlines()[-1].startswith("error: interrupted")


@pytest.mark.parametrize("number", list(CODES), ids=lambda number: number.name)
def test_a_command_that_is_starting_ends_at_once(
    request: pytest.FixtureRequest,
    home: "Home",
    number: signal.Signals,
    await_end: AwaitEnd,
    interrupt: Interrupt,
    left_behind: LeftBehind,
) -> None:
    if number == signal.SIGINT:  # in the short form there is tests/flows/test_line.py
        request.getfixturevalue("long_form")
    process = home.start("train", "--profile", "demo")
    assert process.stderr
    process.stderr.readline()
    interrupt(process, number)
    done = await_end(process)
    assert done.code == CODES[number]
    requires_an_orderly_end(done, number, left_behind(home))


def test_a_training_interrupted_again_and_again_ends_as_an_undisturbed_one(
    long_form: None,
    calm: "Home",
    home: "Home",
    train_command: tuple[str, ...],
    await_end: AwaitEnd,
    interrupt: Interrupt,
    left_behind: LeftBehind,
) -> None:
    moments = random.Random(5)
    for number in list(CODES) * 4:
        process = home.start(*train_command)
        assert process.stderr
        for _ in range(moments.randrange(1, 28)):  # lines that it says
            process.stderr.readline()
        time.sleep(moments.uniform(0, 0.5))
        interrupt(process, number)
        requires_an_orderly_end(await_end(process), number, left_behind(home))
    home.train()
    assert home.stages() == calm.stages()
    assert home.versions() == [1]


def test_a_scoring_and_what_comes_after_it_are_not_harmed(
    long_form: None,
    trained: "Home",
    tmp_path: Path,
    await_end: AwaitEnd,
    interrupt: Interrupt,
    left_behind: LeftBehind,
) -> None:
    images, moments = tmp_path / "many.zip", random.Random(3)
    with zipfile.ZipFile(next(trained.path.glob("downloads/scenes+*")) / "train.zip") as scenes:
        pictures = [scenes.read(name) for name in scenes.namelist()]
    with zipfile.ZipFile(images, "w") as archive:
        for number in range(200):  # no two have the same content
            archive.writestr(f"{number:04}.jpg", pictures[number % len(pictures)] + b"%d" % number)
    (tmp_path / "one.jpg").write_bytes(pictures[0])
    commands = {
        "score": ("score", "--images", str(images), "--out", str(tmp_path / "out")),
        "caption": ("caption", str(tmp_path / "one.jpg")),
        "promote": ("promote",),
    }
    for number in CODES:
        for name, command in commands.items():
            process = trained.start(*command)
            time.sleep(moments.uniform(2, 12))
            if name == "score":
                assert process.stderr
                process.stderr.readline()
            interrupt(process, number)
            done = await_end(process)
            if name != "promote" or done.code != 1:  # done, and the champion stays
                requires_an_orderly_end(done, number, left_behind(trained))
    done = trained.run(*commands["score"])
    assert done.code == 0, done.told
    calm_out = tmp_path / "calm"
    assert trained.run(*commands["score"][:-1], str(calm_out)).code == 0
    ours, undisturbed = (
        pd.read_parquet(out).drop(columns=["scored_at", "batch"]) for out in (tmp_path / "out", calm_out)
    )
    pd.testing.assert_frame_equal(ours, undisturbed)
    assert len(ours) == ours["uri"].nunique() == 200
    assert len(list((tmp_path / "out").iterdir())) == 1
    assert trained.versions() == [1]


@pytest.mark.parametrize("number", list(CODES), ids=lambda number: number.name)
def test_a_line_that_is_starting_leaves_nothing(
    long_form: None,
    home: "Home",
    number: signal.Signals,
    free_ports: dict[str, str],
    await_end: AwaitEnd,
    interrupt: Interrupt,
    left_behind: LeftBehind,
) -> None:
    process = home.start("up", environment=free_ports)
    time.sleep(random.Random(int(number)).uniform(3, 15))
    interrupt(process, number)
    done = await_end(process)
    assert "Traceback" not in done.told
    assert done.code in (0, CODES[number]), done.told
    assert not left_behind(home)
    assert not (home.path / "up.json").exists()
