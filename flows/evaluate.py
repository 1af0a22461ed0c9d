"""The evaluation flow: a registered model judged on a split of a data set."""

from dataclasses import dataclass
from pathlib import Path

from prefect import flow

from components.config import Profile
from components.encoder.registry import find_encoders
from components.evaluation.report import GALLERY_FILE, Summary
from components.registry import tracking
from components.registry.models import RegisteredModel, describe
from data_contracts.report import RuleResult
from flows import checks, tasks
from flows.embed import extract_embeddings
from flows.settings import settings


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation flow leaves."""

    run_id: str
    model: RegisteredModel
    summary: Summary
    gallery: Path
    warnings: tuple[RuleResult, ...]


@flow(name="evaluate-captioner")
def evaluate_captioner(model: str, profile: Profile, split: str) -> EvaluationResult:
    """Scores and gallery of the model at a registry URI, `models:/name@alias` or `models:/name/version`."""
    find_encoders(profile.encoders)
    tracking.connect(settings().mlflow, settings().model_files)
    registered = describe(model)
    params = {"model": registered.uri, "split": split, **profile.model_dump(mode="json")}
    with tracking.tracked_run(f"evaluate {registered.name} {registered.version}", params) as run:
        dataset = tasks.fetch_dataset(profile)
        captions = tasks.build_caption_table(dataset, profile)
        tasks.require_split(captions, split)
        captions_ok = checks.check_captions(captions, profile, run)
        photographs = tasks.list_photographs(dataset, captions, profile)
        images_ok = checks.check_images(photographs, captions, profile, run)
        embeddings = extract_embeddings(photographs, tasks.archives_of(dataset, profile), profile)
        embeddings_ok = checks.check_embeddings(embeddings, captions, profile, run)
        evaluation = tasks.evaluate_captioner(registered, dataset, captions, embeddings, profile, split)
        predictions_ok = checks.check_predictions(evaluation, captions, embeddings, profile, split, run)
        tasks.log_evaluation(evaluation, run)
    return EvaluationResult(
        run_id=run,
        model=registered,
        summary=Summary.load(evaluation.path),
        gallery=evaluation.path / GALLERY_FILE,
        warnings=checks.conclude((captions_ok, images_ok, embeddings_ok, predictions_ok), run),
    )
