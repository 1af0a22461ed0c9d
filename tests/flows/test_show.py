from datetime import UTC, datetime
from pathlib import Path

import pytest

from components.retention import Leftover
from flows import show, show_operations
from flows.caption import CaptionedPhoto

NAME = "a :dog: [bold]b"


def test_a_photographs_name_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    show.captions([CaptionedPhoto(Path(NAME), (), "no [red]image")], as_json=False)
    assert capsys.readouterr().out == f"{NAME}\n  no [red]image\n"


def test_so_is_one_in_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    stage = Leftover("stage", NAME, "", 60_000, datetime(2026, 1, 1, tzinfo=UTC), "old")
    show_operations.cleaning([stage], None, as_json=False)
    assert NAME in capsys.readouterr().out
