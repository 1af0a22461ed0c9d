"""How much rubbish the line is fed: a few inputs of every kind in `make test`, more with `--inputs`."""

import pytest


@pytest.fixture
def inputs(pytestconfig: pytest.Config) -> range:
    """The seeds of the damaged inputs of a kind."""
    return range(pytestconfig.getoption("inputs"))
