"""Files that are called weights: Keras' own, and the one PyTorch file that is read without PyTorch."""

import hashlib
import io
import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import h5py
import keras
import numpy as np
import pytest

from components.encoder.applications import read_weights
from components.encoder.hdf5 import require_harmless
from components.encoder.torch_weights import read_torch_weights
from components.errors import CaptioningError, ConfigurationError
from tests.hostile.fuzzer import damaged
from tests.hostile.watch import try_all

pytestmark = [
    pytest.mark.filterwarnings("ignore:Skipping nested container:UserWarning"),  # Keras, before its error
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras saves weights
]
HERE = "tests.hostile.test_weights"
SUFFIXES = (".weights.h5", ".h5", ".keras")


@cache
def network() -> keras.Model:
    keras.utils.set_random_seed(1)
    layers = [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="conv"), keras.layers.BatchNormalization()]
    return keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(5, name="dense")])


def sample(suffix: str, folder: Path, known: dict[str, bytes] = {}) -> bytes:  # noqa: B006 - is to be changed
    """The network's weights as Keras writes them, by themselves or with all of the network."""
    if suffix not in known:
        path = folder / f"sample{suffix}"
        if suffix == ".keras":
            with ZipFile(path, "w") as archive:
                archive.writestr("model.weights.h5", sample(".weights.h5", folder))
        else:
            (network().save_weights if "weights" in suffix else network().save)(path)
        known[suffix] = path.read_bytes()
    return known[suffix]


def attempt(key: str, folder: Path) -> None:
    suffix = SUFFIXES[int(key) % len(SUFFIXES)]
    path = folder / f"a{suffix}"
    path.write_bytes(damaged([sample(suffix, folder)], int(key)))
    read_weights(network(), path)


def test_damaged_weights_of_keras(inputs: range) -> None:
    assert try_all(f"{HERE}:attempt", inputs, seconds=60) == {}


def test_a_file_that_hdf5_never_gets_through_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(damaged([sample(".h5", tmp_path)], 457))
    with pytest.raises(ConfigurationError, match=r"a\.h5 is damaged: HDF5 was not through it after 2 seconds"):
        require_harmless(tmp_path / "a.h5", seconds=2)


def test_a_file_that_hdf5_crashes_on_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crashing = tmp_path / "python"
    crashing.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crashing.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(crashing))
    (tmp_path / "a.h5").write_bytes(sample(".h5", tmp_path))
    with pytest.raises(ConfigurationError, match=r"a\.h5 is damaged: HDF5 crashes on it"):
        read_weights(network(), tmp_path / "a.h5")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_not_damaged_is_read(suffix: str, tmp_path: Path) -> None:
    expected = [np.asarray(weight).copy() for weight in network().weights]
    (tmp_path / f"a{suffix}").write_bytes(sample(suffix, tmp_path))
    network().layers[0].set_weights([np.ones((3, 3, 3, 4)), np.ones(4)])
    read_weights(network(), tmp_path / f"a{suffix}")
    for found, wanted in zip(network().weights, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(found), wanted)


KERNEL = "layers/conv2d/vars/0"
"""Of the convolution, in a file of weights."""
SECRET = b"root:x:0:0:" * 100


def link(link: Callable[[Path], object]) -> Callable[[h5py.File, Path], None]:
    def change(file: h5py.File, secret: Path) -> None:
        del file[KERNEL]
        file[KERNEL] = link(secret)

    return change


def outside(file: h5py.File, secret: Path) -> None:
    del file[KERNEL]
    file.create_dataset(KERNEL, (3, 3, 3, 4), "f4", external=[(str(secret), 0, 432)])


def virtual(file: h5py.File, secret: Path) -> None:
    del file[KERNEL]
    layout = h5py.VirtualLayout((3, 3, 3, 4), "f4")
    layout[...] = h5py.VirtualSource(str(secret), "a", (3, 3, 3, 4))
    file.create_virtual_dataset(KERNEL, layout)


def huge(file: h5py.File, secret: Path) -> None:
    del file[KERNEL]
    file.create_dataset(KERNEL, (1 << 40,), "f4", chunks=(1 << 20,), compression="gzip")


def of_other_shape(file: h5py.File, secret: Path) -> None:
    del file[KERNEL]
    file[KERNEL] = np.zeros((4, 3, 3, 3), np.float32)


def text(file: h5py.File, secret: Path) -> None:
    del file[KERNEL]
    file[KERNEL] = np.full((3, 3, 3, 4), "text", h5py.string_dtype())


def infinite(file: h5py.File, secret: Path) -> None:
    file[KERNEL][0, 0, 0, 0] = np.nan


DEEDS = {
    "a link out of the file": link(lambda secret: h5py.ExternalLink(str(secret), "/")),
    "a link inside the file": link(lambda secret: h5py.SoftLink("/layers/dense/vars/0")),
    "a link to itself": link(lambda secret: h5py.SoftLink(f"/{KERNEL}")),
    "numbers out of another file": outside,
    "numbers mapped from another file": virtual,
    "more numbers than memory": huge,
    "numbers of another shape": of_other_shape,
    "text": text,
    "numbers that are none": infinite,
}


@pytest.mark.parametrize("deed", DEEDS)
def test_weights_that_reach_elsewhere_or_do_not_fit_are_refused(deed: str, tmp_path: Path) -> None:
    secret, path = tmp_path / "secret", tmp_path / "a.weights.h5"
    secret.write_bytes(SECRET)
    path.write_bytes(sample(".weights.h5", tmp_path))
    with h5py.File(path, "r+") as file:
        DEEDS[deed](file, secret)
    with pytest.raises(ConfigurationError, match=r"encoder\.weights: .*a\.weights\.h5"):
        read_weights(network(), path)


def test_an_archive_of_weights_that_is_a_bomb_is_refused(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "a.keras", "w", ZIP_DEFLATED) as archive, archive.open("model.weights.h5", "w") as member:
        for _ in range(64):
            member.write(bytes(1 << 20))
    with pytest.raises(ConfigurationError, match=r"encoder\.weights: .*a\.keras"):
        read_weights(network(), tmp_path / "a.keras")


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("function", [exec, eval, open, io.open_code, getattr, __import__, pickle.loads])
def test_no_function_that_a_pickle_names_is_called(function: object, protocol: int, tmp_path: Path) -> None:
    data = pickle.dumps(Calls(function, f"open({str(tmp_path / 'witness')!r}, 'w')"), protocol)
    (tmp_path / "a.pth").write_bytes(data)
    with pytest.raises(pickle.UnpicklingError, match="not allowed"):
        read_torch_weights(tmp_path / "a.pth", hashlib.sha256(data).hexdigest())
    assert not (tmp_path / "witness").exists()


def test_a_file_that_never_ends_is_not_read_to_its_end() -> None:
    with pytest.raises(CaptioningError, match="not the expected weights file"):
        read_torch_weights(Path("/dev/zero"), "0" * 64)
