"""Artifact addresses: the folder on this machine that one means to MLflow, and whether it lies in a home folder."""

from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

EXPERIMENT = "captioning"
"""MLflow's experiment with all runs and models of this project."""
DATABASE, ARTIFACTS = "mlflow.db", "artifacts"
"""In the home folder: MLflow's own database, and the files that it knows of."""


def local_path(address: str | None) -> Path | None:
    """The path that MLflow reads and writes at an address; none when that is not on this machine's file system.

    Like MLflow it decodes percent signs in plain paths, too, and ignores the host of a `file:` address.
    """
    with suppress(ValueError):  # no address at all
        parts = urlsplit(address or "")
        if address and (len(parts.scheme) < 2 or parts.scheme == "file"):  # one letter is a drive, to MLflow
            return Path(url2pathname(parts.path if address.startswith("file:") else address))
    return None


def is_in_home(path: Path, home: Path) -> bool:
    """Whether it lies below the home's `artifacts`, and that in the home, when all links are followed."""
    try:
        artifacts = (home / ARTIFACTS).resolve()
        return home.resolve() in artifacts.parents and artifacts in path.resolve().parents
    except (OSError, RuntimeError, ValueError):  # a loop of links, or no path at all
        return False


def database_of(tracking_uri: str) -> Path | None:
    """The file of a `sqlite:///` address; none for a server or another database."""
    if not tracking_uri.startswith("sqlite:///"):
        return None
    return Path(tracking_uri.removeprefix("sqlite:///").partition("?")[0]).absolute()
