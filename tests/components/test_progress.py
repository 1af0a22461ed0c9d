import io
import itertools
import logging
import sys
from types import SimpleNamespace

import pytest

from components import progress
from components.progress import track, track_bytes


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_are_logged_only_now_and_then(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    clock = itertools.count(0, 0.5)  # half a second an item
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with caplog.at_level(logging.INFO, logger="components.progress"):
        assert list(track(range(80), 80, "numbers")) == list(range(80))
    assert caplog.messages == [
        "numbers: 30 of 80, 2 per second, 0:00:25 left",
        "numbers: 60 of 80, 2 per second, 0:00:10 left",
    ]


def test_a_terminal_gets_a_bar_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(track(iter(range(5)), 5, "numbers")) == list(range(5))
    assert "numbers" in terminal.getvalue()
    assert capsys.readouterr().out == ""
    assert caplog.messages == []


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_items_are_taken_as_they_are_asked_for(monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO]) -> None:
    monkeypatch.setattr(sys, "stderr", stream())
    source = iter(range(10))
    tracked = track(source, 10, "numbers")
    assert [next(tracked), next(tracked)] == [0, 1]
    assert next(source) == 2


@pytest.mark.parametrize(
    ("total", "told"),
    [
        (
            61_000_000,
            ["a.zip: 31.0 of 61.0 MB, 2.0 MB/s, 0:00:15 left", "a.zip: 61.0 of 61.0 MB, 2.0 MB/s, 0:00:00 left"],
        ),
        (None, ["a.zip: 31.0 MB, 2.0 MB/s", "a.zip: 61.0 MB, 2.0 MB/s"]),
    ],
)
def test_lines_about_bytes_have_rate_and_time_left(
    total: int | None, told: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = itertools.count(0, 0.5)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    chunks = [bytes(1_000_000)] * 60
    with caplog.at_level(logging.INFO, logger="components.progress"):
        assert list(track_bytes(iter(chunks), 1_000_000, total, "a.zip")) == chunks
    assert caplog.messages == told


@pytest.mark.parametrize("total", [4_000_000, None])
def test_a_terminal_gets_a_bar_of_bytes_that_goes_when_the_loop_stops(
    total: int | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    tracked = track_bytes([bytes(1_000_000)] * 3, 1_000_000, total, "a.zip")
    for _ in zip(range(2), tracked, strict=False):
        pass
    tracked.close()
    written = terminal.getvalue()
    assert "a.zip" in written
    assert ("2.0/4.0 MB" if total else "2.0/? MB") in written
    assert capsys.readouterr().out == ""
