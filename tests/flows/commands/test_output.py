from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer

from captioning import Result, Results
from components.retention import CleanupCandidate
from data_contracts.report import ContractReport, RuleResult
from flows.check import CheckResult
from flows.commands import output, output_operations
from flows.commands.console import Output, show

NAME = "a :dog: [bold]b"


def printed(found: Output, capsys: pytest.CaptureFixture[str]) -> str:
    with suppress(typer.Exit):
        show(found, as_json=False)
    return capsys.readouterr().out


def test_a_photographs_name_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    found = output.captions(Results((Result(NAME, (), "no [red]image"),)))
    assert found.exit_code == 4
    assert printed(found, capsys) == f"{NAME}\n  no [red]image\n"


def test_of_many_broken_rows_a_few_are_printed_and_the_rest_counted(capsys: pytest.CaptureFixture[str]) -> None:
    rule = RuleResult("images", "rule", "warning", False, "all", "few", 64, tuple(map(str, range(20))), "do")
    found = output.check(CheckResult("run", (ContractReport("images", 100, (rule,)),), Path("page")))
    assert "    4\n    … and 59 more: the page has the first 20\n" in printed(found, capsys)


def test_check_names_photographs_without_captions(capsys: pytest.CaptureFixture[str]) -> None:
    names = tuple(f"{number}.jpg" for number in range(72))
    found = output.check(CheckResult("run", (), Path("page"), uncaptioned=names))
    assert found.facts["uncaptioned"] == names
    text = printed(found, capsys)
    assert "72 photographs have no captions" in text
    assert "  4.jpg\n  … and 67 more" in text
    assert "no captions" not in printed(output.check(CheckResult("run", (), Path("page"))), capsys)


def test_so_is_one_in_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    stage = CleanupCandidate("stage", NAME, "", 60_000, datetime(2026, 1, 1, tzinfo=UTC), "old")
    assert NAME in printed(output_operations.cleaning([stage], None), capsys)
