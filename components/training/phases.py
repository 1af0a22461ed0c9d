"""The two phases of a training: learning the references, then the decoder's own captions by their reward.

Both are a weighted cross-entropy; they differ in whose words and in the weights.
"""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from components.decoder import search
from components.decoder.backend import Tensor, compile_function
from components.decoder.model import Decoder
from components.training.batches import Batch, BatchSampler, TrainingSet, shifted
from components.training.cider import CiderD
from components.training_config import SelfCriticalConfig, TrainingConfig
from data_contracts.schema import START


@dataclass(frozen=True)
class Phase:
    """A part of the training with an optimizer of its own."""

    name: str
    epochs: int
    steps: int
    """Batches an epoch."""
    smoothing: float
    optimizer: keras.Optimizer
    batch_at: Callable[[int], tuple[Batch, dict[str, float]]]
    """The batch of a step, counted from the phase's first, and figures of how it came about."""


def cross_entropy_phase(config: TrainingConfig, training: TrainingSet) -> Phase:
    """Learning to say what the references say, word by word."""
    order = BatchSampler(training.lengths, config.batch_size, config.seed)
    steps = config.steps_per_epoch or order.batches
    schedule: float | keras.optimizers.schedules.LearningRateSchedule = config.learning_rate
    if config.cosine:
        rising = round(config.warmup_fraction * config.epochs * steps)
        schedule = keras.optimizers.schedules.CosineDecay(
            0.0 if rising else config.learning_rate,
            max(config.epochs * steps - rising, 1),
            warmup_target=config.learning_rate if rising else None,
            warmup_steps=rising,
        )
    return Phase(
        name="cross_entropy",
        epochs=config.epochs,
        steps=steps,
        smoothing=config.label_smoothing,
        optimizer=keras.optimizers.Adam(schedule, global_clipnorm=config.clip_norm or None),
        batch_at=lambda step: (training.batch(order.at(step)), {}),
    )


def self_critical_phase(
    config: SelfCriticalConfig, general: TrainingConfig, training: TrainingSet, decoder: Decoder, embeddings: Tensor
) -> Phase:
    """Learning to draw captions of a higher CIDEr-D than the others drawn for the same image.

    Self-critical sequence training (Rennie et al. 2017) with the mean of the other samples as baseline (Luo 2020). END
    is a word of references and captions, so breaking off costs n-grams.
    """
    length, count = training.ids.shape[1] - 1, config.images * config.samples
    reward = CiderD(training.image_rows, training.references)
    order = BatchSampler(np.zeros(int(training.image_rows.max()) + 1), config.images, general.seed)
    captions_of = np.split(
        np.argsort(training.image_rows, kind="stable"), np.cumsum(np.bincount(training.image_rows))[:-1]
    )
    draw = compile_function(
        lambda embeddings, images, uniform: search.sample(
            decoder, keras.ops.take(embeddings, images, axis=0), length, uniform
        )[0],
        decoder.variables,
    )

    def batch_at(step: int) -> tuple[Batch, dict[str, float]]:
        random, images = np.random.default_rng([general.seed, 1, step]), order.at(step).astype(np.int32)
        drawn_for = np.repeat(images, config.samples)
        drawn = draw(embeddings, drawn_for, random.random((length, count), np.float32))
        rewards = reward.score(drawn_for, drawn).reshape(-1, config.samples)
        others = (rewards.sum(axis=1, keepdims=True) - rewards) / (config.samples - 1)
        references = training.ids[[random.choice(captions_of[image]) for image in images]]
        ids = np.concatenate([np.insert(drawn, 0, START, axis=1), references])
        words, targets, weights = shifted(ids)
        own, theirs = weights[:, :count], weights[:, count:]
        own *= (1 - config.cross_entropy) * (rewards - others).reshape(-1) / own.sum()
        theirs *= config.cross_entropy / theirs.sum()
        batch = Batch(np.concatenate([drawn_for, images]), words, targets, weights)
        return batch, {"reward": float(rewards.mean())}

    total = config.epochs * order.batches
    return Phase(
        name="self_critical",
        epochs=config.epochs,
        steps=order.batches,
        smoothing=0.0,
        optimizer=keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(config.learning_rate, total),
            global_clipnorm=general.clip_norm or None,
        ),
        batch_at=batch_at,
    )
