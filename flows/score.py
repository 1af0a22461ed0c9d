"""The scoring flow: a batch of images captioned by a registered model."""

from dataclasses import asdict, dataclass
from pathlib import Path

from prefect import flow
from pydantic import PositiveInt

from components.artifacts import Artifact, Stage
from components.config import Section
from components.decoder.caption import Search
from components.registry import models, tracking
from components.registry.models import RegisteredModel
from components.scoring import inputs, score
from data_contracts.limits import Limits
from data_contracts.report import RuleResult
from flows import checks
from flows.settings import settings
from flows.tasks import make, task


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
    score.prepare_folder(request.out)
    tracking.connect(settings().mlflow, settings().model_files)
    model = models.describe(request.model)
    search = Search.of_width(request.beam)
    params = {**request.model_dump(mode="json"), "model": model.uri}
    with tracking.tracked_run(f"score {model.name} {model.version}", params) as run:
        scoring = caption_images(request.images, model, search)
        predictions_ok = checks.check_scoring(scoring, request.images, request.limits, run)
        drift_ok = checks.check_drift(scoring, request.limits, run)
        predictions = publish_predictions(scoring, request.out, run)
    rows = score.read_predictions(predictions.parent)
    bad = rows[rows["status"] == "quarantined"]
    quarantined = tuple(zip(bad["uri"], bad["error"], strict=True))
    warnings = checks.conclude((predictions_ok, drift_ok), run)
    return ScoringResult(run, model, predictions, len(rows) - len(bad), quarantined, warnings)


@task(tags=["gpu"])
def caption_images(images: Path, model: RegisteredModel, search: Search) -> Artifact:
    """A registered model's captions of every image given; the same images and model are captioned once."""
    names = inputs.list_images(images)

    def work(folder: Path) -> int:
        captioner = models.load_captioner(model.uri)
        predictions, drift = score.caption_images(
            images, names, captioner, search, model.version, settings().embeddings
        )
        drift.to_parquet(folder / score.DRIFT_FILE, index=False)
        score.write_predictions(predictions, folder)
        return len(predictions)

    code = ["components.scoring.inputs", "components.scoring.score"]
    given = [str(images), inputs.fingerprint(images, names), model.uri, settings().mlflow]
    return make(Stage("scoring", asdict(search), inputs=given, sources=code), work)


@task
def publish_predictions(scoring: Artifact, out: Path, run_id: str) -> Path:
    """Hands the predictions over: whole in `out`, or not at all; with the counts in the MLflow run."""
    predictions = score.read_predictions(scoring.path)
    counts = {status: int((predictions["status"] == status).sum()) for status in ("ok", "quarantined")}
    tracking.log_metrics(run_id, {"images": len(predictions), **counts})
    return score.write_predictions(predictions, out)
