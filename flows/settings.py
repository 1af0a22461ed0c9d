"""The only reader of the environment: where this installation keeps its state, and which servers it talks to."""

import os
import resource
import sys
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from components.errors import ConfigurationError

PREFIX = "CAPTIONING_"
IMAGE_ROOT = "CAPTIONING_IMAGE_ROOT"
"""Of a served model, which does without this module."""
OPEN_FILES = 65536
"""That a process may have at once, where the machine lets it."""


def _default_home() -> Path:
    """`mlruns` of the checkout this code runs from, else of the current folder."""
    checkout = Path(__file__).parent.parent
    return (checkout if (checkout / "pyproject.toml").is_file() else Path.cwd()) / "mlruns"


class Settings(BaseSettings):
    """Settings of the installation; a profile's values are `CAPTIONING_<SECTION>__<KEY>`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    home: Path = Field(default_factory=_default_home)
    """Everything this project writes is below it."""
    tracking_uri: str = ""
    """MLflow server or database; by default a SQLite file in `home`."""
    spark_master: str = "local[*]"
    """Where `score --engine spark` runs when it is not started by spark-submit."""
    prefect_api_url: str = Field(default="", validation_alias="PREFECT_API_URL")
    """Prefect server; by default one is started for the run, with its database in `home`."""

    prefect_port: int = Field(default=4200, ge=1, le=65535)
    """Where `captioning up` has its Prefect server, on loopback."""
    mlflow_port: int = Field(default=5000, ge=1, le=65535)
    """The same of its MLflow server."""
    inbox: str = ""
    """Folder, or address, of the pictures that are scored every night; by default one in `home`."""
    predictions: Path | None = None
    """Folder of their captions; by default one in `home`."""
    nightly_profile: str = "demo"
    """What scheduled flows train and evaluate on: a profile's name or a TOML file."""

    @property
    def mlflow(self) -> str:
        """The tracking URI in use."""
        return self.tracking_uri or f"sqlite:///{self.database}"

    @property
    def database(self) -> Path:
        """MLflow's own database, in use unless `tracking_uri` names another or a server."""
        return self.home.absolute() / "mlflow.db"

    @property
    def model_files(self) -> Path:
        """Where MLflow keeps models and reports when it runs on the database in `home`."""
        return self.home / "artifacts"

    @property
    def downloads(self) -> Path:
        """Where remote archives are kept."""
        return self.home / "downloads"

    @property
    def embeddings(self) -> Path:
        """Where every encoder keeps the embeddings it ever made."""
        return self.home / "embeddings"

    @property
    def logs(self) -> Path:
        """Where servers write their logs."""
        return self.home / "logs"


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process. Raises `ConfigurationError` for a home that no database can be in."""
    found = Settings()
    if "?" in str(found.home):
        raise ConfigurationError(
            f"CAPTIONING_HOME={found.home}: databases cannot be opened in a folder with a question mark in its path"
        )
    return found.model_copy(update={"home": found.home.expanduser().absolute()})


def use_mlflow(*, create: bool = True) -> None:
    """Has this process speak to the MLflow of the settings. Without `create` it must be there, and nothing is written.

    Raises `CaptioningError` when it cannot be used.
    """
    from components.registry import tracking

    tracking.connect(settings().mlflow, settings().model_files, create=create)


def require_home(*, new: bool = False) -> None:
    """Raises `CaptioningError` when the home's database still points to another home, or, unless `new`, is not there.

    Quickly: a run looks before it starts its servers.
    """
    from components.registry.relocation import require_database, require_own_files

    if settings().tracking_uri:
        return
    require_own_files(settings().database, settings().model_files)
    if not new:
        require_database(settings().database)


def profile_overrides() -> dict[str, str]:
    """Values for a profile from the environment: `CAPTIONING_DATASET__ROOT=x` → `{"dataset.root": "x"}`.

    Raises `ConfigurationError` for a variable of that prefix without two underscores that no setting is called by.
    """
    own = {*(f"{PREFIX}{name.upper()}" for name in Settings.model_fields), IMAGE_ROOT}
    given = {name: value for name, value in os.environ.items() if name.startswith(PREFIX) and name not in own}
    for name in given:
        if "__" not in name:
            section, _, key = name.removeprefix(PREFIX).partition("_")
            likely = {*own, f"{PREFIX}{section}__{key}"} if key else own
            near = " or ".join(get_close_matches(name, likely, n=2)) or f"{PREFIX}SECTION__KEY, for a profile's value"
            raise ConfigurationError(f"{name} is not a setting; did you mean {near}?")
    return {name.removeprefix(PREFIX).lower().replace("__", "."): value for name, value in given.items()}


def prepare_environment(debug: bool) -> None:
    """Keeps the libraries inside `home`, from reporting to anyone and, but for `debug`, quiet; allows many open files.

    To be called before any of them is imported.
    """
    home = settings().home
    defaults = {
        "DO_NOT_TRACK": "true",
        "RAY_USAGE_STATS_ENABLED": "0",
        "GX_ANALYTICS_ENABLED": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_HOME": str(home / "prefect"),
        "KERAS_HOME": str(home / "keras"),
        "MPLCONFIGDIR": str(home / "matplotlib"),
        "PYSPARK_PYTHON": sys.executable,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        # Of a GPU's memory only what is used: it is shared with whatever else runs on it.
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        # Our own loggers go to the run's page in Prefect; the command line prints them itself.
        "PREFECT_LOGGING_EXTRA_LOGGERS": "components,flows,data_contracts",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "MLFLOW_LOGGING_LEVEL": "INFO" if debug else "CRITICAL",  # it prints tracebacks of what it raises
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO" if debug else "CRITICAL",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # a dead server is told of after seconds, not after minutes
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)  # every shard of a store that is read is an open file
    wanted = OPEN_FILES if most == resource.RLIM_INFINITY else min(most, OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
