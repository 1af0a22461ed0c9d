"""Standard output and standard error: results on the one, log lines on the other."""

import io
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console, RenderableType

from components.errors import readable

if TYPE_CHECKING:
    from components.profile import Profile

log = logging.getLogger(__name__)

NEGATIVE = 1
"""Exit code: the answer is no."""
BROKEN = 3
"""Exit code: a contract is broken."""
QUARANTINED = 4
"""Exit code: the work is done, but some inputs could not be read."""

OURS = ("components", "data_contracts", "flows")


@dataclass(frozen=True)
class Output:
    """The result of a command."""

    facts: Mapping[str, Any]
    """The object that `--json` prints."""
    lines: Iterable[RenderableType]
    """The same for people: texts and tables."""
    exit_code: int = 0


def show(output: Output, as_json: bool) -> None:
    """Prints a result on standard output, as one JSON object or as lines, and ends with its exit code."""
    if as_json:
        sys.stdout.write(json.dumps(output.facts, ensure_ascii=False, default=str) + "\n")
    else:
        print_lines(output.lines)
    if output.exit_code:
        raise typer.Exit(output.exit_code)


def print_lines(lines: Iterable[RenderableType]) -> None:
    """Prints on standard output, every text as it is; without colours where that is no terminal."""
    console = Console(soft_wrap=True, markup=False, emoji=False, highlight=False)
    for line in lines:
        console.print(line)


def print_version(wanted: bool) -> None:
    """Prints the version, when it is wanted, and ends."""
    if wanted:
        print_lines([f"captioning {version('captioning')}"])
        raise typer.Exit


class _StandardError(logging.Handler):
    """Writes to what `sys.stderr` is at that moment, so that lines appear above a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        sys.stderr.write((line if record.exc_info else readable(line)) + "\n")


def configure_logging(debug: bool, libraries: Path) -> None:
    """Sends our log lines to standard error; what libraries write there goes to the file `libraries`.

    TensorFlow's C++ code announces itself on file descriptor 2 and has no setting to stop it. With `debug` everything
    stays on standard error.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name need not be text
    if not debug:
        sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
        with libraries.open("ab") as file:
            os.dup2(file.fileno(), 2)
        warnings.simplefilter("ignore")
    handler = _StandardError()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    for name in OURS:
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.INFO)
        logging.getLogger(name).addHandler(handler)


def log_profile(profile: "Profile") -> None:
    """Logs the values that the profile and the command line changed, one line per section; MLflow has all of them."""
    for section, values in profile.model_dump(mode="json", exclude_defaults=True).items():
        text = " ".join(f"{k}={_short(v)}" for k, v in values.items()) if isinstance(values, dict) else values
        log.info("%s: %s", section, text)


def _short(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | None) else str(value)
