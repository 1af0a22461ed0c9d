import io
import itertools
import logging
import sys
from types import SimpleNamespace

import pytest

from components import progress
from components.progress import track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_are_logged_only_now_and_then(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    clock = itertools.count(0, 0.5)  # half a second an item
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with caplog.at_level(logging.INFO, logger="components.progress"):
        assert list(track(range(80), 80, "numbers")) == list(range(80))
    assert caplog.messages == ["numbers: 29 of 80, 2 a second", "numbers: 59 of 80, 2 a second"]


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
