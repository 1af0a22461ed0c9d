import logging
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from data_contracts.rules import great_expectations
from data_contracts.runner import validate


def suite(*expectations: Any) -> Any:
    return great_expectations().ExpectationSuite("t", expectations=list(expectations))


def at_most_three(column: str, rule: str, severity: str = "critical") -> Any:
    return great_expectations().expectations.ExpectColumnValuesToBeBetween(
        column=column,
        max_value=3,
        severity=severity,
        meta={"rule": rule, "expected": "at most 3", "remedy": "Lower it."},
    )


def test_an_offender_is_named_by_its_ids_whatever_the_frames_index() -> None:
    frame = pd.DataFrame({"name": ["a", "b", "c"], "n": [1, 7, 2]}, index=[9, 9, 9])
    [rule] = validate(frame, suite(at_most_three("n", "low")), ids=("name", "n")).rules
    assert (rule.passed, rule.count, rule.offenders) == (False, 1, ("name=b, n=7",))
    assert rule.observed == "1 of 3 rows break it; values 1 to 7"
    assert (rule.table, rule.expected, rule.remedy) == ("t", "at most 3", "Lower it.")


def test_only_the_first_offenders_are_kept_and_all_are_counted() -> None:
    frame = pd.DataFrame({"n": range(5000)})
    [rule] = validate(frame, suite(at_most_three("n", "low")), ids=("n",)).rules
    assert rule.count == 4996
    assert rule.offenders == tuple(f"n={n}" for n in range(4, 24))


@pytest.mark.parametrize("frame", [pd.DataFrame({"other": [1]}), pd.DataFrame({"n": ["text"]})])
def test_a_rule_that_cannot_be_checked_is_a_broken_critical_rule(frame: pd.DataFrame) -> None:
    report = validate(frame, suite(at_most_three("n", "low", severity="warning")), ids=())
    assert not report.passed
    [rule] = report.violations
    assert rule.rule == "low"
    assert "column" in rule.observed.lower()


def test_rules_come_in_the_order_of_the_suite() -> None:
    rules = suite(at_most_three("gone", "a"), at_most_three("n", "b"), at_most_three("gone", "c"))
    report = validate(pd.DataFrame({"n": [1]}), rules, ids=("n",))
    assert [rule.rule for rule in report.rules] == ["a", "b", "c"]


def test_nothing_is_printed_written_or_sent(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection or a folder was opened")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    caplog.set_level(logging.INFO)
    report = validate(pd.DataFrame({"n": [1, 9]}), suite(at_most_three("n", "low")), ids=("n",))
    assert not report.passed
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_the_contracts_are_imported_without_great_expectations() -> None:
    code = "import sys; import data_contracts.document; sys.exit('great_expectations' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
