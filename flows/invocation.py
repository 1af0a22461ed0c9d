"""Around a command: the profile that its options name, and the Prefect server that its flow needs."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from components.errors import CaptioningError, ConfigurationError, causes

if TYPE_CHECKING:
    from components.profile import Profile

PROFILES = Path(__file__).parent / "profiles"

CHEAP = ("captions", "vocabulary", "images")
"""Tables that `captioning check` judges in seconds to minutes, and by default."""
TABLES = (*CHEAP, "embeddings", "training_set")
"""The others need the embeddings, which are made where there are none."""

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
    if not (home / LOCK).exists():  # to try the lock would make it, and the home
        return None
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
    """Ctrl-C, or SIGTERM."""

    def __init__(self, error: BaseException) -> None:
        super().__init__("interrupted; the same command goes on where this run was")
        ended = any(isinstance(cause, _Ended) for cause in causes(error))
        self.exit_code = 128 + (signal.SIGTERM if ended else signal.SIGINT)


class _Ended(KeyboardInterrupt):
    """SIGTERM, which ends a run as Ctrl-C does: told in Prefect and in MLflow, and nothing left behind."""


def end_at_sigterm() -> None:
    """Lets SIGTERM interrupt this process as Ctrl-C does."""

    def end(*_: object) -> None:
        raise _Ended

    signal.signal(signal.SIGTERM, end)


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


def read_tables(only: str) -> list[str]:
    """What `--only` says, tables by commas. Raises `ConfigurationError` for one that there is not."""
    tables = [table.strip() for table in only.split(",")]
    if unknown := set(tables) - set(TABLES):
        raise ConfigurationError(
            f"--only: there is no table {', '.join(sorted(unknown))}; there is {', '.join(TABLES)}"
        )
    return tables


@contextmanager
def prefect(*, new_home: bool = False) -> Iterator[None]:
    """Has a Prefect server while a flow runs; the libraries are imported while it starts.

    Raises `CaptioningError` when the home came from elsewhere, or, unless `new_home`, nothing was trained in it.
    """
    import httpx

    from components.artifacts import take_turn
    from flows.advice import advise
    from flows.server import LOG, limit_gpu, prefect_server, wait_for_server
    from flows.settings import require_home, settings

    require_home(new=new_home)
    running = find_services(settings().home)
    shared = settings().prefect_api_url or (f"{running.prefect}/api" if running else "")
    starting = ExitStack()
    if not shared:  # two servers that make the same database at once break each other
        starting.enter_context(take_turn(settings().home / "locks" / "prefect.lock", "starts its Prefect server"))
    with starting, prefect_server(shared, settings().logs) as server:
        try:
            import flows.tasks  # noqa: F401

            wait_for_server(server)
            starting.close()
            if shared:  # a server of the run's own has nobody to share the GPU with
                limit_gpu()
            yield
        except KeyboardInterrupt as error:
            raise RunInterruptedError(error) from error
        except httpx.HTTPError as error:  # flows themselves raise none: Prefect's client does
            raise CaptioningError(
                f"the Prefect server at {os.environ['PREFECT_API_URL']} failed: {type(error).__name__}: {error}\n"
                f"{advise(error, LOG) or f'See {settings().logs / LOG}, if it runs here; start it again if it ended'}. "
                "The same command goes on where this run was"
            ) from error
