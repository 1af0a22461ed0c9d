"""The sections of a profile (see `components.profile`): what decides what a run produces, validated once and frozen."""

from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PositiveFloat, model_validator

from components.redaction import redacted

Seed = Annotated[int, Field(ge=0, lt=2**31)]
PositiveInt = Annotated[int, Field(gt=0, lt=2**31)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Address = Annotated[str, PlainSerializer(redacted, return_type=str, when_used="json")]
"""A path or a URL; in JSON, which servers and reports keep, without its secrets."""
Format = Literal["coco", "karpathy", "csv", "jsonl", "flickr"]

_FORMAT_OF: dict[str, Format] = {
    **{".json": "coco", ".jsonl": "jsonl", ".token": "flickr"},
    **dict.fromkeys((".csv", ".tsv", ".tab"), "csv"),
}


class Section(BaseModel):
    """A part of a profile: frozen, and strict about keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class SourceConfig(Section):
    """One archive of photographs and its captions: paths or URLs, relative ones under `dataset.root`."""

    images: Address
    """A zip file or a folder; read in place."""
    captions: Address
    """The captions file, or a zip file or a folder that holds it as `annotations`."""
    annotations: str = ""
    """The captions file inside `captions`."""
    format: Format = "coco"
    """Of the captions file; by default its suffix says: .json COCO's, .csv, .tsv, .jsonl, .token Flickr's."""
    image_column: str = "image"
    """The column (CSV) or key (JSON Lines) with the photograph's name."""
    caption_column: str = "caption"
    """The column or key with the caption, or with a list of captions."""
    delimiter: Annotated[str, Field(pattern=r'^[^"\r\n]?$')] = ""
    """Of a CSV file: what stands between its fields; by default a comma, semicolon, tab or pipe is found."""

    @model_validator(mode="after")
    def _columns_differ(self) -> "SourceConfig":
        if self.image_column == self.caption_column:
            raise ValueError(f"image_column and caption_column are both {self.image_column!r}; they must differ")
        return self

    @model_validator(mode="before")
    @classmethod
    def _tell_format(cls, given: Any) -> Any:
        name = isinstance(given, dict) and "format" not in given and (given.get("annotations") or given.get("captions"))
        if not name or not isinstance(name, str):
            return given
        found = _FORMAT_OF.get(PurePosixPath(name).suffix.lower())
        if found is None:
            raise ValueError(
                f"the name {name} does not tell its format; set `format` to one of {', '.join(get_args(Format))}, "
                "or `annotations` to the captions file inside it"
            )
        return {**given, "format": found}


class DatasetConfig(Section):
    """Photographs, their captions, and how they are divided."""

    root: Address = ""
    """Folder or URL (`file://`, `http://`, `https://`, `s3://`, `gs://`…) that relative sources are under."""
    mirrors: tuple[Annotated[Address, Field(pattern=r"^[a-z0-9+.-]+://")], ...] = ()
    """URLs to try in order, in the place of a `root` that is a URL and fails."""
    sources: dict[str, SourceConfig] = Field(min_length=1)
    """By name. Unless `holdout`, `split_file` or a Karpathy file divides the images, each is a split of that name."""
    sha256: dict[Address, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = {}
    """SHA-256 of files in `sources`, by address as written there; a file that differs is refused."""
    train_split: str = "train"
    validation_split: str = "val"
    holdout: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the images, chosen by a seeded hash of their id, that become the validation split."""
    split_file: Address = ""
    """A CSV with the columns `image` and `split`, or a Karpathy file; images it does not name are left out."""
    sample: Fraction = 1.0
    """Share of each split's images to keep; the notebook worked on 0.01 at first."""
    max_images: PositiveInt | None = None
    """At most so many images of each split."""
    seed: Seed = 0

    @property
    def addresses(self) -> frozenset[str]:
        """The addresses of all files: archives of photographs, captions, and the split file."""
        used = {address for source in self.sources.values() for address in (source.images, source.captions)}
        return frozenset(used | {self.split_file} - {""})

    @model_validator(mode="after")
    def _addresses_are_some(self) -> "DatasetConfig":
        for address in (self.root, *self.mirrors, *self.addresses):
            try:
                urlsplit(address if "://" in address else "")
                Path(address).expanduser()
            except (ValueError, RuntimeError) as error:
                raise ValueError(f"{address!r} is no path and no address: {error}") from error
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> "DatasetConfig":
        if unknown := set(self.sha256) - self.addresses:
            raise ValueError(f"sha256 names {', '.join(sorted(unknown))}, which no source uses")
        if self.train_split == self.validation_split:
            raise ValueError(f"train_split and validation_split are both {self.train_split}; they must differ")
        if self.split_file:
            if self.holdout is not None:
                raise ValueError("`split_file` divides the images; take out `holdout`")
        elif self.holdout is not None:
            if len(self.sources) > 1:
                raise ValueError("`holdout` divides a single source; here the sources are the splits")
        elif any(source.format == "karpathy" for source in self.sources.values()):
            pass  # which names each image's split
        elif len(self.sources) == 1:
            raise ValueError("one source needs `holdout`, the share of its images to validate on, or `split_file`")
        elif missing := {self.train_split, self.validation_split} - set(self.sources):
            raise ValueError(f"no source is called {', '.join(sorted(missing))}; there is {', '.join(self.sources)}")
        return self


class VocabularyConfig(Section):
    """Which words the decoder knows."""

    min_count: PositiveInt = 5
    """Occurrences in the training captions that make a word known."""


class EncoderConfig(Section):
    """The frozen network that turns a photograph into an embedding."""

    name: str
    weights: str
    """`package` (shipped with a Python package), `imagenet` (Keras downloads them), or a weights file."""
    preprocessing: Literal["notebook", "antialias"] = "antialias"
    """How photographs are resized: `antialias` gives better embeddings, `notebook` those of the notebook."""
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    """What the network computes in; bfloat16 is twice as fast where the CPU or GPU has it."""
    storage: Literal["float32", "float16"] = "float32"
    """What embeddings are kept in; float16 is half as large."""
    batch_size: PositiveInt | None = None
    """Images encoded at a time; by default 32 on a CPU, 256 on a GPU."""
    shard_size: PositiveInt = 1024
    """Images a shard: what a killed extraction loses at most."""


class RuntimeConfig(Section):
    """Where the embedding of photographs runs. Changes nothing in what comes out."""

    runner: Literal["threads", "ray"] = "threads"
    """`threads`: in the flow's process, one task at a time; `ray`: on a Ray cluster (extra `ray`)."""
    workers: PositiveInt = 2
    """Tasks at a time on a Ray cluster that is started for the run."""
    address: str = ""
    """Of a running Ray cluster, such as `ray://host:10001`; by default one is started on this machine."""
    gpus: Annotated[float, Field(ge=0)] = 0.0
    """GPUs that a task asks Ray for; 0.5 lets two share one."""


class DecoderConfig(Section):
    """The LSTM that writes the caption. The defaults are the strong recipe's (docs/experiments.md).

    `components/notebook.toml` has the notebook's."""

    standardize_embeddings: bool = True
    """Bring every number of the embeddings to mean 0 and standard deviation 1 over the training images."""
    image_projection: PositiveInt = 512
    separate_states: bool = True
    """Project the image to the LSTM's hidden and cell state separately; the notebook uses one for both."""
    image_at_every_step: bool = True
    """Show the LSTM the image beside every word; the notebook shows it once, as the first state."""
    word_embedding: PositiveInt = 384
    lstm_units: PositiveInt = 512
    output_projection: PositiveInt = 384
    tie_embeddings: bool = True
    """Choose words by the vectors they are read by; `output_projection` must equal `word_embedding`."""
    max_length: Annotated[int, Field(ge=3, lt=2**31)] = 20
    """Words in a training caption, START and END among them, and at most so many in a caption produced."""
    seed: Seed = 0
    """Of the first weights."""

    @model_validator(mode="after")
    def _tied_vectors_fit(self) -> "DecoderConfig":
        if self.tie_embeddings and self.output_projection != self.word_embedding:
            raise ValueError("`tie_embeddings` needs the same `word_embedding` and `output_projection`")
        return self


class SelfCriticalConfig(Section):
    """The second phase of training: on the decoder's own captions, rewarded by CIDEr-D (Rennie et al. 2017)."""

    epochs: PositiveInt
    """Passes over the training images."""
    images: PositiveInt = 40
    """Images a batch."""
    samples: Annotated[int, Field(ge=2)] = 5
    """Captions drawn for each image; each one's baseline is the mean reward of the others (Luo 2020)."""
    learning_rate: PositiveFloat = 5e-5
    cross_entropy: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Weight of the references' cross-entropy, mixed in."""


class TrainingConfig(Section):
    """How the decoder is trained. The defaults are the strong recipe's; `notebook.toml` has the notebook's."""

    batch_size: PositiveInt = 128
    epochs: PositiveInt = 12
    """Reporting intervals; the decoder is that of the one whose captions of the validation images score best."""
    steps_per_epoch: PositiveInt | None = None
    """Batches a reporting interval (the notebook: 1,000); by default as many as show every training caption once."""
    patience: PositiveInt | None = None
    """Stop after so many epochs without a better one."""
    learning_rate: PositiveFloat = 1e-3
    """At its highest."""
    cosine: bool = True
    """Let the learning rate fall to 0 along half a cosine; without it the rate is constant."""
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.15
    """Share of the steps over which it rises from 0 before it falls."""
    clip_norm: Annotated[float, Field(ge=0)] = 5.0
    """The longest gradient, over all weights together; 0 for no limit."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    image_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of the embedding's numbers that a training step leaves out."""
    word_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """The same of the words' vectors."""
    output_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.4
    """The same of the LSTM's output."""
    weight_average: Annotated[float, Field(ge=0, lt=1)] = 0.998
    """Share that a step keeps of the weights' running average, which then is the decoder; 0 for no average."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What the large products are computed from; bfloat16 is faster where the CPU or GPU has it."""
    notebook_loss: bool = False
    """Measure each epoch's validation loss the notebook's way as well, on 1,000 random batches of 32."""
    self_critical: SelfCriticalConfig | None = None
    seed: Seed = 0
    """Of the order of the captions, of what is dropped and of the samples."""

    @model_validator(mode="after")
    def _warm_up_is_of_the_cosine(self) -> "TrainingConfig":
        if self.warmup_fraction and not self.cosine:
            raise ValueError("`warmup_fraction` is of the cosine schedule: set `cosine`, or warmup_fraction=0")
        return self


class EvaluationConfig(Section):
    """How captions are produced and shown for judging a model."""

    beam: PositiveInt = 1
    """Hypotheses kept by the search; 1 is greedy."""
    gallery: Annotated[int, Field(ge=1, le=60)] = 12
    """Photographs in each part of the gallery: the best captions, the worst, and a random sample."""
    pictures: Path | None = None
    """A folder or a zip file of pictures of your own, to be captioned in the gallery."""


class RegistryConfig(Section):
    """Where the finished model goes."""

    model_name: str = "captioner"
    bundle_encoder: bool = True
    """Whether the model contains its encoders; without them it captions embeddings only."""
    licence: str = "Not stated: that of the training captions, photographs and encoder weights applies."
    """Of the model, for its card."""
