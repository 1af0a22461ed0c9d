"""The `captioning` command. Results on standard output, logs and progress on standard error."""

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from components.errors import CaptioningError, ConfigurationError
from components.redaction import redacted
from flows.commands import operations, output
from flows.commands.console import configure_logging, log_profile, print_version, show
from flows.commands.operations import CHAMPION, JsonOption, ModelOption
from flows.commands.run_context import prefect
from flows.errors import RunInterruptedError, end_at_sigterm
from flows.named_profiles import load_profile

if TYPE_CHECKING:
    from components.profile import Profile

log = logging.getLogger(__name__)

CHEAP = ("captions", "vocabulary", "images")
"""Tables that `captioning check` validates in seconds to minutes, and by default."""
TABLES = (*CHEAP, "embeddings", "training_set")
"""The others need the embeddings, which are made where there are none."""
BEGIN_A_HOME = ("train", "check", "import-model", "up", "worker")
"""Commands that make the home when it is not there; the others need what these leave."""

app = typer.Typer(
    help="A production line for image captions: train, evaluate, register and run a captioner.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

ProfileOption = Annotated[
    str, typer.Option("--profile", help="A profile's name (demo, flickr8k, coco2014) or a TOML file.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace a value, such as decoder.lstm_units=512. Repeatable."),
]
BeamOption = Annotated[int, typer.Option("--beam", min=1, help="Hypotheses kept by the search; 1 is greedy.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show tracebacks and the libraries' own logs.")]
VersionOption = Annotated[
    bool, typer.Option("--version", help="Show the version and exit.", callback=print_version, is_eager=True)
]


@app.callback()
def prepare(context: typer.Context, debug: DebugOption = False, _version: VersionOption = False) -> None:
    """Options before a command are for every command."""
    from flows.settings import prepare_environment, settings

    home, logs = settings().home, settings().logs
    try:
        if home.exists():
            os.scandir(home).close()
        if context.invoked_subcommand in BEGIN_A_HOME and "--help" not in sys.argv:
            logs.mkdir(parents=True, exist_ok=True)
        prepare_environment(debug)
        configure_logging(debug, logs / "libraries.log" if logs.is_dir() else Path(os.devnull))
    except OSError as error:
        raise ConfigurationError(
            f"cannot write to {home}: {error.strerror}. Set CAPTIONING_HOME to a folder of yours"
        ) from error


@app.command()
def train(profile: ProfileOption, changes: SetOption = None, as_json: JsonOption = False) -> None:
    """Run the training flow, from photographs to a registered model. Exits 4 if photographs could not be read."""
    chosen = _read_profile(profile, changes)
    with prefect(new_home=True):
        from flows.train import train_captioner

        log_profile(chosen)
        result = train_captioner(chosen)
    show(output.training(result), as_json)


@app.command()
def check(
    profile: ProfileOption,
    only: Annotated[str, typer.Option("--only", help=f"Tables, separated by commas: {', '.join(TABLES)}.")] = ",".join(
        CHEAP
    ),
    changes: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Validate a data set by its contracts. Exits 3 if one is broken, 4 if some files could not be read."""
    chosen, tables = _read_profile(profile, changes), [table.strip() for table in only.split(",")]
    if unknown := set(tables) - set(TABLES):
        names = ", ".join(sorted(unknown))
        raise ConfigurationError(f"--only: there is no table {names}; there is {', '.join(TABLES)}")
    with prefect(new_home=True):
        from flows.check import check_data

        result = check_data(chosen, tables)
    show(output.check(result), as_json)


@app.command()
def evaluate(
    profile: ProfileOption,
    split: Annotated[str, typer.Option("--split", help="A split of the profile's data set.")],
    model: ModelOption = CHAMPION,
    against: Annotated[
        str | None, typer.Option("--against", help="Another model, for a paired bootstrap test on the same images.")
    ] = None,
    changes: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Evaluate a registered model on a split: scores and a gallery."""
    chosen = _read_profile(profile, changes)
    with prefect():
        from flows.evaluate import evaluate_captioner

        log_profile(chosen)
        result = evaluate_captioner(model, chosen, split, against)
    show(output.evaluation(result), as_json)


@app.command()
def score(
    images: Annotated[
        str,
        typer.Option(
            "--images", help="A folder, a zip, a Parquet table with a column `path`, or a text file of paths."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of Parquet files; new rows are added.")],
    model: ModelOption = CHAMPION,
    beam: BeamOption = 1,
    engine: Annotated[
        Literal["local", "spark"],
        typer.Option("--engine", help="local, or spark: on the session of CAPTIONING_SPARK_MASTER."),
    ] = "local",
    csv: Annotated[bool, typer.Option("--csv", help="Write the predictions as OUT.csv, too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run the batch scoring flow. Exits 4 if some images could not be read."""
    from components.archives.image_archive import is_url
    from components.scoring.dataset import prepare_folder
    from components.scoring.inputs import list_images

    prepare_folder(out.absolute())  # a wrong path is reported before anything starts
    if not (listing := list_images(images, marked=False)).inputs:
        found = listing.summary() or "it is empty"
        raise ConfigurationError(f"{images} holds no image that can be captioned; {found}")
    given = Path(images)  # spelt in one way: another would be other rows
    place = images if is_url(images) else str(given.resolve() if ".." in given.parts else given.absolute())
    with prefect():
        from flows.score import ScoringRequest, score_images

        request = ScoringRequest(images=place, out=out.absolute(), model=model, beam=beam, engine=engine, csv=csv)
        result = score_images(request)
    show(output.scoring(result), as_json)


@app.command()
def caption(
    photos: Annotated[
        list[Path], typer.Argument(metavar="PHOTO…", help="Image files, or folders of them.", show_default=False)
    ],
    model: ModelOption = CHAMPION,
    beam: BeamOption = 1,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="Sample words; higher is more varied (1 is neutral).")
    ] = None,
    top_k: Annotated[int, typer.Option("--top-k", help="Sample from the K most probable words; 0: all.")] = 0,
    top_p: Annotated[
        float,
        typer.Option("--top-p", help="Sample from the smallest set of words whose total probability is P."),
    ] = 1.0,
    seed: Annotated[int, typer.Option("--seed", help="Random seed for sampling.")] = 0,
    top: Annotated[
        int,
        typer.Option("--top", min=1, help="N samples, or the N best of a beam by mean log-probability per word."),
    ] = 1,
    as_json: JsonOption = False,
) -> None:
    """Caption photographs now, without Prefect; of a folder all. Exits 4 if some could not be read."""
    from captioning.captioner import choose_search, load_captioner

    choose_search(beam, temperature, top_k, top_p, seed)  # a mistake is told before a model is loaded
    require_some(photos)
    log.info("loading %s", model)
    captioner = load_captioner(model)
    found = captioner.caption(photos, beam=beam, top=top, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    show(output.captions(found), as_json)


def require_some(photos: list[Path]) -> None:
    """Raises `ConfigurationError` when none of them is there, before a model is loaded."""
    if not any(photo.exists() for photo in photos):
        raise ConfigurationError("\n".join(f"{photo} cannot be read: there is no such file" for photo in photos))


app.add_typer(operations.app)


def _read_profile(name: str, changes: list[str] | None) -> "Profile":
    """The profile; what it names must be there, so that a mistake is reported before anything starts."""
    from components.dataset.sources import require_local
    from components.encoder.encoders import find_encoders

    profile = load_profile(name, changes)
    find_encoders(profile.encoders)
    require_local(profile.dataset)
    return profile


def main() -> None:
    """Runs the command. Errors that we raise on purpose are shown without a traceback, unless `--debug`."""
    debug = "--debug" in sys.argv[1:]
    end_at_sigterm()
    try:
        app()
    except SystemExit as ended:
        if ended.code != 130:
            raise
        interrupted = RunInterruptedError(ended)  # Typer's answer to Ctrl-C is silence
        _fail(interrupted, str(interrupted), interrupted.exit_code, debug)
    except CaptioningError as error:
        _fail(error, str(error), error.exit_code, debug)
    except Exception as error:  # noqa: BLE001 - the last line of defence: a message instead of a traceback
        from flows.errors import suggest_remedy

        code = getattr(error, "exit_code", None)  # a contract's violation, whose module is not imported yet
        advice = suggest_remedy(error) or "(--debug shows where)"
        message = str(error) if code else f"{type(error).__name__}: {error}\n{advice}"
        _fail(error, message, code or 1, debug)


def _fail(error: BaseException, message: str, code: int, debug: bool) -> None:
    if debug:
        raise error
    print(f"error: {redacted(message)}", file=sys.stderr)  # noqa: T201
    sys.exit(code)


if __name__ == "__main__":
    main()
