"""What the storms start from, and what they tell in the end."""

import shutil
from pathlib import Path

import pytest

from tests.faults.kills import campaign, stages, storm
from tests.faults.kills.processes import Job, run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in storm.told:
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def kills_of(pytestconfig: pytest.Config):
    """The kills of a storm; without any, the test is skipped."""

    def found(name: str) -> int:
        number = campaign.kills_of(name, pytestconfig.getoption("kills"))
        if not number:
            pytest.skip("each kill takes ten seconds and more: make faults")
        return number

    return found


@pytest.fixture(scope="session")
def toy_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of a toy captioner."""
    home = tmp_path_factory.mktemp("package") / "home"
    home.mkdir()
    assert run(Job(stages.package), home)[0] == 0
    return next(home.glob("stages/package-*"))


@pytest.fixture(scope="session")
def registered(toy_package: Path, migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with three versions of a model; the first is champion."""
    home = tmp_path_factory.mktemp("registered") / "home"
    home.mkdir()
    shutil.copy(migrated, home / "mlflow.db")
    for number in "123":
        assert run(Job(stages.register, (toy_package, number)), home)[0] == 0
    return home
