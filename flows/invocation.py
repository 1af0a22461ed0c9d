"""Around a command: the profile that its options name, and the Prefect server that its flow needs."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from components.errors import CaptioningError, ConfigurationError

if TYPE_CHECKING:
    from components.profile import Profile

PROFILES = Path(__file__).parent / "profiles"


RUNNING, LOCK = "up.json", "up.lock"
"""What `captioning up` writes into the home folder, and what it holds as long as it runs."""


@dataclass(frozen=True)
class Services:
    """Where what `captioning up` started answers, and where it writes."""

    prefect: str
    mlflow: str
    logs: str


def find_services(home: Path) -> Services | None:
    """What `captioning up` has running for this home, if it has."""
    try:
        with FileLock(home / LOCK, timeout=0):
            return None
    except Timeout:
        try:
            told = json.loads((home / RUNNING).read_text(encoding="utf-8"))
            return Services(*(str(told[field.name]) for field in fields(Services)))
        except (OSError, ValueError, TypeError, LookupError, RecursionError):  # it is just starting
            return None


class RunInterruptedError(CaptioningError):
    """Ctrl-C."""

    exit_code = 130


def load_profile(name: str, changes: list[str] | None) -> "Profile":
    """The profile of a name or a TOML file, with what the environment and `--set` say."""
    from components import profile
    from flows.settings import profile_overrides

    path = Path(name)
    if path.suffix != ".toml":
        path = PROFILES / f"{name}.toml"
        if not path.is_file():
            known = ", ".join(sorted(known.stem for known in PROFILES.glob("*.toml")))
            raise ConfigurationError(f"there is no profile {name!r}; there is {known}, or give a .toml file")
    return profile.load_profile(path, profile_overrides() | read_changes(changes))


def read_changes(changes: list[str] | None) -> dict[str, str]:
    """What `--set KEY=VALUE` says. Raises `ConfigurationError` for anything else."""
    found: dict[str, str] = {}
    for change in changes or []:
        key, equals, value = change.partition("=")
        if not equals:
            raise ConfigurationError(f"--set takes KEY=VALUE, not {change!r}")
        found[key.strip()] = value
    return found


@contextmanager
def prefect() -> Iterator[None]:
    """Has a Prefect server while a flow runs; the libraries are imported while it starts."""
    from flows.server import limit_gpu, prefect_server, wait_for_server
    from flows.settings import settings

    running = find_services(settings().home)
    shared = settings().prefect_api_url or (f"{running.prefect}/api" if running else "")
    with prefect_server(shared, settings().logs):
        try:
            import flows.tasks  # noqa: F401

            wait_for_server()
            if shared:  # a server of the run's own has nobody to share the GPU with
                limit_gpu()
            yield
        except KeyboardInterrupt as error:
            raise RunInterruptedError("interrupted; the same command goes on where this run was") from error
