"""The options that name an existing set: rows or ids of the pool, features from outside."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from selection.arrays import Array
from selection.files import column_names, read_array, read_subset, read_subset_ids
from selection.given import Given
from selection.pool import Pool

SUBSET_COLUMNS = {"index", "id", "weight"}


def add_given_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser."""
    parser.add_argument(
        "--given",
        metavar="FILE[:COLUMN]",
        help="examples that are kept already: ids if there are --ids, rows else; a subset that "
        "`select` wrote, .npy, .npz, .parquet, or text, one a line",
    )
    parser.add_argument(
        "--given-features",
        metavar="FILE",
        help="features of further ones that are no examples of the pool",
    )


def read_given(options: argparse.Namespace, pool: Pool) -> Given | None:
    """The existing set that the options name, None without one.

    Raises:
        ValueError: a file that cannot be read, or holds what does not fit the pool.
    """
    if options.given is None and options.given_features is None:
        return None
    named = options.ids is not None
    kept = np.empty(0, np.int64) if options.given is None else _kept(options.given, pool, named)
    try:
        inside = Given.of(pool, ids=kept) if named else Given.of(pool, rows=kept)
    except ValueError as error:
        raise ValueError(f"given file {options.given}: {error}") from None
    if options.given_features is None:
        return inside
    features = read_array("given-features", options.given_features)
    try:
        return Given.of(pool, rows=inside.rows, features=features)
    except ValueError as error:
        raise ValueError(f"--given-features {options.given_features}: {error}") from None


def given_facts(options: argparse.Namespace, given: Given | None) -> dict[str, Any]:
    """What a subset's file says of the existing set that it was made besides."""
    if given is None:
        return {}
    facts: dict[str, Any] = {"examples": len(given.rows), "from_outside": given.outsiders}
    files = {"file": options.given, "features": options.given_features}
    return {"given": facts | {name: str(path) for name, path in files.items() if path is not None}}


def _kept(source: str, pool: Pool, named: bool) -> Array:
    """Ids of the file's examples if the pool's are `named`, rows otherwise."""
    path = Path(source)
    if path.is_file() and _holds_subset(path):
        ids = read_subset_ids(path)
        if named and ids is None:
            raise ValueError(
                f"given file {path} was written without ids, which --ids gives the pool: write it "
                "again with --ids, or leave them out here"
            )
        if not named and ids is not None:
            raise ValueError(
                f"given file {path} was written with ids, and the pool has none: name them with "
                "--ids"
            )
        return read_subset(path).indices if ids is None else ids
    arrays = (".npy", ".npz", ".parquet")
    if path.suffix in arrays or any(f"{suffix}:" in source for suffix in arrays):
        values = read_array("given", source)
        if not named and values.dtype.kind in "UO":
            raise ValueError(
                f"given file {source} holds texts; they are whole numbers, rows of the pool, "
                "unless --ids names its examples"
            )
        return values
    return _lines(path, pool, named)


def _holds_subset(path: Path) -> bool:
    if path.suffix == ".parquet":
        return set(column_names("given", path)) >= SUBSET_COLUMNS
    return path.suffix == ".json"


def _lines(path: Path, pool: Pool, named: bool) -> Array:
    """Ids or rows of a text file, one a line."""
    if not path.is_file():
        whole, colon, _ = str(path).rpartition(":")
        if colon and Path(whole).is_file():
            raise ValueError(
                f"given file {whole} has no columns to choose from, only .npz and .parquet have; "
                "save the one that is meant as text, one a line"
            )
        raise ValueError(f"given file {path} does not exist, or is no file")
    try:
        # Spreadsheets begin their texts with a byte-order mark.
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"given file {path} cannot be read: {error}") from None
    if named and pool.ids.dtype.kind == "U":
        return np.array([line for line in lines if line], dtype=np.str_)
    found = []
    for number, line in enumerate(lines, start=1):
        if line and not (line.removeprefix("-").isdecimal() and line.isascii()):
            remedy = "" if named else ", rows of the pool, unless --ids names its examples"
            raise ValueError(
                f"given file {path} holds {line[:40]!r} in line {number}; they are whole "
                f"numbers{remedy}"
            )
        if line:
            found.append(int(line))
    if any(abs(one) >= 2**63 for one in found):
        raise ValueError(f"given file {path} holds a number outside the 64-bit integers")
    return np.array(found, dtype=np.int64)
