"""The commands that keep the line running: promotion, servers, schedules, backup, cleaning."""

import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from components.errors import ConfigurationError
from flows.commands import output
from flows.commands import output_operations as printed
from flows.commands.console import print_lines, show
from flows.commands.run_context import prefect
from flows.named_profiles import read_changes

CHAMPION = "models:/captioner@champion"

ModelOption = Annotated[str, typer.Option("--model", help="models:/NAME@ALIAS or models:/NAME/VERSION.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")]
NameOption = Annotated[str, typer.Option("--name", help="The registered model.")]
PolicyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Replace a value of the rule: minimum=better, max_slower=2, max_larger=5, allow_warnings=false.",
    ),
]

app = typer.Typer()


@app.command()
def promote(
    name: NameOption = "captioner",
    version: Annotated[str | None, typer.Option("--version", help="The version; by default the challenger.")] = None,
    changes: PolicyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Promote a version if it passes the rule; exits 1 if not."""
    from components.profile import read_section
    from components.registry.decision import PromotionPolicy

    policy = read_section(PromotionPolicy, read_changes(changes))
    with prefect():
        from flows.promote import promote_model

        result = promote_model(name, version, policy)
    show(output.promotion(result), as_json)


@app.command("init")
def init_profile(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder, or a zip file, of photographs.")],
    captions: Annotated[
        Path | None, typer.Option("--captions", metavar="FILE", help="The captions; by default looked for in FOLDER.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a profile, mine.toml, for photographs and their captions, and say what was found."""
    from components.dataset.discovery import discover
    from components.dataset.new_profile import profile_of

    profile = Path("mine.toml")
    if profile.exists():
        raise ConfigurationError("mine.toml is there already: move it away, or go on with it")
    found = discover(folder, captions)
    profile.write_text(profile_of(found), encoding="utf-8")
    show(printed.discovered(found, profile), as_json)


@app.command("show")
def show_results(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="Folder of predictions, of `captioning score`.")],
    single_file: Annotated[
        Path | None,
        typer.Option("--single-file", metavar="PAGE", help="Write the last 500 rows with their pictures as one file."),
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Write the predictions as RESULTS.csv, too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make the page of predictions: every picture with its caption, and the files that could not be read."""
    from components.scoring.batch_page import load_batches, write_page, write_single_page
    from components.scoring.dataset import write_csv

    batches = load_batches(results)
    page = write_single_page(results, batches, single_file) if single_file else write_page(results, batches)
    table = write_csv(results) if csv else None
    show(printed.page(page, table), as_json)


@app.command()
def rollback(name: NameOption = "captioner", as_json: JsonOption = False) -> None:
    """Make the previous champion champion again, without asking the rule."""
    from flows.settings import require_home

    require_home()  # before Prefect is imported, which makes its folder
    from flows.promote import roll_back

    show(output.rollback(*roll_back(name)), as_json)


@app.command()
def up(
    check: Annotated[bool, typer.Option("--check", help="End as soon as everything is healthy.")] = False,
) -> None:
    """Run a Prefect server, an MLflow server and a worker with all deployments here, until Ctrl-C."""
    from flows.services.supervisor import services
    from flows.services.worker import scheduled_on
    from flows.settings import settings

    with services(settings()) as (found, line):
        print_lines(printed.services(found, scheduled_on(settings())))
        if check:
            print_lines(["Everything is healthy. --check ends it now."])
        else:
            line.watch()
            print_lines(["Ending. If this cuts off a run, the next run of that kind resumes it."])


@app.command()
def worker(
    queues: Annotated[
        list[str] | None,
        typer.Option("--queue", metavar="NAME", help="Run only this queue (default, gpu). Repeatable."),
    ] = None,
) -> None:
    """Apply the deployments to the Prefect server at PREFECT_API_URL, and run what is scheduled, until Ctrl-C."""
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
    """Check packages, servers, disk, champion and last runs, and say what to do. Exits 1 if something is broken."""
    from flows.services.doctor import run_checks
    from flows.settings import settings

    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "1"  # with more, a server that is down holds it up for a minute
    found = []
    for finding in run_checks(settings()):  # each is printed as it comes: some take seconds
        found.append(finding)
        if not as_json:
            print_lines(printed.finding(finding))
    show(printed.findings(found), as_json)


@app.command()
def export_model(
    out: Annotated[Path, typer.Option("--out", help="The file to write, such as champion.zip.")],
    model: ModelOption = CHAMPION,
    as_json: JsonOption = False,
) -> None:
    """Write a registered model and its evaluations to one file, for `import-model` in another home."""
    from components.registry import transfer
    from flows.settings import use_mlflow

    use_mlflow(create=False)
    show(printed.exported(transfer.export_model(model, out)), as_json)


@app.command()
def import_model(
    file: Annotated[
        Path, typer.Argument(help="A file from export-model. A model is code: import it only from people you trust.")
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="The registered model; by default the name it had.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Register an exported model with its evaluations; every file's digest is checked first."""
    from components.registry import transfer
    from flows.settings import use_mlflow

    use_mlflow()
    show(printed.imported(transfer.import_model(file, name)), as_json)


@app.command()
def relocate(as_json: JsonOption = False) -> None:
    """After the home folder was copied or moved: point MLflow to the files in it. Keeps a copy of the database."""
    from components.registry import relocation
    from flows.settings import settings

    if settings().tracking_uri:
        raise ConfigurationError(
            f"CAPTIONING_TRACKING_URI names a server or database: unset it to relocate {settings().database}"
        )
    addresses = relocation.relocate(settings().database, settings().model_files)
    show(printed.relocated(addresses), as_json)


@app.command()
def clean(
    days: Annotated[
        int, typer.Option("--older-than", min=0, metavar="DAYS", help="Items unused for at least DAYS days.")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Delete; otherwise only list.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List, and with --yes delete, what nobody used lately; never what a model with an alias or a rollback needs."""
    from components.registry import cleanup
    from flows.settings import settings, use_mlflow

    use_mlflow(create=False)
    plan = cleanup.plan_cleaning(settings().home, timedelta(days=days))
    show(printed.cleaning(plan, cleanup.clean(plan) if yes else None), as_json)
