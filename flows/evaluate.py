"""The evaluation flow: a registered model judged on a split of a data set, alone or against another."""

import logging
from dataclasses import dataclass
from pathlib import Path

from components.artifacts import Artifact
from components.errors import ConfigurationError
from components.evaluation.comparison import Difference, read_comparison
from components.evaluation.summary import GALLERY_FILE, Summary
from components.profile import Profile
from components.registry import tracking
from components.registry.models import RegisteredModel, describe
from components.registry.promotion import record_evaluation
from data_contracts.report import RuleResult
from flows import contracts, judging, tasks
from flows.embed import embed_for_model, unreachable_photographs
from flows.failure import flow
from flows.settings import use_mlflow

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
    """From the model it was judged against, if any; positive where it is better."""
    warnings: tuple[RuleResult, ...]
    unreachable: tuple[tuple[str, str], ...]
    """Name and reason of each photograph of the split that could not be read, and that the next run reads again."""


@flow(name="evaluate-captioner")
def evaluate_captioner(model: str, profile: Profile, split: str, against: str | None = None) -> EvaluationResult:
    """Scores and gallery of the model at a registry URI, `models:/name@alias` or `models:/name/version`.

    `against` is another one, judged on the same images; every model brings its own encoders.
    """
    judging.find_pictures(profile.evaluation)  # a mistake is told before anything is done
    use_mlflow()
    first, other = describe(model), describe(against) if against else None
    if other and other.uri == first.uri:
        raise ConfigurationError(f"{model} and {against} are the same model, {first.uri}")
    params = {"model": first.uri, "against": other and other.uri, "split": split, **profile.model_dump(mode="json")}
    with tracking.tracked_run(f"evaluate {first.name} {first.version}", params) as run:
        dataset = tasks.fetch_dataset(profile)
        captions = tasks.build_caption_table(dataset, profile)
        tasks.require_split(captions, split)
        captions_ok = contracts.check_captions(captions, profile, run)
        photographs = tasks.list_photographs(dataset, captions, profile)
        images_ok = contracts.check_images(photographs, captions, profile, run)

        def judge(judged: RegisteredModel) -> tuple[Artifact, Artifact, list[Artifact]]:
            log.info("judging %s", judged.uri)
            archives = tasks.archives_of(dataset, profile)
            embeddings = embed_for_model(judged, photographs, captions, archives, split)
            embeddings_ok = contracts.check_embeddings(embeddings, captions, profile, run, split)
            evaluation = judging.evaluate_captioner(judged, dataset, captions, embeddings, profile, split)
            return (
                evaluation,
                embeddings,
                [
                    embeddings_ok,
                    contracts.check_predictions(evaluation, captions, embeddings, profile, split, run),
                ],
            )

        evaluation, embeddings, judged_ok = judge(first)
        differences: list[Difference] = []
        if other:
            against_evaluation, *_ = judge(other)
            differences = read_comparison(judging.compare_evaluations(evaluation, against_evaluation, run).path)
            judging.keep_evaluation(against_evaluation, run, judging.AGAINST)
        judging.publish_evaluation(evaluation, run)
        tasks.record_stages((dataset, captions, photographs, evaluation), run)
    data = Summary.load(evaluation.path).data
    for judged, folder in ((first, judging.EVALUATION), (other, judging.AGAINST)):
        if judged:
            record_evaluation(judged, data, run, folder)
    return EvaluationResult(
        run_id=run,
        model=first,
        summary=Summary.load(evaluation.path),
        gallery=evaluation.path / GALLERY_FILE,
        against=other,
        differences=tuple(differences),
        warnings=contracts.conclude((captions_ok, images_ok, *judged_ok), run),
        unreachable=unreachable_photographs(embeddings),
    )
