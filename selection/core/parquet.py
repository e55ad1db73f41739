"""Columns of Parquet files as arrays."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from hardset.arrays import LIMIT_BYTES, LIMIT_RATIO
from hardset.cli import one_line
from selection.core.arrays import Array
from selection.core.optional import require

SHOWN, LONGEST = 20, 100  # names in a message, and characters of each
WIDEST, CHARACTER = 8, 4  # bytes of a number, and of a letter in NumPy's texts of one length

__all__ = ["column_names", "listed", "matching", "read_column", "read_columns"]


def column_names(name: str, path: Path) -> list[str]:
    """The columns of a file; ValueError where it is damaged. `name` says what it is for."""
    try:
        return list(require("pyarrow.parquet").read_schema(path).names)
    except Exception as error:  # pyarrow raises many types on damaged input
        raise _unreadable(name, path, error) from None


def listed(names: Sequence[str]) -> str:
    """Names for a message, not endlessly many."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(one_line(name, LONGEST) for name in names[:SHOWN]) + more


def matching(path: Path, key: str, known: Sequence[str]) -> list[str]:
    """The columns that a key such as "a,b" or "x*" names, in its order; empty where it is neither.

    Raises:
        ValueError: a part that names no column, or one that names a column again.
    """
    parts = key.split(",")
    if len(parts) == 1 and not set(key) & set("*?["):
        return []
    found: list[str] = []
    for part in parts:
        own = [part] if part in known else [one for one in known if fnmatchcase(one, part)]
        if not own:
            raise ValueError(f"{path} has no column {part!r}; it has {listed(known)}")
        for one in own:
            if one in found:
                raise ValueError(f"{path}:{key} names the column {one} twice")
            found.append(one)
    return found


def read_columns(name: str, path: Path, keys: Sequence[str]) -> Array:
    """Columns of numbers side by side, shape (n, number of columns); see `read_column`.

    Raises:
        ValueError: a column that holds anything else than one number a row.
    """
    columns = []
    for key, column in _read(name, path, keys).items():
        values = _array(column, f"{name} file {path}", key)
        if values.ndim != 1 or values.dtype.kind not in "biuf":
            raise ValueError(
                f"{name} file {path}: column {key} does not hold one number a row; only such "
                "columns are joined"
            )
        columns.append(values)
    return np.stack(columns, axis=1)


def read_column(name: str, path: Path, key: str) -> Array:
    """A column of numbers or strings, (n,), or of lists of equal length, (n, d), (n, A, d), ...

    Args:
        name: what it is for, in messages.
        path: the file.
        key: the column; of categories it gives the values.

    Raises:
        ValueError: a damaged file, no rows, a row without a value, lists of different lengths,
            values of another type, more bytes than a file of that size may unpack to.
    """
    return _array(_read(name, path, [key])[key], f"{name} file {path}", key)


def _read(name: str, path: Path, keys: Sequence[str]) -> dict[str, Any]:
    """Columns as Arrow has them, where they do not unpack to more than is allowed."""
    limit = max(LIMIT_BYTES, LIMIT_RATIO * path.stat().st_size)
    try:
        numbers = _numbers(require("pyarrow.parquet").read_metadata(path), keys)
        _check_size(keys, WIDEST * numbers, limit)
        table = require("pyarrow.parquet").read_table(path, columns=list(keys))
        columns = {key: table[key] for key in keys}
        _check_size(
            keys, sum(CHARACTER * len(one) * _longest(one) for one in columns.values()), limit
        )
    except Exception as error:  # pyarrow raises many types on damaged input
        raise _unreadable(name, path, error) from None
    return columns


def _array(column: Any, where: str, key: str) -> Array:
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


def _numbers(metadata: Any, keys: Sequence[str]) -> int:
    """How many values columns hold, at the bottom of their lists."""
    tops, found = set(keys), 0
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            leaf = column.path_in_schema
            if leaf in tops or _heads(leaf) & tops:
                found += column.num_values
    return found


def _heads(leaf: str) -> set[str]:
    """What may be the column of a leaf "column.list.element": all that ends before a point."""
    parts = leaf.split(".")
    return {".".join(parts[:count]) for count in range(1, len(parts))}


def _longest(column: Any) -> int:
    """Bytes of the longest string of a column, 0 where it holds none."""
    types, compute = require("pyarrow.types"), require("pyarrow.compute")
    longest = 0
    for chunk in column.chunks:
        texts = chunk.dictionary if types.is_dictionary(chunk.type) else chunk
        if types.is_string(texts.type) or types.is_large_string(texts.type):
            own = compute.max(compute.binary_length(texts)).as_py()
            longest = max(longest, own or 0)
    return longest


def _check_size(keys: Sequence[str], needed: int, limit: int) -> None:
    if needed > limit:
        raise ValueError(
            f"{listed(keys)} would need {needed} bytes of memory; at most {limit} are taken, "
            f"{LIMIT_BYTES} or {LIMIT_RATIO} times the file"
        )


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
    return ValueError(f"{name} file {path} cannot be read as Parquet: {one_line(error, 200)}")
