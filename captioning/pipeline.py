"""The line from Python: a profile's stages one by one, with results that can be looked at."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from captioning.captioner import PhotoCaptioner
from captioning.results import Embeddings, Evaluation, Training
from components.errors import ConfigurationError

if TYPE_CHECKING:
    from components.profile import Profile
    from flows.tasks import stages


@dataclass(frozen=True)
class Pipeline:
    """The stages of a profile. Each runs when its result is first asked for, with the stages that it needs.

    Results are kept in the home and shared with the `captioning` command: what was made from the same data, values and
    code is read, not made again. `CAPTIONING_HOME` says where.

    Args:
        profile: a name (`demo`, `flickr8k`, `coco2014`) or a TOML file.
        changes: values by key, such as `{"training.epochs": 3}`.

    Raises:
        ConfigurationError: a key is unknown or has a bad value, or there is no such profile.
    """

    profile: str | Path = "demo"
    changes: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from flows.settings import prepare_environment, settings

        settings().home.mkdir(parents=True, exist_ok=True)
        prepare_environment(debug=False)
        _ = self.values

    @cached_property
    def values(self) -> "Profile":
        """The profile's values, with the changes."""
        from flows.named_profiles import load_profile

        texts = {key: value if isinstance(value, str) else _text(value) for key, value in self.changes.items()}
        return load_profile(str(self.profile), [f"{key}={text}" for key, text in texts.items()])

    def changed(self, changes: Mapping[str, object]) -> "Pipeline":
        """The same with other values: stages that these do not concern are shared."""
        return Pipeline(self.profile, {**self.changes, **changes})

    @cached_property
    def images(self) -> pd.DataFrame:
        """One row per image: `image_id`, `split`, `file_name`, `archive`."""
        return self._tables[0]

    @cached_property
    def captions(self) -> pd.DataFrame:
        """One row per caption: `image_id`, `split`, `caption` as written, `tokens` as learnt."""
        return self._tables[1]

    @cached_property
    def vocabulary(self) -> pd.DataFrame:
        """One row per word: `word`, `id`, `count`."""
        from components.vocabulary.vocabulary import Vocabulary
        from flows.tasks.data import VOCABULARY_FILE

        return Vocabulary.load(self._vocabulary.path / VOCABULARY_FILE).to_frame()

    @cached_property
    def photographs(self) -> pd.DataFrame:
        """One row per photograph: size, SHA-256, and why it cannot be read."""
        from components.images.photographs import PHOTOGRAPHS_FILE

        return pd.read_parquet(self._photographs.path / PHOTOGRAPHS_FILE)

    def photos(self, image_ids: Iterable[int]) -> list[bytes]:
        """The image files of these images, in their order. Raises `CaptioningError` for one that is not there."""
        from components.archives.archive import open_archive
        from flows.tasks import data

        rows = self.images.drop_duplicates("image_id").set_index("image_id")
        ids = list(image_ids)
        if unknown := [image for image in ids if image not in rows.index]:
            raise ConfigurationError(f"there is no image {unknown[0]} in {self.values.name}")
        with ExitStack() as stack:
            places = data.archives_of(self.values).items()
            opened = {name: stack.enter_context(open_archive(path)) for name, path in places}
            wanted = rows.loc[ids, ["archive", "file_name"]].to_numpy()
            return [opened[archive].read(name) for archive, name in wanted]

    @cached_property
    def embeddings(self) -> Embeddings:
        """The embedding of every photograph, in memory, by image id."""
        from components.encoder.store import EmbeddingStore

        store = EmbeddingStore.open(self._embeddings.path)
        ids = store.index["image_id"].to_numpy()
        bad = store.quarantine
        return Embeddings(ids, store.vectors(ids)[:], dict(zip(bad["file_name"], bad["reason"], strict=True)))

    def check(self) -> pd.DataFrame:
        """The data contracts, one row per rule.

        Columns: `table`, `rule`, `severity`, `passed`, `observed`, `expected`, `remedy`.
        """
        from data_contracts.report import ContractViolation
        from flows.tasks import contracts

        captions, vocabulary, photographs = self._captions, self._vocabulary, self._photographs
        embeddings, profile = self._embeddings, self.values
        reports = []
        with self._run("check") as run:
            checks: list[Callable[[], stages.Check]] = [
                lambda: contracts.check_captions.fn(captions, profile, run),
                lambda: contracts.check_vocabulary.fn(vocabulary, captions, profile, run),
                lambda: contracts.check_images.fn(photographs, captions, profile, run),
                lambda: contracts.check_embeddings.fn(embeddings, captions, profile, run),
                lambda: contracts.check_training_set.fn(captions, vocabulary, embeddings, profile, run),
            ]
            for check in checks:
                try:
                    reports.append(contracts.read_report(check()))
                except ContractViolation as violation:
                    reports.append(violation.report)
        columns = ["table", "rule", "severity", "passed", "observed", "expected", "remedy"]
        rules = [[getattr(rule, name) for name in columns] for report in reports for rule in report.rules]
        return pd.DataFrame(rules, columns=columns)

    @cached_property
    def training(self) -> Training:
        """The decoder, trained; MLflow has the figures of every epoch."""
        from components.encoder.store import EmbeddingStore
        from components.training.history import read_history
        from components.training.train import load_decoder

        store = EmbeddingStore.open(self._embeddings.path)
        decoder = load_decoder(self.values.decoder, len(self.vocabulary), store.dimension, self._decoder.path)
        return Training(decoder, pd.DataFrame(read_history(self._decoder.path)))

    @cached_property
    def captioner(self) -> PhotoCaptioner:
        """Encoder, trained decoder and vocabulary as one model, as it would be registered."""
        from components.registry.versions import load_package

        return PhotoCaptioner(load_package(self._package.path), str(self._package.path))

    def evaluate(self, split: str | None = None) -> Evaluation:
        """Scores and gallery of the captioner on a split, by default the one that is validated on."""
        from components.evaluation.summary import GALLERY_FILE, Summary, read_predictions
        from flows.tasks import data
        from flows.tasks.evaluation import evaluate_model

        split = split or self.values.dataset.validation_split
        data.require_split(self._captions, split)
        made = evaluate_model.fn(self._package, self._captions, self._embeddings, self.values, split)
        return Evaluation(Summary.load(made.path), read_predictions(made.path), made.path / GALLERY_FILE)

    @cached_property
    def _dataset(self) -> "stages.Dataset":
        from flows.tasks import data

        return data.fetch_dataset.fn(self.values)

    @cached_property
    def _captions(self) -> "stages.CaptionTable":
        from flows.tasks import data

        return data.build_caption_table.fn(self._dataset, self.values)

    @cached_property
    def _tables(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        from components.dataset.caption_table import read_caption_table

        return read_caption_table(self._captions.path)

    @cached_property
    def _vocabulary(self) -> "stages.VocabularyFile":
        from flows.tasks import data

        return data.build_vocabulary.fn(self._captions, self.values)

    @cached_property
    def _photographs(self) -> "stages.Photographs":
        from flows.tasks import data

        return data.list_photographs.fn(self._dataset, self._captions, self.values)

    @cached_property
    def _embeddings(self) -> "stages.Embeddings":
        from flows.tasks import data, embeddings

        return embeddings.extract_embeddings(self._photographs, data.archives_of(self.values), self.values)

    @cached_property
    def _decoder(self) -> "stages.DecoderWeights":
        from flows.tasks import training

        with self._run("train") as run:
            return training.train_decoder.fn(self._captions, self._vocabulary, self._embeddings, self.values, run)

    @cached_property
    def _package(self) -> "stages.Package":
        from flows.tasks import training

        made = self._decoder, self._captions, self._vocabulary, self._embeddings
        return training.package_model.fn(*made, self.values)

    @contextmanager
    def _run(self, what: str) -> Iterator[str]:
        """A run in MLflow."""
        from components.registry import tracking
        from flows.settings import use_mlflow

        use_mlflow()
        with tracking.tracked_run(f"{what} {self.values.name}", self.values.model_dump(mode="json")) as run:
            yield run


def _text(value: Any) -> str:
    """A value as `--set` takes it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_literal(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_literal, value)) + "]"
    if isinstance(value, bool | int | float):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if isinstance(value, Path):
        return str(value)
    raise ConfigurationError(f"a profile's value is a text, a number, a list or a dict, not {value!r}")


def _literal(value: Any) -> str:
    """A value as TOML writes it."""
    import json

    return json.dumps(value) if isinstance(value, str) else _text(value)
