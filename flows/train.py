"""The training flow: from photographs and captions to one registered model."""

from dataclasses import dataclass
from pathlib import Path

from components.artifacts import Artifact, folder_bytes
from components.encoder.encoders import find_encoders
from components.evaluation.summary import GALLERY_FILE, Summary
from components.profile import Profile
from components.registry import tracking
from components.registry.promotion import record_evaluation
from components.registry.versions import RegisteredModel
from data_contracts.report import RuleResult
from flows.failure import flow
from flows.settings import use_mlflow
from flows.tasks import contracts, data, training
from flows.tasks.embeddings import extract_embeddings, unreachable_photographs
from flows.tasks.evaluation import EVALUATION, evaluate_model, find_pictures, publish_evaluation
from flows.tasks.stages import record_stages


@dataclass(frozen=True)
class TrainingResult:
    """What a training flow leaves."""

    run_id: str
    model: RegisteredModel
    model_bytes: int
    summary: Summary
    gallery: Path
    stages: tuple[Artifact, ...]
    unreachable: tuple[tuple[str, str], ...]
    """Name and reason of each photograph that could not be read and that a later run may be able to read."""
    warnings: tuple[RuleResult, ...]


@flow(name="train-captioner")
def train_captioner(profile: Profile) -> TrainingResult:
    """Dataset → captions → vocabulary → embeddings → decoder → package → evaluation → registered model.

    Contracts stand before whatever is expensive. Raises `ContractViolation` when a critical rule is broken.
    """
    find_encoders(profile.encoders)
    find_pictures(profile.evaluation)
    use_mlflow()
    split = profile.dataset.validation_split
    with tracking.tracked_run(f"train {profile.name}", profile.model_dump(mode="json")) as run:
        dataset = data.fetch_dataset(profile)
        captions = data.build_caption_table(dataset, profile)
        captions_ok = contracts.check_captions(captions, profile, run)
        vocabulary = data.build_vocabulary(captions, profile)
        vocabulary_ok = contracts.check_vocabulary(vocabulary, captions, profile, run)
        photographs = data.list_photographs(dataset, captions, profile)
        images_ok = contracts.check_images(photographs, captions, profile, run)
        embeddings = extract_embeddings(photographs, data.archives_of(profile), profile)
        embeddings_ok = contracts.check_embeddings(embeddings, captions, profile, run)
        training_ok = contracts.check_training_set(captions, vocabulary, embeddings, profile, run)
        decoder = training.train_decoder(captions, vocabulary, embeddings, profile, run)
        package = training.package_model(decoder, captions, vocabulary, embeddings, profile)
        evaluation = evaluate_model(package, captions, embeddings, profile, split)
        predictions_ok = contracts.check_predictions(evaluation, captions, embeddings, profile, split, run)
        publish_evaluation(evaluation, run)
        model = training.register_model(package, evaluation, profile, run)
        record_evaluation(model, Summary.load(evaluation.path).data, run, EVALUATION)
    checks = (captions_ok, vocabulary_ok, images_ok, embeddings_ok, training_ok, predictions_ok)
    stages = (
        *(dataset, captions, captions_ok, vocabulary, vocabulary_ok, photographs, images_ok),
        *(embeddings, embeddings_ok, training_ok, decoder, package, evaluation, predictions_ok),
    )
    record_stages(stages, run)
    return TrainingResult(
        run_id=run,
        model=model,
        model_bytes=folder_bytes(package.path),
        summary=Summary.load(evaluation.path),
        gallery=evaluation.path / GALLERY_FILE,
        stages=stages,
        unreachable=unreachable_photographs(embeddings),
        warnings=contracts.conclude(checks, run),
    )
