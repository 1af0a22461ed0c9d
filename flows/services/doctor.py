"""A look at this installation: what is installed, reachable and there, and what to do about what is not."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from typing import Any, Literal

import httpx
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from components.errors import CaptioningError
from components.redaction import redacted
from components.registry import relocation, run_status, tracking, versions
from flows.services.running import find_services
from flows.settings import Settings

MODEL = "models:/captioner@champion"
DISK_GB = 5
"""What a run on some thousand photographs needs."""
WHY = {
    "fastapi": "from 0.151 on Prefect 3.8 dies with: Body() got an unexpected keyword argument 'min_items'",
    "prefect": "3.9 lacks dependencies",
    "mlflow": "3.18 lacks dependencies",
    "sqlalchemy": "with 2.1 no schedule of Prefect 3.8 ever fires",
}
"""Combinations that are known to break, though pip finds nothing wrong with them."""

REMEDIES = {
    "FAILED": "the run printed the reason; see also its page in MLflow or Prefect; run it again",
    "KILLED": "it was interrupted, or its machine went down: the same command resumes it",
}
"""By the state that MLflow gives a run."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    state: Literal["good", "notice", "broken"]
    message: str
    remedy: str = ""


def run_checks(settings: Settings) -> Iterator[Finding]:
    """Everything, one after the other; what cannot be looked at is broken, and the rest is looked at all the same."""
    for look in (_python, _packages, _home, _place, _prefect, _mlflow, _champion, _runs, _gpu, _java):
        try:
            for found in look(settings):
                yield replace(found, message=redacted(found.message), remedy=redacted(found.remedy))
        except Exception as error:  # noqa: BLE001 - whatever is broken: to find it is what this is for
            message = str(error) if isinstance(error, CaptioningError) else f"{type(error).__name__}: {error}"
            yield Finding(look.__name__.strip("_"), "broken", redacted(message))


def _python(_settings: Settings) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    fits = (3, 11) <= sys.version_info[:2] < (3, 14)
    remedy = "" if fits else "use Python 3.11 to 3.13: 3.14 has no TensorFlow release"
    yield Finding("python", "good" if fits else "broken", version, remedy)


def _packages(_settings: Settings) -> Iterator[Finding]:
    declared = [Requirement(text) for text in metadata.requires("captioning") or ()]
    needed = [requirement for requirement in declared if not requirement.marker or requirement.marker.evaluate()]
    wrong = False
    for requirement in needed:
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            version = "missing"
        if version == "missing" or not requirement.specifier.contains(version, prereleases=True):
            wrong = True
            why = f" ({WHY[requirement.name]})" if requirement.name in WHY else ""
            message = f"{requirement.name} {version}, not {requirement.specifier or 'there'}{why}"
            yield Finding("packages", "broken", message, f"pip install '{requirement.name}{requirement.specifier}'")
    if {"tensorflow", "tensorflow-cpu"} <= {canonicalize_name(found.name) for found in metadata.distributions()}:
        wrong = True
        remedy = "remove both, then install tensorflow"
        yield Finding("packages", "broken", "tensorflow and tensorflow-cpu share their files", remedy)
    if not wrong:
        shown = ("prefect", "mlflow", "tensorflow", "keras", "great-expectations")
        yield Finding("packages", "good", ", ".join(f"{name} {metadata.version(name)}" for name in shown))


def _home(settings: Settings) -> Iterator[Finding]:
    if not settings.home.exists():
        message = f"{settings.home} is not there"
        yield Finding("home", "notice", message, "captioning train makes it; CAPTIONING_HOME names another")
        return
    free = shutil.disk_usage(settings.home).free / 1e9
    message = f"{settings.home}, {free:,.0f} GB free"
    if not os.access(settings.home, os.W_OK):
        yield Finding(
            "home", "broken", f"{message}; it cannot be written to", "set CAPTIONING_HOME to a folder of yours"
        )
    elif free < DISK_GB:
        yield Finding("home", "notice", message, "captioning clean --older-than 30 lists what can be freed")
    else:
        yield Finding("home", "good", message)


def _place(settings: Settings) -> Iterator[Finding]:
    if settings.tracking_uri:
        return
    old = relocation.moved_from(settings.database, settings.model_files)
    if old:
        yield Finding("place", "broken", relocation.describe_move(old, settings.model_files), "captioning relocate")


def _prefect(settings: Settings) -> Iterator[Finding]:
    running = find_services(settings.home)
    address = settings.prefect_api_url or (f"{running.prefect}/api" if running else "")
    if not address:
        yield Finding("prefect", "good", "no server: each run starts its own; `captioning up` keeps one running")
        return
    remedy = "start it, or unset PREFECT_API_URL" if settings.prefect_api_url else "see logs/prefect-server.log"
    try:
        httpx.get(f"{address}/health", timeout=5).raise_for_status()
        deployments = httpx.post(f"{address}/deployments/filter", json={}, timeout=5).raise_for_status().json()
        workers = httpx.post(f"{address}/work_pools/captioning/workers/filter", json={}, timeout=5)
    except httpx.HTTPError as error:
        yield Finding("prefect", "broken", f"{address} does not answer: {error}", remedy)
        return
    for deployment in deployments:
        yield from _last_of(deployment, address)
    paused = [found["name"] for found in deployments if found["paused"]]
    online = [one["name"] for one in workers.json() if one["status"] == "ONLINE"] if workers.is_success else []
    message = f"{address}, {len(deployments)} deployments{', paused: ' + ', '.join(paused) if paused else ''}"
    if online:
        yield Finding("prefect", "good", f"{message}, workers {', '.join(online)}")
    else:
        yield Finding("prefect", "notice", f"{message}, no worker: nothing scheduled runs", "captioning worker")


def _last_of(deployment: dict[str, Any], address: str) -> Iterator[Finding]:
    """The deployment's last run, when that failed."""
    last = {
        "flow_runs": {"deployment_id": {"any_": [deployment["id"]]}, "start_time": {"is_null_": False}},
        "sort": "START_TIME_DESC",
        "limit": 1,
    }
    for run in httpx.post(f"{address}/flow_runs/filter", json=last, timeout=5).raise_for_status().json():
        if run["state_type"] in ("FAILED", "CRASHED"):
            message = f"{deployment['name']}: {run['name']} {run['state_name'].lower()}, {run['start_time'][:16]} UTC"
            remedy = (
                f"its artifact `failure` says why and what to do: {address.removesuffix('/api')}/artifacts/key/failure"
            )
            yield Finding("last run", "notice", message, remedy)


def _mlflow(settings: Settings) -> Iterator[Finding]:
    if _is_usable(settings):
        tracking.connect(settings.mlflow, settings.model_files, create=False)
        yield Finding("mlflow", "good", settings.mlflow)
    elif not settings.database.exists():
        yield Finding("mlflow", "notice", "nothing was trained in this home yet", "captioning train --profile demo")


def _is_usable(settings: Settings) -> bool:
    """Whether there is an MLflow to look at; that of a home which came from elsewhere has its files elsewhere."""
    if settings.tracking_uri:
        return True
    return settings.database.exists() and not relocation.moved_from(settings.database, settings.model_files)


def _champion(settings: Settings) -> Iterator[Finding]:
    if not _is_usable(settings):
        return
    try:
        champion = versions.describe(MODEL)
    except CaptioningError as error:
        yield Finding("champion", "notice", str(error), "captioning train --profile demo")
        return
    if versions.has_files(champion):
        yield Finding("champion", "good", champion.uri)
    else:
        remedy = "put them back from a backup, or captioning rollback"
        yield Finding("champion", "broken", f"{champion.uri}: its files are not where MLflow says", remedy)


def _runs(settings: Settings) -> Iterator[Finding]:
    if not _is_usable(settings):
        return
    for run in run_status.last_runs():
        message = f"{run.name}: {run.status.lower()}, {_ago(run.started)}"
        if run.status in REMEDIES:
            yield Finding("last run", "notice", message, REMEDIES[run.status])
        else:
            yield Finding("last run", "good", message)


def _ago(when: datetime) -> str:
    minutes = (datetime.now(UTC) - when).total_seconds() / 60
    if minutes < 120:
        return f"{minutes:.0f} minutes ago"
    return f"{minutes / 60:.0f} hours ago" if minutes < 48 * 60 else f"{minutes / 24 / 60:.0f} days ago"


def _gpu(_settings: Settings) -> Iterator[Finding]:
    if not shutil.which("nvidia-smi"):
        yield Finding("gpu", "good", f"none; {os.cpu_count()} cores do the work")
        return
    import tensorflow as tf

    seen = tf.config.list_physical_devices("GPU")
    if seen:
        yield Finding("gpu", "good", f"{len(seen)} seen by TensorFlow")
    else:
        yield Finding("gpu", "broken", "there is one, and TensorFlow does not see it", "pip install 'captioning[gpu]'")


def _java(_settings: Settings) -> Iterator[Finding]:
    java = shutil.which("java")
    if java:
        found = subprocess.run([java, "-version"], capture_output=True, text=True, check=False, timeout=30)
        yield Finding("java", "good", (found.stderr or found.stdout).splitlines()[0])
    else:
        message = "none: captions are scored with a tokenizer of our own, and without METEOR"
        yield Finding("java", "notice", message, "install a Java runtime, such as openjdk-17-jre-headless")
