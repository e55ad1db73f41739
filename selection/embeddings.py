"""Reads tables of features, which may be larger than memory.

Such a table is a Parquet file, or a folder of them as `python -m pretrain_jax embed` writes it. It
has the column `features`, and may have `id`, `group` and `label`.
"""

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hardset.arrays import LIMIT_BYTES, LIMIT_RATIO
from hardset.checks import require
from hardset.cli import one_line
from hardset.folder import CLAIM, MANIFEST, read_manifest
from hardset.listing import check_sealed
from hardset.seal import is_sealed
from selection.arrays import Array, Integers, on_disk

FEATURES = "features"
# The column that stands for an option whose file names none; for all others it is the features.
COLUMNS = {"ids": "id", "groups": "group", "labels": "label"}
ROWS = 1 << 16  # that are read at once, at most
VALUES = 1 << 22  # numbers that are read at once, at most


class Embeddings:
    """Reads a table of features part by part.

    Args:
        path: a Parquet file, or a folder of them in the order of their names.

    Attributes:
        path: the same.
        columns: names of the columns, which all parts have.

    Raises:
        ValueError: there is no part, one is damaged or has other columns, or the stage that wrote
            them is not finished.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._parts = parts_of(self.path)
        if self.path.is_dir() and ((self.path / CLAIM).exists() or (self.path / MANIFEST).exists()):
            read_manifest(self.path, "embed")
        names = []
        for part in self._parts:
            if is_sealed(part):
                check_sealed(part)
            names.append(tuple(self._opened(part).schema_arrow.names))
            if FEATURES not in names[0]:
                raise ValueError(
                    f"{self.path} is a folder whose files have no column {FEATURES!r}, as "
                    "python -m pretrain_jax embed writes it; name a file"
                )
            if names[-1] != names[0]:
                raise ValueError(
                    f"{part} has the columns {', '.join(names[-1])}, and {self._parts[0]} has "
                    f"{', '.join(names[0])}; the parts of a table have the same"
                )
        self.columns = names[0]

    @classmethod
    def at(cls, path: Path) -> "Embeddings | None":
        """Read a folder, or a file whose column of features holds lists of numbers.

        It is None for other files.
        """
        if path.is_dir():
            return cls(path)
        if path.suffix != ".parquet" or not path.is_file():
            return None
        try:
            schema = require("pyarrow.parquet").read_schema(path)
        except Exception:  # whoever reads it as a plain file says what is wrong
            return None
        if FEATURES not in schema.names:
            return None
        kind, types = schema.field(FEATURES).type, require("pyarrow.types")
        numbers = _is_list(kind) and (
            types.is_floating(kind.value_type) or types.is_integer(kind.value_type)
        )
        return cls(path) if numbers else None

    def is_text(self, key: str) -> bool:
        """Say whether a column holds texts."""
        self._check_column(key)
        kind, types = self._kind(key), require("pyarrow.types")
        return bool(types.is_string(kind) or types.is_large_string(kind))

    @cached_property
    def rows(self) -> int:
        """Count the rows of all parts."""
        return sum(self._opened(part).metadata.num_rows for part in self._parts)

    def array(self, key: str) -> Array:
        """Read a column of numbers, texts, or lists of equal length.

        Lists and texts are copied to a temporary file without a name, which is memory-mapped: rows
        of half precision as single precision, in which methods compute.

        Args:
            key: name of the column.

        Returns:
            Shape (n,) or (n, d).

        Raises:
            ValueError: no such column, no rows, a row without a value, lists of different lengths,
                or something else than numbers, texts and lists of numbers.
        """
        if self.is_text(key):
            return self._texts(key)
        if _is_list(self._kind(key)):
            return self._rows_of_lists(key)
        parts = [np.asarray(one.to_numpy(zero_copy_only=False)) for one in self._batches(key)]
        return np.concatenate(parts)

    def codes(self, key: str) -> tuple[Integers, Array]:
        """Number the texts of a column.

        A text's number is its place among the distinct ones in sorted order.

        Returns:
            The numbers, shape (n,), and the distinct texts.
        """
        self._check_column(key)
        known: dict[str, int] = {}
        numbers = np.empty(self.rows, np.int64)
        place = 0
        for batch in self._batches(key):
            encoded = batch if hasattr(batch, "dictionary") else batch.dictionary_encode()
            here = [known.setdefault(one, len(known)) for one in encoded.dictionary.to_pylist()]
            own = np.asarray(encoded.indices.to_numpy(zero_copy_only=False))
            numbers[place : place + len(own)] = np.array(here, np.int64)[own]
            place += len(own)
        names = np.array(list(known), np.str_)
        order = np.argsort(names)
        ranks = np.empty(len(names), np.int64)
        ranks[order] = np.arange(len(names))
        return ranks[numbers], names[order]

    def labels(self, key: str) -> tuple[Integers, Array]:
        """Number the labels of the rows as `codes` does.

        Raises:
            ValueError: a row has an empty label.
        """
        numbers, names = self.codes(key)
        if names[0] == "":
            none = numbers == 0
            raise ValueError(
                f"{self.path} has no label in row {int(np.argmax(none))} of column {key} "
                f"({int(none.sum())} such row(s) of {self.rows}); leave those images out"
            )
        return numbers, names

    def groups(self, key: str) -> tuple[Integers, Array | None]:
        """Number the groups of the rows.

        A row whose group is empty is one by itself.

        Returns:
            The numbers, shape (n,), and the groups' names in their order; None instead of names
            where rows are by themselves.
        """
        numbers, names = self.codes(key)
        if names[0] != "":
            return numbers, names
        alone = np.flatnonzero(numbers == 0)
        numbers[alone] = len(names) + np.arange(len(alone))
        return numbers, None

    def _rows_of_lists(self, key: str) -> Array:
        width = len(next(self._batches(key))[0])
        if width == 0:
            raise ValueError(f"{self.path} has lists without values in column {key}")
        kind = _wide(self._kind(key).value_type.to_pandas_dtype())
        place = 0

        def values(batch: Any) -> Array:
            nonlocal place
            flat = batch.flatten()
            if flat.null_count:
                row = int(np.argmax(flat.is_null().to_numpy(zero_copy_only=False))) // width
                raise ValueError(f"{self.path} has no value in row {place + row} of column {key}")
            compute = require("pyarrow.compute")
            lengths = np.asarray(compute.list_value_length(batch).to_numpy(zero_copy_only=False))
            if np.any(lengths != width):
                row = int(np.argmax(lengths != width))
                raise ValueError(
                    f"{self.path} has {lengths[row]} values in a list of row {place + row} of "
                    f"column {key}, {width} in row 0; they must be as many"
                )
            place += len(batch)
            return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(len(batch), width)

        return self._mapped(key, kind, (width,), values)

    def _texts(self, key: str) -> Array:
        compute = require("pyarrow.compute")
        longest = max(
            compute.max(compute.utf8_length(_plain(one))).as_py() for one in self._batches(key)
        )
        kind = np.dtype(f"U{max(longest, 1)}")
        return self._mapped(key, kind, (), lambda one: np.array(_plain(one).to_pylist(), kind))

    def _mapped(
        self, key: str, kind: np.dtype, shape: tuple[int, ...], values: Callable[[Any], Array]
    ) -> Array:
        """Copy a column to a temporary file without a name, and map it."""
        needed = self.rows * kind.itemsize * int(np.prod(shape))
        limit = max(LIMIT_BYTES, LIMIT_RATIO * sum(part.stat().st_size for part in self._parts))
        if needed > limit:
            raise ValueError(
                f"{self.path}: column {key} would need {needed} bytes; at most {limit} are taken, "
                f"{LIMIT_BYTES} or {LIMIT_RATIO} times the file"
            )
        return on_disk((values(one) for one in self._batches(key)), kind, (self.rows, *shape))

    def _batches(self, key: str) -> Iterator[Any]:
        """Read a column, a batch of rows at a time; every row has a value."""
        place = 0
        for part in self._parts:
            file = self._opened(part)
            count = max(file.metadata.num_rows, 1)
            values = sum(
                group.column(one).num_values
                for group in map(file.metadata.row_group, range(file.metadata.num_row_groups))
                for one in range(group.num_columns)
                if group.column(one).path_in_schema.split(".")[0] == key
            )
            size = max(1, min(ROWS, VALUES * count // max(values, 1)))
            try:
                for batch in file.iter_batches(size, columns=[key]):
                    column = batch.column(0)
                    if column.null_count:
                        row = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
                        raise ValueError(
                            f"{self.path} has no value in row {place + row} of column {key}"
                        )
                    place += len(column)
                    if len(column):
                        yield column
            except OSError as error:
                raise _unreadable(part, error) from None

    def _kind(self, key: str) -> Any:
        """Return Arrow's type of a column, or of its values where they are numbered."""
        kind = self._opened(self._parts[0]).schema_arrow.field(key).type
        return kind.value_type if require("pyarrow.types").is_dictionary(kind) else kind

    def _check_column(self, key: str) -> None:
        if key not in self.columns:
            raise ValueError(f"{self.path} has no column {key!r}; it has {', '.join(self.columns)}")
        if not self.rows:
            raise ValueError(f"{self.path}: column {key} has no rows")

    def _opened(self, part: Path) -> Any:
        try:
            return require("pyarrow.parquet").ParquetFile(part)
        except Exception as error:  # pyarrow raises many types on damaged input
            raise _unreadable(part, error) from None


def parts_of(path: Path) -> list[Path]:
    """List the files of a table.

    Raises:
        ValueError: the folder holds none, or fewer than their names say.
    """
    if not path.is_dir():
        return [path]
    parts = sorted(one for one in path.glob("*.parquet") if one.is_file())
    if not parts:
        raise ValueError(f"{path} is a folder without a .parquet file")
    counts = {one.stem.partition("-of-")[2] for one in parts} - {""}
    if counts and counts != {f"{len(parts):05d}"}:
        raise ValueError(
            f"{path} holds {len(parts)} part(s) of {' and '.join(sorted(counts))}; put the missing "
            "ones back, or write it again"
        )
    return parts


def _plain(column: Any) -> Any:
    return column.dictionary_decode() if hasattr(column, "dictionary") else column


def _is_list(kind: Any) -> bool:
    types = require("pyarrow.types")
    tests = ("is_list", "is_large_list", "is_fixed_size_list")
    return any(getattr(types, test)(kind) for test in tests)


def _wide(kind: Any) -> np.dtype:
    """Return the precision in which numbers are read.

    It is that of `real_numbers`.
    """
    single = np.issubdtype(kind, np.floating) and np.dtype(kind).itemsize < 8
    return np.dtype(np.float32 if single else np.float64)


def _unreadable(part: Path, error: Exception) -> ValueError:
    return ValueError(f"{part} cannot be read as Parquet: {one_line(error, 200)}")
