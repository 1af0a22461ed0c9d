"""The scoring flow: a batch of images captioned by a registered model."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import PositiveInt

from components.artifacts import Artifact, Stage, take_turn
from components.config import Address, Section
from components.decoder.caption import Search
from components.registry import models, tracking
from components.registry.models import RegisteredModel
from components.scoring import dataset, inputs, score
from components.scoring.dataset import Scorer
from data_contracts.limits import Limits
from data_contracts.report import RuleResult
from flows import contracts
from flows.failure import flow
from flows.settings import settings, use_mlflow
from flows.tasks import make, record_stages, task

INPUTS_FILE = "inputs.parquet"


class ScoringRequest(Section):
    """What to caption, with what, and where to put it."""

    images: Address
    """A folder, a zip file, a Parquet table with a column `path`, or a text file of paths; a path or an fsspec URL."""
    out: Path
    """Folder of the predictions' data set, which grows by what is new in `images`."""
    model: str = "models:/captioner@champion"
    beam: PositiveInt = 1
    """Hypotheses kept by the search; 1 is greedy."""
    engine: Literal["local", "spark"] = "local"
    """Where: here, or on the executors of a Spark session."""
    limits: Limits = Limits()


@dataclass(frozen=True)
class ScoringResult:
    """What a scoring flow leaves."""

    run_id: str
    model: RegisteredModel
    predictions: Path
    """The data set."""
    known: int
    """Inputs that the data set had already."""
    captioned: int
    quarantined: tuple[tuple[str, str], ...]
    """Address and reason of each new image that could not be read."""
    warnings: tuple[RuleResult, ...]


@flow(name="score-images")
def score_images(request: ScoringRequest) -> ScoringResult:
    """One row an image in the data set `out`; an image that cannot be read is a quarantined row.

    What the data set has already of the same model, search and content is not scored again: runs of this home that
    write to the same data set take turns.
    """
    dataset.prepare_folder(request.out)
    turn = f"predictions-{hashlib.sha256(str(request.out.resolve()).encode()).hexdigest()[:16]}.lock"
    with take_turn(settings().home / "locks" / turn, f"scores into {request.out}"):
        return _score(request)


def _score(request: ScoringRequest) -> ScoringResult:
    use_mlflow()
    model = models.describe(request.model)
    scorer = Scorer(model.uri, model.digest, Search.of_width(request.beam))
    params = {**request.model_dump(mode="json"), "model": model.uri}
    with tracking.tracked_run(f"score {model.name} {model.version}", params) as run:
        if request.engine == "spark":
            scoring, given = caption_on_spark(request, scorer), len(inputs.list_images(request.images))
        else:
            listed = list_inputs(request.images)
            scoring, given = caption_images(listed, request, scorer), listed.rows
        judged = []
        if scoring:
            record_stages((scoring,), run)
            judged.append(contracts.check_scoring(scoring, request.limits, run))
            if request.engine == "local":
                judged.append(contracts.check_drift(scoring, request.limits, run))
        counts = publish_predictions(given, scoring, request.out, scorer, run)
    rows = pd.concat([pd.read_parquet(part) for part in score.parts_of(scoring.path)]) if scoring else None
    bad = rows[rows["status"] == "quarantined"] if rows is not None else pd.DataFrame(columns=["uri", "error"])
    return ScoringResult(
        run_id=run,
        model=model,
        predictions=request.out,
        known=counts["known"],
        captioned=counts["captioned"],
        quarantined=tuple(zip(bad["uri"], bad["error"], strict=True)),
        warnings=contracts.conclude(judged, run),
    )


@task
def list_inputs(images: str) -> Artifact:
    """Every input's address and the digest of its content."""
    names = inputs.list_images(images)

    def work(folder: Path) -> int:
        table = score.with_identity(inputs.read_inputs(images, names))
        table.to_parquet(folder / INPUTS_FILE, index=False)
        return len(table)

    return make(Stage("inputs", None, inputs=[images, inputs.fingerprint(images, names)]), work)


@task(tags=["gpu"])
def caption_images(given: Artifact, request: ScoringRequest, scorer: Scorer) -> Artifact | None:
    """The captions of what the data set lacks, if it lacks anything; a killed run's parts are not made again."""
    known = dataset.read_dataset(request.out, scorer)
    new = dataset.new_inputs(pd.read_parquet(given.path / INPUTS_FILE), known)
    if new.empty:
        return None

    def work(folder: Path) -> int:
        new.to_parquet(folder / INPUTS_FILE, index=False)
        captioner, archives = models.load_captioner(scorer.model), inputs.archives_of(request.images)
        return score.score_parts(new, known, archives, captioner, scorer, settings().embeddings, folder)

    what = hashlib.sha256(new[["uri", "image_id"]].to_csv(index=False).encode()).hexdigest()
    stage = Stage("scoring", scorer.identity, inputs=[what, scorer.model, settings().mlflow])
    return make(stage, work, resumable=True)


@task
def caption_on_spark(request: ScoringRequest, scorer: Scorer) -> Artifact | None:
    """The same by the executors of a Spark session, which read the images themselves."""
    from components.scoring.spark import score_on_spark, spark_session

    names = inputs.list_images(request.images)
    known = dataset.read_dataset(request.out, scorer)
    listed = pd.Series([inputs.uri_of(request.images, name) for name in names], name="uri")

    def work(folder: Path) -> int:
        rows = score_on_spark(spark_session(settings().spark_master), request.images, known, scorer, folder)
        # Whatever the data set lacks must be among the rows.
        expected = pd.concat([listed[~listed.isin(known["uri"])], rows["uri"]]).drop_duplicates()
        expected.to_frame().to_parquet(folder / INPUTS_FILE, index=False)
        return len(rows)

    what = hashlib.sha256(known[["uri", "image_id"]].to_csv(index=False).encode()).hexdigest()
    given = [inputs.fingerprint(request.images, names), request.images, what, scorer.model, settings().mlflow]
    scoring = make(Stage("scoring-on-spark", scorer.identity, inputs=given), work)
    return scoring if scoring.rows else None


@task
def publish_predictions(given: int, scoring: Artifact | None, out: Path, scorer: Scorer, run_id: str) -> dict[str, int]:
    """Hands the predictions over, as one batch of the data set; with the counts in the MLflow run."""
    counts = {"inputs": given, "known": given, "captioned": 0, "quarantined": 0}
    if scoring:
        counts |= dataset.commit_batch(out, scoring.key[:16], scoring.path, scorer, given)
        if scoring.seconds:
            tracking.log_metrics(run_id, {"images_per_second": scoring.rows / scoring.seconds})
    tracking.log_metrics(run_id, counts)
    return counts
