"""Around a command: the Prefect server that its flow needs."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from components.errors import CaptioningError


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
