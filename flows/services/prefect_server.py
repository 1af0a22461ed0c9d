"""A Prefect server for the length of a run, where none is configured.

Not Prefect's ephemeral mode: that loses part of the history of a run's tasks when it ends.
"""

import logging
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from components.errors import CaptioningError
from flows.errors import suggest_remedy
from flows.services.child_process import child_process

log = logging.getLogger(__name__)

START_SECONDS = 120.0
LOG = "prefect-server.log"


def server_command(port: int) -> list[str]:
    """Of a Prefect server on loopback."""
    return ["flows.services.prefect_app", str(port)]


@contextmanager
def prefect_server(address: str, logs: Path) -> Iterator[subprocess.Popen[bytes] | None]:
    """Has a Prefect server for the block: that at `address`, or when that is empty one of its own on loopback.

    Gives the process of its own. Its history stays in Prefect's home. The block may run while it is still starting;
    `wait_for_server` ends that.
    """
    if address:
        os.environ["PREFECT_API_URL"] = address
        yield None
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
    with child_process(server_command(port), logs / LOG) as server:
        try:
            yield server
        finally:
            _flush_logs()


def _flush_logs() -> None:
    """Sends the log lines of the run that still wait in a queue, while there is a server to take them."""
    from prefect.logging.handlers import APILogHandler

    APILogHandler().flush()


def wait_for_server(server: subprocess.Popen[bytes] | None = None) -> None:
    """Returns when the Prefect server answers. Raises `CaptioningError` when it does not within two minutes.

    `server` is its process when the run has started it: when that ends there is nothing to wait for.
    """
    address = os.environ["PREFECT_API_URL"]
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and (server is None or server.poll() is None):
        try:
            if httpx.get(f"{address}/health", timeout=5).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    message = (
        f"the Prefect server at {address} does not answer. One that a run starts for itself "
        f"writes logs/{LOG}; any other: start it (`captioning up`), or unset PREFECT_API_URL"
    )
    raise CaptioningError(f"{message}\n{suggest_remedy(log=LOG)}".rstrip())


def limit_gpu() -> None:
    """Lets the Prefect server run one task tagged `gpu` at a time, unless it has another limit already."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name("tag:gpu")
        except ObjectNotFound:
            client.create_concurrency_limit(tag="gpu", concurrency_limit=1)
