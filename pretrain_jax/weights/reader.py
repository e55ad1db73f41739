"""Reads the arrays of a checkpoint of another library, whatever its format."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from hardset.arrays import load_arrays
from hardset.cli import one_line, printable
from hardset.datafile import atomic_file
from hardset.seal import BLANK_SEAL, check_seal, seal_file
from pretrain_jax.weights.torch_file import Tensor, WeightsError, names, read_torch_file

# Types that are read and written; the format has further ones.
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
LONGEST_HEADER = 1 << 24  # bytes, some 100,000 arrays; JSON takes many times that in memory
SEAL = "seal"  # its name in the metadata
ALIGNMENT = 8
LONGEST_MESSAGE = 1000  # characters
# Where training checkpoints keep the weights, beside optimiser and arguments.
ENTRIES = ("model", "state_dict", "model_state_dict")


def read_safetensors(path: Path) -> dict[str, NDArray]:
    """Read the arrays of a safetensors file.

    A seal in its metadata is checked.

    Args:
        path: the file.

    Raises:
        WeightsError: a damaged file, or one with a type that is not read.
        SealError: a file of ours that has changed.
    """
    from safetensors import SafetensorError, safe_open

    header = _header(path)
    metadata = header.pop("__metadata__", None)
    check_seal(path, required=isinstance(metadata, dict) and SEAL in metadata)
    for name, entry in header.items():
        kind = entry.get("dtype") if isinstance(entry, dict) else None
        if isinstance(kind, str) and kind not in DTYPES:
            raise WeightsError(
                f"{one_line(name)!r} has the type {one_line(kind)}; read are {', '.join(DTYPES)}"
            )
    try:
        with safe_open(path, framework="numpy") as file:
            arrays: dict[str, NDArray] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        # Its sentences begin with "Error while deserializing header: invalid JSON in header: ".
        told = str(error).rpartition("header: ")[2]
        raise WeightsError(f"damaged file: {one_line(told, LONGEST_MESSAGE)}") from None
    for array in arrays.values():
        array.flags.writeable = False
    return arrays


def _header(path: Path) -> dict[str, Any]:
    """Read the header of a safetensors file.

    Its length must be one that can be parsed. Every name must stand once: of two the library takes
    the last one without a word.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if not 2 <= size <= min(LONGEST_HEADER, path.stat().st_size - 8):
            raise WeightsError("damaged file: the header's length is wrong")
        try:
            header = json.loads(file.read(size), object_pairs_hook=_table)
        except (ValueError, RecursionError) as error:
            raise WeightsError(f"damaged file: the header is no JSON: {one_line(error)}") from None
    if not isinstance(header, dict):
        raise WeightsError("damaged file: the header is no table")
    return header


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object in which no name stands twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands in it twice")
    return found


def write_safetensors(
    path: Path, arrays: Mapping[str, NDArray], metadata: Mapping[str, str] | None = None
) -> None:
    """Write arrays as a safetensors file, atomically.

    A seal stands in its metadata.

    The library writes metadata in an order that differs from call to call, so that neither a seal
    at the beginning nor the same bytes twice could be had from it.

    Args:
        path: the file; replaced if it exists.
        arrays: name -> array.
        metadata: strings about the file; the library transformers wants format = "pt".

    Raises:
        ValueError: an array of a type that the format does not have.
    """
    kinds = {dtype: kind for kind, dtype in DTYPES.items()}
    # The metadata stand first in the file, where a seal is looked for.
    header: dict[str, Any] = {"__metadata__": {SEAL: BLANK_SEAL, **(metadata or {})}}
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
    with atomic_file(path) as temporary:
        with temporary.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for array in arrays.values():
                file.write(np.ascontiguousarray(array).tobytes())
        seal_file(temporary)


def read_state(path: str | Path) -> dict[str, NDArray]:
    """Read the named arrays of a checkpoint.

    Nothing in the file is executed.

    Args:
        path: a file of torch.save (.pth, .pt, .bin; zip or legacy), .safetensors or .npz. Of a
            training checkpoint the entry "model", "state_dict" or "model_state_dict" is read.

    Returns:
        name -> read-only array, in the file's types.

    Raises:
        WeightsError: no such file, a damaged one, one that holds no arrays or more than data.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            state = read_safetensors(path)
        elif path.suffix == ".npz":
            state = load_arrays(path)
        else:
            content, read = read_torch_file(path)
            state = {name: read(tensor) for name, tensor in _tensors(content).items()}
    except MemoryError:
        raise WeightsError(f"{path}: does not fit into memory") from None
    except (OSError, ValueError, RecursionError, OverflowError) as error:
        sentence = printable(str(error).removeprefix(str(path)).lstrip(": "), LONGEST_MESSAGE)
        raise WeightsError(f"{path}: {sentence}") from None
    if not state:
        raise WeightsError(f"{path}: holds no arrays")
    return state


def _tensors(content: Any) -> Mapping[str, Tensor]:
    """Find the table of tensors in what torch.save was given."""
    if not isinstance(content, dict):
        raise WeightsError(f"holds a {type(content).__name__}, not a table of tensors")
    entry = next(
        (content[name] for name in ENTRIES if isinstance(content.get(name), dict)), content
    )
    other = [name for name, value in entry.items() if not isinstance(value, Tensor)]
    if other or not entry:
        raise WeightsError(
            f"no table of tensors; the entries {names(map(str, other))} are something else, "
            f"and none is called {', '.join(ENTRIES)}"
        )
    found = {str(name): value for name, value in entry.items()}
    if len(found) != len(entry):
        raise WeightsError("two tensors have one name, once as a text and once as a number")
    return found
