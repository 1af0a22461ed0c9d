"""Training throughput against PyTorch's nn.LSTM and Keras' fit: the notebook's decoder, COCO's size of vocabulary.

Run by `make bench-train`, which installs PyTorch first. All three train the same network on the same captions with
Adam; throughput counts real target words, END among them, and no padding. The baselines take random batches of 64, as
the notebook does: PyTorch pads each to its longest caption, Keras' fit to 20 words. Rounds take turns; medians count.
Ends with one JSON line: our throughput over each baseline's, and in words a second.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable

from tests.recipes import notebook_decoder, notebook_training

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import torch

from components.decoder.backend import compile_step, resident
from components.decoder.model import build_decoder
from components.encoder.pool import Vectors
from components.errors import ConfigurationError
from components.hardware import require_bfloat16
from components.training.batches import TrainingSet
from components.training.phases import cross_entropy_phase
from components.training.train import objective
from components.training_config import DecoderConfig, TrainingConfig
from data_contracts.schema import END, PAD, SPECIALS, START

VOCABULARY, DIMENSION, IMAGES, CAPTIONS = 8769, 2048, 4000, 20_000
BASELINE_BATCH, BATCH = 64, 128
ROUNDS, SECONDS = 5, 6.0
# Words a caption in COCO's training captions, END counted: share of captions by length from 9 to 19 (19 and more).
LENGTHS = {
    9: 0.2,
    10: 0.22,
    11: 0.2,
    12: 0.14,
    13: 0.09,
    14: 0.055,
    15: 0.035,
    16: 0.022,
    17: 0.014,
    18: 0.009,
    19: 0.015,
}


def main() -> None:
    data, config = drawn(), notebook_decoder()
    fast = notebook_training(batch_size=BATCH, precision="bfloat16" if has_bfloat16() else "float32")
    contenders = {
        "ours": ours(data, config, fast),
        "ours, batch 64, float32": ours(data, config, notebook_training(batch_size=BASELINE_BATCH)),
        "torch": pytorch(data, config),
        "fit": keras_fit(data, config),
    }
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, work in contenders.items():
            rates[name].append(work())
            tell(f"{name:24} {rates[name][-1]:10,.0f} words/s")
    middle = {name: statistics.median(values) for name, values in rates.items()}
    for name, values in rates.items():
        tell(f"{name:24} median {middle[name]:10,.0f} words/s, from {min(values):,.0f} to {max(values):,.0f}")
    result = {f"over_{name}": round(middle["ours"] / middle[name], 3) for name in ("torch", "fit")}
    tell(json.dumps(result | {"tokens_per_second": round(middle["ours"])}))


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def drawn() -> TrainingSet:
    """Captions of random words, few of them frequent, as long as COCO's; embeddings of random numbers."""
    random = np.random.default_rng(0)
    shares = np.array(list(LENGTHS.values()))
    lengths = random.choice(list(LENGTHS), CAPTIONS, p=shares / shares.sum())
    ranks = 1 / np.arange(1, VOCABULARY - len(SPECIALS) + 1)
    ids = np.full((CAPTIONS, 20), PAD, np.int32)
    ids[:, 0] = START
    for row, length in zip(ids, lengths, strict=True):
        row[1:length] = len(SPECIALS) + random.choice(len(ranks), length - 1, p=ranks / ranks.sum())
        row[length] = END
    rows = random.integers(0, IMAGES, CAPTIONS)
    vectors = random.random((IMAGES, DIMENSION), np.float32)
    mapped = Vectors([vectors], np.zeros(IMAGES, np.intp), np.arange(IMAGES), DIMENSION)
    return TrainingSet(mapped, rows, ids[:, 1:], ids)


def timed(step: Callable[[int], int]) -> Callable[[], float]:
    """A round: steps for some seconds, and the words a second. `step` takes its number and returns its words."""
    step(0)
    state = {"number": 1}

    def work() -> float:
        words, started = 0, time.perf_counter()
        while time.perf_counter() - started < SECONDS:
            words += step(state["number"])
            state["number"] += 1
        return words / (time.perf_counter() - started)

    return work


def has_bfloat16() -> bool:
    try:
        require_bfloat16()
    except ConfigurationError:
        return False
    return True


def ours(data: TrainingSet, architecture: DecoderConfig, config: TrainingConfig) -> Callable[[], float]:
    decoder, phase = build_decoder(architecture, VOCABULARY, DIMENSION), cross_entropy_phase(config, data)
    dropout = keras.random.SeedGenerator(0)
    wanted, embeddings = objective(decoder, dropout, config, 0.0), resident(data.embeddings)
    train = compile_step(wanted, phase.optimizer, decoder.trainable_variables, [dropout.state])

    def step(number: int) -> int:
        batch, _ = phase.batch_at(number)
        train(embeddings, *batch)
        return int(np.count_nonzero(batch.targets))

    for number in range(phase.steps):  # every shape is compiled before the clock starts
        step(number)
    return timed(step)


class TorchDecoder(torch.nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.image = torch.nn.Linear(DIMENSION, config.image_projection)
        self.to_hidden = torch.nn.Linear(config.image_projection, config.lstm_units)
        self.embedding = torch.nn.Embedding(VOCABULARY, config.word_embedding)
        self.lstm = torch.nn.LSTM(config.word_embedding, config.lstm_units, batch_first=True)
        self.bottleneck = torch.nn.Linear(config.lstm_units, config.output_projection)
        self.logits = torch.nn.Linear(config.output_projection, VOCABULARY)

    def forward(self, embeddings: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        elu = torch.nn.functional.elu
        state = elu(self.to_hidden(elu(self.image(embeddings))))[None]
        hidden, _ = self.lstm(self.embedding(words), (state, state))
        logits: torch.Tensor = self.logits(elu(self.bottleneck(hidden)))
        return logits


def pytorch(data: TrainingSet, config: DecoderConfig) -> Callable[[], float]:
    torch.set_num_threads(os.cpu_count() or 1)
    model = TorchDecoder(config)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    embeddings, random = torch.from_numpy(data.embeddings), np.random.default_rng(1)

    def step(_: int) -> int:
        chosen = random.integers(0, CAPTIONS, BASELINE_BATCH)
        ids = torch.from_numpy(data.ids[chosen][:, : data.lengths[chosen].max() + 1].astype(np.int64))
        logits = model(embeddings[data.image_rows[chosen]], ids[:, :-1])
        targets = ids[:, 1:].reshape(-1)
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, VOCABULARY), targets, ignore_index=PAD)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return int((targets != PAD).sum())

    return timed(step)


def keras_fit(data: TrainingSet, config: DecoderConfig) -> Callable[[], float]:
    layers = keras.layers
    image, words = keras.Input((DIMENSION,)), keras.Input((19,), dtype="int32")
    state = layers.Dense(config.lstm_units, "elu")(layers.Dense(config.image_projection, "elu")(image))
    vectors = layers.Embedding(VOCABULARY, config.word_embedding)(words)
    hidden = layers.LSTM(config.lstm_units, return_sequences=True)(vectors, initial_state=[state, state])
    logits = layers.Dense(VOCABULARY)(layers.Dense(config.output_projection, "elu")(hidden))
    model = keras.Model([image, words], logits)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=PAD))
    random = np.random.default_rng(2)
    count = 25 * BASELINE_BATCH

    def step(_: int) -> int:
        chosen = random.integers(0, CAPTIONS, count)
        ids = data.ids[chosen]
        inputs = [data.embeddings[data.image_rows[chosen]], ids[:, :-1]]
        model.fit(inputs, ids[:, 1:], batch_size=BASELINE_BATCH, verbose=0)
        return int(np.count_nonzero(ids[:, 1:]))

    return timed(step)


if __name__ == "__main__":
    main()
