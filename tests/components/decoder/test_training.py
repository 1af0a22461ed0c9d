import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from components.config import DecoderConfig
from components.decoder.batches import Batch, TrainingSet
from components.decoder.history import HISTORY_FILE, History, describe, read_history
from components.decoder.training import CHECKPOINT_FILE, WEIGHTS_FILE, load_decoder, train
from components.encoder.pool import Vectors
from components.errors import CaptioningError
from data_contracts.schema import END, PAD, START

WORDS = 8


class KilledError(Exception):
    """The training ends here, as by a kill."""


def ignore(row: Mapping[str, float]) -> None:
    pass


def killed_at(epoch: int) -> Callable[[Mapping[str, float]], None]:
    def on_epoch(row: Mapping[str, float]) -> None:
        if row["epoch"] == epoch:
            raise KilledError

    return on_epoch


@pytest.fixture(scope="module")
def data() -> TrainingSet:
    """Sixteen images, a caption each: words and length can be told from the embedding."""
    random = np.random.default_rng(0)
    ids = np.full((16, 7), PAD, np.int32)
    for number, row in enumerate(ids):
        words = [4 + number % 4, 4 + number // 4, 7, 4][: 2 + number % 3]
        row[: len(words) + 2] = [START, *words, END]
    vectors = random.normal(size=(16, 5)).astype(np.float32)
    return TrainingSet(Vectors([vectors], np.zeros(16, int), np.arange(16), 5), np.arange(16), ids)


@pytest.fixture(scope="module")
def undisturbed(
    toy: DecoderConfig, data: TrainingSet, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, History, list[Mapping[str, float]]]:
    folder, heard = tmp_path_factory.mktemp("undisturbed"), list[Mapping[str, float]]()
    return folder, train(toy, data, data, WORDS, folder, heard.append), heard


def weights(folder: Path) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    with h5py.File(folder / WEIGHTS_FILE) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def cross_entropy(config: DecoderConfig, data: TrainingSet, folder: Path) -> tuple[float, float]:
    """Nats a word and next-word accuracy of the decoder in `folder` on whole captions, in NumPy."""
    decoder = load_decoder(config, WORDS, 5, folder)
    logits = np.asarray(decoder((data.embeddings[data.image_rows], data.ids[:, :-1])), np.float64)
    targets = data.ids[:, 1:]
    counts = targets != PAD
    logprobs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    right = np.take_along_axis(logprobs, targets[..., None], axis=-1)[..., 0]
    return float(-right[counts].mean()), float((logits.argmax(axis=-1) == targets)[counts].mean())


def test_a_training_learns_its_captions(toy: DecoderConfig, data: TrainingSet, tmp_path: Path) -> None:
    config = toy.model_copy(update={"lstm_units": 16, "epochs": 6, "steps_per_epoch": 40, "learning_rate": 0.03})
    history = train(config, data, data, WORDS, tmp_path, ignore)
    assert history[-1]["val_loss"] < 0.3 < 1 < history[0]["loss"]
    assert history[-1]["val_accuracy"] > 0.9


def test_every_epoch_is_reported_with_all_its_figures(
    toy: DecoderConfig, undisturbed: tuple[Path, History, list[Mapping[str, float]]]
) -> None:
    folder, history, heard = undisturbed
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert all(set(row) == {"epoch", "loss", "accuracy", "val_loss", "val_accuracy"} for row in history)
    assert heard == history == read_history(folder)
    assert history[-1]["val_loss"] < history[0]["val_loss"]
    text = describe({"epoch": 1, "loss": 4.31, "accuracy": 0.25, "val_loss": 3.73, "val_accuracy": 0.5})
    assert all(figure in text for figure in ("4.310", "0.250", "3.730", "0.500"))


@pytest.mark.parametrize("batch_size", [16, 4])
def test_figures_are_of_every_word_alike_whatever_the_batches(
    toy: DecoderConfig, data: TrainingSet, tmp_path: Path, batch_size: int
) -> None:
    standing_still = {"epochs": 1, "batch_size": batch_size, "learning_rate": 1e-12}
    config = toy.model_copy(update=standing_still)
    (row,) = train(config, data, data, WORDS, tmp_path, ignore)
    loss, accuracy = cross_entropy(config, data, tmp_path)
    assert (row["loss"], row["val_loss"]) == pytest.approx((loss, loss), rel=1e-5)
    assert (row["accuracy"], row["val_accuracy"]) == pytest.approx((accuracy, accuracy), rel=1e-5)


def test_the_epoch_with_the_lowest_validation_loss_is_kept(
    toy: DecoderConfig, data: TrainingSet, tmp_path: Path
) -> None:
    others = replace(data, embeddings=data.embeddings[::-1])  # learning the one is unlearning the other
    config = toy.model_copy(update={"learning_rate": 0.1, "epochs": 6, "steps_per_epoch": 8})
    losses = [row["val_loss"] for row in train(config, data, others, WORDS, tmp_path, ignore)]
    assert min(losses) < losses[-1] - 0.1
    loss, _ = cross_entropy(config, others, tmp_path)
    assert loss == pytest.approx(min(losses), rel=1e-4)


def test_an_epoch_goes_on_with_the_captions_the_last_did_not_draw(
    toy: DecoderConfig, data: TrainingSet, tmp_path: Path
) -> None:
    drawn: list[int] = []

    class Watched(TrainingSet):
        def batch(self, captions: np.ndarray) -> Batch:
            drawn.extend(captions.tolist())
            return super().batch(captions)

    config = toy.model_copy(update={"batch_size": 4, "steps_per_epoch": 2, "epochs": 2})
    train(config, Watched(data.embeddings, data.image_rows, data.ids), data, WORDS, tmp_path, ignore)
    assert sorted(drawn) == list(range(16))


@pytest.mark.parametrize("epoch", [2, 4])
def test_a_killed_training_goes_on_where_it_stopped(
    toy: DecoderConfig,
    data: TrainingSet,
    undisturbed: tuple[Path, History, list[Mapping[str, float]]],
    tmp_path: Path,
    epoch: int,
) -> None:
    with pytest.raises(KilledError):
        train(toy, data, data, WORDS, tmp_path, killed_at(epoch))
    assert (tmp_path / CHECKPOINT_FILE).exists()
    heard: list[Mapping[str, float]] = []
    history = train(toy, data, data, WORDS, tmp_path, heard.append)
    folder, expected, _ = undisturbed
    assert heard == history
    assert [sorted(row) for row in history] == [sorted(row) for row in expected]
    for row, wanted in zip(history, expected, strict=True):
        assert row == pytest.approx(wanted, rel=1e-5)
    found = weights(tmp_path)
    for name, values in weights(folder).items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-6, err_msg=name)


def test_the_loss_becoming_no_number_ends_the_training_and_keeps_the_last_checkpoint(
    toy: DecoderConfig, data: TrainingSet, tmp_path: Path
) -> None:
    with pytest.raises(KilledError):
        train(toy, data, data, WORDS, tmp_path, killed_at(1))
    checkpoint = (tmp_path / CHECKPOINT_FILE).read_bytes()
    vectors = replace(data.embeddings, shards=[np.full((16, 5), math.nan, np.float32)])
    broken = replace(data, embeddings=vectors)
    with pytest.raises(CaptioningError, match=r"diverged in epoch 2: the loss is nan.*decoder\.learning_rate"):
        train(toy, broken, data, WORDS, tmp_path, ignore)
    assert (tmp_path / CHECKPOINT_FILE).read_bytes() == checkpoint


@pytest.mark.parametrize("steps", [4, 1])
def test_an_absurd_learning_rate_is_named(toy: DecoderConfig, data: TrainingSet, tmp_path: Path, steps: int) -> None:
    # With one step an epoch the loss is still good when the weights are not any more.
    config = toy.model_copy(update={"learning_rate": 1e38, "steps_per_epoch": steps})
    with pytest.raises(CaptioningError, match=r"diverged in epoch 1:.*decoder\.learning_rate"):
        train(config, data, data, WORDS, tmp_path, ignore)
    assert not list(tmp_path.iterdir())


def test_weights_come_back_without_the_optimizer(
    toy: DecoderConfig, data: TrainingSet, undisturbed: tuple[Path, History, list[Mapping[str, float]]]
) -> None:
    folder, _, _ = undisturbed
    decoder = load_decoder(toy, WORDS, 5, folder)
    found = weights(folder)
    assert sum(values.size for values in found.values()) == decoder.count_params()
    assert not [name for name in found if "optimizer" in name]
    assert sorted(path.name for path in folder.iterdir()) == sorted([WEIGHTS_FILE, HISTORY_FILE])
    again = load_decoder(toy.model_copy(update={"seed": 5}), WORDS, 5, folder)
    batch = data.batch(np.arange(16))
    np.testing.assert_array_equal(
        np.asarray(decoder((batch.embeddings, batch.words))), np.asarray(again((batch.embeddings, batch.words)))
    )
