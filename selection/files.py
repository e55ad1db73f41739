"""Reads arrays of files, and writes and reads scores and subsets.

The formats of arrays are .npy, .npz and Parquet.
"""

import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from hardset.arrays import (
    LIMIT_BYTES,
    LIMIT_RATIO,
    array_names,
    load_array,
    load_arrays,
    npy_bytes,
    npz_bytes,
)
from hardset.checks import require
from hardset.cli import check_output_folder, one_line
from hardset.datafile import check_output_file, versions, write_bytes_atomic
from hardset.seal import BLANK_SEAL, check_seal, sealed, sealed_json
from selection.arrays import DENSE, Array, whole_numbers
from selection.embeddings import COLUMNS, FEATURES, Embeddings, parts_of
from selection.pool import Scores
from selection.subset import Subset

SHOWN, LONGEST = 20, 100  # names in a message, and characters of each
WIDEST, CHARACTER = 8, 4  # bytes of a number, and of a letter in NumPy's texts of one length


def column_names(name: str, path: Path) -> list[str]:
    """List the columns of a file.

    It is a ValueError if the file is damaged. `name` says what the file is for.
    """
    try:
        return list(require("pyarrow.parquet").read_schema(path).names)
    except Exception as error:  # pyarrow raises many types on damaged input
        raise _unreadable(name, path, error) from None


def listed(names: Sequence[str]) -> str:
    """Join names for a message.

    A long list is cut short.
    """
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(one_line(name, LONGEST) for name in names[:SHOWN]) + more


def matching(path: Path, key: str, known: Sequence[str]) -> list[str]:
    """Find the columns that a key such as "a,b" or "x*" names.

    A key that is neither a list nor a pattern names none.

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
    """Read columns of numbers side by side.

    The shape is (n, number of columns). Each is read as by `read_column`.

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
    """Read a column of numbers, of strings, or of lists of equal length.

    Lists have the shape (n, d), (n, A, d) and so on.

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
    """Read columns as Arrow has them.

    They are refused where they unpack to more than is allowed.
    """
    limit = _limit(path)
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
    """Count the values that columns hold at the bottom of their lists."""
    tops, found = set(keys), 0
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            leaf = column.path_in_schema
            if leaf in tops or _heads(leaf) & tops:
                found += column.num_values
    return found


def _heads(leaf: str) -> set[str]:
    """List what may be the column of a leaf such as "column.list.element".

    It is all that ends before a point.
    """
    parts = leaf.split(".")
    return {".".join(parts[:count]) for count in range(1, len(parts))}


def _longest(column: Any) -> int:
    """Measure the bytes of the longest string of a column.

    It is 0 where the column holds none.
    """
    types, compute = require("pyarrow.types"), require("pyarrow.compute")
    longest = 0
    for chunk in column.chunks:
        texts = chunk.dictionary if types.is_dictionary(chunk.type) else chunk
        if types.is_string(texts.type) or types.is_large_string(texts.type):
            own = compute.max(compute.binary_length(texts)).as_py()
            longest = max(longest, own or 0)
    return longest


def _limit(path: Path) -> int:
    return max(LIMIT_BYTES, LIMIT_RATIO * path.stat().st_size)


def _check_size(keys: Sequence[str], needed: int, limit: int) -> None:
    if needed > limit:
        raise ValueError(
            f"{listed(keys)} would need {needed} bytes of memory; at most {limit} are taken, "
            f"{LIMIT_BYTES} or {LIMIT_RATIO} times the file"
        )


class _Place:
    """Says for messages where in a file a chunk of rows lies."""

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
    """Say whether a type of Arrow is an array's.

    Such types are numbers, strings, and lists of them.
    """
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
    """Convert a chunk to an array of its rows.

    `known` is the shape of the rows before it.
    """
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


# What scipy.sparse.save_npz writes.
SPARSE = {"format", "shape", "data"}
SUBSET_SUFFIXES = (".parquet", ".json")
SCORE_SUFFIXES = (".npy", ".parquet", ".json")
METADATA = b"hardset"
KEYED = re.compile(r"\.(npz|parquet):")


def read_array(name: str, source: str | Path) -> Array:
    """Read an array of a file.

    A file that holds a seal, as those that hardset writes do, is checked against it.

    Args:
        name: what it is for, in messages.
        source: FILE.npy, which stays on disk and is memory-mapped; FILE.npz or FILE.npz:KEY;
            FILE.parquet or FILE.parquet:COLUMN, a column of numbers, of strings or categories, or
            of lists of equal length, which becomes (n, d), and (n, A, d) of lists of lists. The
            key may be left out where there is only one. FILE.parquet:A,B,C, or a pattern such as
            FILE.parquet:x*, joins columns of numbers, which become (n, d). A folder of Parquet
            files, or one with the column `features`, is never in memory as a whole, see
            `Embeddings`; where no column is named, `COLUMNS` says which is meant.

    Raises:
        ValueError: a file that is missing, damaged, of another kind, or without that key.
    """
    path, key = check_source(name, source)
    if (table := _table(name, path, key)) is not None:
        return table
    if path.suffix == ".npy":
        with _said(name):
            return load_array(path, mmap=True)
    if path.suffix == ".npz":
        return _read_entry(name, path, key)
    with _said(name):
        check_seal(path, required=False)
    known = column_names(name, path)
    if key is not None and key not in known:
        with _said(name):
            joined = matching(path, key, known)
        if joined:
            return read_columns(name, path, joined)
    return read_column(name, path, _only_key(name, path, key, known))


def _table(name: str, path: Path, key: str | None) -> Array | None:
    """Read a column of a table of features; None where the path is none."""
    if key is not None and not path.is_dir():
        return None
    with _said(name):
        found = Embeddings.at(path)
        if found is None:
            return None
        column = key or COLUMNS.get(name, FEATURES)
        if name in ("groups", "labels") and found.is_text(column):
            read = found.groups if name == "groups" else found.labels
            numbers, names = read(column)
            return numbers if names is None else names[numbers]
        return found.array(column)


def read_matrix(name: str, source: str | Path) -> Any:
    """Read an array, or a sparse matrix that SciPy wrote.

    Args:
        name: what it is for, in messages.
        source: as for `read_array`, or a file of `scipy.sparse.save_npz` in the format CSR, which
            becomes a `csr_array`.

    Raises:
        ValueError: as for `read_array`; a sparse matrix of another format, or a damaged one.
    """
    path, key = check_source(name, source)
    with _said(name):
        names = set(array_names(path)) if path.suffix == ".npz" and key is None else set()
    if not names >= SPARSE:
        return read_array(name, source)
    with _said(name):
        arrays = load_arrays(path)
        kind = str(np.asarray(arrays["format"]).astype(np.str_))
        if kind != "csr" or not set(arrays) >= SPARSE | {"indices", "indptr"}:
            raise ValueError(
                f"{path} holds a sparse matrix in the format {one_line(kind)}; save "
                "matrix.tocsr() instead"
            )
        sparse = require("scipy.sparse")
        try:
            rows, columns = (int(one) for one in arrays["shape"])
            # Whatever is done with it holds a number for each row and column.
            _check_size(["its shape"], WIDEST * max(rows, columns), _limit(path))
            parts = arrays["data"], arrays["indices"], arrays["indptr"]
            matrix = sparse.csr_array(parts, shape=(rows, columns))
            matrix.check_format(full_check=True)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{path} holds a damaged sparse matrix: {one_line(error, 200)}"
            ) from None
    return matrix


def check_source(name: str, source: str | Path) -> tuple[Path, str | None]:
    """Find the file and the key that `read_array` would read, without reading it.

    Raises:
        ValueError: there is no such file, or it is of another kind.
    """
    path, key = _split(str(source))
    with _said(name):
        if path.is_dir():
            parts_of(path)
            return path, key
        _check_regular(path)
    if path.suffix not in (".npy", ".npz", ".parquet") or (path.suffix == ".npy" and key):
        raise ValueError(f"{name} file {source} is none of .npy, .npz[:KEY], .parquet[:COLUMN]")
    return path, key


@contextmanager
def _said(name: str) -> Iterator[None]:
    """Say what the file is for in an error about it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name} file {error}") from None


def _check_regular(path: Path) -> None:
    """Raise ValueError where there is no regular file.

    A pipe would block its reader for ever.
    """
    if not path.is_file():
        what = (
            "is a folder" if path.is_dir() else "is no file" if path.exists() else "does not exist"
        )
        raise ValueError(f"{path} {what}")


def read_npz(path: str | Path) -> dict[str, Array]:
    """Read all arrays of an .npz file.

    It is a ValueError if the file is missing or damaged.
    """
    with _said(".npz"):
        return load_arrays(path)


def write_npz(path: str | Path, arrays: Mapping[str, Array]) -> None:
    """Write a new .npz file with a seal, atomically.

    A file that is there already is refused.
    """
    _write(check_new_file(path, (".npz",)), npz_bytes(arrays))


def check_new_file(path: str | Path, suffixes: tuple[str, ...]) -> Path:
    """Check the path of a file before any work is done for it.

    Nothing is created: what refuses the work later leaves no folder behind.

    Raises:
        ValueError: it exists already, or has another suffix.
        OSError: its folder cannot be written, or its name is too long.
    """
    path = Path(path)
    if path.suffix not in suffixes:
        raise ValueError(f"output file {path} must end in {' or '.join(suffixes)}")
    try:
        taken = path.exists()
    except OSError as error:  # a name that is too long
        raise OSError(f"output file {path} cannot be written: {error.strerror}") from None
    if taken:
        raise _taken(path)
    if path.parent.is_dir():
        return check_output_file(path)
    check_writable(path.parent)
    return path


def _taken(path: str | Path) -> ValueError:
    return ValueError(f"output file {path} exists already; name another one or delete it")


def check_writable(folder: str | Path) -> Path:
    """Prove that files can be written to a folder.

    Where the folder does not exist, the nearest existing one above it is tried.

    Raises:
        OSError: they cannot, with the reason.
    """
    folder = Path(folder)
    absolute = folder.absolute()
    nearest = next(one for one in (absolute, *absolute.parents) if one.exists())
    if not nearest.is_dir():
        raise OSError(f"output folder {folder} cannot be written: {nearest} is a file")
    check_output_folder(nearest)
    return folder


def write_scores(path: str | Path, scores: Scores, ids: Array | None = None, **facts: Any) -> None:
    """Write scores to a file.

    With ids it is .parquet or .json, without them .npy.

    Args:
        path: the new file. Whatever its format, it holds a seal and what the scores were made
            with; an .npy file as a line of JSON behind the array.
        scores: what was computed.
        ids: of the examples, shape (n,); default their rows.
        **facts: JSON-able, stored beside the provenance.

    Raises:
        ValueError: the file exists, or has another suffix.
        OSError: it cannot be written.
    """
    path = check_new_file(path, SCORE_SUFFIXES)
    names = np.arange(len(scores)) if ids is None else ids
    facts = {"name": scores.name, "provenance": dict(scores.provenance)} | facts
    if path.suffix == ".npy":
        note = json.loads(json_text({**facts, "made_with": versions()}))
        _write(path, npy_bytes(scores.values, note))
    else:
        _write_table(path, {"id": names, "score": scores.values}, facts)


def write_subset(path: str | Path, subset: Subset, ids: Array | None = None, **facts: Any) -> None:
    """Write a subset in pick order, with its diagnostics.

    Of each example it holds index, id, weight and gain.

    The file holds a seal, and the versions of the packages that it was made with.

    Args:
        path: .parquet (diagnostics as JSON in the schema's metadata) or .json.
        subset: what was kept.
        ids: of the pool's examples, shape (n,); default their rows, and the file says that there
            were none.
        **facts: JSON-able, stored beside the diagnostics.

    Raises:
        ValueError: the file exists, or has another suffix.
        OSError: it cannot be written.
    """
    path = check_new_file(path, SUBSET_SUFFIXES)
    columns = {
        "index": subset.indices,
        "id": subset.indices if ids is None else ids[subset.indices],
        "weight": subset.weights,
    }
    if subset.gains is not None:
        columns["gain"] = subset.gains
    known = {
        "requested": subset.requested,
        "achieved": subset.achieved,
        "objective": subset.objective,
        "nested": subset.nested,
        "named": ids is not None,
        "diagnostics": dict(subset.diagnostics),
    }
    _write_table(path, columns, facts | known)


def read_subset(path: str | Path) -> Subset:
    """Read what `write_subset` wrote.

    Raises:
        ValueError: the file is missing, damaged or holds no subset.
    """
    columns, facts = _read_table(Path(path))
    try:
        rows = np.asarray(columns["index"])
        if rows.size:
            rows = whole_numbers("index", rows)
            if rows.min() < 0 or len(np.unique(rows)) < len(rows):
                raise ValueError("its rows must be distinct and not below 0")
        subset = Subset.of(
            rows,
            weights=columns["weight"],
            gains=columns.get("gain"),
            objective=facts["objective"],
            nested=facts["nested"],
            requested=facts["requested"],
        )
        if subset.weights.shape != rows.shape or not np.all(np.isfinite(subset.weights)):
            raise ValueError("its weights must be finite numbers, one a row")
        return replace(subset, diagnostics=dict(facts["diagnostics"]))
    except Exception as error:
        raise ValueError(
            f"subset file {path} holds no subset: {one_line(repr(error), 200)}"
        ) from None


def read_subset_ids(path: str | Path) -> Array | None:
    """Read the ids that `write_subset` wrote, in pick order.

    It is None where the subset had none.

    Raises:
        ValueError: the file is missing, damaged or holds no subset.
    """
    columns, facts = _read_table(Path(path))
    try:
        ids, rows = np.asarray(columns["id"]), np.asarray(columns["index"])
    except Exception as error:
        raise ValueError(
            f"subset file {path} holds no subset: {one_line(repr(error), 200)}"
        ) from None
    if ids.dtype.kind == "O":
        ids = ids.astype(np.str_)
    # Files of earlier versions do not say whether their ids were given: they were if they differ.
    named = facts.get("named", not np.array_equal(ids, rows))
    return ids if named else None


def _read_table(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the columns and facts that `_write_table` wrote for a subset."""
    with _said("subset"):
        _check_regular(path)
        intact = check_seal(path, required=False)
    try:
        if path.suffix == ".json":
            table = json.loads(path.read_text())
            if not isinstance(table, dict) or not isinstance(table.get("columns"), dict):
                raise ValueError("it is no table that `select` wrote")
            columns, facts = dict(table["columns"]), dict(table)
        else:
            stored = require("pyarrow.parquet").read_table(path)
            columns = {name: stored[name].to_numpy() for name in stored.column_names}
            facts = dict(json.loads(stored.schema.metadata[METADATA]))
    except Exception as error:  # pyarrow raises many types on damaged input
        said = str(error) if type(error) is ValueError else repr(error)
        raise ValueError(f"subset file {path} holds no subset: {one_line(said, 200)}") from None
    # Version 0.1.0 wrote files without a checksum, and without the versions.
    if "made_with" in facts and not intact:
        raise ValueError(
            f"subset file {path} has lost its checksum: it has changed or is cut short"
        )
    return columns, facts


def json_text(value: Any) -> str:
    """Write readable JSON of plain values and of NumPy's.

    NaN and infinity are refused.
    """
    return json.dumps(value, **READABLE)


def _split(source: str) -> tuple[Path, str | None]:
    """Split a source into FILE and KEY.

    The key begins at the first colon after the suffix, and may hold other colons. A source without
    one has no key.
    """
    for match in KEYED.finditer(source):
        path, key = Path(source[: match.end() - 1]), source[match.end() :]
        if not path.is_dir() or not Path(source).exists():
            return path, key
    return Path(source), None


def _only_key(name: str, path: Path, key: str | None, known: list[str]) -> str:
    if key is None and len(known) == 1:
        return known[0]
    if key is None or key not in known:
        asked = "needs a key" if key is None else f"holds no {key!r}"
        raise ValueError(f"{name} file {path} {asked}; it holds {listed(known)} ({path}:KEY)")
    return key


def _read_entry(name: str, path: Path, key: str | None) -> Array:
    """Read one array of an archive.

    The others are not looked at.
    """
    with _said(name):
        known = array_names(path)
        if known and set(known) >= SPARSE and key is None:
            raise ValueError(f"{path} holds a sparse matrix of SciPy; {DENSE}")
    key = _only_key(name, path, key, known)
    with _said(name):
        return load_array(path, key=key)


def _write_table(path: Path, columns: Mapping[str, Array], facts: Mapping[str, Any]) -> None:
    facts = {**facts, "made_with": versions()}
    if path.suffix == ".json":
        lists = {name: column.tolist() for name, column in columns.items()}
        _write(path, sealed_json({**facts, "columns": lists}, **READABLE))
        return
    arrow, parquet = require("pyarrow"), require("pyarrow.parquet")
    stored = json.dumps(dict(facts), allow_nan=False, default=_plain).encode()
    table = arrow.table(dict(columns))
    buffer = io.BytesIO()
    # The metadata stand at the file's end, without Arrow's copy of them: the seal is there once.
    with parquet.ParquetWriter(buffer, table.schema, store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({METADATA: stored, b"hardset-seal": BLANK_SEAL.encode()})
    _write(path, sealed(buffer.getvalue()))


def _write(path: str | Path, data: bytes) -> None:
    """Write a new file and the folders it is in.

    Of two processes the first one has the name.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    try:
        write_bytes_atomic(path, data, replace=False)
    except FileExistsError:
        raise _taken(path) from None


def _plain(value: Any) -> Any:
    """Convert NumPy's numbers and arrays to values of JSON."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{value!r} is not JSON")


READABLE: dict[str, Any] = {"indent": 1, "allow_nan": False, "default": _plain}
