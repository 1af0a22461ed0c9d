"""Around a command: the profile that its options name, and the Prefect server that its flow needs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from components.errors import CaptioningError, ConfigurationError

if TYPE_CHECKING:
    from components.config import Profile

PROFILES = Path(__file__).parent / "profiles"


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

    with prefect_server(settings()):
        try:
            import flows.tasks  # noqa: F401

            wait_for_server()
            if settings().prefect_api_url:  # a server of the run's own has nobody to share the GPU with
                limit_gpu()
            yield
        except KeyboardInterrupt as error:
            raise RunInterruptedError("interrupted; the same command goes on where this run was") from error
