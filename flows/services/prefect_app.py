"""Prefect's server on loopback, for this machine's own pages only: `python -m flows.services.prefect_app PORT`.

Whoever may speak to it may have the worker run commands. `prefect server start` lets the pages of any web site do so
(CORS), and takes requests under any name that a site lets point here (DNS rebinding).
"""

import os
import sys

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")
ITSELF = "prefect-in-memory"
"""The name by which the server's automations call it, within its process."""


def main(port: int) -> None:
    """Runs the server until it is ended."""
    origins = ",".join(f"http://{name}:{port}" for name in NAMES)
    os.environ["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] = origins  # before Prefect reads its settings
    import uvicorn
    from prefect.server.api.server import create_app
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    app = create_app(final=True)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*NAMES, ITSELF])
    uvicorn.run(app, host=HOST, port=port, timeout_keep_alive=5, log_level="warning")


if __name__ == "__main__":
    main(int(sys.argv[1]))
