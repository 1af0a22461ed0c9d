import json
import pickle
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.report import ContractReport, ContractViolation, RuleResult

GOOD = RuleResult("images", "image-captioned", "critical", True, "a caption", "0 of 6 rows", 0, (), "Caption it.")
WARNING = replace(GOOD, rule="image-in-archive", severity="warning", passed=False, offenders=("image_id=3",))
BAD = replace(GOOD, rule="image-listed-once", passed=False, count=2, offenders=("image_id=5", "image_id=7"))
TEXT = st.text(max_size=20)
RULES = st.builds(RuleResult, TEXT, TEXT, st.sampled_from(["critical", "warning"]), st.booleans(), TEXT, TEXT,
                  st.integers(0), st.lists(TEXT, max_size=3).map(tuple), TEXT)  # fmt: skip


def test_only_a_broken_critical_rule_fails_the_contract() -> None:
    assert ContractReport("captions", 6, (GOOD, WARNING)).passed
    report = ContractReport("captions", 6, (GOOD, WARNING, BAD))
    assert not report.passed
    assert report.violations == (BAD,)
    assert report.warnings == (WARNING,)


def test_the_violation_says_what_where_and_what_to_do() -> None:
    violation = ContractViolation(ContractReport("captions", 6, (GOOD, WARNING, BAD)))
    assert violation.exit_code == 3
    for part in ("captions", "image-listed-once", "a caption", "0 of 6 rows", "image_id=5", "Caption it."):
        assert part in str(violation)
    assert "image-in-archive" not in str(violation)


def test_the_violation_survives_a_process_boundary() -> None:
    violation = ContractViolation(ContractReport("captions", 6, (BAD,)))
    copy = pickle.loads(pickle.dumps(violation))  # noqa: S301
    assert copy.report == violation.report
    assert str(copy) == str(violation)


def test_markdown_shows_broken_rules_first_with_offenders_and_remedy() -> None:
    text = ContractReport("captions", 1234, (GOOD, WARNING, BAD)).to_markdown()
    assert text.startswith("### captions: FAILED\n")
    assert "1,234 rows" in text
    order = [text.index(rule.rule) for rule in (BAD, WARNING, GOOD)]
    assert order == sorted(order)
    assert "image_id=5; image_id=7 | Caption it." in text


@pytest.mark.parametrize(
    "hostile",
    ["a | b", "a \\| b", "two\nlines", "<script>x</script>", "<end>", "`code`", "[a](b)", "*", "\\"],
)
def test_markdown_cells_hold_any_text(hostile: str) -> None:
    text = ContractReport("captions", 1, (replace(BAD, offenders=(hostile,)),)).to_markdown()
    row = text.splitlines()[-1]
    assert len(re.findall(r"(?<!\\)\|", row.replace("\\\\", ""))) == 7
    assert re.search(r"(?<!\\)[<>`*\[\]]", row.replace("\\\\", "")) is None


@given(st.builds(ContractReport, TEXT, st.integers(0), st.lists(RULES, max_size=3).map(tuple)))
def test_json_round_trip(report: ContractReport) -> None:
    data = report.to_json()
    assert data["passed"] is report.passed
    assert ContractReport.from_json(json.loads(json.dumps(data))) == report
