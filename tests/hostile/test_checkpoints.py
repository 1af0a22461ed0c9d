"""Checkpoints of a training that are damaged: it goes on from a whole one, and begins anew from any other."""

import io
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest

from components.decoder.model import Decoder, build_decoder
from components.training.checkpoint import CHECKPOINT_FILE, State
from tests.hostile.fuzzer import damaged
from tests.hostile.watch import try_all
from tests.recipes import notebook_decoder


@cache
def decoder() -> Decoder:
    sizes = {"image_projection": 3, "word_embedding": 3, "lstm_units": 4, "output_projection": 3}
    return build_decoder(notebook_decoder(**sizes), 8, 5)


def sample(folder: Path, known: list[bytes] = []) -> bytes:  # noqa: B006 - is to be changed
    """A checkpoint in whose weights every number is 1."""
    if known:
        return known[0]
    for weight in decoder().weights:
        weight.assign(np.ones(weight.shape))
    state = State(decoder(), keras.random.SeedGenerator(1), [{"phase": 1, "epoch": 1}])
    state.start_average()
    optimizer = keras.optimizers.SGD(1.0)
    optimizer.build(decoder().trainable_variables)
    state.save(optimizer, folder)
    known.append((folder / CHECKPOINT_FILE).read_bytes())
    return known[0]


def restore(content: bytes, folder: Path) -> bool:
    """Whether the checkpoint was taken up: else nothing of it was."""
    for weight in decoder().weights:
        weight.assign(np.zeros(weight.shape))
    (folder / CHECKPOINT_FILE).write_bytes(content)
    state = State(decoder(), keras.random.SeedGenerator(2))
    state.restore([keras.optimizers.SGD(1.0)], folder)
    taken = bool(state.history)
    assert {float(number) for weight in decoder().weights for number in np.ravel(weight)} == {float(taken)}
    assert ((folder / CHECKPOINT_FILE).exists(), bool(state.average)) == (taken, taken)
    return taken


def attempt(key: str, folder: Path) -> None:
    restore(damaged([sample(folder)], int(key)), folder)


def test_damaged_checkpoints(inputs: range) -> None:
    assert try_all("tests.hostile.test_checkpoints:attempt", inputs, seconds=60) == {}


def edited(**changes: object) -> Callable[[bytes], bytes]:
    def edit(whole: bytes) -> bytes:
        file = io.BytesIO()
        with np.load(io.BytesIO(whole)) as saved:
            np.savez(file, **{**saved, **{name: np.array(value) for name, value in changes.items()}})
        return file.getvalue()

    return edit


def packed(whole: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as saved, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in saved.namelist():
            archive.writestr(name, saved.read(name))
    return file.getvalue()


DEEDS: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda _: b"",
    "no archive": lambda _: b"checkpoint",
    "the first half": lambda whole: whole[: len(whole) // 2],
    "a pickle": lambda _: b"\x80\x04N.",
    "no epochs": edited(history="[]"),
    "epochs that are none": edited(history='["first"]'),
    "a history nested too deeply": edited(history="[" * 100_000),
    "a phase that is not": edited(history='[{"phase": 9, "epoch": 1}]'),
    "weights of another shape": edited(weight_0=np.ones((2, 2))),
    "weights that are text": edited(weight_1="1"),
    "objects": edited(average_0=np.array([print], object)),
    "compressed, as no checkpoint is": packed,
}


@pytest.mark.parametrize("deed", DEEDS)
def test_a_training_begins_anew_where_its_checkpoint_is_none(deed: str, tmp_path: Path) -> None:
    assert not restore(DEEDS[deed](sample(tmp_path)), tmp_path)


def test_a_whole_checkpoint_is_taken_up(tmp_path: Path) -> None:
    assert restore(sample(tmp_path), tmp_path)
