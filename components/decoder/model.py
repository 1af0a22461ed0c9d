"""The decoder network: an LSTM that starts from the image and predicts the caption word by word."""

from collections.abc import Callable
from random import Random
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from components.decoder import lstm
from components.decoder.lstm import Precision, matmul
from components.training_config import DecoderConfig

Tensor = Any
State = tuple[Tensor, ...]
"""What one step hands to the next, each (batch, …): hidden and cell state, and the image's part of the gates if any."""

Place = Literal["image", "word", "output"]
Drop = Callable[[Tensor, Place], Tensor]
"""Dropout at one of three places: of the embedding, the words' vectors, the LSTM's output."""


def keep_all(values: Tensor, _: Place) -> Tensor:
    """No dropout."""
    return values


CLIP_SIGMA = 6.0
"""Standard deviations from the mean at which the numbers of a standardised embedding are cut off."""


class Decoder(keras.Model):  # type: ignore[misc]
    """Image → projection → first state; words (and the image) → LSTM → projection → logits.

    With the values of `components/notebook.toml` these are the notebook's layers. `mean` and `deviation` are not
    trained: see `fit_embeddings`.
    """

    def __init__(self, config: DecoderConfig, vocabulary_size: int, dimension: int) -> None:
        super().__init__(name="decoder")
        # Keras draws initializers' seeds from the `random` that other threads of the process draw from, too.
        seeds = Random(config.seed)
        image, units, words = config.image_projection, config.lstm_units, config.word_embedding
        self.vocabulary_size, self.standardize_embeddings = vocabulary_size, config.standardize_embeddings
        self.mean = self.add_weight((dimension,), "zeros", trainable=False, name="mean")
        self.deviation = self.add_weight((dimension,), "ones", trainable=False, name="deviation")
        self.image_projection = _dense(seeds, dimension, image, "image_projection")
        self.to_hidden = _dense(seeds, image, units, "to_hidden")
        self.to_cell = _dense(seeds, image, units, "to_cell") if config.separate_states else None
        self.image_gates = _dense(seeds, image, 4 * units, "image_gates", None) if config.image_at_every_step else None
        self.word_embedding = keras.layers.Embedding(
            vocabulary_size, words, keras.initializers.RandomUniform(seed=_seed(seeds)), name="word_embedding"
        )
        self.word_embedding.build()
        self.word_gates = _dense(seeds, words, 4 * units, "word_gates", None)
        # The forget gate starts open (Jozefowicz et al. 2015).
        self.word_gates.bias.assign(np.repeat(np.array([0, 1, 0, 0], np.float32), units))
        self.recurrent = self.add_weight(
            (units, 4 * units), keras.initializers.Orthogonal(seed=_seed(seeds)), name="recurrent"
        )
        self.output_projection = _dense(seeds, units, config.output_projection, "output_projection")
        self.logit_bias = self.add_weight((vocabulary_size,), "zeros", name="logit_bias")
        # Tied to the word embedding: the same vectors read words and choose them (Press and Wolf 2017).
        shape = (config.output_projection, vocabulary_size)
        self.logit_kernel = (
            None
            if config.tie_embeddings
            else self.add_weight(shape, keras.initializers.GlorotUniform(_seed(seeds)), name="logit_kernel")
        )
        self.built = True

    def fit_embeddings(self, embeddings: np.ndarray) -> None:
        """Takes mean and standard deviation from training's embeddings (images, dimension), to standardize others by.

        A number that never changes is left out: it becomes 0.
        """
        mean, deviation = embeddings.mean(axis=0, dtype=np.float64), embeddings.std(axis=0, dtype=np.float64)
        self.mean.assign(mean)
        self.deviation.assign(np.where(deviation > 1e-6 * deviation.max(), deviation, np.inf))

    def call(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        """Logits of the next word, (batch, steps, vocabulary).

        From embeddings (batch, dimension), float32, and word ids (batch, steps), int32, that begin with START.
        """
        embeddings, words = inputs
        logits = ops.matmul(self.outputs(embeddings, ops.transpose(words)), self.table) + self.logit_bias
        by_step = ops.reshape(logits, (words.shape[1], -1, self.vocabulary_size))
        return ops.transpose(by_step, (1, 0, 2))

    def outputs(
        self, embeddings: Tensor, words: Tensor, precision: Precision = "float32", drop: Drop = keep_all
    ) -> Tensor:
        """What the logits are made from, (steps × batch, width), of embeddings and word ids (steps, batch)."""
        hidden, cell, *image = self.first_state(embeddings, drop)
        steps, width = words.shape[0], hidden.shape[-1]
        vectors = drop(self.word_embedding(ops.reshape(words, (-1,))), "word")
        gates = matmul(vectors, self.word_gates.kernel, precision) + self.word_gates.bias
        gates = ops.reshape(gates, (steps, -1, 4 * width)) + (image[0][None] if image else 0.0)
        states = lstm.unroll(gates, self.recurrent, (hidden, cell), precision)
        return self.output_projection(drop(ops.reshape(states, (-1, width)), "output"))

    def first_state(self, embeddings: Tensor, drop: Drop = keep_all) -> State:
        """The state before START, from embeddings (batch, dimension)."""
        if self.standardize_embeddings:
            embeddings = ops.clip((embeddings - self.mean) / self.deviation, -CLIP_SIGMA, CLIP_SIGMA)
        image = self.image_projection(drop(embeddings, "image"))
        hidden = self.to_hidden(image)
        cell = hidden if self.to_cell is None else self.to_cell(image)
        return (hidden, cell) if self.image_gates is None else (hidden, cell, self.image_gates(image))

    def step(self, words: Tensor, state: State) -> tuple[Tensor, State]:
        """One word further: what the logits are made from (batch, width) and the next state, from word ids (batch,)."""
        hidden, cell, *image = state
        gates = self.word_gates(self.word_embedding(words)) + (image[0] if image else 0.0)
        hidden, cell = lstm.step(gates, self.recurrent, (hidden, cell))
        return self.output_projection(hidden), (hidden, cell, *image)

    @property
    def table(self) -> Tensor:
        """Outputs times this, plus `logit_bias`, are logits: (width, vocabulary)."""
        return ops.transpose(self.word_embedding.embeddings) if self.logit_kernel is None else self.logit_kernel


def build_decoder(config: DecoderConfig, vocabulary_size: int, dimension: int) -> Decoder:
    """A decoder with freshly initialised weights, the same ones for `config.seed`."""
    return Decoder(config, vocabulary_size, dimension)


def _dense(seeds: Random, inputs: int, units: int, name: str, activation: str | None = "elu") -> keras.layers.Dense:
    kernel = keras.initializers.GlorotUniform(_seed(seeds))
    layer = keras.layers.Dense(units, activation=activation, kernel_initializer=kernel, name=name)
    layer.build((None, inputs))
    return layer


def _seed(seeds: Random) -> int:
    return seeds.randint(1, 10**9)
