import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import prefect.settings
import pytest
from prefect.testing.utilities import prefect_test_harness

from components.registry import tracking
from flows.settings import settings


@pytest.fixture(scope="session")
def server() -> Iterator[dict[str, str]]:
    """A Prefect server for flows in this process, and the environment in which a command uses it.

    A command that has to start one of its own takes ten seconds longer.
    """
    with prefect_test_harness(server_startup_timeout=120):
        yield {"PREFECT_API_URL": str(prefect.settings.PREFECT_API_URL.value())}


@pytest.fixture
def use(migrated: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Turns to a home, which is made when it is not there."""
    for name in ("CAPTIONING_TRACKING_URI", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)

    def turn(home: Path, *, connect: bool = True) -> Path:
        mlflow.set_tracking_uri(None)
        monkeypatch.setenv("CAPTIONING_HOME", str(home))
        settings.cache_clear()
        if not home.exists():
            home.mkdir()
            shutil.copy(migrated, home / "mlflow.db")
        if connect:
            tracking.connect(settings().mlflow, settings().model_files)
        return home

    yield turn
    settings.cache_clear()
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)
