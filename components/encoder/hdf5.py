"""A file of HDF5 read through once by a process of its own: from some damaged ones HDF5 never returns, or crashes.

`python -m components.encoder.hdf5 FILE SECONDS`
"""

import contextlib
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py

from components.errors import ConfigurationError

SECONDS = 10
"""Of the processor's time: a gigabyte of weights takes half a one, however slow the disk is."""


def require_harmless(path: Path, seconds: int = SECONDS) -> None:
    """Raises `ConfigurationError` when HDF5 does not get through the file. Whether weights are in it is not asked."""
    command = [sys.executable, "-P", "-m", __name__, str(path), str(seconds)]
    ended = -subprocess.run(command, capture_output=True, check=False).returncode
    if ended > 0:
        known = ended == signal.SIGPROF
        fault = f"was not through it after {seconds} seconds" if known else f"crashes on it (signal {ended})"
        raise ConfigurationError(
            f"encoder.weights: {path} is damaged: HDF5 {fault}. Give the file that Keras wrote for the encoder"
        )


def read_through(path: Path) -> None:
    """Reads every attribute, and all numbers that are in the file itself and take no more room than it has."""

    def look(_: str, item: h5py.Group | h5py.Dataset) -> None:
        for attribute in list(item.attrs):
            with contextlib.suppress(Exception):
                item.attrs[attribute]
        with contextlib.suppress(Exception):
            if isinstance(item, h5py.Dataset) and not (item.external or item.is_virtual) and item.nbytes <= size:
                item[...]

    size = path.stat().st_size
    with contextlib.ExitStack() as stack:
        archive = stack.enter_context(zipfile.ZipFile(path)) if zipfile.is_zipfile(path) else None
        inside = stack.enter_context(archive.open("model.weights.h5")) if archive else path
        file = stack.enter_context(h5py.File(inside))
        look("/", file)
        file.visititems(look)


if __name__ == "__main__":
    # Set here, it also ends this process where the one that waited for it is gone.
    signal.setitimer(signal.ITIMER_PROF, int(sys.argv[2]))
    with contextlib.suppress(Exception):  # what HDF5 tells is no harm: Keras tells it better
        read_through(Path(sys.argv[1]))
