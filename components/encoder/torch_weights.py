"""Arrays out of a legacy PyTorch weights file, without PyTorch.

The one exception to this project's rule against pickle, and why it is safe: the file's SHA-256 is checked
before a byte is parsed; the unpickler imports nothing that the file names, it maps four known names to stubs
of this module and refuses every other; NumPy checks the bounds of each array. Nothing in it is executed.

Format (`torch.save` before PyTorch 1.6): five pickles (magic number, protocol version, system information,
state dict with storages as persistent ids, keys of the storages), then for each key an int64 count and data.
"""

import hashlib
import io
import math
import pickle
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from components.errors import CaptioningError

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_PROTOCOL_VERSION = 1001
_MOST_BYTES = 1 << 26
_MALFORMED = (
    pickle.UnpicklingError,
    struct.error,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)


def read_torch_weights(path: Path, sha256: str) -> dict[str, np.ndarray]:
    """Return the state dict in `path`: array by parameter name, in the file's shapes (convolutions are OIHW).

    Raises CaptioningError when the file cannot be read, when its digest is not `sha256` (nothing is parsed
    then), or when it is not a state dict of float32 and int64 tensors in the legacy format.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES)  # of a longer file the digest is wrong
    except OSError as error:
        raise CaptioningError(f"cannot read weights {path}: {error.strerror}; reinstall them") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise CaptioningError(
            f"{path} is not the expected weights file: its SHA-256 is {found}, expected {sha256}; "
            "it is damaged or another version, reinstall the package or file that provides it"
        )
    try:
        return _parse(data)
    except _MALFORMED as error:
        raise CaptioningError(
            f"{path} has the expected digest but is not a readable legacy PyTorch state dict ({error}); "
            "give a file written by torch.save before PyTorch 1.6, with that file's digest"
        ) from error


class _Storage(NamedTuple):
    key: str
    dtype: str


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int  # elements, as are the strides
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _StateDict(dict[str, _Tensor]):
    def __setstate__(self, state: object) -> None:
        """Ignore the module versions that PyTorch attaches."""


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


_STUBS: dict[str, object] = {
    "collections.OrderedDict": _StateDict,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch.FloatStorage": "<f4",
    "torch.LongStorage": "<i8",
}


class _AllowListedUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        name = f"{module_name}.{global_name}"
        if name not in _STUBS:
            raise pickle.UnpicklingError(f"it names {name}, which is not allowed")
        return _STUBS[name]

    def persistent_load(self, pid: Any) -> _Storage:
        _, dtype, key, _, _, view = pid
        if view is not None:
            raise pickle.UnpicklingError(f"storage {key} is a view of another")
        return _Storage(key, dtype)


def _parse(data: bytes) -> dict[str, np.ndarray]:
    stream = io.BytesIO(data)
    magic, version, system, state, keys = (_AllowListedUnpickler(stream).load() for _ in range(5))
    if (magic, version, system["little_endian"]) != (_MAGIC_NUMBER, _PROTOCOL_VERSION, True):
        raise ValueError("wrong magic number, protocol version or byte order")
    dtypes = {tensor.storage.key: np.dtype(tensor.storage.dtype) for tensor in state.values()}
    storages = {}
    for key in keys:
        (count,) = struct.unpack("<q", stream.read(8))
        size = count * dtypes[key].itemsize
        storages[key] = stream.read(size)
        if len(storages[key]) != size:
            raise EOFError(f"storage {key} ends after {len(storages[key])} of {size} bytes")
    return {name: _array(tensor, storages[tensor.storage.key]) for name, tensor in state.items()}


def _array(tensor: _Tensor, storage: bytes) -> np.ndarray:
    dtype = np.dtype(tensor.storage.dtype)
    strides = [stride * dtype.itemsize for stride in tensor.strides]
    if math.prod(tensor.shape) * dtype.itemsize > len(storage):  # strides of 0 would let few bytes be a huge array
        raise ValueError(f"a tensor of shape {tensor.shape} has more numbers than its storage {tensor.storage.key}")
    view: np.ndarray = np.ndarray(tensor.shape, dtype, storage, tensor.offset * dtype.itemsize, strides)
    return view.copy()
