"""What the commands share: the pool's files, names of classes, the budget."""

import argparse
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from selection.arrays import Array, Integers, class_codes
from selection.files import check_source, read_array
from selection.pool import FIELDS, Pool, Scores, check_lengths
from selection.selector import budget_count

FILES = """files:
  FILE.npy (memory-mapped), FILE.npz[:KEY] or FILE.parquet[:COLUMN]; one row an example. Columns of
  numbers are joined by FILE.parquet:a,b,c or a pattern, 'FILE.parquet:x*'. High scores are hard;
  --orientation easy turns them around.
"""

ARRAYS = {
    "features": "embeddings, (n, d), or (n, A, d) for A views",
    "labels": "classes, whole numbers or strings, (n,)",
    "groups": "any other partition, whole numbers or strings, (n,)",
    "gradients": "last-layer gradients, (n, g)",
    "trajectories": "losses over the training, (n, T)",
    "texts": "a second modality, (n, d)",
    "ids": "distinct integers or strings, (n,), default 0 ... n-1",
}


def add_pool_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that name the pool's files."""
    parser.add_argument("--scores", metavar="FILE", help="how hard each example is, (n,)")
    parser.add_argument(
        "--orientation",
        choices=("hard", "easy"),
        default="hard",
        help="what a high score means, default hard",
    )
    parser.add_argument("--mislabel", metavar="FILE", help="high where the label is likely wrong")
    for name, text in ARRAYS.items():
        parser.add_argument(f"--{name}", metavar="FILE", help=text)
    parser.add_argument("--neighbours", metavar="FILE", help="a graph's neighbour lists, (n, k)")
    parser.add_argument("--similarities", metavar="FILE", help="and its similarities, (n, k)")


def add_progress(parser: argparse.ArgumentParser) -> None:
    """Add the option that shows bars wherever stderr goes."""
    parser.add_argument(
        "--progress",
        action="store_true",
        help="show progress on stderr, also where that is no terminal",
    )


def keep_or_print(write: Callable[[], None], text: Callable[[], str]) -> None:
    """Write a result; where that fails, print it, so that the work is not lost.

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


def read_labels(name: str, source: str) -> tuple[Integers, Array | None]:
    """Classes of a file as whole numbers, and their names in sorted order where it holds strings.

    Raises:
        ValueError: the file cannot be read, or holds neither.
    """
    return class_codes(name, read_array(name, source))


def class_number(option: str, text: str, names: Array | None) -> int:
    """The number of the class that a text names: itself, or its position among the names.

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


def check_sources(options: argparse.Namespace) -> None:
    """Check that the pool's files are there, before a method is imported or a file read.

    Raises:
        ValueError: the first that is not there, or is of another kind.
    """
    for name in ("scores", "mislabel", *ARRAYS, "neighbours", "similarities"):
        if getattr(options, name) is not None:
            check_source(name, getattr(options, name))


def read_pool(
    options: argparse.Namespace, reads: Collection[str] = FIELDS
) -> tuple[Pool, dict[str, Array]]:
    """The pool of the files that were named, and the names of its labels and of its groups.

    Names are there where the file holds strings: the pool's labels are positions among them.

    Args:
        options: the parsed command line.
        reads: fields that are looked at, besides ids, labels, groups and a graph; of the others
            the number of rows counts, and nothing else can be wrong with them.

    Raises:
        ValueError: none was, or one cannot be read or does not fit the others.
    """
    arrays: dict[str, Any] = {}
    sources: dict[str, str] = {}
    unread: dict[str, Array] = {}
    names: dict[str, Array] = {}
    for name in ARRAYS:
        path = getattr(options, name)
        if path is not None and name in ("labels", "groups"):
            arrays[name], found = read_labels(name, path)
            if found is not None:
                names[name] = found
        elif path is not None:
            sources[name] = path
    for name in ("scores", "mislabel"):
        if getattr(options, name) is not None:
            sources[name] = getattr(options, name)
    for name, path in sources.items():
        values = read_array(name, path)
        if name not in reads and name != "ids" and values.ndim:
            unread[name] = values
        elif name == "scores":
            arrays[name] = Scores.of(values, orientation=options.orientation, file=str(path))
        else:
            arrays[name] = values
    if options.scores is None and options.orientation != "hard":
        raise ValueError("--orientation has no effect without --scores")
    if (options.neighbours is None) != (options.similarities is None):
        raise ValueError("a graph needs both --neighbours and --similarities")
    if options.neighbours is not None:
        from selection.graph import Graph

        arrays["graph"] = Graph.of(
            read_array("neighbours", options.neighbours),
            read_array("similarities", options.similarities),
        )
    if not arrays and not unread:
        raise ValueError("no data: name a file with --scores, --features, --labels or --ids")
    everything = arrays | unread
    known = [name for name in (*FIELDS, "ids") if name in everything]
    # What has no rows at all, `Pool.of` refuses by its shape.
    check_lengths({one: everything[one] for one in known if getattr(everything[one], "ndim", 1)})
    if not arrays:
        arrays["ids"] = np.arange(len(next(iter(unread.values()))))
    return Pool.of(**arrays), names


def parse_budget(text: str, n: int | None = None) -> int:
    """A count such as "500", or a fraction such as "0.1" or "1.0" of n examples, rounded.

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
