"""The sections of a profile (see `components.profile`): what decides what a run produces, validated once and frozen."""

from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, model_validator

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
    """The most images to keep of each split."""
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


class EvaluationConfig(Section):
    """How captions are produced and shown for the evaluation of a model."""

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
