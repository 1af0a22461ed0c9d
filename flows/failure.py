"""What a flow run that failed or crashed leaves behind: one short page of what, which data, and what to do."""

from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

import prefect
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.objects import FlowRun, State

from components.redaction import redacted
from data_contracts.report import escape

P = ParamSpec("P")
R = TypeVar("R")

KEY = "failure"
PARAMETERS = ("profile", "request", "model", "name", "version", "split")
"""Parameters that say which data and which model."""
GO_ON = "Run it again once that is fixed: finished stages are reused, and an unfinished one resumes where it stopped."
REMEDIES = {
    2: "A parameter or a profile is wrong: change what the message names. Nothing was started.",
    3: f"The data broke a contract. The run in MLflow has every rule and offender in `contracts.html`. {GO_ON}",
}
CRASHED = (
    f"The process ended by itself or was ended: out of memory, a restart, a kill. `captioning doctor` looks. {GO_ON}"
)


def leave_note(flow: object, flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001 - Prefect names them
    """Writes the artifact `failure` of a flow run that failed or crashed."""
    error = None if state.is_crashed() else _raised(state)
    remedy = CRASHED if state.is_crashed() else REMEDIES.get(getattr(error, "exit_code", 0), GO_ON)
    name = "" if hasattr(error, "exit_code") or error is None else f"{type(error).__name__}: "
    message = f"{name}{error or state.message}"
    page = write_page(
        f"{flow_run.name} {(state.name or state.type.value).lower()}", message, which_data(flow_run.parameters), remedy
    )
    with get_client(sync_client=True) as client:
        client.create_artifact(ArtifactCreate(key=KEY, type="markdown", data=page, flow_run_id=flow_run.id))


def write_page(title: str, message: str, data: str, remedy: str) -> str:
    """The note as Markdown, in which the error and the data are text, without the secrets of addresses."""
    what, which = (escape(redacted(text)) for text in (message, data))
    return f"# {title}\n\n**What.** {what}\n\n**Data.** {which}\n\n**What to do.** {remedy}"


def which_data(parameters: Mapping[str, Any]) -> str:
    """The parameters that say which data and model, in a line."""
    found = {name: parameters[name] for name in PARAMETERS if parameters.get(name) is not None}
    message = []
    for name, value in found.items():
        if name == "profile" and isinstance(value, Mapping):
            value = f"{value.get('name')}, data in {(value.get('dataset') or {}).get('root') or 'its sources'}"
        if name == "request" and isinstance(value, Mapping):
            value = f"{value.get('images')} into {value.get('out')} by {value.get('model', 'the champion')}"
        message.append(f"{name}: {value}")
    return "; ".join(message) or "none given"


def _raised(state: State[Any]) -> BaseException | None:
    found = state.data if isinstance(state.data, BaseException) else state.result(raise_on_failure=False)
    return found if isinstance(found, BaseException) else None


def flow(name: str) -> Callable[[Callable[P, R]], Flow[P, R]]:
    """Every flow of this project is one of these."""
    return prefect.flow(name=name, persist_result=False, on_failure=[leave_note], on_crashed=[leave_note])
