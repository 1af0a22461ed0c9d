"""The profiles that come with the project, and how a command or a deployment names one."""

from pathlib import Path
from typing import TYPE_CHECKING

from components.errors import ConfigurationError

if TYPE_CHECKING:
    from components.profile import Profile

PROFILES = Path(__file__).with_name("profiles")


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
