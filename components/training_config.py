"""The sections of a profile about the decoder and its training (see `components.config`)."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, model_validator

from components.config import PositiveInt, Section, Seed


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
    """Words in a training caption, START and END among them, and the longest caption that is produced."""
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
    """Stop after this many epochs without a better one."""
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
