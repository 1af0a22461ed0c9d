"""The tasks that hold the flow to its data contracts, before anything expensive; shown in Prefect and MLflow."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from components.artifacts import Artifact, Stage
from components.dataset import caption_table
from components.encoder.encoders import describe_encoder
from components.encoder.store import EmbeddingStore, joined_fingerprint
from components.evaluation.summary import read_predictions
from components.images.photographs import PHOTOGRAPHS_FILE
from components.profile import Profile
from components.registry import tracking
from components.scoring.score import DRIFT_FILE, parts_of
from components.vocabulary.vocabulary import Vocabulary
from data_contracts.limits import Limits
from data_contracts.report import ContractReport, ContractViolation, RuleResult, to_html
from data_contracts.suites.captions import check as validate_captions
from data_contracts.suites.drift import check as validate_drift
from data_contracts.suites.embeddings import check as validate_embeddings
from data_contracts.suites.images import check as validate_images
from data_contracts.suites.predictions import check as validate_predictions
from data_contracts.suites.training_set import check as validate_training_set
from data_contracts.suites.vocabulary import check as validate_vocabulary
from flows.tasks.data import VOCABULARY_FILE
from flows.tasks.stages import (
    CaptionTable,
    Check,
    Embeddings,
    Evaluation,
    Photographs,
    Predictions,
    VocabularyFile,
    is_in_prefect,
    materialize,
    task,
)

REPORT_FILE = "report.json"
MAX_ROWS = 100
"""Rows of the quarantine that Prefect shows."""


@task
def check_captions(captions: CaptionTable, profile: Profile, run_id: str) -> Check:
    """Halts the flow when captions and images do not fit together."""

    def validate() -> ContractReport:
        images, table = caption_table.read_caption_table(captions.path)
        return validate_captions(table, images, profile.limits, **_splits(profile))

    return _check("captions", [captions], profile.limits, validate, run_id)


@task
def check_vocabulary(vocabulary: VocabularyFile, captions: CaptionTable, profile: Profile, run_id: str) -> Check:
    """Halts the flow when the vocabulary is malformed or knows too few of the captions' words."""

    def validate() -> ContractReport:
        _, table = caption_table.read_caption_table(captions.path)
        words = Vocabulary.load(vocabulary.path / VOCABULARY_FILE).to_frame()
        return validate_vocabulary(words, table, profile.limits, train_split=profile.dataset.train_split)

    return _check("vocabulary", [vocabulary, captions], profile.limits, validate, run_id)


@task
def check_images(photographs: Photographs, captions: CaptionTable, profile: Profile, run_id: str) -> Check:
    """Halts the flow before the embeddings when photographs are missing, or one is in two splits."""

    def validate() -> ContractReport:
        images, _ = caption_table.read_caption_table(captions.path)
        return validate_images(pd.read_parquet(photographs.path / PHOTOGRAPHS_FILE), images, profile.limits)

    return _check("images", [photographs, captions], profile.limits, validate, run_id)


@task
def check_training_set(
    captions: CaptionTable, vocabulary: VocabularyFile, embeddings: Embeddings, profile: Profile, run_id: str
) -> Check:
    """Halts the flow before the training when too many captions have no image or nothing to learn from."""
    max_length = profile.decoder.max_length

    def validate() -> ContractReport:
        _, table = caption_table.read_caption_table(captions.path)
        words = Vocabulary.load(vocabulary.path / VOCABULARY_FILE).to_frame()
        index = EmbeddingStore.open(embeddings.path).index
        return validate_training_set(table, words, index, profile.limits, max_length=max_length, **_splits(profile))

    data = [captions, vocabulary, embeddings]
    return _check("training_set", data, profile.limits, validate, run_id, inputs=[f"max_length={max_length}"])


@task
def check_embeddings(
    embeddings: Embeddings, captions: CaptionTable, profile: Profile, run_id: str, split: str | None = None
) -> Check:
    """Halts the flow when images lack an embedding or embeddings are unusable.

    Of one split the embeddings are a registered model's own, else they must be the profile's encoders'.
    """

    def validate() -> ContractReport:
        images, _ = caption_table.read_caption_table(captions.path)
        encoders = store.encoders if split else [describe_encoder(encoder) for encoder in profile.encoders]
        images = images[images["split"] == split] if split else images
        return validate_embeddings(
            store.index,
            store.quarantine,
            images,
            store.shards(),
            dimension=sum(encoder.dimension for encoder in encoders),
            fingerprint=store.fingerprint,
            expected_fingerprint=joined_fingerprint(encoders),
            limits=profile.limits,
        )

    store = EmbeddingStore.open(embeddings.path)
    publish_quarantine(store.quarantine, run_id)
    return _check("embeddings", [embeddings, captions], profile.limits, validate, run_id, inputs=[str(split)])


@task
def check_predictions(
    evaluation: Evaluation, captions: CaptionTable, embeddings: Embeddings, profile: Profile, split: str, run_id: str
) -> Check:
    """Halts the flow when a captioner's output is not fit to be shown, before it is registered."""

    def validate() -> ContractReport:
        _, table = caption_table.read_caption_table(captions.path)
        embedded = table["image_id"].isin(EmbeddingStore.open(embeddings.path).index["image_id"])
        expected = table.loc[(table["split"] == split) & embedded, "image_id"].unique()
        return validate_predictions(read_predictions(evaluation.path), expected, profile.limits)

    return _check("predictions", [evaluation, captions, embeddings], profile.limits, validate, run_id)


@task
def check_scoring(scoring: Predictions, limits: Limits, run_id: str) -> Check:
    """Halts the flow before anything is handed over: images without a row, captions unfit to be shown."""

    def validate() -> ContractReport:
        # By address, not by content: copies of a picture are two inputs.
        predictions = pd.concat([pd.read_parquet(part) for part in parts_of(scoring.path)], ignore_index=True)
        expected = pd.read_parquet(scoring.path / "inputs.parquet", columns=["uri"])["uri"]
        return validate_predictions(predictions.assign(image_id=predictions["uri"]), expected, limits)

    return _check("predictions", [scoring], limits, validate, run_id)


@task
def check_drift(scoring: Predictions, limits: Limits, run_id: str) -> Check:
    """Says how far a scoring run's images lie from what its model was trained on; never halts the flow."""

    def validate() -> ContractReport:
        return validate_drift(pd.read_parquet(scoring.path / DRIFT_FILE), limits)

    return _check("drift", [scoring], limits, validate, run_id)


def _splits(profile: Profile) -> dict[str, str]:
    return profile.dataset.model_dump(include={"train_split", "validation_split"})


def _check(
    table: str,
    data: list[Artifact],
    limits: Limits,
    validate: Callable[[], ContractReport],
    run_id: str,
    inputs: Sequence[str] = (),
) -> Check:
    """A contract as a stage: validated once for the same data and limits, published in every run."""

    def work(folder: Path) -> int:
        report = validate()
        if not report.passed:
            raise ContractViolation(report)
        (folder / REPORT_FILE).write_text(json.dumps(report.to_json(), indent=1), encoding="utf-8")
        return report.rows

    try:
        check = materialize(Stage(f"check-{table.replace('_', '-')}", limits, data, inputs=inputs), work)
    except ContractViolation as violation:
        publish_report(violation.report, run_id)
        publish_page([violation.report], run_id)
        raise
    publish_report(read_report(Check(check)), run_id)
    return Check(check)


def read_report(check: Check) -> ContractReport:
    """The report that a check left."""
    return ContractReport.from_json(json.loads((check.path / REPORT_FILE).read_text(encoding="utf-8")))


def conclude(checks: Sequence[Check], run_id: str) -> tuple[RuleResult, ...]:
    """Keeps the page of these checks with the MLflow run. Returns their warnings."""
    reports = [read_report(check) for check in checks]
    publish_page(reports, run_id)
    return tuple(rule for report in reports for rule in report.warnings)


def publish_report(report: ContractReport, run_id: str) -> None:
    """Shows a contract's report in Prefect and keeps it with the MLflow run."""
    name = report.table.replace(" ", "-")
    if is_in_prefect():
        create_markdown_artifact(report.to_markdown(), key=f"contract-{name}")
    tracking.log_dict(run_id, report.to_json(), f"contracts/{name}.json")


def publish_page(reports: Sequence[ContractReport], run_id: str) -> None:
    """Keeps one page of these reports with the MLflow run."""
    tracking.log_text(run_id, to_html(reports, "Data contracts"), "contracts/contracts.html")


def publish_quarantine(quarantine: pd.DataFrame, run_id: str) -> None:
    """Shows what could not be read in Prefect (the first rows), and keeps all of it with the MLflow run."""
    if quarantine.empty:
        return
    if is_in_prefect():
        rows = quarantine.astype(str).head(MAX_ROWS).to_dict("list")
        create_table_artifact(
            {str(name): cells for name, cells in rows.items()},
            key="quarantine",
            description=f"{len(quarantine):,} photographs to replace",
        )
    tracking.log_text(run_id, quarantine.to_csv(index=False), "quarantine.csv")
