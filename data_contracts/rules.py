"""The words that suites are written in: rules of Great Expectations, each with what it expects and what to do."""

import logging
import warnings
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from data_contracts.report import Severity

if TYPE_CHECKING:
    from great_expectations import ExpectationSuite

Suite: TypeAlias = "ExpectationSuite"
Test = tuple[str, dict[str, Any]]
"""The name of an expectation's class and what it is about, without a rule's severity and texts."""


def great_expectations() -> Any:
    """The library, imported when first needed (it takes seconds), without the noise it makes then."""
    logger = logging.getLogger("great_expectations")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.WARNING)  # it logs hundreds of lines at INFO while it is imported
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", ImportWarning)  # of optional libraries of other packages
        import great_expectations as gx
        import great_expectations.expectations
    return gx


def suite(table: str, rules: Sequence[Any]) -> Suite:
    """The suite of a table's `rules`, which are reported in this order."""
    return great_expectations().ExpectationSuite(table, expectations=list(rules))


def _rule(severity: Severity, rule: str, test: Test, expected: str, *, remedy: str) -> Any:
    kind, about = test
    meta = {"rule": rule, "expected": expected, "remedy": remedy}
    return getattr(great_expectations().expectations, kind)(**about, severity=severity, meta=meta)


critical, warning = partial(_rule, "critical"), partial(_rule, "warning")
"""A rule of a suite: its name, what it tests, and in words what is expected and what to do otherwise."""


def in_set(column: str, *values: object) -> Test:
    """The column holds nothing but `values`."""
    return "ExpectColumnValuesToBeInSet", {"column": column, "value_set": list(values)}


def in_range(column: str, low: float | None = None, high: float | None = None) -> Test:
    """Every number is at least `low` and at most `high`."""
    return "ExpectColumnValuesToBeBetween", {"column": column, "min_value": low, "max_value": high}


def unique(column: str) -> Test:
    """No value comes twice."""
    return "ExpectColumnValuesToBeUnique", {"column": column}


def equal(column: str, other: str, unless: str = "both_values_are_missing") -> Test:
    """Two columns agree in every row."""
    return "ExpectColumnPairValuesToBeEqual", {"column_A": column, "column_B": other, "ignore_row_if": unless}


def rows(low: int, high: int) -> Test:
    """The table has at least `low` and at most `high` rows."""
    return "ExpectTableRowCountToBeBetween", {"min_value": low, "max_value": high}
