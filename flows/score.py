"""The scoring flow: a batch of images captioned by a registered model."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import pandas as pd
from pydantic import PositiveInt

from components.archives.listing import Listing
from components.artifacts import Incomplete, Stage, exclusive_lock, write_atomic
from components.config import Address, Section
from components.decoder.caption import Search
from components.images.photographs import is_transient
from components.registry import tracking, versions
from components.registry.versions import RegisteredModel
from components.scoring import batch_page, dataset, inputs, score
from components.scoring.dataset import Scorer
from data_contracts.limits import Limits
from data_contracts.report import RuleResult
from flows.failure import flow
from flows.settings import settings, use_mlflow
from flows.tasks import contracts
from flows.tasks.pages import link_page
from flows.tasks.stages import Inputs, Predictions, gpu_task, materialize, record_stages, task

INPUTS_FILE = "inputs.parquet"
LISTING_FILE = "listing.json"
"""How many inputs there were, and which could not be read."""
EXAMPLES = 5
MLFLOW_PAGE = "page.html"


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
    csv: bool = False
    """Whether the data set is written as one CSV file, too, beside its folder."""


@dataclass(frozen=True)
class ScoringResult:
    """What a scoring flow leaves."""

    run_id: str
    model: RegisteredModel
    predictions: Path
    """The data set."""
    known: int
    """Inputs whose captions the data set had already."""
    captioned: int
    quarantined: tuple[tuple[str, str], ...]
    """Address and reason of each input that could not be read."""
    ignored: Mapping[str, int]
    """Files that are no pictures, by their suffix."""
    warnings: tuple[RuleResult, ...]
    page: Path | None
    """The page of all predictions, if there are any."""
    examples: tuple[tuple[str, str], ...]
    """Address and caption of a few of the new images."""


@flow(name="score-images")
def score_images(request: ScoringRequest) -> ScoringResult:
    """One row an image in the data set `out`; an image that cannot be read is a quarantined row.

    What the data set has already of the same model, search and content is not scored again: runs of this home that
    write to the same data set take turns.
    """
    dataset.prepare_folder(request.out)
    turn = f"predictions-{hashlib.sha256(str(request.out.resolve()).encode()).hexdigest()[:16]}.lock"
    with exclusive_lock(settings().home / "locks" / turn, f"scores into {request.out}"):
        return _score(request)


def _score(request: ScoringRequest) -> ScoringResult:
    use_mlflow()
    model = versions.describe(request.model)
    scorer = Scorer(model.uri, model.digest, Search.of_width(request.beam))
    params = {**request.model_dump(mode="json"), "model": model.uri}
    with tracking.tracked_run(f"score {model.name} {model.version}", params) as run:
        listed: Inputs | Predictions
        scoring: Predictions | None
        if request.engine == "spark":
            listed, ignored = caption_on_spark(request, scorer)
            scoring = listed
        else:
            listed, ignored = list_inputs(request.images)
            scoring = caption_images(listed, request, scorer)
        checks = []
        if scoring and scoring.rows:
            record_stages((scoring,), run)
            checks.append(contracts.check_scoring(scoring, request.limits, run))
            if request.engine == "local":
                checks.append(contracts.check_drift(scoring, request.limits, run))
        facts = json.loads((listed.path / LISTING_FILE).read_text(encoding="utf-8"))
        unread = facts["unread"] | _quarantined(scoring)
        counts = publish_predictions(facts["inputs"], scoring, len(unread), request.out, scorer, run)
        page = publish_page(request, run)
    return ScoringResult(
        run_id=run,
        model=model,
        predictions=request.out,
        known=counts["known"],
        captioned=counts["captioned"],
        quarantined=tuple(unread.items()),
        ignored=ignored,
        warnings=contracts.conclude(checks, run),
        page=page,
        examples=_examples(scoring),
    )


def _write_facts(folder: Path, listing: Listing, bad: pd.DataFrame) -> None:
    unread = dict(zip(bad["uri"], bad["error"], strict=True))
    facts = {"inputs": len(listing.inputs), "unread": unread}
    (folder / LISTING_FILE).write_text(json.dumps(facts), encoding="utf-8")


def _quarantined(scoring: Predictions | None) -> dict[str, str]:
    """Address and reason of the rows that have no caption."""
    parts = score.parts_of(scoring.path) if scoring else []
    rows = [pd.read_parquet(part, columns=["uri", "status", "error"]) for part in parts]
    bad = [table[table["status"] == "quarantined"] for table in rows]
    return {uri: error for table in bad for uri, error in zip(table["uri"], table["error"], strict=True)}


def _examples(scoring: Predictions | None) -> tuple[tuple[str, str], ...]:
    """Address and caption of a few rows, from all over the scoring."""
    parts = score.parts_of(scoring.path) if scoring else []
    rows = [pd.read_parquet(part, columns=["uri", "caption", "status"]) for part in parts]
    good = pd.concat(rows) if rows else pd.DataFrame(columns=["uri", "caption", "status"])
    good = good[good["status"] == "ok"].drop_duplicates("caption")
    few = good.iloc[:: max(1, len(good) // EXAMPLES)].head(EXAMPLES)
    return tuple(zip(few["uri"], few["caption"], strict=True))


@task
def list_inputs(images: str) -> tuple[Inputs, Mapping[str, int]]:
    """Every input's address and the digest of its content, and how many files are no pictures, by suffix.

    The next run reads again what could not be read.
    """
    listing = inputs.list_images(images)

    def work(folder: Path) -> int:
        path = folder / INPUTS_FILE
        table = inputs.read_inputs(images, listing, pd.read_parquet(path) if path.exists() else None)
        with write_atomic(path) as temporary:  # a kill must leave nothing that the next attempt cannot read
            score.with_identity(table).to_parquet(temporary, index=False)
        failed = is_transient(table["error"])
        _write_facts(folder, listing, table[failed])
        return Incomplete(len(table)) if failed.any() or inputs.may_change_unseen(listing) else len(table)

    stage = Stage("inputs", None, inputs=[images, inputs.fingerprint(listing)])
    return Inputs(materialize(stage, work, resumable=True)), listing.ignored


@gpu_task
def caption_images(given: Inputs, request: ScoringRequest, scorer: Scorer) -> Predictions | None:
    """The captions of what the data set lacks, if it lacks anything; a killed run's parts are not made again."""
    known = dataset.read_dataset(request.out, scorer)
    new = dataset.new_inputs(pd.read_parquet(given.path / INPUTS_FILE), known)
    if new.empty:
        return None

    def work(folder: Path) -> int:
        new.to_parquet(folder / INPUTS_FILE, index=False)
        captioner, archives = versions.load_captioner(scorer.model), inputs.archives_of(request.images)
        return score.score_parts(new, known, archives, captioner, scorer, settings().embeddings, folder)

    what = hashlib.sha256(new[["uri", "image_id", "error"]].to_csv(index=False).encode()).hexdigest()
    stage = Stage("scoring", scorer.identity, inputs=[what, scorer.model, settings().mlflow])
    return Predictions(materialize(stage, work, resumable=True))


@task
def caption_on_spark(request: ScoringRequest, scorer: Scorer) -> tuple[Predictions, Mapping[str, int]]:
    """The same by a Spark session, whose executors read the images themselves; and what `list_inputs` ignores."""
    from components.scoring.spark import require_folder, score_on_spark, spark_session

    require_folder(request.images)
    listing = inputs.list_images(request.images)
    known = dataset.read_dataset(request.out, scorer)
    listed = pd.DataFrame({"file_name": listing.names, "problem": [entry.problem for entry in listing.inputs]})
    listed["uri"] = [inputs.uri_of(request.images, name) for name in listing.names]

    def work(folder: Path) -> int:
        rows = score_on_spark(spark_session(settings().spark_master), request.images, listed, known, scorer, folder)
        _write_facts(folder, listing, rows[rows["error"] != ""])
        # Whatever the data set lacks must be among the rows.
        new = dataset.new_rows(rows, known)
        lacking = listed.loc[~listed["uri"].isin({*known["uri"], *rows["uri"]}), "uri"]
        pd.concat([new["uri"], lacking]).to_frame().to_parquet(folder / INPUTS_FILE, index=False)
        return Incomplete(len(new)) if is_transient(rows["error"]).any() else len(new)

    what = hashlib.sha256(known[["uri", "image_id", "error"]].to_csv(index=False).encode()).hexdigest()
    given = [inputs.fingerprint(listing), request.images, what, scorer.model, settings().mlflow]
    return Predictions(materialize(Stage("scoring-on-spark", scorer.identity, inputs=given), work)), listing.ignored


@task
def publish_predictions(
    given: int, scoring: Predictions | None, unread: int, out: Path, scorer: Scorer, run_id: str
) -> dict[str, int]:
    """Hands the predictions over, as one batch of the data set; with the counts in the MLflow run."""
    captioned = 0
    if scoring and scoring.rows:
        captioned = dataset.commit_batch(out, scoring.key[:16], scoring.path, scorer)
        if scoring.seconds:
            tracking.log_metrics(run_id, {"images_per_second": scoring.rows / scoring.seconds})
    counts = {"inputs": given, "known": given - captioned - unread, "captioned": captioned, "quarantined": unread}
    tracking.log_metrics(run_id, counts)
    return counts


@task
def publish_page(request: ScoringRequest, run_id: str) -> Path | None:
    """The page of the whole data set, beside it; the last rows of it are kept in MLflow and linked from Prefect."""
    page = request.out / batch_page.PAGE_FILE
    if request.csv:
        dataset.write_csv(request.out)
    if batch_page.is_stale(request.out):
        batches = batch_page.load_batches(request.out, request.images)
        with TemporaryDirectory() as folder:
            tracking.log_file(run_id, batch_page.write_single_page(request.out, batches, Path(folder, MLFLOW_PAGE)))
        batch_page.write_page(request.out, batches)
        link_page(run_id, MLFLOW_PAGE, page, "captions", f"Captions of {request.images}")
    return page if page.exists() else None
