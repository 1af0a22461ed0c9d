"""The decoder network: an LSTM that starts from the image and predicts the caption word by word."""

from typing import Any

import keras

from components.config import DecoderConfig

Tensor = Any
State = tuple[Tensor, Tensor]
"""The LSTM's hidden and cell state, each (batch, lstm_units)."""


class Decoder(keras.Model):  # type: ignore[misc]
    """The notebook's layers: image → bottleneck → first state; words → LSTM → bottleneck → logits."""

    def __init__(self, config: DecoderConfig, vocabulary_size: int) -> None:
        super().__init__(name="decoder")
        dense = keras.layers.Dense
        self.image_bottleneck = dense(config.image_bottleneck, activation="elu", name="image_bottleneck")
        self.to_hidden = dense(config.lstm_units, activation="elu", name="to_hidden")
        self.to_cell = dense(config.lstm_units, activation="elu", name="to_cell") if config.separate_states else None
        self.word_embedding = keras.layers.Embedding(vocabulary_size, config.word_embedding, name="word_embedding")
        self.lstm = keras.layers.LSTM(config.lstm_units, return_sequences=True, name="lstm")
        self.logit_bottleneck = dense(config.logit_bottleneck, activation="elu", name="logit_bottleneck")
        self.logits = dense(vocabulary_size, name="logits")

    def call(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        """Logits of the next word, (batch, steps, vocabulary).

        From embeddings (batch, dimension), float32, and word ids (batch, steps), int32, that begin with START.
        """
        embeddings, words = inputs
        hidden = self.lstm(self.word_embedding(words), initial_state=list(self.first_state(embeddings)))
        return self.logits(self.logit_bottleneck(hidden))

    def first_state(self, embeddings: Tensor) -> State:
        """The state before START, from embeddings (batch, dimension)."""
        image = self.image_bottleneck(embeddings)
        hidden = self.to_hidden(image)
        return hidden, hidden if self.to_cell is None else self.to_cell(image)

    def step(self, words: Tensor, state: State) -> tuple[Tensor, State]:
        """One word further: logits (batch, vocabulary) and the next state, from word ids (batch,)."""
        hidden, state = self.lstm.cell(self.word_embedding(words), list(state))
        return self.logits(self.logit_bottleneck(hidden)), tuple(state)


def build_decoder(config: DecoderConfig, vocabulary_size: int, dimension: int) -> Decoder:
    """A decoder with freshly initialised weights, the same ones for a seed."""
    keras.utils.set_random_seed(config.seed)
    decoder = Decoder(config, vocabulary_size)
    decoder((keras.ops.zeros((1, dimension)), keras.ops.zeros((1, 1), dtype="int32")))
    return decoder
