"""Files: arrays in (.npy memory-mapped, .npz, Parquet), scores and subsets out."""

import io
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hardset.cli import check_output_folder
from hardset.datafile import write_bytes_atomic
from selection.core.arrays import Array
from selection.core.optional import require
from selection.core.parquet import column_names, read_column
from selection.core.scores import Scores
from selection.core.subset import Subset

__all__ = [
    "check_new_file",
    "check_writable",
    "json_text",
    "read_array",
    "read_npz",
    "read_subset",
    "read_subset_ids",
    "write_npz",
    "write_scores",
    "write_subset",
]

SUBSET_SUFFIXES = (".parquet", ".json")
SCORE_SUFFIXES = (".npy", ".parquet", ".json")
METADATA = b"hardset"
KEYED = re.compile(r"\.(npz|parquet):")


def read_array(name: str, source: str | Path) -> Array:
    """An array of a file.

    Args:
        name: what it is for, in messages.
        source: FILE.npy, which stays on disk and is memory-mapped; FILE.npz or FILE.npz:KEY;
            FILE.parquet or FILE.parquet:COLUMN, a column of numbers, of strings or categories, or
            of lists of equal length, which becomes (n, d), and (n, A, d) of lists of lists. The
            key may be left out where there is only one.

    Raises:
        ValueError: a file that is missing, damaged, of another kind, or without that key.
    """
    path, key = _split(str(source))
    if not path.is_file():
        raise ValueError(f"{name} file {path} does not exist")
    if path.suffix == ".npy" and key is None:
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"{name} file {path} cannot be read: {error}") from None
    if path.suffix == ".npz":
        return _read_entry(name, path, key)
    if path.suffix == ".parquet":
        return read_column(name, path, _only_key(name, path, key, column_names(name, path)))
    raise ValueError(f"{name} file {source} is none of .npy, .npz[:KEY], .parquet[:COLUMN]")


def read_npz(path: str | Path) -> dict[str, Array]:
    """All arrays of an .npz file; ValueError where it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it holds one array, not an archive")
            return {name: file[name] for name in file.files}
    except Exception as error:  # zip and NumPy raise many types on damaged input
        raise ValueError(f"file {path} cannot be read as .npz: {error}") from None


def write_npz(path: str | Path, arrays: Mapping[str, Array]) -> None:
    """Write an .npz file that is not there yet, atomically."""
    check_new_file(path, (".npz",))
    buffer = io.BytesIO()
    np.savez(buffer, **dict(arrays))  # type: ignore[arg-type]
    _write(path, buffer.getvalue())


def check_new_file(path: str | Path, suffixes: tuple[str, ...]) -> Path:
    """The path of a file to be written, before any work is done for it.

    Nothing is created: what refuses the work later leaves no folder behind.

    Raises:
        ValueError: it exists already, or has another suffix.
        OSError: its folder cannot be written.
    """
    path = Path(path)
    if path.suffix not in suffixes:
        raise ValueError(f"output file {path} must end in {' or '.join(suffixes)}")
    if path.exists():
        raise ValueError(f"output file {path} exists already; name another one or delete it")
    check_writable(path.parent)
    return path


def check_writable(folder: str | Path) -> Path:
    """Prove that files can be written to a folder, or to the nearest one above it that is there.

    Raises:
        OSError: they cannot, with the reason.
    """
    folder = Path(folder)
    absolute = folder.absolute()
    check_output_folder(next(one for one in (absolute, *absolute.parents) if one.exists()))
    return folder


def write_scores(path: str | Path, scores: Scores, ids: Array | None = None) -> None:
    """Write scores: the values alone to .npy; with ids and provenance to .parquet or .json.

    Raises:
        ValueError: the file exists, or has another suffix.
        OSError: it cannot be written.
    """
    path = check_new_file(path, SCORE_SUFFIXES)
    names = np.arange(len(scores)) if ids is None else ids
    facts = {"name": scores.name, "provenance": dict(scores.provenance)}
    if path.suffix == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, scores.values, allow_pickle=False)
        _write(path, buffer.getvalue())
    else:
        _write_table(path, {"id": names, "score": scores.values}, facts)


def write_subset(path: str | Path, subset: Subset, ids: Array | None = None, **facts: Any) -> None:
    """Write a subset in pick order: index, id, weight, gain of each example, and the diagnostics.

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
        subset = Subset.of(
            columns["index"],
            weights=columns["weight"],
            gains=columns.get("gain"),
            objective=facts["objective"],
            nested=facts["nested"],
            requested=facts["requested"],
        )
        return replace(subset, diagnostics=facts["diagnostics"])
    except Exception as error:
        raise ValueError(f"subset file {path} holds no subset: {error!r}") from None


def read_subset_ids(path: str | Path) -> Array | None:
    """The ids of the examples that `write_subset` wrote, in pick order; None where it had none.

    Raises:
        ValueError: the file is missing, damaged or holds no subset.
    """
    columns, facts = _read_table(Path(path))
    try:
        ids, rows = np.asarray(columns["id"]), np.asarray(columns["index"])
    except KeyError as error:
        raise ValueError(f"subset file {path} holds no subset: {error!r}") from None
    if ids.dtype.kind == "O":
        ids = ids.astype(np.str_)
    # Files of earlier versions do not say whether their ids were given: they were if they differ.
    named = facts.get("named", not np.array_equal(ids, rows))
    return ids if named else None


def _read_table(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Columns and facts of what `_write_table` wrote for a subset."""
    if not path.is_file():
        raise ValueError(f"subset file {path} does not exist")
    try:
        if path.suffix == ".json":
            table = json.loads(path.read_text())
            return dict(table["columns"]), dict(table)
        stored = require("pyarrow.parquet").read_table(path)
        columns = {name: stored[name].to_numpy() for name in stored.column_names}
        return columns, dict(json.loads(stored.schema.metadata[METADATA]))
    except Exception as error:  # pyarrow raises many types on damaged input
        raise ValueError(f"subset file {path} holds no subset: {error!r}") from None


def json_text(value: Any) -> str:
    """Readable JSON of plain values and NumPy's; NaN and infinity are refused."""
    return json.dumps(value, indent=1, allow_nan=False, default=_plain)


def _split(source: str) -> tuple[Path, str | None]:
    """FILE or FILE:KEY; the key begins at the first colon after the suffix, and may hold others."""
    for match in KEYED.finditer(source):
        path, key = Path(source[: match.end() - 1]), source[match.end() :]
        if not path.is_dir():
            return path, key
    return Path(source), None


def _only_key(name: str, path: Path, key: str | None, known: list[str]) -> str:
    if key is None and len(known) == 1:
        return known[0]
    if key not in known:
        asked = "needs a key" if key is None else f"holds no {key!r}"
        raise ValueError(f"{name} file {path} {asked}; it holds {', '.join(known)} ({path}:KEY)")
    return key


def _read_entry(name: str, path: Path, key: str | None) -> Array:
    """One array of an archive; the others are not looked at."""
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("it holds one array, not an archive")
    except Exception as error:  # zip and NumPy raise many types on damaged input
        raise ValueError(f"{name} file {path} cannot be read as .npz: {error}") from None
    with file:
        key = _only_key(name, path, key, list(file.files))
        try:
            return np.asarray(file[key])
        except Exception as error:
            raise ValueError(f"{name} file {path}:{key} cannot be read: {error}") from None


def _write_table(path: Path, columns: Mapping[str, Array], facts: Mapping[str, Any]) -> None:
    if path.suffix == ".json":
        listed = {name: column.tolist() for name, column in columns.items()}
        _write(path, (json_text({**facts, "columns": listed}) + "\n").encode())
        return
    arrow, parquet = require("pyarrow"), require("pyarrow.parquet")
    stored = json.dumps(dict(facts), allow_nan=False, default=_plain).encode()
    table = arrow.table(dict(columns)).replace_schema_metadata({METADATA: stored})
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    _write(path, buffer.getvalue())


def _write(path: str | Path, data: bytes) -> None:
    """Write a file and the folders it is in."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(path, data)


def _plain(value: Any) -> Any:
    """JSON of NumPy's numbers and arrays."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{value!r} is not JSON")
