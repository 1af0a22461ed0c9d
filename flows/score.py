"""The scoring flow: a batch of images captioned by a registered model."""

from dataclasses import dataclass
from pathlib import Path

from prefect import flow
from pydantic import PositiveInt

from components.config import Section
from components.registry import tracking
from components.registry.captioner import Search
from components.registry.models import RegisteredModel, describe
from components.scoring.score import prepare_folder, read_predictions
from data_contracts.limits import Limits
from data_contracts.report import RuleResult
from flows import checks, tasks
from flows.settings import settings


class ScoringRequest(Section):
    """What to caption, with what, and where to put it."""

    images: Path
    """A folder, a zip file, or a Parquet table with a column `path`."""
    out: Path
    """Folder that gets `predictions.parquet`."""
    model: str = "models:/captioner@champion"
    beam: PositiveInt = 1
    """Hypotheses kept by the search; 1 is greedy."""
    limits: Limits = Limits()


@dataclass(frozen=True)
class ScoringResult:
    """What a scoring flow leaves."""

    run_id: str
    model: RegisteredModel
    predictions: Path
    captioned: int
    quarantined: tuple[tuple[str, str], ...]
    """Address and reason of each image that could not be read."""
    warnings: tuple[RuleResult, ...]


@flow(name="score-images")
def score_images(request: ScoringRequest) -> ScoringResult:
    """One row an image in `predictions.parquet`; an image that cannot be read is a quarantined row."""
    prepare_folder(request.out)
    tracking.connect(settings().mlflow, settings().model_files)
    model = describe(request.model)
    search = Search("beam", beam=request.beam) if request.beam > 1 else Search()
    params = {**request.model_dump(mode="json"), "model": model.uri}
    with tracking.tracked_run(f"score {model.name} {model.version}", params) as run:
        scoring = tasks.caption_images(request.images, model, search)
        check = checks.check_scoring(scoring, request.images, request.limits, run)
        predictions = tasks.publish_predictions(scoring, request.out, run)
    rows = read_predictions(predictions.parent)
    bad = rows[rows["status"] == "quarantined"]
    quarantined = tuple(zip(bad["uri"], bad["error"], strict=True))
    warnings = checks.read_report(check).warnings
    return ScoringResult(run, model, predictions, len(rows) - len(bad), quarantined, warnings)
