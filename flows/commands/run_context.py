"""Around a command: the profile that its options name, and the Prefect server that its flow needs."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from components.errors import CaptioningError, ConfigurationError

if TYPE_CHECKING:
    pass

CHEAP = ("captions", "vocabulary", "images")
"""Tables that `captioning check` judges in seconds to minutes, and by default."""
TABLES = (*CHEAP, "embeddings", "training_set")
"""The others need the embeddings, which are made where there are none."""


def read_tables(only: str) -> list[str]:
    """What `--only` says, tables by commas. Raises `ConfigurationError` for one that there is not."""
    tables = [table.strip() for table in only.split(",")]
    if unknown := set(tables) - set(TABLES):
        raise ConfigurationError(
            f"--only: there is no table {', '.join(sorted(unknown))}; there is {', '.join(TABLES)}"
        )
    return tables


@contextmanager
def prefect(*, new_home: bool = False) -> Iterator[None]:
    """Has a Prefect server while a flow runs; the libraries are imported while it starts.

    Raises `CaptioningError` when the home came from elsewhere, or, unless `new_home`, nothing was trained in it.
    """
    import httpx

    from components.artifacts import exclusive_lock
    from flows.errors import RunInterruptedError, suggest_remedy
    from flows.services.prefect_server import LOG, limit_gpu, prefect_server, wait_for_server
    from flows.services.running import find_services
    from flows.settings import require_home, settings

    require_home(new=new_home)
    running = find_services(settings().home)
    shared = settings().prefect_api_url or (f"{running.prefect}/api" if running else "")
    starting = ExitStack()
    if not shared:  # two servers that make the same database at once break each other
        starting.enter_context(exclusive_lock(settings().home / "locks" / "prefect.lock", "starts its Prefect server"))
    with starting, prefect_server(shared, settings().logs) as server:
        try:
            import flows.tasks.training  # noqa: F401

            wait_for_server(server)
            starting.close()
            if shared:  # a server of the run's own has nobody to share the GPU with
                limit_gpu()
            yield
        except KeyboardInterrupt as error:
            raise RunInterruptedError(error) from error
        except httpx.HTTPError as error:  # flows themselves raise none: Prefect's client does
            log = settings().logs / LOG
            remedy = suggest_remedy(error, LOG) or f"See {log}, if it runs here; start it again if it ended"
            raise CaptioningError(
                f"the Prefect server at {os.environ['PREFECT_API_URL']} failed: {type(error).__name__}: {error}\n"
                f"{remedy}. The same command resumes this run"
            ) from error
