from collections.abc import Iterator

import prefect.settings
import pytest
from prefect.testing.utilities import prefect_test_harness


@pytest.fixture(scope="session")
def server() -> Iterator[dict[str, str]]:
    """A Prefect server for flows in this process, and the environment in which a command uses it.

    A command that has to start one of its own takes ten seconds longer.
    """
    with prefect_test_harness(server_startup_timeout=120):
        yield {"PREFECT_API_URL": str(prefect.settings.PREFECT_API_URL.value())}
