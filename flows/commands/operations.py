"""The commands that keep the line running, beside those that caption: servers, schedules, backup, cleaning."""

import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from components.errors import ConfigurationError
from flows.commands import output_operations as show

CHAMPION = "models:/captioner@champion"

ModelOption = Annotated[str, typer.Option("--model", help="models:/NAME@ALIAS or models:/NAME/VERSION.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")]

app = typer.Typer()


@app.command()
def up(
    check: Annotated[bool, typer.Option("--check", help="End as soon as everything is healthy.")] = False,
) -> None:
    """Run a Prefect server, an MLflow server and a worker with all deployments here, until Ctrl-C."""
    from flows.services.supervisor import services
    from flows.services.worker import scheduled_on
    from flows.settings import settings

    with services(settings()) as (found, line):
        show.services(found, scheduled_on(settings()))
        if not check:
            line.watch()
            show.ending()


@app.command()
def worker(
    queues: Annotated[
        list[str] | None,
        typer.Option("--queue", metavar="NAME", help="Take runs of this queue only (default, gpu). Repeatable."),
    ] = None,
) -> None:
    """Apply the deployments to the Prefect server at PREFECT_API_URL, and run what is scheduled, until ended."""
    from flows.services import worker as work
    from flows.settings import require_home, settings

    if not settings().prefect_api_url:
        raise ConfigurationError("a worker needs a Prefect server: set PREFECT_API_URL, or use `captioning up`")
    require_home(new=True)
    work.deploy(settings())
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # by which Prefect ends a worker, even where a shell ignores it
    os.dup2(sys.stderr.fileno(), 2)  # its log lines go where ours go
    os.execve(sys.executable, [sys.executable, "-m", *work.command(queues or [])], work.environment(settings()))


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Look at packages, servers, disk, champion and last runs, and say what to do. Exit code 1: something is broken."""
    from flows.services.doctor import run_checks
    from flows.settings import settings

    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "1"  # with more, a server that is down holds it up for a minute
    if not show.findings(run_checks(settings()), as_json):
        raise typer.Exit(1)


@app.command()
def export_model(
    out: Annotated[Path, typer.Option("--out", help="The file to write, such as champion.zip.")],
    model: ModelOption = CHAMPION,
    as_json: JsonOption = False,
) -> None:
    """Write a registered model and its evaluations as one file, which another installation imports."""
    from components.registry import transfer
    from flows.settings import use_mlflow

    use_mlflow(create=False)
    show.exported(transfer.export_model(model, out), as_json)


@app.command()
def import_model(
    file: Annotated[Path, typer.Argument(help="What export-model wrote. A model is code: only from people you trust.")],
    name: Annotated[str | None, typer.Option("--name", help="Registered model; by default the name it had.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Register a model that was exported, with its evaluations; every file's digest is checked first."""
    from components.registry import transfer
    from flows.settings import use_mlflow

    use_mlflow()
    show.imported(transfer.import_model(file, name), as_json)


@app.command()
def relocate(as_json: JsonOption = False) -> None:
    """After the home folder was copied or moved: have MLflow use the files in it. Keeps a copy of the database."""
    from components.registry import relocation
    from flows.settings import settings

    if settings().tracking_uri:
        raise ConfigurationError(
            f"CAPTIONING_TRACKING_URI names a server or database: unset it to relocate {settings().database}"
        )
    show.relocated(relocation.relocate(settings().database, settings().model_files), as_json)


@app.command()
def clean(
    days: Annotated[int, typer.Option("--older-than", min=0, metavar="DAYS", help="What was not used for so long.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this, only tell.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show, and with --yes free, what nobody used lately; never what a model with an alias or a rollback needs."""
    from components.registry import cleanup
    from flows.settings import settings, use_mlflow

    use_mlflow(create=False)
    plan = cleanup.plan_cleaning(settings().home, timedelta(days=days))
    show.cleaning(plan, cleanup.clean(plan) if yes else None, as_json)
