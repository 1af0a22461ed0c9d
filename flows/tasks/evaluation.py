"""The tasks that evaluate models: one on a split, two against each other, and what is shown of it."""

import logging
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from prefect.artifacts import create_table_artifact

from components.archives.archive import open_archive
from components.archives.listing import Listing
from components.artifacts import Artifact, Incomplete, Stage
from components.config import EvaluationConfig
from components.dataset import caption_table
from components.encoder.store import EmbeddingStore
from components.errors import TRIED_AGAIN, BadImageError
from components.evaluation.comparison import (
    COMPARISON_FILE,
    compare,
    read_comparison,
    write_comparison,
    write_side_by_side,
)
from components.evaluation.summary import GALLERY_FILE, Summary
from components.images.decoding import MAX_BYTES
from components.model.captioner import Captioner
from components.pages.comparison import COMPARISON_PAGE
from components.profile import Profile
from components.registry import tracking, versions
from components.scoring import inputs
from flows.tasks.data import archives_of, tell_listing
from flows.tasks.pages import link_page
from flows.tasks.stages import (
    CaptionTable,
    Comparison,
    Embeddings,
    Evaluation,
    Package,
    materialize,
    task,
    with_sources,
)

if TYPE_CHECKING:
    from components.evaluation.gallery_selection import OwnPictures

log = logging.getLogger(__name__)

EVALUATION, AGAINST = "evaluation", "against"
"""Folders of an MLflow run: the evaluation, and that of the model it was compared with."""
OWN_PICTURES = 60
"""Of one's own pictures that a gallery shows."""


@task
def evaluate_model(
    model: Package | versions.RegisteredModel,
    captions: CaptionTable,
    embeddings: Embeddings,
    profile: Profile,
    split: str,
) -> Evaluation:
    """Scores, gallery and predictions of a packaged or a registered captioner."""
    from components.evaluation.tokenize import find_java

    config = profile.evaluation
    pictures = find_pictures(config)

    def work(folder: Path) -> int:
        from components.evaluation.gallery_selection import EvaluationInputs
        from components.evaluation.report import evaluate
        from components.training.history import read_history

        if isinstance(model, Artifact):
            captioner = versions.load_package(model.path)
        else:
            captioner = versions.load_captioner(model.uri)
        store = EmbeddingStore.open(embeddings.path)
        captioner.require_encoders(store.fingerprint)
        images, table = caption_table.read_caption_table(captions.path)
        own, lost = _own_pictures(captioner, config.pictures, pictures) if config.pictures else (None, [])
        archives, training = archives_of(profile), profile.dataset.train_split
        rows = evaluate(
            captioner,
            EvaluationInputs(images, table, store, archives, training, own),
            split,
            config,
            read_history(captioner.folder),
            title,
            identity | {"Encoder": ", ".join(f"{card.name} {card.fingerprint}" for card in store.encoders)},
            folder,
        )
        return Incomplete(rows) if any(reason.endswith(TRIED_AGAIN) for reason in lost) else rows

    if config.pictures:
        tell_listing(config.pictures)
    package = f"package {model.digest[:16]}"
    name = package if isinstance(model, Artifact) else f"{model.uri}, {package}"
    given = [name, "java" if find_java() else "no java"]
    if config.pictures:
        given.append(inputs.fingerprint(pictures))
    parents = [artifact for artifact in (model, captions, embeddings) if isinstance(artifact, Artifact)]
    relevant = {"split": split, "train_split": profile.dataset.train_split, **config.model_dump(mode="json")}
    stage = with_sources(Stage("evaluation", relevant, parents, inputs=given), work)
    # The key stands for everything that decides what the page shows, its own code among it.
    title = f"{profile.registry.model_name}, trained on {profile.name}"
    if not isinstance(model, Artifact):
        title = f"{model.name} version {model.version}"
    identity = {"Model": name, "Code": f"captioning {version('captioning')}, evaluation {stage.key[:16]}"}
    return Evaluation(materialize(stage, work))


def find_pictures(config: EvaluationConfig) -> Listing:
    """One's own pictures. Raises `ConfigurationError` when there is nothing of the kind."""
    return inputs.list_images(config.pictures) if config.pictures else Listing((), {})


def _own_pictures(captioner: Captioner, images: Path, listing: Listing) -> tuple["OwnPictures", list[str]]:
    """The pictures that can be shown, and why the others cannot."""
    from components.evaluation.gallery_selection import OwnPictures

    names = listing.names
    if listing.ignored:
        log.info("%s: %s", images, listing.summary())
    if len(names) > OWN_PICTURES:
        log.warning("%s has %d pictures; the gallery shows the first %d", images, len(names), OWN_PICTURES)
    contents, lost = dict[str, bytes](), dict[str, str]()
    with open_archive(inputs.archives_of(images)[inputs.INPUT]) as archive:
        for name in names[:OWN_PICTURES]:
            try:
                contents[name] = archive.read(name, MAX_BYTES)
            except BadImageError as error:
                lost[name] = str(error)
    embeddings, bad = captioner.embed(list(contents.values()))
    lost |= {list(contents)[row]: str(error) for row, error in bad.items()}
    for name, reason in lost.items():
        log.warning("%s is not in the gallery: %s", name, reason)
    good = {name: content for row, (name, content) in enumerate(contents.items()) if row not in bad}
    return OwnPictures(good, embeddings), list(lost.values())


@task
def compare_evaluations(
    evaluation: Evaluation,
    model: versions.RegisteredModel,
    against_evaluation: Evaluation,
    against: versions.RegisteredModel,
    run_id: str,
) -> Comparison:
    """Every metric of two evaluations with the interval of the difference, and their captions side by side.

    Shown in Prefect, kept in MLflow.
    """
    names = (f"{model.name} version {model.version}", f"{against.name} version {against.version}")

    def work(folder: Path) -> int:
        differences = compare(evaluation.path, against_evaluation.path)
        first, second = (names[0], evaluation.path), (names[1], against_evaluation.path)
        write_side_by_side(first, second, differences, folder / COMPARISON_PAGE)
        return write_comparison(differences, folder)

    comparison = materialize(Stage("comparison", None, [evaluation, against_evaluation], inputs=names), work)
    rows = [{**asdict(found), "verdict": found.verdict} for found in read_comparison(comparison.path)]
    create_table_artifact(rows, key="comparison", description="The first model's scores against the second's")
    tracking.log_file(run_id, comparison.path / COMPARISON_FILE, EVALUATION)
    page = comparison.path / COMPARISON_PAGE
    tracking.log_file(run_id, page, EVALUATION)
    link_page(run_id, f"{EVALUATION}/{COMPARISON_PAGE}", page, "side-by-side", " against ".join(names))
    return Comparison(comparison)


@task
def publish_evaluation(evaluation: Evaluation, run_id: str) -> None:
    """Puts scores, predictions, plots and gallery into the MLflow run, and a link to the gallery into Prefect."""
    summary = Summary.load(evaluation.path)
    ends = ((name, *pair) for name, pair in summary.intervals.items())
    bounds = {key: value for name, low, high in ends for key, value in ((f"{name}_low", low), (f"{name}_high", high))}
    tracking.log_metrics(run_id, summary.metrics | bounds)
    keep_evaluation(evaluation, run_id, EVALUATION)
    description = f"Captions of {summary.images:,} images"
    link_page(run_id, f"{EVALUATION}/{GALLERY_FILE}", evaluation.path / GALLERY_FILE, "gallery", description)


def keep_evaluation(evaluation: Evaluation, run_id: str, folder: str) -> None:
    """Keeps the evaluation's files with the MLflow run."""
    for path in sorted(evaluation.path.iterdir()):
        tracking.log_file(run_id, path, folder)
