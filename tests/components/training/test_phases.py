from collections.abc import Callable

import numpy as np
import pytest
from pycocoevalcap.cider.cider import Cider

from components.decoder.backend import resident
from components.decoder.model import Decoder
from components.training.batches import Batch, BatchSampler, TrainingSet
from components.training.phases import Phase, cross_entropy_phase, self_critical_phase
from components.training_config import SelfCriticalConfig
from data_contracts.schema import END, PAD, START, UNK
from tests.recipes import notebook_training

Decoders = Callable[..., Decoder]
Sets = Callable[..., TrainingSet]

IMAGES, SAMPLES, SHARE = 4, 3, 0.2
CONFIG = SelfCriticalConfig(epochs=2, images=IMAGES, samples=SAMPLES, cross_entropy=SHARE, learning_rate=0.01)


@pytest.fixture(scope="module")
def data(set_of: Sets) -> TrainingSet:
    """Seven images with one to three captions each; some words are unknown, some captions too long."""
    random = np.random.default_rng(0)
    images = [0, 1, 1, 2, 2, 2, 3, 4, 4, 5, 6, 6, 6]
    return set_of([random.integers(4, 10, random.integers(1, 9)).tolist() for _ in images], images)


def self_critical(decoder: Decoder, data: TrainingSet, config: SelfCriticalConfig = CONFIG, seed: int = 0) -> Phase:
    return self_critical_phase(config, notebook_training(seed=seed), data, decoder, resident(data.embeddings))


def halves(batch: Batch) -> tuple[Batch, Batch]:
    """The samples of a self-critical batch, and its references."""
    count = IMAGES * SAMPLES
    return (
        Batch(batch.images[:count], *(part[:, :count] for part in (batch.words, batch.targets, batch.weights))),
        Batch(batch.images[count:], *(part[:, count:] for part in (batch.words, batch.targets, batch.weights))),
    )


def rewards_of(samples: Batch, data: TrainingSet) -> np.ndarray:
    """The official CIDEr-D of each sample, END being a word of samples and references: (images, samples)."""

    def text(ids: np.ndarray) -> str:
        return " ".join(map(str, ids[ids != PAD]))

    truths = {
        image: [text(ids) for ids in data.references[data.image_rows == image]] for image in range(len(data.embeddings))
    }
    rewards = np.empty(len(samples.images))
    for place, image in enumerate(samples.images):
        candidates = {other: [""] for other in truths} | {image: [text(samples.targets[:, place])]}
        rewards[place] = Cider().compute_score(truths, candidates)[1][image]
    return rewards.reshape(-1, SAMPLES)


def test_cross_entropy_takes_the_captions_in_their_order(data: TrainingSet) -> None:
    phase = cross_entropy_phase(notebook_training(batch_size=4, epochs=3, seed=5, label_smoothing=0.1), data)
    order = BatchSampler(data.lengths, 4, 5)
    assert (phase.name, phase.epochs, phase.steps, phase.smoothing) == ("cross_entropy", 3, 4, 0.1)
    for step in (0, 3, 9):
        batch, told = phase.batch_at(step)
        expected = data.batch(order.at(step))
        for name in ("images", "words", "targets", "weights"):
            np.testing.assert_array_equal(getattr(batch, name), getattr(expected, name))
        assert not told
    assert cross_entropy_phase(notebook_training(batch_size=4, steps_per_epoch=1000), data).steps == 1000


def rates_of(phase: Phase) -> list[float]:
    """The learning rates of the phase's steps, and that after the last."""
    rates = []
    for step in range(phase.epochs * phase.steps + 1):
        phase.optimizer.iterations.assign(step)
        rates.append(float(phase.optimizer.learning_rate))
    return rates


def test_the_learning_rate_stays_or_rises_and_falls_to_0(data: TrainingSet) -> None:
    plain = notebook_training(batch_size=4, epochs=5, learning_rate=0.5)
    assert rates_of(cross_entropy_phase(plain, data)) == [0.5] * 21
    falling = rates_of(cross_entropy_phase(plain.model_copy(update={"cosine": True}), data))
    np.testing.assert_allclose(falling, 0.25 * (1 + np.cos(np.pi * np.arange(21) / 20)), atol=1e-6)
    warmed = rates_of(cross_entropy_phase(plain.model_copy(update={"cosine": True, "warmup_fraction": 0.2}), data))
    np.testing.assert_allclose(warmed[:5], np.linspace(0, 0.5, 5), atol=1e-6)
    np.testing.assert_allclose(warmed[4:], 0.25 * (1 + np.cos(np.pi * np.arange(17) / 16)), atol=1e-6)


def test_gradients_are_clipped_in_both_phases_or_in_none(random_decoder: Decoders, data: TrainingSet) -> None:
    for norm in (0.0, 0.5):
        config = notebook_training(clip_norm=norm)
        second = self_critical_phase(CONFIG, config, data, random_decoder(0), resident(data.embeddings))
        assert [phase.optimizer.global_clipnorm for phase in (cross_entropy_phase(config, data), second)] == [
            norm or None
        ] * 2


def test_the_second_phase_passes_over_the_images_at_a_falling_rate(random_decoder: Decoders, data: TrainingSet) -> None:
    phase = self_critical(random_decoder(0), data)
    assert (phase.name, phase.epochs, phase.steps, phase.smoothing) == ("self_critical", 2, 2, 0.0)
    for epoch in range(2):
        shown = np.concatenate([halves(phase.batch_at(2 * epoch + step)[0])[1].images for step in range(2)])
        assert set(shown.tolist()) == set(range(7))
    np.testing.assert_allclose(rates_of(phase), 0.005 * (1 + np.cos(np.pi * np.arange(5) / 4)), atol=1e-7)


@pytest.mark.parametrize("step", [0, 1, 5])
def test_samples_are_captions_and_references_those_of_the_same_images(
    random_decoder: Decoders, data: TrainingSet, step: int
) -> None:
    batch, _ = self_critical(random_decoder(3), data).batch_at(step)
    samples, references = halves(batch)
    assert [str(a.dtype) for a in batch] == ["int32", "int32", "int32", "float32"]
    np.testing.assert_array_equal(samples.images, np.repeat(references.images, SAMPLES))
    assert (batch.words[0] == START).all()
    np.testing.assert_array_equal(batch.words[1:], batch.targets[:-1])
    assert not np.isin(samples.targets, [UNK, START]).any()
    np.testing.assert_array_equal((samples.targets == END).sum(axis=0), 1)
    for image, caption in zip(references.images, references.targets.T, strict=True):
        learnt = [ids[ids != PAD].tolist() for ids in data.ids[data.image_rows == image]]
        assert [START, *caption[caption != PAD]] in learnt


@pytest.mark.parametrize("step", [0, 1, 5])
def test_a_word_weighs_its_captions_reward_over_the_mean_of_the_others_for_the_image(
    random_decoder: Decoders, data: TrainingSet, step: int
) -> None:
    batch, told = self_critical(random_decoder(3), data).batch_at(step)
    samples, _ = halves(batch)
    rewards = rewards_of(samples, data)
    assert told == {"reward": pytest.approx(rewards.mean(), abs=1e-6)}
    advantages = np.array([[r - np.delete(row, n).mean() for n, r in enumerate(row)] for row in rewards])
    assert (advantages > 0.01).any()
    counted = samples.targets != PAD  # END among them
    expected = (1 - SHARE) * advantages.reshape(-1) * counted / counted.sum()
    np.testing.assert_allclose(samples.weights, expected, atol=1e-7)
    of_captions = np.where(counted, samples.weights, 0).sum(axis=0) / counted.sum(axis=0)
    np.testing.assert_allclose(of_captions.reshape(-1, SAMPLES).sum(axis=1), 0, atol=1e-7)


def test_the_references_have_their_share_all_words_alike(random_decoder: Decoders, data: TrainingSet) -> None:
    for share in (0.0, 0.2, 0.75):
        config = CONFIG.model_copy(update={"cross_entropy": share})
        _, references = halves(self_critical(random_decoder(3), data, config).batch_at(0)[0])
        counted = references.targets != PAD
        np.testing.assert_allclose(references.weights, share * counted / counted.sum(), rtol=1e-5)


def test_a_batch_is_a_function_of_seed_step_and_the_decoders_weights(
    random_decoder: Decoders, data: TrainingSet
) -> None:
    def arrays(phase: Phase, step: int) -> list[list[float]]:
        batch, _ = phase.batch_at(step)
        return [part.tolist() for part in batch]

    decoder = random_decoder(3)
    phase = self_critical(decoder, data)
    first, second = arrays(phase, 0), arrays(phase, 1)
    assert first != second
    assert arrays(phase, 0) == first
    assert arrays(self_critical(decoder, data), 1) == second
    assert arrays(self_critical(decoder, data, seed=1), 0) != first
    assert random_decoder(4) is decoder
    assert arrays(phase, 0) != first
    random_decoder(3)
    assert arrays(phase, 0) == first


def test_a_decoder_that_draws_one_caption_only_has_nothing_to_learn_from_it(
    random_decoder: Decoders, data: TrainingSet
) -> None:
    decoder = random_decoder(3)
    decoder.logit_bias.assign([0, 0, 0, 0, 1e4, 0, 0, 0])
    samples, _ = halves(self_critical(decoder, data).batch_at(0)[0])
    assert len(np.unique(samples.targets, axis=1).T) == 1
    np.testing.assert_allclose(samples.weights, 0, atol=1e-9)
