"""Every task: a stage of the line, a few lines around one component call. Heavy libraries load when work is done."""

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import prefect
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from components.artifacts import Artifact, Incomplete, Stage, folder_bytes, made_by, run_stage, take_turn, write_atomic
from components.dataset import caption_table, sources
from components.dataset.archive import Location, open_archive
from components.dataset.captions import write_caption_table
from components.dataset.listing import list_pictures
from components.dataset.scenes import draw_dataset
from components.decoder.history import best_of, read_history
from components.encoder.photographs import PHOTOGRAPHS_FILE, is_transient, read_photographs
from components.encoder.registry import load_network
from components.encoder.store import EmbeddingStore
from components.errors import ConfigurationError
from components.evaluation.summary import GALLERY_FILE, Summary
from components.profile import Profile
from components.provenance import sources_of
from components.redaction import redacted
from components.registry import models, tracking
from components.registry.captioner import CAPTIONER_FOLDER
from components.registry.card import render_card
from components.registry.reference import Reference
from components.registry.register import register
from components.registry.training_log import TrainingLog, log_inputs
from components.vocabulary.vocabulary import Vocabulary
from data_contracts.schema import SPECIALS
from flows.downloads import progress_artifacts
from flows.settings import settings

log = logging.getLogger(__name__)

task = partial(prefect.task, cache_policy=NO_CACHE)  # stages find finished work themselves, by content

VOCABULARY_FILE = "vocabulary.json"
SHOWN = 5
"""Files that cannot be reached and are named in the log."""


def make(stage: Stage, work: Callable[[Path], int], *, resumable: bool = False) -> Artifact:
    """The stage's artefact in this installation's home, found or made; see `components.artifacts.run_stage`.

    The code of `work` is part of the stage's key.
    """
    artifact = run_stage(settings().home, by_code(stage, work), work, resumable=resumable)
    told = "reused" if artifact.reused else f"{artifact.seconds:.1f} s"
    log.info("%s: %s rows, %s", stage.name, f"{artifact.rows:,}", told)
    return artifact


def record_stages(stages: Iterable[Artifact], run_id: str) -> None:
    """Keeps with the MLflow run what each stage was made by: its key, config, digests of code, and commit."""
    made = {stage.stage: {"key": stage.key, "digest": stage.digest, **made_by(stage)} for stage in stages}
    tracking.log_dict(run_id, made, "stages.json")


def by_code(stage: Stage, work: Callable[[Path], int]) -> Stage:
    """The stage, with the code of its work in its key."""
    return replace(stage, sources=sources_of(work))


def _is_worth_retrying(_task: object, _run: object, state: prefect.State) -> bool:
    return not isinstance(state.result(raise_on_failure=False), ConfigurationError)


@task(
    retries=3,
    retry_delay_seconds=exponential_backoff(5),
    retry_jitter_factor=0.5,
    retry_condition_fn=_is_worth_retrying,
)
def fetch_dataset(profile: Profile) -> Artifact:
    """The archives on this machine: drawn, downloaded, or where they were."""
    config = profile.dataset
    fingerprints = sources.obtain_sources(config, settings().downloads, progress_artifacts())

    def work(folder: Path) -> int:
        if config.scenes:
            draw_dataset(folder, config.scenes.images, config.scenes.seed)
        kept = [(redacted(address), found) for address, found in fingerprints.items()]
        (folder / "sources.json").write_text(json.dumps(kept, indent=1), encoding="utf-8")
        return len(config.sources)

    inputs = [f"{address}={fingerprint}" for address, fingerprint in fingerprints.items()]
    dataset = make(Stage("dataset", config.scenes, inputs=inputs), work)
    if not config.scenes:
        for images in dict.fromkeys(archives_of(dataset, profile).values()):
            tell_listing(images)
    return dataset


def tell_listing(images: Location) -> None:
    """Logs what is ignored at a place of pictures, and what cannot be reached."""
    with open_archive(images) as archive:
        listing = list_pictures(archive)
    if ignored := listing.summary():
        log.info("%s: %s", redacted(str(images)), ignored)
    problems = [entry for entry in listing.inputs if entry.problem]
    for entry in problems[:SHOWN]:
        log.warning("%s: %s cannot be reached: %s", redacted(str(images)), entry.name, entry.problem)
    if len(problems) > SHOWN:
        log.warning("%s: %d more cannot be reached", redacted(str(images)), len(problems) - SHOWN)


def _sources(dataset: Artifact, profile: Profile) -> dict[str, sources.Source]:
    return sources.locate_sources(profile.dataset, dataset.path, settings().downloads)


def archives_of(dataset: Artifact, profile: Profile) -> dict[str, Path]:
    """Where the photographs of each source lie."""
    return {name: source.images for name, source in _sources(dataset, profile).items()}


@task
def build_caption_table(dataset: Artifact, profile: Profile) -> Artifact:
    """Images and captions as tables, split and sampled."""
    relevant = profile.dataset.model_dump(mode="json", exclude={"root", "mirrors", "sha256", "scenes"})
    split_file = sources.locate_split_file(profile.dataset, settings().downloads)
    return make(
        Stage("captions", relevant, [dataset]),
        lambda folder: write_caption_table(_sources(dataset, profile), profile.dataset, folder, split_file),
    )


def require_split(captions: Artifact, split: str) -> None:
    """Raises `ConfigurationError` when the data set has no such split."""
    images, _ = caption_table.read_caption_table(captions.path)
    if split not in set(images["split"]):
        raise ConfigurationError(f"there is no split {split!r}; there is {', '.join(sorted(set(images['split'])))}")


@task
def build_vocabulary(captions: Artifact, profile: Profile) -> Artifact:
    """The words of the training captions."""
    split = profile.dataset.train_split

    def work(folder: Path) -> int:
        _, table = caption_table.read_caption_table(captions.path)
        words = table.loc[table["split"] == split, "tokens"].str.split()
        vocabulary = Vocabulary.build(words, profile.vocabulary.min_count)
        vocabulary.save(folder / VOCABULARY_FILE)
        return len(vocabulary)

    relevant = {"split": split, **profile.vocabulary.model_dump()}
    return make(Stage("vocabulary", relevant, [captions]), work)


@task
def list_photographs(dataset: Artifact, captions: Artifact, profile: Profile) -> Artifact:
    """Every photograph's size and digest: read once, decoded later. The next run reads again what could not be read."""

    def work(folder: Path) -> int:
        path = folder / PHOTOGRAPHS_FILE
        images, _ = caption_table.read_caption_table(captions.path)
        earlier = pd.read_parquet(path) if path.exists() else None
        table = read_photographs(images[images["file_name"] != ""], archives_of(dataset, profile), earlier)
        with write_atomic(path) as temporary:  # a kill must leave nothing that the next attempt cannot read
            table.to_parquet(temporary, index=False)
        return Incomplete(len(table)) if is_transient(table["error"]).any() else len(table)

    return make(Stage("photographs", None, [dataset, captions]), work, resumable=True)


@task(tags=["gpu"])
def train_decoder(
    captions: Artifact, vocabulary: Artifact, embeddings: Artifact, profile: Profile, run_id: str
) -> Artifact:
    """The decoder's weights; every epoch's figures go to the MLflow run, and to one nested in it for each phase."""
    splits = (profile.dataset.train_split, profile.dataset.validation_split)

    def work(folder: Path) -> int:
        from components.decoder.batches import TrainingSet
        from components.decoder.training import train

        _, table = caption_table.read_caption_table(captions.path)
        words, store = Vocabulary.load(vocabulary.path / VOCABULARY_FILE), EmbeddingStore.open(embeddings.path)
        length = profile.decoder.max_length
        sets = [TrainingSet.build(table[table["split"] == split], words, store, length) for split in splits]
        return len(train(profile.decoder, profile.training, *sets, words, folder, log_of_run.epoch))

    relevant = {"splits": splits, "decoder": profile.decoder.model_dump(), "training": profile.training.model_dump()}
    stage = Stage("decoder", relevant, [captions, vocabulary, embeddings])
    log_inputs(run_id, {parent.stage: (parent.digest, str(parent.path)) for parent in stage.parents})
    with TrainingLog(run_id, {key: relevant[key] for key in ("decoder", "training")}) as log_of_run:
        artifact = make(stage, work, resumable=True)
        history = read_history(artifact.path)
        if artifact.reused:
            for row in history:
                log_of_run.epoch(row)
        log_of_run.kept(artifact.path, best_of(history))
    return artifact


@task
def package_model(
    decoder: Artifact, captions: Artifact, vocabulary: Artifact, embeddings: Artifact, profile: Profile
) -> Artifact:
    """Encoder, decoder and vocabulary as the one model that is evaluated, registered and served."""

    def work(folder: Path) -> int:
        from components.decoder.training import load_decoder
        from components.registry.package import write_package

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
    return make(Stage("package", relevant, [decoder, captions, vocabulary, embeddings]), work)


@task
def register_model(package: Artifact, evaluation: Artifact, profile: Profile, run_id: str) -> models.RegisteredModel:
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
    with take_turn(settings().home / "locks" / "register.lock", "registers a model"):
        return register(package.path, package.digest, profile.registry.model_name, run_id, metadata, card, gallery)
