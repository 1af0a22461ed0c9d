"""The checking flow: a data set judged by its contracts, and nothing trained."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from components.artifacts import Artifact
from components.encoder.registry import find_encoders
from components.profile import Profile
from components.registry import tracking
from data_contracts.report import ContractReport, ContractViolation, to_html
from flows import checks, tasks
from flows.embed import extract_embeddings
from flows.failure import flow
from flows.settings import settings

CHEAP = ("captions", "vocabulary", "images")
"""Judged in seconds to minutes, and by default."""
TABLES = (*CHEAP, "embeddings", "training_set")
"""The others need the embeddings, which are made where there are none."""


@dataclass(frozen=True)
class CheckResult:
    """What a checking flow leaves."""

    run_id: str
    reports: tuple[ContractReport, ...]
    page: Path


@flow(name="check-data")
def check_data(profile: Profile, only: Collection[str] = CHEAP) -> CheckResult:
    """Judges the tables of a profile's data set; a broken contract does not keep the others from being judged."""
    find_encoders(profile.encoders)
    tracking.connect(settings().mlflow, settings().model_files)
    with tracking.tracked_run(f"check {profile.name}", profile.model_dump(mode="json")) as run:
        dataset = tasks.fetch_dataset(profile)
        captions = tasks.build_caption_table(dataset, profile)
        reports = []
        if "captions" in only:
            reports.append(_report(lambda: checks.check_captions(captions, profile, run)))
        if {"vocabulary", "training_set"} & set(only):
            vocabulary = tasks.build_vocabulary(captions, profile)
        if "vocabulary" in only:
            reports.append(_report(lambda: checks.check_vocabulary(vocabulary, captions, profile, run)))
        if {"images", "embeddings", "training_set"} & set(only):
            photographs = tasks.list_photographs(dataset, captions, profile)
        if "images" in only:
            reports.append(_report(lambda: checks.check_images(photographs, captions, profile, run)))
        if {"embeddings", "training_set"} & set(only):
            embeddings = extract_embeddings(photographs, tasks.archives_of(dataset, profile), profile)
        if "embeddings" in only:
            reports.append(_report(lambda: checks.check_embeddings(embeddings, captions, profile, run)))
        if "training_set" in only:
            reports.append(_report(lambda: checks.check_training_set(captions, vocabulary, embeddings, profile, run)))
        checks.publish_page(reports, run)
    page = settings().home / "contracts.html"
    page.write_text(to_html(reports, f"Data contracts of {profile.name}"), encoding="utf-8")
    return CheckResult(run, tuple(reports), page)


def _report(check: Callable[[], Artifact]) -> ContractReport:
    try:
        return checks.read_report(check())
    except ContractViolation as violation:
        return violation.report
