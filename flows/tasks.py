"""Every task: a stage of the line, a few lines around one component call. Heavy libraries load when work is done."""

import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import prefect
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from components.artifacts import Artifact, Stage, run_stage
from components.config import (
    DatasetConfig,
    DecoderConfig,
    EncoderConfig,
    Profile,
    VocabularyConfig,
)
from components.dataset import captions as caption_table
from components.dataset import sources
from components.encoder import extract
from components.encoder.registry import find_encoder
from components.encoder.store import EmbeddingStore, EncoderCard, finish_store
from components.errors import ConfigurationError
from components.progress import track
from components.registry import models, tracking
from components.registry.captioner import CAPTIONER_FOLDER, Captioner, Search
from components.vocabulary.vocabulary import Vocabulary
from data_contracts.limits import Limits
from data_contracts.report import ContractReport, ContractViolation
from flows.settings import settings

log = logging.getLogger(__name__)

task = partial(prefect.task, cache_policy=NO_CACHE)  # stages find finished work themselves, by content

REPORT_FILE = "report.json"
VOCABULARY_FILE = "vocabulary.json"


def _run(stage: Stage, work: Callable[[Path], int], *, resumable: bool = False) -> Artifact:
    artifact = run_stage(settings().home, stage, work, resumable=resumable)
    how = "reused" if artifact.reused else f"{artifact.seconds:.1f} s"
    log.info("%s: %s rows, %s", stage.name, f"{artifact.rows:,}", how)
    return artifact


def _is_worth_retrying(_task: object, _run: object, state: prefect.State) -> bool:
    return not isinstance(state.result(raise_on_failure=False), ConfigurationError)


@task(
    retries=3,
    retry_delay_seconds=exponential_backoff(5),
    retry_jitter_factor=0.5,
    retry_condition_fn=_is_worth_retrying,
)
def fetch_dataset(config: DatasetConfig) -> Artifact:
    """The archives on this machine: drawn, downloaded, or where they were."""
    fingerprints = sources.obtain_sources(config, settings().downloads)

    def work(folder: Path) -> int:
        if config.scenes:
            from components.dataset.scenes import draw_dataset

            draw_dataset(folder, config.scenes.images, config.scenes.seed, config.scenes.size)
        (folder / "sources.json").write_text(json.dumps(fingerprints, indent=1), encoding="utf-8")
        return len(config.sources)

    scenes = config.scenes.model_dump() if config.scenes else {}
    drawing = ["scenes", "scene_captions", "scene_shapes"] if config.scenes else []
    code = [f"components.dataset.{module}" for module in drawing]
    inputs = [f"{address}={fingerprint}" for address, fingerprint in fingerprints.items()]
    return _run(Stage("dataset", scenes, inputs=inputs, sources=code), work)


@task
def build_caption_table(dataset: Artifact, config: DatasetConfig) -> Artifact:
    """Images and captions as tables, split and sampled."""
    located = sources.locate_sources(config, dataset.path, settings().downloads)
    slice_of_config = config.model_dump(mode="json", exclude={"root", "scenes"})
    code = ["components.dataset.captions", "components.dataset.coco", "components.vocabulary.tokenizer"]
    return _run(
        Stage("captions", slice_of_config, [dataset], sources=code),
        lambda folder: caption_table.write_caption_table(located, config, folder),
    )


@task
def build_vocabulary(captions: Artifact, train_split: str, config: VocabularyConfig) -> Artifact:
    """The words of the training captions."""

    def work(folder: Path) -> int:
        _, table = caption_table.read_caption_table(captions.path)
        words = table.loc[table["split"] == train_split, "tokens"].str.split()
        vocabulary = Vocabulary.build(words, config.min_count)
        vocabulary.save(folder / VOCABULARY_FILE)
        return len(vocabulary)

    slice_of_config = {"train_split": train_split, **config.model_dump()}
    return _run(Stage("vocabulary", slice_of_config, [captions], sources=["components.vocabulary.vocabulary"]), work)


def extract_embeddings(
    dataset: Artifact, captions: Artifact, dataset_config: DatasetConfig, config: EncoderConfig
) -> Artifact:
    """The embedding of every photograph; a task a shard, so that a killed run loses one shard at most."""
    encoder = find_encoder(config)
    archives = _archives(dataset, dataset_config)

    def work(folder: Path) -> int:
        images, _ = caption_table.read_caption_table(captions.path)
        shards = extract.plan_shards(images, config.shard_size)
        embed_shard.map(
            shards,
            archives=prefect.unmapped(archives),
            config=prefect.unmapped(config),
            folder=prefect.unmapped(folder),
        ).result()
        card = EncoderCard(encoder.name, encoder.fingerprint, encoder.dimension, encoder.input_size)
        return finish_store(folder, len(shards), card)

    slice_of_config = {"encoder": encoder.fingerprint, "batch": config.batch_size, "shard": config.shard_size}
    code = [f"components.encoder.{name}" for name in ("extract", "pixels", "store")]
    return _run(Stage("embeddings", slice_of_config, [dataset, captions], sources=code), work, resumable=True)


@task(tags=["gpu"], task_run_name="embed-shard-{shard.number}")
def embed_shard(shard: extract.Shard, archives: dict[str, Path], config: EncoderConfig, folder: Path) -> int:
    """One shard of the embeddings."""
    return extract.embed_shard(shard, archives, config, folder)


@task(tags=["gpu"])
def train_decoder(
    captions: Artifact,
    vocabulary: Artifact,
    embeddings: Artifact,
    splits: tuple[str, str],
    config: DecoderConfig,
    run_id: str,
) -> Artifact:
    """The decoder's weights; every epoch's figures go to the MLflow run.

    `splits` are the ones to train and to validate on.
    """
    from components.decoder.history import read_history

    def report(row: dict[str, float]) -> None:
        tracking.log_metrics(run_id, {k: v for k, v in row.items() if k != "epoch"}, step=int(row["epoch"]))

    def work(folder: Path) -> int:
        from components.decoder.batches import TrainingSet
        from components.decoder.training import train

        _, table = caption_table.read_caption_table(captions.path)
        words = Vocabulary.load(vocabulary.path / VOCABULARY_FILE)
        store = EmbeddingStore.open(embeddings.path)
        sets = [TrainingSet.build(table[table["split"] == split], words, store, config.max_length) for split in splits]
        return len(train(config, *sets, len(words), folder, report))

    slice_of_config = {"splits": splits, **config.model_dump()}
    code = [f"components.decoder.{name}" for name in ("batches", "model", "training")]
    artifact = _run(
        Stage("decoder", slice_of_config, [captions, vocabulary, embeddings], sources=code),
        work,
        resumable=True,
    )
    if artifact.reused:
        for row in read_history(artifact.path):
            report(row)
    return artifact


@task
def package_model(
    decoder: Artifact,
    vocabulary: Artifact,
    embeddings: Artifact,
    decoder_config: DecoderConfig,
    encoder_config: EncoderConfig,
) -> Artifact:
    """Encoder, decoder and vocabulary as the one model that is evaluated, registered and served."""

    def work(folder: Path) -> int:
        from components.decoder.training import load_decoder
        from components.registry.package import write_package

        card = EmbeddingStore.open(embeddings.path).encoder
        words = Vocabulary.load(vocabulary.path / VOCABULARY_FILE)
        network = extract.load_network(encoder_config)
        trained = load_decoder(decoder_config, len(words), card.dimension, decoder.path)
        return write_package(trained, words, network, card, decoder_config.max_length, folder)

    code = [f"components.registry.{name}" for name in ("package", "captioner", "served", "bundle")]
    code += ["components.decoder.search", "components.encoder.pixels"]
    return _run(Stage("package", None, [decoder, vocabulary, embeddings], sources=code), work)


@task
def evaluate_captioner(
    model: Artifact | models.RegisteredModel,
    dataset: Artifact,
    captions: Artifact,
    embeddings: Artifact,
    profile: Profile,
    split: str,
    history: Artifact | None = None,
) -> Artifact:
    """Scores, gallery and predictions of a packaged or a registered captioner.

    `history` is the decoder's training, for the curves.
    """
    from components.evaluation.tokenize import find_java

    def work(folder: Path) -> int:
        from components.decoder.history import read_history
        from components.evaluation.report import evaluate

        packaged = isinstance(model, Artifact)
        captioner = Captioner(model.path / CAPTIONER_FOLDER) if packaged else models.load_captioner(model.uri)
        store = EmbeddingStore.open(embeddings.path)
        captioner.require_encoder(store.encoder.fingerprint)
        images, table = caption_table.read_caption_table(captions.path)
        return evaluate(
            lambda vectors: [(best.text, best.logprob) for best, *_ in captioner.caption(vectors, search)],
            images=images,
            captions=table,
            store=store,
            archives=_archives(dataset, profile.dataset),
            history=read_history(history.path) if history else [],
            config=profile.evaluation,
            split=split,
            facts={
                "Model": identity,
                "Encoder": f"{store.encoder.name} {store.encoder.fingerprint}",
            },
            folder=folder,
        )

    search = Search("beam", beam=profile.evaluation.beam) if profile.evaluation.beam > 1 else Search()
    identity = f"package {model.digest[:12]}" if isinstance(model, Artifact) else model.uri
    parents = [a for a in (model, captions, embeddings, history) if isinstance(a, Artifact)]
    slice_of_config = {"split": split, **profile.evaluation.model_dump()}
    code = [f"components.evaluation.{name}" for name in ("report", "metrics", "tokenize", "gallery", "curves")]
    inputs = [identity, "java" if find_java() else "no java"]
    return _run(Stage("evaluation", slice_of_config, parents, inputs=inputs, sources=code), work)


@task
def check_captions(captions: Artifact, profile: Profile, run_id: str) -> Artifact:
    """Halts the flow when captions and images do not fit together."""

    def judge() -> ContractReport:
        from data_contracts.captions import check

        images, table = caption_table.read_caption_table(captions.path)
        data = profile.dataset
        splits = {"train_split": data.train_split, "validation_split": data.validation_split}
        return check(table, images, profile.limits, **splits)

    return _check("captions", [captions], profile.limits, judge, run_id)


@task
def check_vocabulary(vocabulary: Artifact, captions: Artifact, profile: Profile, run_id: str) -> Artifact:
    """Halts the flow when the vocabulary is malformed or knows too few of the captions' words."""

    def judge() -> ContractReport:
        from data_contracts.vocabulary import check

        _, table = caption_table.read_caption_table(captions.path)
        words = Vocabulary.load(vocabulary.path / VOCABULARY_FILE).to_frame()
        return check(words, table, profile.limits, train_split=profile.dataset.train_split)

    return _check("vocabulary", [vocabulary, captions], profile.limits, judge, run_id)


@task
def check_embeddings(embeddings: Artifact, captions: Artifact, profile: Profile, run_id: str) -> Artifact:
    """Halts the flow when images lack an embedding or embeddings are unusable."""

    def judge() -> ContractReport:
        from data_contracts.embeddings import check

        images, _ = caption_table.read_caption_table(captions.path)
        store, encoder = EmbeddingStore.open(embeddings.path), find_encoder(profile.encoder)
        return check(
            store.index,
            store.quarantine,
            images,
            store.shards(),
            dimension=encoder.dimension,
            fingerprint=store.encoder.fingerprint,
            expected_fingerprint=encoder.fingerprint,
            limits=profile.limits,
        )

    return _check("embeddings", [embeddings, captions], profile.limits, judge, run_id)


@task
def check_predictions(
    evaluation: Artifact, captions: Artifact, embeddings: Artifact, split: str, limits: Limits, run_id: str
) -> Artifact:
    """Halts the flow when a captioner's output is not fit to be shown, before it is registered."""

    def judge() -> ContractReport:
        from components.evaluation.report import read_predictions
        from data_contracts.predictions import check

        _, table = caption_table.read_caption_table(captions.path)
        embedded = table["image_id"].isin(EmbeddingStore.open(embeddings.path).index["image_id"])
        expected = table.loc[(table["split"] == split) & embedded, "image_id"].unique()
        return check(read_predictions(evaluation.path), expected, limits)

    return _check("predictions", [evaluation, captions, embeddings], limits, judge, run_id)


@task
def register_model(package: Artifact, evaluation: Artifact, name: str, run_id: str) -> models.RegisteredModel:
    """The package as a version of the registered model, with its scores and its gallery in the MLflow run."""
    metrics = log_evaluation(evaluation, run_id)
    return models.register(package.path, package.digest, name, run_id, metrics)


def log_evaluation(evaluation: Artifact, run_id: str) -> dict[str, float]:
    """Puts scores, predictions, gallery and curves into the MLflow run. Returns the scores."""
    from components.evaluation.report import Summary

    metrics = Summary.load(evaluation.path).metrics
    tracking.log_metrics(run_id, metrics)
    for path in sorted(evaluation.path.iterdir()):
        tracking.log_file(run_id, path, "evaluation")
    return metrics


@task(tags=["gpu"])
def caption_images(images: Path, model: models.RegisteredModel, search: Search) -> Artifact:
    """A registered model's captions of every image given; the same images and model are captioned once."""
    from components.scoring import inputs, score

    names = inputs.list_images(images)

    def work(folder: Path) -> int:
        captioner = models.load_captioner(model.uri)
        files = track(inputs.read_images(images, names), len(names), "images")
        predictions = score.caption_images(files, captioner, search, model.version)
        score.write_predictions(predictions, folder)
        return len(predictions)

    code = ["components.scoring.inputs", "components.scoring.score"]
    given = [inputs.fingerprint(images, names), model.uri, settings().mlflow]
    return _run(Stage("scoring", asdict(search), inputs=given, sources=code), work)


@task
def check_scoring(scoring: Artifact, images: Path, limits: Limits, run_id: str) -> Artifact:
    """Halts the flow before anything is handed over: images without a row, captions unfit to be shown."""

    def judge() -> ContractReport:
        from components.scoring.inputs import list_images, uri_of
        from components.scoring.score import read_predictions
        from data_contracts.predictions import check

        # By address, not by content: copies of a picture are two inputs.
        predictions = read_predictions(scoring.path).assign(image_id=lambda rows: rows["uri"])
        return check(predictions, [uri_of(images, name) for name in list_images(images)], limits)

    return _check("predictions", [scoring], limits, judge, run_id)


@task
def publish_predictions(scoring: Artifact, out: Path, run_id: str) -> Path:
    """Hands the predictions over: whole in `out`, or not at all; with the counts in the MLflow run."""
    from components.scoring.score import read_predictions, write_predictions

    predictions = read_predictions(scoring.path)
    counts = {status: int((predictions["status"] == status).sum()) for status in ("ok", "quarantined")}
    tracking.log_metrics(run_id, {"images": len(predictions), **counts})
    return write_predictions(predictions, out)


def _archives(dataset: Artifact, config: DatasetConfig) -> dict[str, Path]:
    located = sources.locate_sources(config, dataset.path, settings().downloads)
    return {name: source.images for name, source in located.items()}


def _check(
    table: str, data: list[Artifact], limits: Limits, judge: Callable[[], ContractReport], run_id: str
) -> Artifact:
    """A contract as a stage: judged once for the same data and limits, published in every run."""

    def work(folder: Path) -> int:
        report = judge()
        if not report.passed:
            raise ContractViolation(report)
        (folder / REPORT_FILE).write_text(json.dumps(report.to_json(), indent=1), encoding="utf-8")
        return report.rows

    code = [f"data_contracts.{table}", "data_contracts.runner", "data_contracts.report"]
    try:
        artifact = _run(Stage(f"check-{table}", limits, data, sources=code), work)
    except ContractViolation as violation:
        publish_report(violation.report, run_id)
        raise
    publish_report(read_report(artifact), run_id)
    return artifact


def read_report(check: Artifact) -> ContractReport:
    """The report that a check left."""
    return ContractReport.from_json(json.loads((check.path / REPORT_FILE).read_text(encoding="utf-8")))


def publish_report(report: ContractReport, run_id: str) -> None:
    """Shows a contract's report in Prefect and keeps it with the MLflow run."""
    create_markdown_artifact(report.to_markdown(), key=f"contract-{report.table}")
    tracking.log_dict(run_id, report.to_json(), f"contracts/{report.table}.json")
