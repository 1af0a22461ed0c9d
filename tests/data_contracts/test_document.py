import re
from pathlib import Path

from data_contracts.document import contracts, document
from data_contracts.limits import Limits

PAGE = Path(__file__).parents[2] / "docs" / "contracts.md"


def table(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    [section] = re.findall(rf"^## {heading}\n\n((?:\|.*\n)+)", document(), re.M)
    return [line.strip("| ").split(" | ") for line in section.splitlines()[2:]]


def test_the_page_in_the_repository_is_what_make_docs_writes() -> None:
    assert PAGE.read_text(encoding="utf-8") == document()


def test_every_limit_is_there_with_its_default_and_reason() -> None:
    rows = {name.strip("`"): (float(default), why) for name, default, why in table("Limits")}
    assert {name: default for name, (default, _) in rows.items()} == Limits().model_dump()
    assert all(len(why) > 20 for _, why in rows.values())


def test_every_rule_has_a_row_and_a_name_of_its_own() -> None:
    for contract, suites in contracts(Limits()).items():
        names = [rule.meta["rule"] for suite in suites for rule in suite.expectations]
        assert len(set(names)) == len(names)
        rows = table(contract)
        assert [name for name, *_ in rows] == names
        assert {len(cells) for cells in rows} == {4}
        assert all(all(cells) for cells in rows)


def test_a_limit_that_a_rule_uses_is_told_in_its_row() -> None:
    loose = Limits(max_bad_fraction=0.125)
    told = [
        rule.meta["expected"]
        for suites in contracts(loose).values()
        for suite in suites
        for rule in suite.expectations
        if rule.meta["rule"] in ("few-images-missing", "few-photographs-unreadable", "few-captions-lost")
    ]
    assert len(told) == 3
    assert all("0.125" in text for text in told)
