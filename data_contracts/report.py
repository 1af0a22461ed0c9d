"""What a contract found, in terms a person can act on: JSON, Markdown, the exception that stops a flow."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

Severity = Literal["critical", "warning"]
MAX_OFFENDERS = 20


@dataclass(frozen=True)
class RuleResult:
    """One rule, validated on one table."""

    table: str
    rule: str
    severity: Severity
    passed: bool
    expected: str
    observed: str
    count: int
    """Rows that break the rule; 0 for a rule about the table as a whole."""
    offenders: tuple[str, ...]
    """The first `MAX_OFFENDERS` of those rows, by their ids."""
    remedy: str
    """What to do when the rule is broken."""


@dataclass(frozen=True)
class ContractReport:
    """Every rule of one contract. A broken critical rule fails the contract, a broken warning does not."""

    table: str
    rows: int
    rules: tuple[RuleResult, ...]

    @property
    def passed(self) -> bool:
        """Whether no critical rule is broken."""
        return not self.violations

    @property
    def violations(self) -> tuple[RuleResult, ...]:
        """The broken critical rules."""
        return tuple(r for r in self.rules if not r.passed and r.severity == "critical")

    @property
    def warnings(self) -> tuple[RuleResult, ...]:
        """The broken rules that are no more than warnings."""
        return tuple(r for r in self.rules if not r.passed and r.severity == "warning")

    def to_json(self) -> dict[str, Any]:
        """Plain lists, dicts, strings and numbers; `from_json` reads them back."""
        rules = [{**asdict(rule), "offenders": list(rule.offenders)} for rule in self.rules]
        return {"table": self.table, "rows": self.rows, "passed": self.passed, "rules": rules}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The report that `to_json` described."""
        rules = tuple(RuleResult(**{**rule, "offenders": tuple(rule["offenders"])}) for rule in data["rules"])
        return cls(data["table"], data["rows"], rules)

    def to_markdown(self) -> str:
        """A heading and a table of the rules, broken critical ones first, then warnings."""
        verdict = "passed" if self.passed else "FAILED"
        counts = f"rules: {len(self.rules)}, broken: {len(self.violations)}, warnings: {len(self.warnings)}"
        passed = (rule for rule in self.rules if rule.passed)
        rows = [
            ["", "rule", "expected", "observed", "where", "what to do"],
            ["---"] * 6,
            *map(_cells, (*self.violations, *self.warnings, *passed)),
        ]
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
        return f"### {escape(self.table)}: {verdict}\n\n{self.rows:,} rows; {counts}\n\n{table}\n"


def to_html(reports: Sequence[ContractReport], title: str) -> str:
    """One page of these reports that needs nothing else. Texts from data are shown as text."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    return environment.get_template("page.html.j2").render(reports=reports, title=title)


class ContractViolation(Exception):  # noqa: N818 (the domain's word)
    """Data that must not be worked on. The command line exits with `exit_code`."""

    exit_code = 3

    def __init__(self, report: ContractReport):
        super().__init__(report)
        self.report = report

    def __str__(self) -> str:
        rules = self.report.violations
        headline = f"the data contract of {self.report.table} is broken ({len(rules)}):"
        return "\n".join([headline, *map(_explain, rules)])


def _explain(rule: RuleResult) -> str:
    first = f" First: {'; '.join(rule.offenders[:5])}." if rule.offenders else ""
    found = f"expected {rule.expected}; found: {rule.observed}.{first}"
    return f"  {rule.table}, {rule.rule}: {found} {rule.remedy}"


def _cells(rule: RuleResult) -> list[str]:
    offenders, remedy = ("", "") if rule.passed else ("; ".join(rule.offenders), rule.remedy)
    cells = (f"{rule.table}: {rule.rule}", rule.expected, rule.observed, offenders, remedy)
    return ["ok" if rule.passed else rule.severity, *(escape(" ".join(cell.split())) for cell in cells)]


def escape(text: str) -> str:
    """The text as Markdown that shows it; neither markup nor HTML, whatever is in it."""
    # Underscores inside a word mean nothing in Markdown, and ids are full of them.
    return re.sub(r"([\\`*\[\]<>|&~])", r"\\\1", text)
