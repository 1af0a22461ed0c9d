"""The tasks from a data set to tables: sources, captions, vocabulary, photographs."""

import json
import logging
from pathlib import Path

import pandas as pd
import prefect
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from components.archives.archive import Location, open_archive
from components.archives.listing import list_pictures
from components.artifacts import Incomplete, Stage, write_atomic
from components.dataset import caption_table, sources
from components.dataset.captions import write_caption_table
from components.errors import ConfigurationError
from components.images.photographs import PHOTOGRAPHS_FILE, is_transient, read_photographs
from components.profile import Profile
from components.redaction import redacted
from components.vocabulary.vocabulary import Vocabulary
from flows.settings import settings
from flows.tasks.downloads import progress_artifacts
from flows.tasks.stages import CaptionTable, Dataset, Photographs, VocabularyFile, materialize, task

log = logging.getLogger(__name__)

VOCABULARY_FILE = "vocabulary.json"
MAX_ROWS = 5
"""Files that cannot be reached and are named in the log."""


def _is_worth_retrying(_task: object, _run: object, state: prefect.State) -> bool:
    return not isinstance(state.result(raise_on_failure=False), ConfigurationError)


@prefect.task(
    cache_policy=NO_CACHE,
    retries=3,
    retry_delay_seconds=exponential_backoff(5),
    retry_jitter_factor=0.5,
    retry_condition_fn=_is_worth_retrying,
)
def fetch_dataset(profile: Profile) -> Dataset:
    """The archives on this machine: downloaded, or where they were."""
    fingerprints = sources.obtain_sources(profile.dataset, settings().downloads, progress_artifacts())

    def work(folder: Path) -> int:
        kept = [(redacted(address), found) for address, found in fingerprints.items()]
        (folder / "sources.json").write_text(json.dumps(kept, indent=1), encoding="utf-8")
        return len(profile.dataset.sources)

    inputs = [f"{address}={fingerprint}" for address, fingerprint in fingerprints.items()]
    dataset = Dataset(materialize(Stage("dataset", inputs=inputs), work))
    for images in dict.fromkeys(archives_of(profile).values()):
        tell_listing(images)
    return dataset


def tell_listing(images: Location) -> None:
    """Logs what is ignored at a place of pictures, and what cannot be reached."""
    with open_archive(images) as archive:
        listing = list_pictures(archive)
    if ignored := listing.summary():
        log.info("%s: %s", redacted(str(images)), ignored)
    problems = [entry for entry in listing.inputs if entry.problem]
    for entry in problems[:MAX_ROWS]:
        log.warning("%s: %s cannot be reached: %s", redacted(str(images)), entry.name, entry.problem)
    if len(problems) > MAX_ROWS:
        log.warning("%s: %d more cannot be reached", redacted(str(images)), len(problems) - MAX_ROWS)


def archives_of(profile: Profile) -> dict[str, Path]:
    """Where the photographs of each source lie."""
    found = sources.locate_sources(profile.dataset, settings().downloads)
    return {name: source.images for name, source in found.items()}


@task
def build_caption_table(dataset: Dataset, profile: Profile) -> CaptionTable:
    """Images and captions as tables, split and sampled."""
    relevant = profile.dataset.model_dump(mode="json", exclude={"root", "mirrors", "sha256"})
    located = sources.locate_sources(profile.dataset, settings().downloads)
    split_file = sources.locate_split_file(profile.dataset, settings().downloads)
    return CaptionTable(
        materialize(
            Stage("captions", relevant, [dataset]),
            lambda folder: write_caption_table(located, profile.dataset, folder, split_file),
        )
    )


def require_split(captions: CaptionTable, split: str) -> None:
    """Raises `ConfigurationError` when the data set has no such split."""
    images, _ = caption_table.read_caption_table(captions.path)
    if split not in set(images["split"]):
        raise ConfigurationError(f"there is no split {split!r}; there is {', '.join(sorted(set(images['split'])))}")


@task
def build_vocabulary(captions: CaptionTable, profile: Profile) -> VocabularyFile:
    """The words of the training captions."""
    split = profile.dataset.train_split

    def work(folder: Path) -> int:
        _, table = caption_table.read_caption_table(captions.path)
        words = table.loc[table["split"] == split, "tokens"].str.split()
        vocabulary = Vocabulary.build(words, profile.vocabulary.min_count)
        vocabulary.save(folder / VOCABULARY_FILE)
        return len(vocabulary)

    relevant = {"split": split, **profile.vocabulary.model_dump()}
    return VocabularyFile(materialize(Stage("vocabulary", relevant, [captions]), work))


@task
def list_photographs(dataset: Dataset, captions: CaptionTable, profile: Profile) -> Photographs:
    """Every photograph's size and digest: read once, decoded later. The next run reads again what could not be read."""

    def work(folder: Path) -> int:
        path = folder / PHOTOGRAPHS_FILE
        images, _ = caption_table.read_caption_table(captions.path)
        earlier = pd.read_parquet(path) if path.exists() else None
        table = read_photographs(images[images["file_name"] != ""], archives_of(profile), earlier)
        with write_atomic(path) as temporary:  # a kill must leave nothing that the next attempt cannot read
            table.to_parquet(temporary, index=False)
        return Incomplete(len(table)) if is_transient(table["error"]).any() else len(table)

    return Photographs(materialize(Stage("photographs", None, [dataset, captions]), work, resumable=True))
