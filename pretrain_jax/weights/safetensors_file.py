"""The safetensors format: 8 bytes length, a JSON header, the tensors' bytes one after the other.

Read and written here because the NumPy side of the library safetensors has no bfloat16.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from hardset.datafile import atomic_file
from pretrain_jax.weights.errors import WeightsError

__all__ = ["read_safetensors", "write_safetensors"]

DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
LONGEST_HEADER = 100_000_000  # the format's own limit, bytes
ALIGNMENT = 8


def read_safetensors(path: Path) -> dict[str, NDArray]:
    """The arrays of a safetensors file, read-only.

    Args:
        path: the file.

    Raises:
        WeightsError: a damaged file.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if not 2 <= size <= min(LONGEST_HEADER, path.stat().st_size - 8):
            raise WeightsError("damaged file: the header's length is wrong")
        try:
            header = json.loads(file.read(size))
        except (ValueError, RecursionError) as error:
            raise WeightsError(f"damaged file: the header is no JSON: {error}") from error
        if not isinstance(header, dict):
            raise WeightsError("damaged file: the header is no table")
        header.pop("__metadata__", None)
        data = file.read()
    return {name: _view(name, entry, data) for name, entry in header.items()}


def _view(name: str, entry: Any, data: bytes) -> NDArray:
    """One array of the file's data."""
    match entry:
        case {"dtype": str() as kind, "shape": [*shape], "data_offsets": [int() as a, int() as b]}:
            pass
        case _:
            raise WeightsError(f"damaged file: the entry of {name!r} is incomplete")
    if kind not in DTYPES:
        raise WeightsError(f"{name!r} has the type {kind}; read are {', '.join(DTYPES)}")
    if not all(type(n) is int and n >= 0 for n in shape):
        raise WeightsError(f"damaged file: {name!r} has the shape {shape}")
    dtype = DTYPES[kind]
    if not 0 <= a <= b <= len(data) or math.prod(shape) * dtype.itemsize != b - a:
        raise WeightsError(
            f"damaged file: {name!r} of shape {tuple(shape)} and type {kind} does not fill the "
            f"bytes {a} to {b} of {len(data)}"
        )
    return np.frombuffer(data, dtype, math.prod(shape), a).reshape(shape)


def write_safetensors(
    path: Path, arrays: Mapping[str, NDArray], metadata: Mapping[str, str] | None = None
) -> None:
    """Write arrays as a safetensors file, atomically.

    Args:
        path: the file; replaced if it exists.
        arrays: name -> array.
        metadata: strings about the file; the library transformers wants format = "pt".

    Raises:
        ValueError: an array of a type that the format does not have.
    """
    kinds = {dtype: kind for kind, dtype in DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, array in arrays.items():
        if array.dtype not in kinds:
            raise ValueError(f"{name} has the type {array.dtype}; safetensors has {list(DTYPES)}")
        begin, end = end, end + array.nbytes
        header[name] = {
            "dtype": kinds[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in arrays.values():
            file.write(np.ascontiguousarray(array).tobytes())
