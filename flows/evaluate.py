"""The evaluation flow: evaluates a registered model on a split of a data set, alone or against another."""

import logging
from dataclasses import dataclass
from pathlib import Path

from components.errors import ConfigurationError
from components.evaluation.comparison import Difference, read_comparison
from components.evaluation.summary import GALLERY_FILE, Summary
from components.pages.comparison import COMPARISON_PAGE
from components.profile import Profile
from components.registry import tracking
from components.registry.promotion import record_evaluation
from components.registry.versions import RegisteredModel, describe
from data_contracts.report import RuleResult
from flows.failure import flow
from flows.settings import use_mlflow
from flows.tasks import contracts, data
from flows.tasks.embeddings import embed_for_model, unreachable_photographs
from flows.tasks.evaluation import (
    AGAINST,
    EVALUATION,
    compare_evaluations,
    evaluate_model,
    find_pictures,
    keep_evaluation,
    publish_evaluation,
)
from flows.tasks.stages import Check, Embeddings, Evaluation, record_stages

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation flow leaves."""

    run_id: str
    model: RegisteredModel
    summary: Summary
    gallery: Path
    against: RegisteredModel | None
    differences: tuple[Difference, ...]
    """From the model it was compared with, if any; positive where it is better."""
    side_by_side: Path | None
    """The page of both models' captions."""
    warnings: tuple[RuleResult, ...]
    unreachable: tuple[tuple[str, str], ...]
    """Name and reason of each photograph of the split that could not be read, and that the next run reads again."""


@flow(name="evaluate-captioner")
def evaluate_captioner(model: str, profile: Profile, split: str, against: str | None = None) -> EvaluationResult:
    """Scores and gallery of the model at a registry URI, `models:/name@alias` or `models:/name/version`.

    `against` is another one, evaluated on the same images; every model brings its own encoders.
    """
    find_pictures(profile.evaluation)  # a mistake is told before anything is done
    use_mlflow()
    first, other = describe(model), describe(against) if against else None
    if other and other.uri == first.uri:
        raise ConfigurationError(f"{model} and {against} are the same model, {first.uri}")
    params = {"model": first.uri, "against": other and other.uri, "split": split, **profile.model_dump(mode="json")}
    with tracking.tracked_run(f"evaluate {first.name} {first.version}", params) as run:
        dataset = data.fetch_dataset(profile)
        captions = data.build_caption_table(dataset, profile)
        data.require_split(captions, split)
        captions_ok = contracts.check_captions(captions, profile, run)
        photographs = data.list_photographs(dataset, captions, profile)
        images_ok = contracts.check_images(photographs, captions, profile, run)

        def evaluate(evaluated: RegisteredModel) -> tuple[Evaluation, Embeddings, list[Check]]:
            log.info("evaluating %s", evaluated.uri)
            archives = data.archives_of(profile)
            embeddings = embed_for_model(evaluated, photographs, captions, archives, split)
            embeddings_ok = contracts.check_embeddings(embeddings, captions, profile, run, split)
            evaluation = evaluate_model(evaluated, captions, embeddings, profile, split)
            predictions_ok = contracts.check_predictions(evaluation, captions, embeddings, profile, split, run)
            return evaluation, embeddings, [embeddings_ok, predictions_ok]

        evaluation, embeddings, checks = evaluate(first)
        differences: list[Difference] = []
        page: Path | None = None
        if other:
            against_evaluation, *_ = evaluate(other)
            comparison = compare_evaluations(evaluation, first, against_evaluation, other, run)
            page = comparison.path / COMPARISON_PAGE
            differences = read_comparison(comparison.path)
            keep_evaluation(against_evaluation, run, AGAINST)
        publish_evaluation(evaluation, run)
        record_stages((dataset, captions, photographs, evaluation), run)
    summary = Summary.load(evaluation.path)
    for evaluated, folder in ((first, EVALUATION), (other, AGAINST)):
        if evaluated:
            record_evaluation(evaluated, summary.data, run, folder)
    return EvaluationResult(
        run_id=run,
        model=first,
        summary=summary,
        gallery=evaluation.path / GALLERY_FILE,
        against=other,
        differences=tuple(differences),
        side_by_side=page,
        warnings=contracts.conclude((captions_ok, images_ok, *checks), run),
        unreachable=unreachable_photographs(embeddings),
    )
