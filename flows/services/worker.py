"""A worker: applies the deployments to the Prefect server that is configured, and runs what they schedule."""

import os
import subprocess
import sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import httpx

from components.archives.image_archive import is_url
from components.errors import CaptioningError
from flows.services.prefect_server import limit_gpu, wait_for_server
from flows.settings import Settings

POOL = "captioning"
DEPLOYMENTS = Path(__file__).parents[2] / "prefect.yaml"
SILENT_SECONDS = 30
"""Between two signs of life of a flow run."""
AUTOMATION = "crash runs that are silent"


def deploy(settings: Settings) -> None:
    """Makes the work pool, the deployments and the rule for runs whose machine is gone, where they are missing.

    Raises `CaptioningError` when the server does not answer or refuses a deployment.
    """
    wait_for_server()
    limit_gpu()
    _make_pool()
    _watch_runs()
    values = scheduled_on(settings)
    if not is_url(values["CAPTIONING_INBOX"]):
        Path(values["CAPTIONING_INBOX"]).mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(DEPLOYMENTS)]
    done = subprocess.run(command, env=os.environ | values, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CaptioningError(f"the deployments of {DEPLOYMENTS} were not applied:\n{done.stdout}{done.stderr}")


def scheduled_on(settings: Settings) -> dict[str, str]:
    """What the scheduled flows work on, as `prefect.yaml` calls it."""
    return {
        "CAPTIONING_INBOX": settings.inbox or str(settings.home / "inbox"),
        "CAPTIONING_PREDICTIONS": str(settings.predictions or settings.home / "predictions"),
        "CAPTIONING_NIGHTLY_PROFILE": settings.nightly_profile,
    }


def command(queues: list[str], name: str | None = None) -> list[str]:
    """Of a worker that takes flow runs from these queues of the pool, or from all of them; to follow `python -m`."""
    chosen = [part for queue in queues for part in ("--work-queue", queue)]
    named = ["--name", name] if name else []
    return ["prefect", "worker", "start", "--pool", POOL, "--type", "process", *chosen, *named]


def environment(settings: Settings) -> dict[str, str]:
    """What a worker and its flow runs find in their environment."""
    own = {
        "CAPTIONING_HOME": str(settings.home),
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(SILENT_SECONDS),
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO",
    }
    return {**os.environ, **own}


def is_online(name: str) -> bool:
    """Whether the Prefect server has heard of the worker of that name lately."""
    answer = httpx.post(f"{os.environ['PREFECT_API_URL']}/work_pools/{POOL}/workers/filter", json={}, timeout=5)
    return any(worker["name"] == name and worker["status"] == "ONLINE" for worker in answer.raise_for_status().json())


def _make_pool() -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
    from prefect.workers.process import ProcessWorker

    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(POOL)
        except ObjectNotFound:
            template = ProcessWorker.get_default_base_job_template()
            with suppress(ObjectAlreadyExists):  # another worker was faster
                client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))


def _watch_runs() -> None:
    """Has the server call a run crashed that gives no sign of life: its machine or its worker is gone."""
    from prefect.automations import AutomationCore
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    beat, message = "prefect.flow-run.heartbeat", f"No sign of life for {3 * SILENT_SECONDS} seconds"
    ends = {f"prefect.flow-run.{name}" for name in ("Completed", "Failed", "Cancelled", "Crashed")}
    rule = AutomationCore(
        name=AUTOMATION,
        trigger=EventTrigger(
            after={beat},
            expect={beat} | ends,
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=3 * SILENT_SECONDS),
        ),
        actions=[ChangeFlowRunState(name=None, state=StateType.CRASHED, message=message, force=False)],
    )
    with get_client(sync_client=True) as client:
        if not client.read_automations_by_name(AUTOMATION):
            client.create_automation(rule)
