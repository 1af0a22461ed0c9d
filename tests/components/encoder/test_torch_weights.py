"""The reader of the legacy PyTorch weights file; that it runs nothing is in `tests/hostile/test_weights.py`."""

import hashlib
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from components.encoder.torch_weights import read_torch_weights
from components.errors import CaptioningError

HEADER = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
ORDERED_DICT = b"ccollections\nOrderedDict\n"


def tensor_pickle(key: int, array: np.ndarray) -> bytes:
    """Return a tensor's opcodes: a call of _rebuild_tensor_v2 on a storage given as a persistent id."""
    kind = {"float32": "Float", "int64": "Long"}[array.dtype.name]
    shape = "".join(f"I{n}\n" for n in array.shape)
    strides = "".join(f"I{n // array.itemsize}\n" for n in array.strides)
    storage = f"(Vstorage\nctorch\n{kind}Storage\nV{key}\nVcpu\nI{array.size}\nNtQ"
    return (
        f"ctorch._utils\n_rebuild_tensor_v2\n({storage}I0\n({shape}t({strides}tI00\n".encode() + ORDERED_DICT + b")RtR"
    )


def legacy_parts(state: dict[str, np.ndarray]) -> list[bytes]:
    """Return the file `torch.save` wrote for `state` as its five pickles and one part a storage."""
    items = b"".join(f"V{name}\n".encode() + tensor_pickle(i, a) + b"s" for i, (name, a) in enumerate(state.items()))
    metadata = b"}V_metadata\n" + ORDERED_DICT + b")Rsb"
    keys = pickle.dumps([str(i) for i in range(len(state))], 2)
    storages = [struct.pack("<q", a.size) + a.tobytes(order="A") for a in state.values()]
    return [*HEADER, ORDERED_DICT + b")R" + items + metadata + b".", keys, *storages]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights") / "weights.pth"


ARRAYS = hnp.arrays(st.sampled_from([np.float32, np.int64]), hnp.array_shapes(min_dims=0, max_dims=4, max_side=4))


@given(array=ARRAYS, transposed=st.booleans())
def test_arrays_come_back_bit_for_bit_whatever_their_strides(path: Path, array: np.ndarray, transposed: bool) -> None:
    array = array.T if transposed else array
    data = b"".join(legacy_parts({"conv.weight": array, "count": np.array(7)}))
    path.write_bytes(data)
    weights = read_torch_weights(path, hashlib.sha256(data).hexdigest())
    assert list(weights) == ["conv.weight", "count"]
    assert weights["conv.weight"].dtype == array.dtype
    np.testing.assert_array_equal(weights["conv.weight"], array)
    assert weights["count"] == 7


def test_a_file_with_another_digest_is_refused_before_parsing(path: Path) -> None:
    path.write_bytes(b"not a pickle at all")
    with pytest.raises(CaptioningError, match="SHA-256") as error:
        read_torch_weights(path, "0" * 64)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    assert all(part in str(error.value) for part in (str(path), "0" * 64, found, "reinstall"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CaptioningError, match=r"gone\.pth"):
        read_torch_weights(tmp_path / "gone.pth", "0" * 64)
