"""Runs suites on tables of facts and reports in our own terms.

A fact that does not apply to a row is null there: Great Expectations looks at a column's non-null values only.
That is also why every contract begins with `check_columns`: data with nulls would pass most rules unseen.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec

import pandas as pd

from data_contracts.report import MAX_OFFENDERS, ContractReport, RuleResult
from data_contracts.rules import Suite, critical, equal, great_expectations, in_range, in_set, suite
from data_contracts.schema import Columns

P = ParamSpec("P")


def contract(parts: Callable[P, Iterator[ContractReport]]) -> Callable[P, ContractReport]:
    """One report of the parts that a function yields, by the first one's name and rows.

    The first is that of `check_columns`; when it fails there are no others, as facts are made of whole tables only.
    """

    @wraps(parts)
    def check(*args: P.args, **kwargs: P.kwargs) -> ContractReport:
        reports = parts(*args, **kwargs)
        columns = next(reports)
        others = (rule for report in reports for rule in report.rules) if columns.passed else ()
        return ContractReport(columns.table, columns.rows, (*columns.rules, *others))

    return check


def validate(frame: pd.DataFrame, suite: Suite, ids: Sequence[str]) -> ContractReport:
    """Validates `frame` by the suite of its table, in memory; nothing is written or sent.

    Every expectation has a `severity` and in `meta` its `rule`, `expected`, `remedy`: see `critical` and `warning`.
    `ids` are the columns that name an offending row. What cannot be validated is a broken critical rule.
    """
    gx, table = great_expectations(), suite.name
    facts = frame.reset_index(drop=True)
    # The library hashes whatever it is given: texts that only name the rows would take most of its time.
    tested = {value for rule in suite.expectations for name, value in dict(rule).items() if name.startswith("column")}
    used = [column for column in facts if column in tested]
    asset = _context(gx).data_sources.add_pandas(table).add_dataframe_asset(table)
    batch = asset.add_batch_definition_whole_dataframe(table).get_batch({"dataframe": facts[used]})
    # Without index column names offenders come as row numbers: cheap even when a large table is all wrong.
    how = {"result_format": "SUMMARY", "partial_unexpected_count": MAX_OFFENDERS}
    outcome = batch.validate(suite, result_format=how)
    order = [expectation.meta["rule"] for expectation in suite.expectations]
    rules = [_result(table, facts, result, ids) for result in outcome.results]
    return ContractReport(table, len(frame), tuple(sorted(rules, key=lambda rule: order.index(rule.rule))))


def check_columns(
    table: str, frames: Mapping[str, tuple[pd.DataFrame, Columns]], nullable: Collection[str] = ()
) -> ContractReport:
    """Validates that each named frame has its columns, of their dtypes, without nulls except in `nullable`.

    The report counts the rows of the first frame.
    """
    facts = [
        (name, column, dtype, str(frame[column].dtype) if column in frame else None, column in frame,
         int(frame[column].isna().sum()) if column in frame and column not in nullable else 0)
        for name, (frame, columns) in frames.items()
        for column, dtype in columns.items()
    ]  # fmt: skip
    frame = pd.DataFrame(facts, columns=["table", "column", "expected_dtype", "dtype", "present", "nulls"])
    report = validate(frame, columns_suite(table), ids=("table", "column"))
    return ContractReport(table, len(next(iter(frames.values()))[0]), report.rules)


def columns_suite(table: str) -> Suite:
    """The rules about the columns of any table."""
    again = "Build the table again with this version of the project; see data_contracts/schema.py."
    return suite(table, [
        critical("column-present", in_set("present", True), "every column of the schema", remedy=again),
        critical("column-dtype", equal("dtype", "expected_dtype", unless="either_value_is_missing"),
                 "the dtypes of the schema", remedy=again),
        critical("column-without-nulls", in_range("nulls", high=0), "no missing value in any row",
                 remedy="Fill these columns; text that is absent is the empty string."),
    ])  # fmt: skip


def _context(gx: Any) -> Any:
    """A context in memory. The library's default one makes a folder for a documentation site."""
    from great_expectations.data_context.types import base

    config = base.DataContextConfig(
        store_backend_defaults=base.InMemoryStoreBackendDefaults(),
        analytics_enabled=False,
        progress_bars=base.ProgressBarsConfig(globally=False),
    )
    return gx.get_context(mode="ephemeral", project_config=config)


def _result(table: str, facts: pd.DataFrame, result: Any, ids: Sequence[str]) -> RuleResult:
    config, found = result.expectation_config, result.result
    rule = {"table": table, **config.meta}
    if error := _error(result.exception_info):
        rule["remedy"] = "The rule could not be checked: build the table again, or mend the rule."
        return RuleResult(**rule, severity="critical", passed=False, observed=error, count=0, offenders=())
    rows = [] if result.success else found.get("partial_unexpected_index_list", [])
    return RuleResult(
        **rule,
        severity=config.severity.value,
        passed=bool(result.success),
        observed=_observed(facts, config.kwargs, found),
        count=int(found.get("unexpected_count", 0)),
        offenders=tuple(_name(facts.loc[row, list(ids)]) for row in rows),
    )


def _error(info: Mapping[str, Any]) -> str | None:
    """The message of the exceptions behind a result, if there were any: one, or one for each metric."""
    errors = [info] if "raised_exception" in info else list(info.values())
    messages = {str(e["exception_message"]): None for e in errors if e.get("raised_exception", True)}
    return "; ".join(messages) or None


def _observed(facts: pd.DataFrame, kwargs: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    if "observed_value" in found:
        return f"{found['observed_value']:,}"
    broken = f"{found['unexpected_count']:,} of {found['element_count']:,} rows break it"
    if "min_value" in kwargs or "max_value" in kwargs:
        values = facts[kwargs["column"]].dropna()
        span = list(dict.fromkeys([_number(values.min()), _number(values.max())])) if len(values) else []
        return f"{broken}; values {' to '.join(span)}" if span else broken
    examples = [v for v in dict.fromkeys(found["partial_unexpected_list"]) if not isinstance(v, bool)][:3]
    texts = [" instead of ".join(map(str, v)) if isinstance(v, tuple) else str(v) for v in examples]
    return f"{broken}: {', '.join(texts)}" if texts else broken


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.3g}"


def _name(row: "pd.Series[Any]") -> str:
    return ", ".join(f"{column}={value}" for column, value in row.items() if pd.notna(value) and value != "")
