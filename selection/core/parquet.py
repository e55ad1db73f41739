"""Columns of Parquet files as arrays."""

from pathlib import Path
from typing import Any

import numpy as np

from selection.core.arrays import Array
from selection.core.optional import require

__all__ = ["column_names", "read_column"]


def column_names(name: str, path: Path) -> list[str]:
    """The columns of a file; ValueError where it is damaged. `name` says what it is for."""
    try:
        return list(require("pyarrow.parquet").read_schema(path).names)
    except Exception as error:  # pyarrow raises many types on damaged input
        raise _unreadable(name, path, error) from None


def read_column(name: str, path: Path, key: str) -> Array:
    """A column of numbers or strings, (n,), or of lists of equal length, (n, d), (n, A, d), ...

    Args:
        name: what it is for, in messages.
        path: the file.
        key: the column; of categories it gives the values.

    Raises:
        ValueError: a damaged file, no rows, a row without a value, lists of different lengths,
            values of another type.
    """
    try:
        column = require("pyarrow.parquet").read_table(path, columns=[key])[key]
    except Exception as error:  # pyarrow raises many types on damaged input
        raise _unreadable(name, path, error) from None
    where = f"{name} file {path}"
    if not _is_array(column.type):
        raise ValueError(
            f"{where}: column {key} is of type {column.type}; it must hold numbers, strings or "
            "lists of numbers"
        )
    if len(column) == 0:
        raise ValueError(f"{where}: column {key} has no rows")
    # Chunk by chunk: a whole column of lists may hold more values than its offsets can count.
    parts: list[Array] = []
    for chunk in column.chunks:
        if len(chunk):
            first = sum(len(part) for part in parts)
            known = parts[0].shape[1:] if parts else None
            parts.append(_values(chunk, _Place(where, key, first), known))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


class _Place:
    """Where in a file a chunk of rows is, for messages."""

    def __init__(self, file: str, column: str, first: int) -> None:
        self.file, self.column, self.first = file, column, first

    def no_value(self, row: int) -> ValueError:
        return ValueError(f"{self.file} has no value in row {self.first + row} of {self.name}")

    def uneven(self, row: int, found: int, wanted: int) -> ValueError:
        return ValueError(
            f"{self.file} has {found} values in a list of row {self.first + row} of {self.name}, "
            f"{wanted} in row 0; they must be as many"
        )

    @property
    def name(self) -> str:
        return f"column {self.column}"


def _is_array(kind: Any) -> bool:
    """Whether a type of Arrow's is that of numbers or strings, or of lists of them."""
    types = require("pyarrow.types")
    while True:
        if hasattr(kind, "storage_type"):  # an extension type, such as a tensor of fixed shape
            kind = kind.storage_type
        elif types.is_dictionary(kind) or _is_list(kind):
            kind = kind.value_type
        else:
            break
    tests = ("is_integer", "is_floating", "is_boolean", "is_string", "is_large_string")
    return any(getattr(types, test)(kind) for test in tests)


def _is_list(kind: Any) -> bool:
    types = require("pyarrow.types")
    return any(
        getattr(types, test)(kind) for test in ("is_list", "is_large_list", "is_fixed_size_list")
    )


def _values(chunk: Any, place: _Place, known: tuple[int, ...] | None) -> Array:
    """The rows of a chunk; `known` is the shape of the rows before it."""
    compute, shape = require("pyarrow.compute"), [len(chunk)]
    while True:
        if chunk.null_count:
            index = np.flatnonzero(chunk.is_null().to_numpy(zero_copy_only=False))[0]
            raise place.no_value(int(index) * shape[0] // len(chunk))
        if hasattr(chunk, "to_numpy_ndarray"):  # a tensor of fixed shape
            return np.asarray(chunk.to_numpy_ndarray())
        if hasattr(chunk, "storage"):
            chunk = chunk.storage
        if not _is_list(chunk.type):
            break
        lengths = np.asarray(compute.list_value_length(chunk))
        depth = len(shape) - 1
        wanted = int(lengths[0]) if known is None or depth >= len(known) else known[depth]
        if np.any(lengths != wanted):
            index = int(np.argmax(lengths != wanted))
            raise place.uneven(index * shape[0] // len(chunk), int(lengths[index]), wanted)
        if wanted == 0:
            raise ValueError(f"{place.file} has lists without values in {place.name}")
        shape.append(wanted)
        chunk = chunk.flatten()
    return np.asarray(chunk.to_numpy(zero_copy_only=False)).reshape(shape)


def _unreadable(name: str, path: Path, error: Exception) -> ValueError:
    return ValueError(f"{name} file {path} cannot be read as Parquet: {error}")
