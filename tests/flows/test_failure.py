"""What a flow that failed or crashed leaves behind, on a real Prefect server."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.states import Crashed, Failed

from components.errors import CaptioningError, ConfigurationError
from components.profile import Profile
from data_contracts.report import ContractReport, ContractViolation, RuleResult
from flows.failure import flow, leave_note, which_data
from flows.named_profiles import load_profile
from flows.score import ScoringRequest

RULE = RuleResult(
    table="captions",
    rule="no-empty-caption",
    severity="critical",
    passed=False,
    observed="2 empty",
    expected="none",
    count=2,
    offenders=("id=7",),
    remedy="Write them.",
)
REUSED = "Run it again once that is fixed: finished stages are reused, and an unfinished one resumes where it stopped."
NOT_STARTED = "A parameter or a profile is wrong: change what the message names. Nothing was started."
PROFILE = load_profile("flickr8k", ["dataset.root=/Photographs"])
REQUEST = ScoringRequest(images="/inbox", out=Path("/predictions"))
RUNS: list[FlowRun] = []


pytestmark = pytest.mark.usefixtures("server")


@flow(name="work")
def work(profile: Profile, request: ScoringRequest, version: str | None = None, error: str = "") -> None:
    """Fails in the way that is asked for."""
    context = FlowRunContext.get()
    assert context
    assert context.flow_run
    RUNS.append(context.flow_run)
    errors: dict[str, Callable[[], BaseException]] = {
        "configuration": lambda: ConfigurationError("there is no profile 'flickr'"),
        "contract": lambda: ContractViolation(ContractReport("captions", 10, (RULE,))),
        "ours": lambda: CaptioningError("there is no model models:/captioner@champion"),
        "other": lambda: ZeroDivisionError("division by nought"),
        "crash": lambda: SystemExit(9),
    }
    if error:
        raise errors[error]()


def failed(error: str) -> tuple[str, list[str]]:
    """The name of the run that failed so, and the notes that it left."""
    with pytest.raises(BaseException):  # noqa: B017, PT011
        work(PROFILE, REQUEST, error=error)
    run = RUNS.pop()
    return run.name, notes(run)


def notes(run: FlowRun) -> list[str]:
    """The notes of a run."""
    of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]), key=ArtifactFilterKey(any_=["failure"]))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=of_run)
    assert {artifact.type for artifact in found} <= {"markdown"}
    return [str(artifact.data) for artifact in found]


@pytest.mark.parametrize(
    ("error", "what", "remedy"),
    [
        ("configuration", "there is no profile 'flickr'", NOT_STARTED),
        (
            "contract",
            "the data contract of captions is broken (1):\n"
            "  captions, no-empty-caption: expected none; found: 2 empty. First: id=7. Write them.",
            f"The data broke a contract. The run in MLflow has every rule and offender in `contracts.html`. {REUSED}",
        ),
        ("ours", "there is no model models:/captioner@champion", REUSED),
        ("other", "ZeroDivisionError: division by nought", REUSED),
    ],
)
def test_a_flow_that_fails_leaves_what_which_data_and_what_to_do(error: str, what: str, remedy: str) -> None:
    name, (note,) = failed(error)
    data = "profile: flickr8k, data in /Photographs; request: /inbox into /predictions by models:/captioner@champion"
    assert note == f"# {name} failed\n\n**What.** {what}\n\n**Data.** {data}\n\n**What to do.** {remedy}"


def test_a_flow_whose_process_ends_leaves_that_it_crashed() -> None:
    name, (note,) = failed("crash")
    assert note.startswith(f"# {name} crashed\n")
    assert "**Data.** profile: flickr8k, data in /Photographs; " in note
    assert "**What to do.** The process ended by itself or was ended: out of memory" in note
    assert "`captioning doctor` looks." in note
    assert note.endswith(REUSED)


def test_a_flow_that_completes_leaves_nothing() -> None:
    work(PROFILE, REQUEST)
    assert notes(RUNS.pop()) == []


@pytest.fixture
def run() -> FlowRun:
    """A run that Prefect's server knows, with parameters but no errors of its own."""
    with get_client(sync_client=True) as client:
        return client.create_flow_run(work, parameters={"version": "7"})


def test_a_crash_that_others_found_is_told_by_its_message(run: FlowRun) -> None:
    leave_note(
        flow=work, flow_run=run, state=Crashed(message="No sign of life for 90 seconds")
    )  # by name, as a worker does
    (note,) = notes(run)
    assert "No sign of life for 90 seconds\n" in note
    assert "**Data.** version: 7\n" in note
    assert "out of memory, a restart, a kill" in note


def test_a_crash_by_a_wrong_parameter_is_a_crash(run: FlowRun) -> None:
    leave_note(
        flow=work, flow_run=run, state=Crashed(message="killed", data=ConfigurationError("wrong"))
    )  # by name, as a worker does
    (note,) = notes(run)
    assert "out of memory, a restart, a kill" in note
    assert NOT_STARTED not in note


def test_a_failure_without_an_error_is_told_by_its_message(run: FlowRun) -> None:
    leave_note(
        flow=work, flow_run=run, state=Failed(message="Flow could not be retrieved from deployment")
    )  # by name, as a worker does
    (note,) = notes(run)
    assert "Flow could not be retrieved from deployment\n" in note
    assert note.endswith(f"**What to do.** {REUSED}")


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({}, "none given"),
        ({"changes": ["a=1"], "policy": {"minimum": "better"}}, "none given"),
        ({"profile": "demo", "model": None}, "profile: demo"),
        ({"profile": {"name": "demo", "dataset": {"root": ""}}}, "profile: demo, data in its sources"),
        ({"profile": {"name": "demo", "dataset": None}}, "profile: demo, data in its sources"),
        (
            {"profile": {"name": "coco", "dataset": {"root": "s3://bucket/coco"}}},
            "profile: coco, data in s3://bucket/coco",
        ),
        ({"request": {"images": "/a", "out": "/b"}}, "request: /a into /b by the champion"),
        (
            {"request": {"images": "/a", "out": "/b", "model": "models:/captioner/3"}},
            "request: /a into /b by models:/captioner/3",
        ),
        (
            {"split": "dev", "model": "models:/captioner@champion", "profile": "demo"},
            "profile: demo; model: models:/captioner@champion; split: dev",
        ),
        ({"name": "captioner", "version": 0}, "name: captioner; version: 0"),
    ],
)
def test_the_data_are_told_in_a_line(parameters: Mapping[str, Any], told: str) -> None:
    assert which_data(parameters) == told
