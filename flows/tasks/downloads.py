"""Downloads on the run's page in Prefect."""

import re
import time
from collections.abc import Callable
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from flows.tasks.stages import is_in_prefect

INTERVAL = 5.0
"""Seconds between two updates of a file's progress."""


def progress_artifacts() -> Callable[[str, int, int | None], None]:
    """A function that tells Prefect how much of a file is here, now and then.

    It takes the file's name, the bytes that are here, and those there will be; without these, or outside of Prefect, it
    does nothing.
    """
    shown = is_in_prefect()
    artifacts: dict[str, UUID] = {}
    last_report: dict[str, float] = {}

    def report(name: str, done: int, total: int | None) -> None:
        if not shown or not total or (done < total and time.monotonic() - last_report.get(name, -INTERVAL) < INTERVAL):
            return
        last_report[name] = time.monotonic()
        progress = 100 * done / total
        if name in artifacts:
            update_progress_artifact(artifacts[name], progress)
        else:
            key = re.sub("[^a-z0-9]+", "-", f"download-{name}".lower()).strip("-")
            made = create_progress_artifact(progress, key=key, description=f"Download of {name}")
            assert isinstance(made, UUID)  # a coroutine where there is an event loop, and downloads are in none
            artifacts[name] = made

    return report
