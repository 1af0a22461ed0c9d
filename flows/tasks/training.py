"""The tasks from embeddings to a registered model: train, package, register."""

import json
from pathlib import Path

from components.artifacts import Stage, exclusive_lock, folder_bytes
from components.dataset import caption_table
from components.encoder.encoders import load_network
from components.encoder.store import EmbeddingStore
from components.evaluation.card import render_card
from components.evaluation.summary import GALLERY_FILE, Summary
from components.model.captioner import CAPTIONER_FOLDER
from components.model.reference import Reference
from components.profile import Profile
from components.registry import versions
from components.registry.registration import register
from components.registry.training_log import TrainingLog, log_inputs
from components.training.history import best_of, read_history
from components.vocabulary.vocabulary import Vocabulary
from data_contracts.schema import SPECIALS
from flows.settings import settings
from flows.tasks.data import VOCABULARY_FILE
from flows.tasks.stages import (
    CaptionTable,
    DecoderWeights,
    Embeddings,
    Evaluation,
    Package,
    VocabularyFile,
    gpu_task,
    materialize,
    task,
)


@gpu_task
def train_decoder(
    captions: CaptionTable, vocabulary: VocabularyFile, embeddings: Embeddings, profile: Profile, run_id: str
) -> DecoderWeights:
    """The decoder's weights; every epoch's figures go to the MLflow run, and to one nested in it for each phase."""
    splits = (profile.dataset.train_split, profile.dataset.validation_split)

    def work(folder: Path) -> int:
        from components.training.batches import TrainingSet
        from components.training.train import train

        _, table = caption_table.read_caption_table(captions.path)
        words, store = Vocabulary.load(vocabulary.path / VOCABULARY_FILE), EmbeddingStore.open(embeddings.path)
        length = profile.decoder.max_length
        shown, held_out = (TrainingSet.build(table[table["split"] == split], words, store, length) for split in splits)
        return len(train(profile.decoder, profile.training, shown, held_out, words, folder, log_of_run.epoch))

    relevant = {"splits": splits, "decoder": profile.decoder.model_dump(), "training": profile.training.model_dump()}
    stage = Stage("decoder", relevant, [captions, vocabulary, embeddings])
    log_inputs(run_id, {parent.stage: (parent.digest, str(parent.path)) for parent in stage.parents})
    with TrainingLog(run_id, {key: relevant[key] for key in ("decoder", "training")}) as log_of_run:
        artifact = materialize(stage, work, resumable=True)
        history = read_history(artifact.path)
        if artifact.reused:
            for row in history:
                log_of_run.epoch(row)
        log_of_run.kept(artifact.path, best_of(history))
    return DecoderWeights(artifact)


@task
def package_model(
    decoder: DecoderWeights,
    captions: CaptionTable,
    vocabulary: VocabularyFile,
    embeddings: Embeddings,
    profile: Profile,
) -> Package:
    """Encoder, decoder and vocabulary as the one model that is evaluated, registered and served."""

    def work(folder: Path) -> int:
        from components.model.package import write_package
        from components.training.train import load_decoder

        store = EmbeddingStore.open(embeddings.path)
        _, table = caption_table.read_caption_table(captions.path)
        table = table[(table["split"] == split) & table["image_id"].isin(store.index["image_id"])]
        reference = Reference.of(store.vectors(table["image_id"].unique()), table["tokens"])
        words = Vocabulary.load(vocabulary.path / VOCABULARY_FILE)
        networks = [load_network(encoder) for encoder in profile.encoders] if profile.registry.bundle_encoder else []
        trained = load_decoder(profile.decoder, len(words), store.dimension, decoder.path)
        history, length = read_history(decoder.path), profile.decoder.max_length
        return write_package(trained, words, networks, store.encoders, reference, history, length, folder)

    split = profile.dataset.train_split
    relevant = {
        "split": split,
        "max_length": profile.decoder.max_length,
        "bundle_encoder": profile.registry.bundle_encoder,
    }
    return Package(materialize(Stage("package", relevant, [decoder, captions, vocabulary, embeddings]), work))


@task
def register_model(package: Package, evaluation: Evaluation, profile: Profile, run_id: str) -> versions.RegisteredModel:
    """The package as a version of the registered model, with its scores, its card and its gallery."""
    summary, captioner_folder = Summary.load(evaluation.path), package.path / CAPTIONER_FOLDER
    described = json.loads((captioner_folder / "model.json").read_text(encoding="utf-8"))
    card = render_card(
        profile.registry.model_name,
        described,
        summary,
        words=len(Vocabulary.load(captioner_folder / VOCABULARY_FILE)) - len(SPECIALS),
        megabytes=folder_bytes(package.path) / 1e6,
        data={"profile": profile.name, "trained on": f"split {profile.dataset.train_split}", "package": package.digest},
        licence=profile.registry.licence,
    )
    metadata = {
        "schema": described["schema"],
        "encoder_fingerprint": "+".join(encoder["fingerprint"] for encoder in described["encoders"]),
        "evaluation_data": summary.data,
        "scores": summary.metrics,
        "intervals": {name: list(ends) for name, ends in summary.intervals.items()},
    }
    gallery = evaluation.path / GALLERY_FILE
    with exclusive_lock(settings().home / "locks" / "register.lock", "registers a model"):
        return register(package.path, package.digest, profile.registry.model_name, run_id, metadata, card, gallery)
