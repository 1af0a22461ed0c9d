"""Arrays out of a legacy PyTorch weights file, without PyTorch.

The one exception to this project's rule against pickle, and why it is safe: the file's SHA-256 is checked
before a byte is parsed, and the unpickler imports nothing that the file names: it maps four known names to stubs
of this module and refuses every other. Nothing in it is executed.

Format (`torch.save` before PyTorch 1.6): five pickles (magic number, protocol version, system information,
state dict with storages as persistent ids, keys of the storages), then for each key an int64 count and data.
"""

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from components.errors import CaptioningError

_MOST_BYTES = 1 << 26


def read_torch_weights(path: Path, sha256: str) -> dict[str, np.ndarray]:
    """Return the state dict in `path`: array by parameter name, in the file's shapes (convolutions are OIHW).

    `sha256` is the digest of a whole file in the format above: what else such a file could hold is not looked for.
    Raises CaptioningError when the file cannot be read, or when its digest is another (nothing is parsed then).
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
    stream = io.BytesIO(data)
    *_, state, keys = (_AllowListedUnpickler(stream).load() for _ in range(5))
    dtypes = {tensor.key: tensor.dtype for tensor in state.values()}
    storages = {}
    for key in keys:
        count = int.from_bytes(stream.read(8), "little")
        storages[key] = stream.read(count * np.dtype(dtypes[key]).itemsize)
    return {name: tensor.array(storages[tensor.key]) for name, tensor in state.items()}


class _Tensor(NamedTuple):
    dtype: str
    key: str
    offset: int  # elements, as are the strides
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, storage: bytes) -> np.ndarray:
        size = np.dtype(self.dtype).itemsize
        strides = [stride * size for stride in self.strides]
        return np.ndarray(self.shape, self.dtype, storage, self.offset * size, strides).copy()


class _StateDict(dict[str, _Tensor]):
    def __setstate__(self, state: object) -> None:
        """Ignore the module versions that PyTorch attaches."""


_STUBS: dict[str, object] = {
    "collections.OrderedDict": _StateDict,
    "torch._utils._rebuild_tensor_v2": lambda storage, *place: _Tensor(*storage, *place[:3]),
    "torch.FloatStorage": "<f4",
    "torch.LongStorage": "<i8",
}


class _AllowListedUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        name = f"{module_name}.{global_name}"
        if name not in _STUBS:
            raise pickle.UnpicklingError(f"it names {name}, which is not allowed")
        return _STUBS[name]

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        _, dtype, key, *_ = pid
        return dtype, key
