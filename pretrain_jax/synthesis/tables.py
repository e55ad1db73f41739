"""Writes and reads tables as Parquet shards.

A shard is written whole or not at all, and rows are read in batches.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_integer
from hardset.cli import printable
from hardset.compilation import compiled_seconds
from hardset.datafile import atomic_file, write_text_atomic
from hardset.folder import remedy
from hardset.listing import check_sealed, read_record, write_record
from hardset.progress import bar
from hardset.seal import BLANK_SEAL, SealError, seal_file
from pretrain_jax.data.skipping import SKIPPED_NAME, left_out

Columns = Mapping[str, Any]
MOST_SHARDS = 99_999
ROW_GROUP = 1 << 16
BATCH = 1 << 14
ROWS_OF_SHARD = 5000
SHOWN = 3  # of them in the notes


@dataclass
class Logged:
    """Counts what went into a shard.

    It is written beside the shard, and filled while the shard's rows are made.

    Attributes:
        counts: numbers, summed over shards.
        notes: sentences.
        seconds: of work on the shard, without compilation.
        compile_seconds: of tracing and compiling meanwhile.
        skipped: a sentence on every image that was left out.
    """

    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    compile_seconds: float = 0.0
    skipped: list[str] = field(default_factory=list)

    def add(self, name: str, count: int = 1) -> None:
        """Add to a count."""
        self.counts[name] = self.counts.get(name, 0) + count

    def skip(self, reason: str, name: str = "unreadable") -> None:
        """Count an image that is left out, and record why.

        The reason is a line of `pretrain_jax.data.skipping`.
        """
        self.add(name)
        self.skipped.append(reason)

    def write_skipped(self, folder: Path) -> list[str]:
        """Write skipped.txt, a line for each image that was left out.

        It returns notes on them.
        """
        if not self.skipped:
            return []
        lines = [" ".join(printable(one).split()) for one in self.skipped]
        write_text_atomic(folder / SKIPPED_NAME, "".join(f"{line}\n" for line in lines))
        more = len(lines) - SHOWN
        rest = [f"{more} more images that were left out are in {SKIPPED_NAME}"] if more > 0 else []
        return [left_out(lines), *lines[:SHOWN], *rest]


def shard_range(rows: int, shard: int, shards: int) -> tuple[int, int]:
    """Return first row and end of a shard.

    Shards are contiguous, and their sizes differ by one at most.
    """
    return rows * shard // shards, rows * (shard + 1) // shards


def check_shards(shard: int | None, shards: int | None) -> None:
    """Check a number of shards and one of them.

    Args:
        shard: 0 ... shards - 1, or None for all.
        shards: how many there are; None where the stage chooses.

    Raises:
        ValueError: an argument outside its range.
    """
    if shards is not None:
        check_integer("shards", shards, 1, MOST_SHARDS)
    if shard is not None:
        check_integer("shard", shard, 0, (MOST_SHARDS if shards is None else shards) - 1)


def missing_shards(folder: Path, shards: int, name: str = "part") -> list[int]:
    """Find the shards of a table that are not written, or whose counts are lost."""
    parts = (_part(folder, name, one, shards) for one in range(shards))
    return [one for one, part in enumerate(parts) if not (part.is_file() and _log(part).is_file())]


def write_shard(
    folder: Path,
    shard: int,
    shards: int,
    batches: Iterable[Columns],
    schema: Mapping[str, str],
    *,
    name: str = "part",
    logged: Logged | None = None,
) -> None:
    """Write one shard of a table atomically.

    At most a row group of it is held.

    Args:
        folder: of the table; exists.
        shard: 0 ... shards - 1.
        shards: of the table.
        batches: columns of consecutive rows.
        schema: Arrow's type name of each column, e.g. {"image": "int64", "name": "string"}; a
            number in brackets, as in "float16[384]", is the length of lists, whose column has
            two dimensions.
        name: of the table within the folder.
        logged: filled while `batches` is consumed; written beside the shard, before it.
    """
    arrow, parquet = _pyarrow()
    fields = arrow.schema([(key, _arrow_type(kind)) for key, kind in schema.items()])
    fields = fields.with_metadata({"seal": BLANK_SEAL})
    path = _part(folder, name, shard, shards)
    started, compiled = time.monotonic(), compiled_seconds()
    with atomic_file(path) as temporary:
        with parquet.ParquetWriter(temporary, fields) as writer:
            held: list[Any] = []
            for batch in batches:
                columns = {one.name: _column(batch[one.name], one.type) for one in fields}
                held.append(arrow.table(columns, schema=fields))
                if sum(len(one) for one in held) >= ROW_GROUP:
                    writer.write_table(arrow.concat_tables(held))
                    held = []
            if held:
                writer.write_table(arrow.concat_tables(held))
        seal_file(temporary)
        if logged is not None:
            compiling = compiled_seconds() - compiled
            logged.seconds += max(0.0, time.monotonic() - started - compiling)
            logged.compile_seconds += compiling
            write_record(_log(path), vars(logged))


def write_table(
    folder: Path, name: str, batches: Iterable[Columns], schema: Mapping[str, str]
) -> None:
    """Write a table of one shard.

    Its name is NAME-00000-of-00001.parquet. See `write_shard`.
    """
    write_shard(folder, 0, 1, batches, schema, name=name)


def read_logs(folder: Path, shards: int, name: str = "part") -> Logged:
    """Read what all shards counted.

    Counts and seconds are summed. Notes stand in the shards' order.
    """
    total = Logged()
    for shard in range(shards):
        path = _log(_part(folder, name, shard, shards))
        try:
            record = read_record(path)
        except ValueError as error:
            raise ValueError(f"{error}; {remedy(path)}") from None
        for key, count in record["counts"].items():
            total.add(key, count)
        total.notes += record["notes"]
        total.skipped += record.get("skipped", [])
        total.seconds += record["seconds"]
        total.compile_seconds += record["compile_seconds"]
    return total


class Table:
    """Represents a whole table on disk, read a batch at a time.

    Args:
        folder: that holds its shards.
        name: of the table within the folder.

    Attributes:
        rows: how many rows it has.
        columns: their names.

    Raises:
        ValueError: shards are missing, damaged, or not what was written; says which folder to
            delete.
    """

    def __init__(self, folder: str | Path, name: str = "part") -> None:
        _, parquet = _pyarrow()
        paths = sorted(Path(folder).glob(f"{name}-?????-of-?????.parquet"))
        counts = {path.stem[-5:] for path in paths}
        if len(counts) != 1 or len(paths) != int(next(iter(counts))):
            raise ValueError(
                f"table {name!r} in {folder} is not whole: {len(paths)} shard(s) of "
                f"{' and '.join(sorted(counts)) or 'an unknown number'}; "
                f"{remedy(Path(folder) / 'part')}"
            )
        self._paths = paths
        self._starts = [0]
        for path in paths:
            try:
                check_sealed(path)
                metadata = parquet.read_metadata(path)
            except SealError as error:
                raise ValueError(f"table file {error}; {remedy(path)}") from None
            except Exception as error:  # pyarrow raises many types on damaged input
                raise ValueError(
                    f"table file {path} cannot be read: {error}; {remedy(path)}"
                ) from None
            self._starts.append(self._starts[-1] + metadata.num_rows)
        self.rows: int = self._starts[-1]
        self.columns: tuple[str, ...] = tuple(parquet.read_schema(paths[0]).names)

    def batches(
        self,
        columns: Sequence[str] | None = None,
        *,
        start: int = 0,
        stop: int | None = None,
        size: int = BATCH,
    ) -> Iterator[dict[str, NDArray]]:
        """Read consecutive rows, at most `size` at a time.

        Args:
            columns: which ones; default all.
            start: first row.
            stop: end; default the last row.
            size: most rows of a batch.

        Yields:
            Columns by name; those of strings have objects as entries.
        """
        _, parquet = _pyarrow()
        end = self.rows if stop is None else min(stop, self.rows)
        wanted = list(self.columns if columns is None else columns)
        for path, (first, last) in zip(self._paths, pairwise(self._starts), strict=True):
            if max(first, start) >= min(last, end):
                continue
            with parquet.ParquetFile(path) as file:
                groups = np.cumsum([0, *_group_sizes(file)]) + first
                chosen = [
                    group
                    for group in range(len(groups) - 1)
                    if groups[group] < end and groups[group + 1] > start
                ]
                row = int(groups[chosen[0]])
                for batch in file.iter_batches(size, row_groups=chosen, columns=wanted):
                    low, high = max(start - row, 0), min(end - row, len(batch))
                    row += len(batch)
                    if low < high:
                        part = batch.slice(low, high - low)
                        yield {key: _values(part.column(key)) for key in wanted}

    def column(self, name: str) -> NDArray:
        """Read a whole column of numbers into one array."""
        parts = [batch[name] for batch in self.batches([name], size=ROW_GROUP)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def take(
        self, rows: NDArray[np.integer], columns: Sequence[str] | None = None
    ) -> dict[str, NDArray]:
        """Read the rows with these numbers in one pass.

        They come in the order asked.

        Args:
            rows: row numbers, any order, may repeat.
            columns: which ones; default all.
        """
        _, parquet = _pyarrow()
        wanted = list(self.columns if columns is None else columns)
        asked, places = np.unique(np.asarray(rows, np.int64), return_inverse=True)
        if len(asked) and not 0 <= asked[0] <= asked[-1] < self.rows:
            raise ValueError(f"rows {asked[0]} to {asked[-1]} of a table with {self.rows} rows")
        found: dict[str, list[NDArray]] = {key: [] for key in wanted}
        needed = np.diff(np.searchsorted(asked, self._starts)) > 0
        for path, first, used in zip(self._paths, self._starts, needed, strict=False):
            if not used:
                continue
            with parquet.ParquetFile(path) as file:
                bounds = np.searchsorted(asked, np.cumsum([0, *_group_sizes(file)]) + first)
                offset = first
                for group, size in enumerate(_group_sizes(file)):
                    inside = asked[bounds[group] : bounds[group + 1]] - offset
                    offset += size
                    if len(inside):
                        table = file.read_row_group(group, columns=wanted).take(inside)
                        for key in wanted:
                            found[key].append(_values(table[key]))
        return {
            key: (np.concatenate(parts) if parts else np.zeros(0))[places]
            for key, parts in found.items()
        }


def _group_sizes(file: Any) -> list[int]:
    return [file.metadata.row_group(g).num_rows for g in range(file.metadata.num_row_groups)]


def _arrow_type(kind: str) -> Any:
    arrow, _ = _pyarrow()
    name, bracket, length = kind.removesuffix("]").partition("[")
    own = arrow.type_for_alias(name)
    return arrow.list_(own, int(length)) if bracket else own


def _column(values: Any, kind: Any) -> Any:
    """Make Arrow's array of the rows of a matrix; leave other columns as they are."""
    arrow, _ = _pyarrow()
    if not arrow.types.is_fixed_size_list(kind):
        return values
    flat = arrow.array(np.ascontiguousarray(values).reshape(-1), kind.value_type)
    return arrow.FixedSizeListArray.from_arrays(flat, type=kind)


def _values(column: Any) -> NDArray:
    arrow, _ = _pyarrow()
    if arrow.types.is_fixed_size_list(column.type):
        flat = np.asarray(column.flatten().to_numpy(zero_copy_only=False))
        return flat.reshape(len(column), column.type.list_size)
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _part(folder: Path, name: str, shard: int, shards: int) -> Path:
    return folder / f"{name}-{shard:05d}-of-{shards:05d}.parquet"


def _log(part: Path) -> Path:
    return part.with_suffix(".log.json")


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ValueError(
            "tables need the package pyarrow, which is not installed: "
            "pip install 'hardset[pretrain]'"
        ) from None
    return pyarrow, pyarrow.parquet


# Such a function makes the rows of a shard. Its arguments are the shard, its first row, its end,
# what it counts, and the progress bar.
Make = Callable[[int, int, int, Logged, Any], Iterator[Mapping[str, Any]]]


@dataclass(frozen=True)
class Shards:
    """Says how the rows of a table are divided into shards.

    It also says which of them this process makes.

    Attributes:
        rows: in all.
        count: shards in all.
        mine: those of this process.
    """

    rows: int
    count: int
    mine: tuple[int, ...]

    @classmethod
    def of(cls, rows: int, shards: int | None = None, shard: int | None = None) -> "Shards":
        """Divide rows.

        Args:
            rows: in all.
            shards: how many; None is one for 5000 rows, what a killed process loses at most.
            shard: the one that this process makes; None for all.

        Raises:
            ValueError: an argument outside its range.
        """
        count = max(1, -(-rows // ROWS_OF_SHARD)) if shards is None else shards
        check_shards(shard, count)
        return cls(rows, count, tuple(range(count)) if shard is None else (shard,))

    def fill(
        self,
        folder: Path,
        columns: Mapping[str, str],
        begin: Callable[[], Make],
        *,
        name: str,
        unit: str,
        progress: bool = False,
        lost: Iterable[int] = (),
    ) -> tuple[Table, Logged] | None:
        """Write those of this process's shards that are missing.

        Each is written whole or not at all.

        Args:
            folder: of the stage.
            columns: type of each column by name.
            begin: called where something is to be made; gives what makes the rows of a shard.
            name: of the work, on the progress bar.
            unit: of the progress bar.
            progress: whether it is drawn.
            lost: shards that are to be made again though their rows are there.

        Returns:
            The table and what its shards counted; None while shards of other processes are missing.
        """
        again = {*missing_shards(folder, self.count), *lost}
        todo = [one for one in self.mine if one in again]
        if todo:
            make = begin()
            ranges = [shard_range(self.rows, one, self.count) for one in todo]
            total = sum(end - first for first, end in ranges)
            with bar(total, name, unit, shown=progress) as done:
                for one, (first, end) in zip(todo, ranges, strict=True):
                    logged = Logged()
                    made = make(one, first, end, logged, done)
                    write_shard(folder, one, self.count, made, columns, logged=logged)
        if missing_shards(folder, self.count):
            return None
        return Table(folder), read_logs(folder, self.count)
