"""Reads the inputs that the commands share.

They are pools, existing sets, classes, budgets and lists.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from hardset.cli import Option
from selection.arrays import Array, Integers, class_codes
from selection.embeddings import COLUMNS, Embeddings
from selection.files import check_source, column_names, read_array, read_subset, read_subset_ids
from selection.given import Given
from selection.pool import FIELDS, Pool, Scores, check_lengths
from selection.selector import budget_count

File = Annotated[str, Option(metavar="FILE")]
Folder = Annotated[Path, Option(metavar="DIR")]
Method = Annotated[str, Option(metavar="METHOD[:option=value,...]")]
Methods = Annotated[tuple[str, ...], Option(metavar="METHOD[:option=value,...] ...")]

ARRAYS = """files:
  FILE.npy (memory-mapped), FILE.npz[:KEY] or FILE.parquet[:COLUMN]; one row an example. Columns of
  numbers are joined by FILE.parquet:a,b,c or a pattern, 'FILE.parquet:x*'. A folder of features
  that python -m pretrain_jax embed made is read as it is: its ids and groups come with them, and
  --labels FOLDER takes its labels."""
FILES = f"""{ARRAYS} High scores are hard;
  --orientation easy turns them around.
"""

ID, GROUP = COLUMNS["ids"], COLUMNS["groups"]
ARRAY_SUFFIXES = (".npy", ".npz", ".parquet")
SUBSET_COLUMNS = {"index", "id", "weight"}


@dataclass(frozen=True)
class PoolFiles:
    """Names the files of a pool, as the arguments of `select` do."""

    scores: str | None
    orientation: str
    mislabel: str | None
    features: str | None
    labels: str | None
    groups: str | None
    gradients: str | None
    trajectories: str | None
    texts: str | None
    ids: str | None
    neighbours: str | None
    similarities: str | None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "PoolFiles":
        """Take the files out of all options of a command."""
        return cls(**{entry.name: options[entry.name] for entry in fields(cls)})

    @property
    def named(self) -> dict[str, str]:
        """Return the files that were named, in the order of the fields."""
        every = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {
            name: one for name, one in every.items() if one is not None and name != "orientation"
        }

    @property
    def table(self) -> Embeddings | None:
        """Return the table that `features` names, where it names no column of it."""
        if self.features is None:
            return None
        path, key = check_source("features", self.features)
        return Embeddings.at(path) if key is None else None

    @property
    def with_ids(self) -> bool:
        """Say whether ids are given, by themselves or in the table of features."""
        return self.ids is not None or ((table := self.table) is not None and ID in table.columns)

    def check(self) -> None:
        """Check that the files are there.

        The check comes before a method is imported or a file read.

        Raises:
            ValueError: the first that is not there, or is of another kind.
        """
        for name, source in self.named.items():
            check_source(name, source)

    def read(self, reads: Collection[str] = FIELDS) -> tuple[Pool, dict[str, Array]]:
        """Read the pool, and the names of its labels and of its groups.

        Names are there where the file holds strings: the pool's labels are positions among them.
        Ids and groups that no file is named for come from the table of features that has them.

        Args:
            reads: fields that are looked at, besides ids, labels, groups and a graph; of the others
                the number of rows counts, and nothing else can be wrong with them.

        Raises:
            ValueError: none was named, or one cannot be read or does not fit the others.
        """
        arrays: dict[str, Any] = {}
        unread: dict[str, Array] = {}
        names: dict[str, Array] = {}
        table = self.table
        for name, source in self.named.items():
            if name in ("neighbours", "similarities"):
                continue
            if name in ("labels", "groups"):
                arrays[name], found = read_labels(name, source)
                if found is not None:
                    names[name] = found
                continue
            if name == "features" and name not in reads and table is not None:
                unread[name] = np.broadcast_to(np.float32(0), (table.rows, 1))
                continue
            values = read_array(name, source)
            if name not in reads and name != "ids" and values.ndim:
                unread[name] = values
            elif name == "scores":
                orientation: Any = self.orientation
                arrays[name] = Scores.of(values, orientation=orientation, file=source)
            else:
                arrays[name] = values
        if table is not None:
            if self.ids is None and ID in table.columns:
                arrays["ids"] = table.array(ID)
            if self.groups is None and GROUP in table.columns and table.is_text(GROUP):
                arrays["groups"], found = table.groups(GROUP)
                if found is not None:
                    names["groups"] = found
        if self.scores is None and self.orientation != "hard":
            raise ValueError("--orientation has no effect without --scores")
        if (self.neighbours is None) != (self.similarities is None):
            raise ValueError("a graph needs both --neighbours and --similarities")
        if self.neighbours is not None and self.similarities is not None:
            from selection.graph import Graph

            arrays["graph"] = Graph.of(
                read_array("neighbours", self.neighbours),
                read_array("similarities", self.similarities),
            )
        if not arrays and not unread:
            raise ValueError("no data: name a file with --scores, --features, --labels or --ids")
        everything = arrays | unread
        known = [name for name in (*FIELDS, "ids") if name in everything]
        # `Pool.of` refuses by its shape what has no rows at all.
        check_lengths(
            {one: everything[one] for one in known if getattr(everything[one], "ndim", 1)}
        )
        if not arrays:
            arrays["ids"] = np.arange(len(next(iter(unread.values()))))
        return Pool.of(**arrays), names


def read_labels(name: str, source: str) -> tuple[Integers, Array | None]:
    """Read classes as whole numbers.

    Where the file holds strings, their names come too, in sorted order.

    Raises:
        ValueError: the file cannot be read, or holds neither.
    """
    path, key = check_source(name, source)
    table = Embeddings.at(path) if key is None or path.is_dir() else None
    column = key or COLUMNS[name]
    if table is None or not table.is_text(column):
        return class_codes(name, read_array(name, source))
    return table.groups(column) if name == "groups" else table.labels(column)


def class_number(option: str, text: str, names: Array | None) -> int:
    """Find the class that a text names.

    The text is a number, or a name, which stands for its position among the names.

    Raises:
        ValueError: no number, or none of the names.
    """
    if names is None:
        try:
            return int(text)
        except ValueError:
            raise ValueError(f"{option} {text!r} is not a class; they are whole numbers") from None
    if text not in names:
        raise ValueError(f"{option} {text!r} is not a class; they are {', '.join(names)}")
    return int(np.searchsorted(names, text))


def parse_budget(text: str, n: int | None = None) -> int:
    """Read a budget as a number of examples.

    The text is a count such as "500", or a fraction such as "0.1" of the n examples, rounded.

    Args:
        text: what the user wrote.
        n: number of examples; without it only the text is checked.

    Raises:
        ValueError: neither, or none or more than all of the examples.
    """
    try:
        budget = int(text) if text.lstrip("+-").isdecimal() else float(text)
    except ValueError:
        of = "of the examples" if n is None else f"1 to {n}"
        raise ValueError(
            f"budget = {text} is neither a count {of} nor a fraction in (0, 1]"
        ) from None
    return budget_count(budget, n) if n is not None else 0


def keep_or_print(write: Callable[[], None], text: Callable[[], str]) -> None:
    """Write a result, or print it where writing fails.

    So the work is not lost.

    Raises:
        OSError: it could not be written, with the reason.
    """
    try:
        write()
    except (OSError, ValueError) as error:
        print(text(), flush=True)
        reason = str(error)
        if isinstance(error, OSError) and error.filename is not None:
            reason = f"{error.filename}: {error.strerror}"
        raise OSError(f"{reason}; the result was printed instead") from None


def read_list(name: str, path: Path, words: bool, wanted: str) -> Array:
    """Read the ids or rows of a text file, one a line.

    Empty lines are passed over.

    Args:
        name: what the file is for, in messages.
        path: the file.
        words: whether they are texts, and not whole numbers.
        wanted: what they are, for the message on a line that holds something else.

    Raises:
        ValueError: no such file, no text, or a line that is no whole number.
    """
    if not path.is_file():  # a pipe would block its reader for ever
        what = "is no file" if path.exists() else "does not exist"
        raise ValueError(f"{name} file {path} {what}")
    try:
        # Spreadsheets begin their texts with a byte-order mark.
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{name} file {path} cannot be read: {error}") from None
    if words:
        return np.array([line for line in lines if line], dtype=np.str_)
    found = []
    for number, line in enumerate(lines, start=1):
        if line and not (line.removeprefix("-").isdecimal() and line.isascii()):
            raise ValueError(f"{name} file {path} holds {line[:40]!r} in line {number}; {wanted}")
        if line:
            found.append(int(line))
    if any(abs(one) >= 2**63 for one in found):
        raise ValueError(f"{name} file {path} holds a number outside the 64-bit integers")
    return np.array(found, dtype=np.int64)


def read_given(source: str | None, features: str | None, pool: Pool, named: bool) -> Given | None:
    """Read the existing set from two files.

    Without either file there is none.

    Args:
        source: ids of the pool's examples if they are `named`, rows otherwise; a subset that
            `select` wrote, an array, or text.
        features: those of further examples that are not in the pool.
        pool: the candidates.
        named: whether the pool's ids were given.

    Raises:
        ValueError: a file that cannot be read, or holds what does not fit the pool.
    """
    if source is None and features is None:
        return None
    kept = np.empty(0, np.int64) if source is None else _kept(source, pool, named)
    try:
        inside = Given.of(pool, ids=kept) if named else Given.of(pool, rows=kept)
    except ValueError as error:
        raise ValueError(f"given file {source}: {error}") from None
    if features is None:
        return inside
    outside = read_array("given-features", features)
    try:
        return Given.of(pool, rows=inside.rows, features=outside)
    except ValueError as error:
        raise ValueError(f"--given-features {features}: {error}") from None


def given_facts(given: Given | None, source: str | None, features: str | None) -> dict[str, Any]:
    """Collect the facts about the existing set that a subset's file holds."""
    if given is None:
        return {}
    facts: dict[str, Any] = {"examples": len(given.rows), "from_outside": given.outsiders}
    files = {"file": source, "features": features}
    return {"given": facts | {name: path for name, path in files.items() if path is not None}}


def _kept(source: str, pool: Pool, named: bool) -> Array:
    """List the examples that a file keeps.

    They are ids if the pool's are `named`, rows otherwise.
    """
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
    if path.suffix in ARRAY_SUFFIXES or any(f"{suffix}:" in source for suffix in ARRAY_SUFFIXES):
        values = read_array("given", source)
        if not named and values.dtype.kind in "UO":
            raise ValueError(
                f"given file {source} holds texts; they are whole numbers, rows of the pool, "
                "unless --ids names its examples"
            )
        return values
    whole, colon, _ = source.rpartition(":")
    if colon and not path.is_file() and Path(whole).is_file():
        raise ValueError(
            f"given file {whole} has no columns to choose from, only .npz and .parquet have; save "
            "the one that is meant as text, one a line"
        )
    remedy = "" if named else ", rows of the pool, unless --ids names its examples"
    words = named and pool.ids.dtype.kind == "U"
    return read_list("given", path, words, f"they are whole numbers{remedy}")


def _holds_subset(path: Path) -> bool:
    if path.suffix == ".parquet":
        return set(column_names("given", path)) >= SUBSET_COLUMNS
    return path.suffix == ".json"
