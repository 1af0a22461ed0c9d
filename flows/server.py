"""A Prefect server for the length of a run, where none is configured.

Not Prefect's ephemeral mode: that loses part of the history of a run's tasks when it ends.
"""

import logging
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from components.errors import CaptioningError
from flows.settings import Settings

log = logging.getLogger(__name__)

START_SECONDS = 120.0


@contextmanager
def prefect_server(settings: Settings) -> Iterator[None]:
    """Has a Prefect server for the block: the configured one, or one of its own on loopback.

    Its history stays in `home`. The block may run while the server is still starting; `wait_for_server` ends that.
    """
    if settings.prefect_api_url:
        yield
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings.logs.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "flows.server", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
    with (settings.logs / "prefect-server.log").open("ab") as output:
        # Its own session: Ctrl-C must reach the run first, and the server after it. Its standard input stays open as
        # long as this process lives.
        server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True)
        try:
            yield
        finally:
            _flush_logs()
            server.terminate()
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _flush_logs() -> None:
    """Sends the log lines of the run that still wait in a queue, while there is a server to take them."""
    from prefect.logging.handlers import APILogHandler

    APILogHandler().flush()


def wait_for_server() -> None:
    """Returns when the Prefect server answers. Raises `CaptioningError` when it does not within two minutes."""
    address = os.environ["PREFECT_API_URL"]
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{address}/health", timeout=5).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise CaptioningError(f"the Prefect server at {address} does not answer; see logs/prefect-server.log")


def limit_gpu() -> None:
    """Lets the Prefect server run one task tagged `gpu` at a time, unless it has another limit already."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name("tag:gpu")
        except ObjectNotFound:
            client.create_concurrency_limit(tag="gpu", concurrency_limit=1)


def _end_with_parent() -> None:
    sys.stdin.buffer.read()  # returns when the process that started this one is gone, however it went
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":  # the `prefect` command, for as long as the process that started it lives
    threading.Thread(target=_end_with_parent, daemon=True).start()
    runpy.run_module("prefect", run_name="__main__")
