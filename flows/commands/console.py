"""Standard output and standard error: results on the one, log lines on the other."""

import io
import json
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from components.errors import readable

if TYPE_CHECKING:
    from components.profile import Profile

log = logging.getLogger(__name__)

OURS = ("components", "data_contracts", "flows")


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
    """What the profile says and the command line changed, a line a section; MLflow has the defaults too."""
    for section, values in profile.model_dump(mode="json", exclude_defaults=True).items():
        text = " ".join(f"{k}={_short(v)}" for k, v in values.items()) if isinstance(values, dict) else values
        log.info("%s: %s", section, text)


def console() -> Console:
    """Standard output; plain where it is no terminal, and every text as it is."""
    return Console(soft_wrap=True, markup=False, emoji=False, highlight=False)


def print_json(**content: Any) -> None:
    """One JSON object on standard output."""
    sys.stdout.write(json.dumps(content, ensure_ascii=False) + "\n")


def _short(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | None) else str(value)
