import json
import pickle
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.report import ContractReport, ContractViolation, RuleResult, to_html

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


class Reader(HTMLParser):
    """A page's elements, its text, and whether every element that must be closed is."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes |= {name for name, _ in attributes}
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    @classmethod
    def of(cls, page: str) -> "Reader":
        reader = cls()
        reader.feed(page)
        reader.close()
        assert reader.open == []
        return reader


def test_the_page_shows_every_rule_and_the_broken_ones_with_offenders_and_remedy() -> None:
    reports = [ContractReport("captions", 1234, (GOOD, WARNING, BAD)), ContractReport("drift", 1, (GOOD,))]
    text = Reader.of(to_html(reports, "Contracts of COCO")).text
    assert text.count("Contracts of COCO") == 2
    for part in ("captions: failed", "drift: passed", "1,234 rows; 3 rules, 1 broken,\n1 warnings", BAD.expected):
        assert part in text
    for offender in WARNING.offenders + BAD.offenders:
        assert text.count(offender) == 1
    assert text.count("Caption it.") == 2
    captions, drift = text.split("drift: passed")
    order = [captions.index(rule.rule) for rule in (BAD, WARNING, GOOD)]
    assert max(order[:2]) < order[2]
    assert GOOD.rule in drift


def test_the_page_needs_nothing_else() -> None:
    page = to_html([ContractReport("captions", 6, (GOOD, WARNING, BAD))], "Contracts")
    for reference in ("http://", "https://", "src=", "href=", "<link", "<script", "@import", "url("):
        assert reference not in page


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "</code></table>",
        "&lt;b&gt;",
        "\" onclick='x'",
        "{{ 7 * 7 }}",
        "https://example.com/a.jpg",
    ],
)
def test_texts_from_data_are_text_on_the_page(hostile: str) -> None:
    harmless = RuleResult(*["x"] * 2, "critical", False, *["x"] * 2, 1, ("x",), "x")
    hostile_rule = RuleResult(*[hostile] * 2, "critical", False, *[hostile] * 2, 1, (hostile,), hostile)
    plain = Reader.of(to_html([ContractReport("x", 1, (harmless,))], "x"))
    page = Reader.of(to_html([ContractReport(hostile, 1, (hostile_rule,))], hostile))
    assert (page.elements, page.attributes) == (plain.elements, plain.attributes)
    assert page.text.count(hostile) == 9


def test_a_page_of_no_reports_is_a_page() -> None:
    assert "Nothing checked" in Reader.of(to_html([], "Nothing checked")).text
