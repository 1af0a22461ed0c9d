"""The promotion flow: whether a challenger becomes champion, by rule; and the way back."""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from prefect.artifacts import create_markdown_artifact

from components.errors import CaptioningError
from components.evaluation.comparison import compare, write_side_by_side
from components.registry import promotion, tracking
from components.registry.decision import Decision, Evidence, PromotionPolicy, decide
from components.registry.versions import RegisteredModel, describe
from flows.failure import flow
from flows.settings import settings, use_mlflow
from flows.tasks.pages import link_page
from flows.tasks.stages import task

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PromotionResult:
    """What a promotion flow decided."""

    run_id: str
    challenger: RegisteredModel
    champion: RegisteredModel | None
    """The champion before."""
    decision: Decision
    side_by_side: Path | None
    """The page of both models' captions, when they were evaluated on the same images."""


@flow(name="promote-model")
def promote_model(
    name: str = "captioner",
    version: str | None = None,
    policy: PromotionPolicy = PromotionPolicy(),  # noqa: B008 - frozen
) -> PromotionResult:
    """Decides on a version (by default the challenger) by the policy, and makes it champion if it passes."""
    use_mlflow()
    challenger = describe(f"models:/{name}/{version}" if version else f"models:/{name}@challenger")
    champion = promotion.find_champion(name)
    params = {"challenger": challenger.uri, "champion": champion and champion.uri, **policy.model_dump()}
    with tracking.tracked_run(f"promote {name} {challenger.version}", params) as run:
        mine, theirs = gather_evidence(challenger, champion)
        decision = decide(mine, theirs, policy)
        publish_decision(run, decision, mine, theirs)  # first: no champion without its reasons, whatever ends this
        if decision.promote:
            promotion.promote(challenger, champion)
        page = publish_side_by_side(run, challenger, champion, mine.data) if decision.interval and champion else None
    return PromotionResult(run, describe(challenger.uri), champion, decision, page)


@task
def gather_evidence(challenger: RegisteredModel, champion: RegisteredModel | None) -> tuple[Evidence, Evidence | None]:
    """Both models' last evaluations on the same data, and their speed on this machine."""
    return promotion.gather(challenger, champion)


@task
def publish_side_by_side(run_id: str, challenger: RegisteredModel, champion: RegisteredModel, data: str) -> Path | None:
    """Both models' captions of the images that they were evaluated on, as a page; none where an evaluation is lost.

    It comes last: what was decided stands without it.
    """
    names = [f"{model.name} version {model.version}" for model in (challenger, champion)]
    page = settings().home / "pages" / f"{challenger.name}-{challenger.version}-{champion.version}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    try:
        with TemporaryDirectory() as folder:
            first, second = promotion.fetch_evaluations(challenger, champion, data, folder)
            write_side_by_side((names[0], first), (names[1], second), compare(first, second), page)
    except CaptioningError as error:
        log.warning("no page of both models: %s", error)
        return None
    tracking.log_file(run_id, page)
    link_page(run_id, page.name, page, "side-by-side", " against ".join(names))
    return page


@task
def publish_decision(run_id: str, decision: Decision, challenger: Evidence, champion: Evidence | None) -> None:
    """Keeps the decision in MLflow and shows it in Prefect."""
    promotion.record_decision(run_id, decision, challenger, champion)
    message = "promoted" if decision.promote else "not promoted"
    reasons = "\n".join(f"- {reason}" for reason in decision.reasons)
    create_markdown_artifact(f"# {challenger.model}: {message}\n\n{reasons}\n", key="promotion")


def roll_back(name: str) -> tuple[RegisteredModel, RegisteredModel]:
    """Makes the champion before this one champion again, and keeps that in MLflow. Returns both."""
    use_mlflow()
    promotion.find_rollback(name)  # where there is none, nobody needs a run that failed
    with tracking.tracked_run(f"roll back {name}", {"name": name}) as run:
        was, now = promotion.roll_back(name)
        tracking.log_dict(run, {"was": asdict(was), "now": asdict(now)}, promotion.DECISION_FILE)
    return was, now
