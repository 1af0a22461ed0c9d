"""The checking flow: validates a data set by its contracts, and trains nothing."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from components.artifacts import Artifact
from components.dataset.caption_table import read_uncaptioned
from components.encoder.encoders import find_encoders
from components.profile import Profile
from components.registry import tracking
from data_contracts.report import ContractReport, ContractViolation, to_html
from flows.failure import flow
from flows.settings import settings, use_mlflow
from flows.tasks import contracts, data
from flows.tasks.embeddings import extract_embeddings, unreachable_photographs
from flows.tasks.stages import Check


@dataclass(frozen=True)
class CheckResult:
    """What a checking flow leaves."""

    run_id: str
    reports: tuple[ContractReport, ...]
    page: Path
    unreachable: tuple[tuple[str, str], ...] = ()
    """Name and reason of each photograph that could not be read, and that the next run reads again."""
    uncaptioned: tuple[str, ...] = ()
    """Photographs that no captions file mentions."""


@flow(name="check-data")
def check_data(profile: Profile, only: Collection[str]) -> CheckResult:
    """Validates the tables of a profile's data set. After a broken contract the others are validated, too."""
    reports: list[ContractReport] = []
    unreachable: tuple[tuple[str, str], ...] = ()

    def validate(table: str, check: Callable[..., Check], *data: Artifact) -> None:
        if table in only:
            try:
                reports.append(contracts.read_report(check(*data, profile, run)))
            except ContractViolation as violation:
                reports.append(violation.report)

    find_encoders(profile.encoders)
    use_mlflow()
    with tracking.tracked_run(f"check {profile.name}", profile.model_dump(mode="json")) as run:
        dataset = data.fetch_dataset(profile)
        captions = data.build_caption_table(dataset, profile)
        validate("captions", contracts.check_captions, captions)
        if {"vocabulary", "training_set"} & set(only):
            vocabulary = data.build_vocabulary(captions, profile)
            validate("vocabulary", contracts.check_vocabulary, vocabulary, captions)
        if {"images", "embeddings", "training_set"} & set(only):
            photographs = data.list_photographs(dataset, captions, profile)
            validate("images", contracts.check_images, photographs, captions)
            unreachable = unreachable_photographs(photographs)
        if {"embeddings", "training_set"} & set(only):
            embeddings = extract_embeddings(photographs, data.archives_of(profile), profile)
            validate("embeddings", contracts.check_embeddings, embeddings, captions)
            unreachable = unreachable_photographs(embeddings)
        if "training_set" in only:
            validate("training_set", contracts.check_training_set, captions, vocabulary, embeddings)
        contracts.publish_page(reports, run)
    page = settings().home / "contracts.html"
    page.write_text(to_html(reports, f"Data contracts of {profile.name}"), encoding="utf-8")
    return CheckResult(run, tuple(reports), page, unreachable, read_uncaptioned(captions.path))
