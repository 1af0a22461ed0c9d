import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from components.decoder.backend import resident
from components.decoder.model import Decoder
from components.encoder.pool import Vectors
from components.errors import CaptioningError
from components.training import train as training
from components.training.batches import Batch, TrainingSet
from components.training.checkpoint import CHECKPOINT_FILE, State
from components.training.history import HISTORY_FILE, History, best_of, read_history
from components.training.train import WEIGHTS_FILE, load_decoder, objective, train
from components.training.validation import Validator
from components.training_config import DecoderConfig, SelfCriticalConfig, TrainingConfig
from components.vocabulary.vocabulary import Vocabulary
from data_contracts.schema import PAD
from tests.recipes import notebook_decoder, notebook_training

WORDS = 8
FIGURES = {"val_loss", "val_accuracy", "val_cider", "val_dangling", "val_distinct", "val_words_used"}

PLAIN = notebook_training(batch_size=5, epochs=3, learning_rate=0.02)
STANDING_STILL = notebook_training(batch_size=4, epochs=1, learning_rate=1e-12)
EVERYTHING = notebook_training(
    batch_size=5,
    epochs=2,
    steps_per_epoch=9,
    learning_rate=0.05,
    cosine=True,
    warmup_fraction=0.1,
    clip_norm=1.0,
    label_smoothing=0.1,
    image_dropout=0.2,
    word_dropout=0.2,
    output_dropout=0.2,
    weight_average=0.9,
    self_critical=SelfCriticalConfig(epochs=2, images=2, samples=3, learning_rate=0.02),
)

Learn = Callable[..., History]
Listener = Callable[[Mapping[str, float]], None]
Undisturbed = Callable[[TrainingConfig], tuple[Path, History]]


class KilledError(Exception):
    """The training ends here, as by a kill."""


def ignore(row: Mapping[str, float]) -> None:
    pass


def killed_at(epoch: int) -> Listener:
    def on_epoch(row: Mapping[str, float]) -> None:
        if row["epoch"] == epoch:
            raise KilledError

    return on_epoch


@pytest.fixture(scope="module")
def short(toy: DecoderConfig) -> DecoderConfig:
    """The toy decoder for captions of at most three words."""
    return toy.model_copy(update={"max_length": 5})


@pytest.fixture(scope="module")
def data(set_of: Callable[..., TrainingSet]) -> TrainingSet:
    """Sixteen images with a caption of three words each: there is one shape of batches to compile."""
    return set_of([[4 + n % 4, 4 + n // 4, 7] for n in range(16)], max_length=5)


@pytest.fixture(scope="module")
def learn(short: DecoderConfig, data: TrainingSet, eight_words: Vocabulary) -> Learn:
    """Trains the toy decoder on the sixteen captions, and validates on them, unless told otherwise."""

    def run(
        folder: Path,
        config: TrainingConfig = PLAIN,
        training: TrainingSet = data,
        validation: TrainingSet = data,
        architecture: DecoderConfig = short,
        on_epoch: Listener = ignore,
    ) -> History:
        return train(architecture, config, training, validation, eight_words, folder, on_epoch)

    return run


@pytest.fixture(scope="module")
def undisturbed(learn: Learn, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Trains without being disturbed, once for each configuration."""

    @cache
    def run(config: TrainingConfig) -> tuple[Path, History]:
        folder = tmp_path_factory.mktemp("undisturbed")
        return folder, learn(folder, config)

    return run


def weights(folder: Path) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    with h5py.File(folder / WEIGHTS_FILE) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def assert_same_training(folder: Path, history: History, other: Path, expected: History) -> None:
    assert history == expected
    found = weights(folder)
    for name, values in weights(other).items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def loss_and_accuracy(decoder: Decoder, data: TrainingSet) -> tuple[float, float]:
    """Nats a word and next-word accuracy on whole captions, in NumPy."""
    logits = np.asarray(decoder((data.embeddings[data.image_rows], data.ids[:, :-1])), np.float64)
    targets = data.ids[:, 1:]
    counts = targets != PAD
    logprobs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    right = np.take_along_axis(logprobs, targets[..., None], axis=-1)[..., 0]
    return float(-right[counts].mean()), float((logits.argmax(axis=-1) == targets)[counts].mean())


def of_images(data: TrainingSet, order: np.ndarray) -> TrainingSet:
    """The same captions, each of another image."""
    return replace(data, vectors=replace(data.vectors, row=data.vectors.row[order]))


def broken(data: TrainingSet) -> TrainingSet:
    """The same captions, of one image whose embedding is no number."""
    vectors = data.embeddings.copy()
    vectors[3, 2] = math.nan
    return replace(data, vectors=replace(data.vectors, shards=[vectors]))


# --- learning


@pytest.fixture(scope="module")
def by_heart(
    set_of: Callable[..., TrainingSet], tmp_path_factory: pytest.TempPathFactory
) -> tuple[DecoderConfig, Vocabulary, TrainingSet, Path, History]:
    """Thirty-two captions that a decoder of adequate size was trained on for long enough."""
    vocabulary = Vocabulary.build([list("abcdefgh")], min_count=1)
    embeddings = np.random.default_rng(0).normal(size=(32, 16)).astype(np.float32)
    captions = [[4 + n % 8, 4 + n // 8, 4 + (3 * n + 1) % 8, 4 + n // 4] for n in range(32)]
    data = set_of(captions, embeddings=embeddings, words=len(vocabulary))
    architecture = notebook_decoder(
        image_projection=32, word_embedding=16, lstm_units=32, output_projection=16, max_length=7
    )
    config = notebook_training(batch_size=32, epochs=4, steps_per_epoch=100, learning_rate=0.01)
    folder = tmp_path_factory.mktemp("by-heart")
    return architecture, vocabulary, data, folder, train(architecture, config, data, data, vocabulary, folder, ignore)


def test_captions_are_learnt_by_heart(by_heart: tuple[DecoderConfig, Vocabulary, TrainingSet, Path, History]) -> None:
    *_, history = by_heart
    assert history[-1]["loss"] < 0.1 < history[0]["loss"]
    assert history[-1]["val_loss"] < 0.1
    assert history[-1]["val_accuracy"] > 0.99
    assert history[-1]["val_cider"] == pytest.approx(10)


def test_with_images_shuffled_the_captions_are_wrong(
    by_heart: tuple[DecoderConfig, Vocabulary, TrainingSet, Path, History],
) -> None:
    architecture, vocabulary, data, folder, history = by_heart
    decoder = load_decoder(architecture, len(vocabulary), 16, folder)
    right = Validator(decoder, data, vocabulary).figures()
    assert right["val_cider"] == pytest.approx(best_of(history)["val_cider"])
    shuffled = Validator(decoder, of_images(data, np.roll(np.arange(32), 5)), vocabulary).figures()
    assert shuffled["val_cider"] < 0.2 * right["val_cider"]
    assert shuffled["val_loss"] > 10 * right["val_loss"]
    assert shuffled["val_distinct"] == right["val_distinct"]


def test_the_second_phase_raises_the_reward(learn: Learn, short: DecoderConfig, tmp_path: Path) -> None:
    phase = SelfCriticalConfig(epochs=15, images=4, samples=8, learning_rate=0.02, cross_entropy=0)
    config = notebook_training(batch_size=16, epochs=1, steps_per_epoch=20, learning_rate=0.02, self_critical=phase)
    larger = {"lstm_units": 16, "image_projection": 16, "output_projection": 8, "word_embedding": 8}
    first, *rest = learn(tmp_path, config, architecture=short.model_copy(update=larger))
    assert np.mean([row["reward"] for row in rest[-3:]]) > 1.6 * rest[0]["reward"]
    assert max(row["val_cider"] for row in rest) > 1.2 * first["val_cider"]


def test_with_precision_bfloat16_about_the_same_is_learnt_where_the_machine_has_it(
    learn: Learn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(training, "require_bfloat16", asked.append)
    exact = learn(tmp_path)
    assert not asked
    rounded = learn(tmp_path, PLAIN.model_copy(update={"precision": "bfloat16"}))
    assert asked == ["training.precision"]
    assert rounded != exact
    assert [row["loss"] for row in rounded] == pytest.approx([row["loss"] for row in exact], rel=0.02)


# --- what is told


def test_every_epoch_of_both_phases_is_reported_with_all_its_figures(learn: Learn, tmp_path: Path) -> None:
    heard: list[Mapping[str, float]] = []
    history = learn(tmp_path, EVERYTHING, on_epoch=heard.append)
    assert heard == history == read_history(tmp_path)
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert [row["phase"] for row in history] == [1, 1, 2, 2]
    first, second = history[:2], history[2:]
    assert all(set(row) == {"phase", "epoch", "loss", "accuracy", *FIGURES} for row in first)
    assert all(set(row) == {"phase", "epoch", "reward", *FIGURES} for row in second)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([WEIGHTS_FILE, HISTORY_FILE])


@pytest.mark.parametrize(("batch_size", "smoothing"), [(16, 0.0), (4, 0.3)])
def test_figures_are_of_every_word_alike_whatever_the_batches_and_the_smoothing(
    learn: Learn, toy: DecoderConfig, sixteen: TrainingSet, tmp_path: Path, batch_size: int, smoothing: float
) -> None:
    update = {"batch_size": batch_size, "label_smoothing": smoothing}
    (row,) = learn(tmp_path, STANDING_STILL.model_copy(update=update), sixteen, sixteen, toy)
    loss, accuracy = loss_and_accuracy(load_decoder(toy, WORDS, 5, tmp_path), sixteen)
    assert (row["loss"], row["val_loss"]) == pytest.approx((loss, loss), rel=1e-5)
    assert (row["accuracy"], row["val_accuracy"]) == pytest.approx((accuracy, accuracy), rel=1e-5)


def test_what_is_dropped_in_training_is_there_in_validation(
    learn: Learn, short: DecoderConfig, data: TrainingSet, tmp_path: Path
) -> None:
    dropout = {"image_dropout": 0.5, "word_dropout": 0.5, "output_dropout": 0.5}
    (row,) = learn(tmp_path, STANDING_STILL.model_copy(update=dropout))
    loss, _ = loss_and_accuracy(load_decoder(short, WORDS, 5, tmp_path), data)
    assert row["val_loss"] == pytest.approx(loss, rel=1e-5)
    assert row["loss"] != pytest.approx(loss, rel=1e-4)


def test_the_notebooks_loss_is_measured_when_asked_for(
    learn: Learn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.training.validation.NOTEBOOK_BATCHES", 3)
    (row,) = learn(tmp_path, STANDING_STILL.model_copy(update={"notebook_loss": True}))
    assert row["notebook_loss"] == pytest.approx(row["val_loss"], rel=1e-5)  # its batches have all sixteen images


def test_an_epoch_goes_on_with_the_captions_the_last_did_not_draw(
    learn: Learn, data: TrainingSet, tmp_path: Path
) -> None:
    drawn: list[int] = []

    class Watched(TrainingSet):
        def batch(self, captions: np.ndarray) -> Batch:
            drawn.extend(captions.tolist())
            return super().batch(captions)

    watched = Watched(data.vectors, data.image_rows, data.references, data.ids)
    learn(tmp_path, PLAIN.model_copy(update={"batch_size": 4, "steps_per_epoch": 2, "epochs": 2}), watched)
    assert sorted(drawn) == list(range(16))


@pytest.mark.parametrize("place", ["image", "word", "output"])
def test_the_objective_drops_at_the_place_it_is_told_to_and_differently_each_time(
    random_decoder: Callable[..., Decoder], sixteen: TrainingSet, place: str
) -> None:
    decoder, dropout = random_decoder(3), keras.random.SeedGenerator(0)
    batch = sixteen.batch(np.arange(16))

    def losses(config: TrainingConfig) -> list[float]:
        loss_of, embeddings = objective(decoder, dropout, config, 0.0), resident(sixteen.embeddings)
        arrays = (embeddings, *batch)
        return [float(loss_of(*arrays)[0]) for _ in range(3)]

    whole = losses(PLAIN)
    assert len(set(whole)) == 1
    assert len({*whole, *losses(PLAIN.model_copy(update={f"{place}_dropout": 0.4}))}) == 4
    # With next to everything dropped at the place, what is multiplied with it makes no difference.
    name = {"image": "image_projection", "word": "word_gates", "output": "output_projection"}[place]
    nearly_all = PLAIN.model_copy(update={f"{place}_dropout": 1 - 1e-7})
    gone = losses(nearly_all)
    decoder.get_layer(name).kernel.assign(-decoder.get_layer(name).kernel)
    assert losses(nearly_all) == gone
    assert losses(PLAIN) != whole


# --- which decoder is kept


@pytest.mark.parametrize("average", [0.0, 0.5])
def test_the_best_epochs_decoder_is_kept(
    learn: Learn, short: DecoderConfig, data: TrainingSet, eight_words: Vocabulary, tmp_path: Path, average: float
) -> None:
    others = of_images(data, np.arange(16)[::-1])  # learning the one is unlearning the other
    update = {"learning_rate": 0.1, "steps_per_epoch": 8, "weight_average": average}
    history = learn(tmp_path, PLAIN.model_copy(update=update), validation=others)
    best = best_of(history)
    assert best != history[-1]
    found = Validator(load_decoder(short, WORDS, 5, tmp_path), others, eight_words).figures()
    assert found == pytest.approx({name: best[name] for name in FIGURES}, rel=1e-6)


@pytest.mark.parametrize("steps", [3, 12])
def test_an_average_of_the_weights_is_evaluated_and_kept_but_not_trained_on(
    learn: Learn, tmp_path: Path, steps: int
) -> None:
    config = PLAIN.model_copy(update={"steps_per_epoch": steps})
    without = learn(tmp_path, config)
    averaged = learn(tmp_path, config.model_copy(update={"weight_average": 0.9}))
    assert [row["loss"] for row in averaged] == [row["loss"] for row in without]
    # Every epoch moves the average, and none as far as the weights.
    assert len({row["val_loss"] for row in averaged + without}) == 2 * len(without)


def test_the_second_phase_starts_from_the_best_decoder_of_the_first(
    learn: Learn, data: TrainingSet, tmp_path: Path
) -> None:
    others = of_images(data, np.arange(16)[::-1])
    update = {
        "learning_rate": 0.1,
        "steps_per_epoch": 8,
        "self_critical": SelfCriticalConfig(epochs=1, images=16, learning_rate=1e-12),
    }
    *first, second = learn(tmp_path, PLAIN.model_copy(update=update), validation=others)
    best = best_of(first)
    assert best != first[-1]
    assert {name: second[name] for name in FIGURES} == {name: best[name] for name in FIGURES}


def test_weights_come_back_without_the_optimizer(
    short: DecoderConfig, data: TrainingSet, undisturbed: Undisturbed
) -> None:
    folder, _ = undisturbed(PLAIN)
    decoder = load_decoder(short, WORDS, 5, folder)
    found = weights(folder)
    assert sum(values.size for values in found.values()) == decoder.count_params()
    assert not [name for name in found if "optimizer" in name]
    again = load_decoder(short.model_copy(update={"seed": 5}), WORDS, 5, folder)
    inputs = data.embeddings, data.ids[:, :-1]
    np.testing.assert_array_equal(decoder(inputs), again(inputs))


def test_the_training_embeddings_statistics_are_kept_with_the_weights(
    learn: Learn, short: DecoderConfig, data: TrainingSet, tmp_path: Path
) -> None:
    architecture = short.model_copy(update={"standardize_embeddings": True, "tie_embeddings": True})
    unlike = replace(data, vectors=replace(data.vectors, shards=[data.embeddings + 3]))
    learn(tmp_path, PLAIN, validation=unlike, architecture=architecture)
    decoder = load_decoder(architecture, WORDS, 5, tmp_path)
    np.testing.assert_allclose(decoder.mean, data.embeddings.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(decoder.deviation, data.embeddings.std(axis=0), rtol=1e-5)


def test_a_training_may_be_warming_up_to_its_end(learn: Learn, tmp_path: Path) -> None:
    config = notebook_training(batch_size=16, epochs=1, steps_per_epoch=1, cosine=True, warmup_fraction=0.6)
    assert len(learn(tmp_path, config)) == 1


# --- being interrupted


@pytest.mark.parametrize("config", [PLAIN, EVERYTHING], ids=["plain", "everything"])
def test_a_training_killed_after_every_epoch_is_the_undisturbed_one(
    learn: Learn, undisturbed: Undisturbed, tmp_path: Path, config: TrainingConfig
) -> None:
    folder, expected = undisturbed(config)
    for epoch in range(1, len(expected) + 1):
        with pytest.raises(KilledError):
            learn(tmp_path, config, on_epoch=killed_at(epoch))
        assert (tmp_path / CHECKPOINT_FILE).exists()
    heard: list[Mapping[str, float]] = []
    history = learn(tmp_path, config, on_epoch=heard.append)
    assert heard == history
    assert_same_training(tmp_path, history, folder, expected)
    assert not (tmp_path / CHECKPOINT_FILE).exists()


@pytest.mark.parametrize(("epoch", "unwritten"), [(2, "weights"), (3, "checkpoint")])
def test_a_training_killed_before_one_of_an_epochs_files_is_written_is_the_undisturbed_one(
    learn: Learn, undisturbed: Undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int, unwritten: str
) -> None:
    heard: list[Mapping[str, float]] = []

    def killing(write: Callable[..., None]) -> Callable[..., None]:
        def write_or_die(*arguments: Any) -> None:
            if len(heard) + 1 == epoch:
                raise KilledError
            write(*arguments)

        return write_or_die

    folder, expected = undisturbed(EVERYTHING)
    with monkeypatch.context() as patched:
        if unwritten == "checkpoint":
            patched.setattr(State, "save", killing(State.save))
        else:
            patched.setattr(training, "write_weights", killing(training.write_weights))
        with pytest.raises(KilledError):
            learn(tmp_path, EVERYTHING, on_epoch=heard.append)
    assert_same_training(tmp_path, learn(tmp_path, EVERYTHING), folder, expected)


def test_a_training_that_was_over_when_killed_is_not_done_again(
    learn: Learn, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    folder, expected = undisturbed(EVERYTHING)
    with pytest.raises(KilledError):
        learn(tmp_path, EVERYTHING, on_epoch=killed_at(len(expected)))
    before = {path.stat().st_mtime_ns for path in tmp_path.glob("phase-*.h5")}
    assert_same_training(tmp_path, learn(tmp_path, EVERYTHING), folder, expected)
    assert (tmp_path / WEIGHTS_FILE).stat().st_mtime_ns in before
    assert not list(tmp_path.glob("phase-*.h5"))


def test_seeds_decide_everything(learn: Learn, undisturbed: Undisturbed, short: DecoderConfig, tmp_path: Path) -> None:
    folder, expected = undisturbed(EVERYTHING)
    assert_same_training(tmp_path, learn(tmp_path, EVERYTHING), folder, expected)
    one_epoch = EVERYTHING.model_copy(update={"epochs": 1, "self_critical": None})
    order, first_weights = one_epoch.model_copy(update={"seed": 1}), short.model_copy(update={"seed": 1})
    others = learn(tmp_path, order), learn(tmp_path, one_epoch, architecture=first_weights)
    losses = [history[0]["loss"] for history in (expected, *others)]
    assert len(set(losses)) == 3


# --- ending early


@pytest.mark.parametrize("patience", [1, 2])
def test_a_phase_ends_when_it_brings_nothing_better(learn: Learn, tmp_path: Path, patience: int) -> None:
    update = {
        "epochs": 9,
        "patience": patience,
        "self_critical": SelfCriticalConfig(epochs=9, images=16, learning_rate=1e-12),
    }
    history = learn(tmp_path, STANDING_STILL.model_copy(update=update))
    assert [row["phase"] for row in history] == [1] * (1 + patience) + [2] * patience


def test_a_training_that_gets_better_is_not_ended(learn: Learn, tmp_path: Path) -> None:
    config = PLAIN.model_copy(update={"patience": 4, "epochs": 8, "steps_per_epoch": 10})
    assert len(learn(tmp_path, config)) == 8


def test_an_absurd_learning_rate_is_named(learn: Learn, tmp_path: Path) -> None:
    config = PLAIN.model_copy(update={"learning_rate": 1e30})
    message = r"diverged: at step 2 of cross_entropy the loss is (nan|inf); there is no checkpoint. .*training\.learn"
    with pytest.raises(CaptioningError, match=message):
        learn(tmp_path, config)
    assert not list(tmp_path.iterdir())


def test_a_decoder_worse_than_a_guess_is_no_result(learn: Learn, tmp_path: Path) -> None:
    config = PLAIN.model_copy(update={"learning_rate": 100.0})
    with pytest.raises(
        CaptioningError, match=r"diverged: the validation loss is .* worse than a guess among all words"
    ):
        learn(tmp_path, config)
    assert not list(tmp_path.iterdir())


def test_overfitting_ends_no_training_and_the_best_epoch_is_kept(
    learn: Learn, set_of: Callable[..., TrainingSet], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    training, others = set_of([[4, 5, 6]] * 4, max_length=5), set_of([[4, 5, 6], [7, 7, 7]] * 2, max_length=5)
    config = PLAIN.model_copy(update={"epochs": 6, "steps_per_epoch": 40, "learning_rate": 0.1})
    with caplog.at_level("WARNING", "components.decoder"):
        history = learn(tmp_path, config, training, others)
    assert len(history) == 6
    assert max(row["val_loss"] for row in history) > math.log(WORDS) + 0.5
    assert history[-1]["loss"] < 0.1
    assert "the model overfits" in caplog.text


def test_validation_images_that_are_no_numbers_end_the_training(
    learn: Learn, data: TrainingSet, tmp_path: Path
) -> None:
    with pytest.raises(CaptioningError, match="the validation loss is nan"):
        learn(tmp_path, validation=broken(data))


@pytest.mark.parametrize("epoch", [1, 3])
def test_the_loss_becoming_no_number_ends_the_training_and_keeps_the_last_checkpoint(
    learn: Learn, data: TrainingSet, tmp_path: Path, epoch: int
) -> None:
    with pytest.raises(KilledError):
        learn(tmp_path, EVERYTHING, on_epoch=killed_at(epoch))
    checkpoint = (tmp_path / CHECKPOINT_FILE).read_bytes()
    phase = "cross_entropy" if epoch < 2 else "self_critical"
    with pytest.raises(CaptioningError) as caught:
        learn(tmp_path, EVERYTHING, broken(data))
    message = str(caught.value)
    assert f"of {phase} the loss is nan; the last good checkpoint, of epoch {epoch}, is in {tmp_path}." in message
    assert (tmp_path / CHECKPOINT_FILE).read_bytes() == checkpoint


@pytest.mark.parametrize("empty", ["training", "validation"])
def test_without_captions_there_is_nothing_to_train_or_to_validate(
    learn: Learn, data: TrainingSet, tmp_path: Path, empty: str
) -> None:
    none = TrainingSet(
        Vectors([], np.zeros(0, int), np.zeros(0, int), 5),
        np.zeros(0, int),
        np.zeros((0, 1), np.int32),
        np.zeros((0, 7), np.int32),
    )
    with pytest.raises(CaptioningError, match="no caption of an image with an embedding"):
        learn(tmp_path, **{empty: none})
