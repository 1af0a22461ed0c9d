"""The compose file as Docker Compose understands it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

DOCKER = Path(__file__).parents[2] / "docker"
SECRETS = ("POSTGRES_PASSWORD", "PREFECT_DB_PASSWORD", "MLFLOW_DB_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY")

Compose = Callable[[Mapping[str, str], str], subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def docker_folder() -> Path:
    return DOCKER


@pytest.fixture(scope="session")
def tools() -> Path:
    """Where the environment's commands are."""
    return Path(sys.executable).parent


@pytest.fixture(scope="session")
def secrets() -> dict[str, str]:
    return {name: f"{name.lower()}@:/%" if "PASSWORD" in name else name.lower() for name in SECRETS}


@pytest.fixture(scope="session")
def configure(tools: Path) -> Compose:
    """`docker-compose config` with env.example, variables and an option."""

    def run(variables: Mapping[str, str], option: str) -> subprocess.CompletedProcess[str]:
        files = ["-f", str(DOCKER / "compose.yaml"), "--env-file", str(DOCKER / "env.example"), "--profile", "*"]
        command = [str(tools / "docker-compose"), *files, "config", option]
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **variables}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    return run


@pytest.fixture(scope="session")
def compose(configure: Compose, secrets: dict[str, str]) -> dict[str, Any]:
    """The file with all profiles, anchors resolved and variables filled in."""
    done = configure(secrets, "--format=json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
