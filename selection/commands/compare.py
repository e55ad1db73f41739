"""The command `compare`: several methods or stored subsets on the same pool."""

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_integer
from hardset.cli import integer
from hardset.progress import asked_for_progress, bar
from selection.arrays import Array, Integers, blocks
from selection.commands.inputs import (
    FILES,
    add_pool_options,
    add_progress,
    check_sources,
    parse_budget,
    read_pool,
)
from selection.files import SUBSET_SUFFIXES, json_text, read_subset, read_subset_ids
from selection.pool import Pool
from selection.registry import check_method, parse_method
from selection.selector import Selector
from selection.subset import Subset

EXAMPLES = """columns:
  kept       number of examples, mean over the seeds
  score      mean score of the kept examples
  coverage   root mean square distance of all examples to the nearest kept one
  least      share of the rarest class among the kept, times the number of classes; 1 is balanced
  stable     mean Jaccard index of two seeds
  seconds    of one selection
and the Jaccard indices of the methods among each other, 1 for two empty subsets. Mean score,
coverage and rarest class of a method that kept nothing with some seed are not defined (-).

A file that was written with --ids is matched by ids, and needs --ids here, too.

{files}
examples:
  python -m selection compare hard random ccs:cutoff=0.1 --scores margin.npy --budget 0.1 --seeds 5
  python -m selection compare k-center herding kept.parquet --features x.npy --labels y.npy \\
      --budget 500 --json
"""

Bits = NDArray[np.uint8]

COLUMNS = (
    ("kept", "9.6g"),
    ("score", "11.5g"),
    ("coverage", "11.5g"),
    ("least", "8.3f"),
    ("stable", "8.3f"),
    ("seconds", "9.3g"),
)


def add_command(commands: Any) -> None:
    """Add the command to the subparsers of `python -m selection`."""
    parser = commands.add_parser(
        "compare",
        help="several methods or stored subsets side by side",
        epilog=EXAMPLES.format(files=FILES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "methods",
        nargs="+",
        metavar="METHOD[:option=value,...]|FILE",
        help="as for `select`, or what it wrote",
    )
    parser.add_argument("--budget", required=True, help="a count, or a fraction such as 0.1")
    add_pool_options(parser)
    parser.add_argument("--seeds", type=integer, default=3, help="seeds 0 ... SEEDS-1, default 3")
    add_progress(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Select by every method and print; returns the exit code."""
    check_integer("seeds", options.seeds, 1, 10**4)
    parse_budget(options.budget)
    for text in options.methods:
        if Path(text).suffix not in SUBSET_SUFFIXES:
            check_method(text)
    check_sources(options)
    known = {text: _source(text) for text in options.methods}
    pool, _ = read_pool(options)
    budget = parse_budget(options.budget, len(pool))
    found: dict[str, list[Subset]] = {text: [] for text in known}
    seconds: dict[str, float] = {}
    runs = {text: 1 if isinstance(one, Stored) else options.seeds for text, one in known.items()}
    rows = []
    with (
        asked_for_progress(options.progress),
        bar(sum(runs.values()), "compare", "subset") as progress,
    ):
        for text, source in known.items():
            begun = time.perf_counter()
            for seed in range(runs[text]):
                progress.set_postfix_str(f"{text}, seed {seed}")
                if isinstance(source, Stored):
                    found[text].append(source.on(pool, options.ids is not None))
                else:
                    found[text].append(source.select(pool, budget, seed))
                progress.update()
            seconds[text] = (time.perf_counter() - begun) / len(found[text])
            rows.append(_row(text, found[text], pool, seconds[text]))
    bits = {text: [_bits(one, len(pool)) for one in subsets] for text, subsets in found.items()}
    alike = {one: {other: _mean_jaccard(bits[one], bits[other]) for other in bits} for one in bits}
    if options.json:
        print(json_text({"methods": rows, "jaccard": alike}))
    else:
        print(_table(rows, alike))
    return 0


@dataclass(frozen=True)
class Stored:
    """A subset out of a file, and the ids of its examples where it was written with ids."""

    path: str
    subset: Subset
    ids: Array | None

    def on(self, pool: Pool, with_ids: bool) -> Subset:
        """The subset in the pool's rows; `with_ids` says whether the pool's ids were given.

        Raises:
            ValueError: only one of both has ids, or the pool lacks a kept example.
        """
        if self.ids is not None and with_ids:
            return replace(self.subset, indices=self._rows(pool))
        if self.ids is not None:
            raise ValueError(
                f"subset file {self.path} was written with ids, and the pool has none: name them "
                "with --ids"
            )
        if with_ids:
            raise ValueError(
                f"subset file {self.path} was written without ids, which --ids gives the pool: "
                "write it again with --ids, or leave them out here"
            )
        rows = self.subset.indices
        if len(rows) and rows.max() >= len(pool):
            raise ValueError(
                f"subset file {self.path} keeps row {rows.max()}; the pool has {len(pool)} examples"
            )
        return self.subset

    def _rows(self, pool: Pool) -> Integers:
        """Rows of the kept ids in the pool."""
        assert self.ids is not None
        if not len(self.ids):
            return np.empty(0, np.int64)
        lacking = np.ones(len(self.ids), dtype=bool)
        order = np.argsort(pool.ids)
        rows = np.zeros(len(self.ids), np.int64)
        if (self.ids.dtype.kind == "U") == (pool.ids.dtype.kind == "U"):
            places = np.searchsorted(pool.ids, self.ids, sorter=order)
            rows = order[np.minimum(places, len(pool) - 1)]
            lacking = pool.ids[rows] != self.ids
        if np.any(lacking):
            one = self.ids[np.argmax(lacking)].item()
            raise ValueError(f"subset file {self.path} keeps id {one!r}, which the pool lacks")
        return rows


def _source(text: str) -> Stored | Selector:
    if Path(text).suffix in SUBSET_SUFFIXES:
        return Stored(text, read_subset(text), read_subset_ids(text))
    return parse_method(text)


def _row(text: str, subsets: list[Subset], pool: Pool, seconds: float) -> dict[str, Any]:
    row: dict[str, Any] = {
        "method": text,
        "kept": float(np.mean([one.achieved for one in subsets])),
        "score": None,
        "coverage": None,
        "least": None,
        "stable": None,
        "seconds": seconds,
    }
    # Of an empty subset there is no mean and no nearest example.
    filled = all(one.achieved for one in subsets)
    if pool.scores is not None and filled:
        values = pool.scores.values
        row["score"] = float(np.mean([values[one.indices].mean() for one in subsets]))
    if pool.features is not None and pool.features.ndim == 2 and filled:
        gaps = [coverage(pool.features, pool.features[one.indices]) for one in subsets]
        row["coverage"] = float(np.mean(gaps))
    if pool.labels is not None and filled:
        classes, labels = np.unique(pool.labels, return_inverse=True)
        counts = [np.bincount(labels[one.indices], minlength=len(classes)) for one in subsets]
        row["least"] = float(np.mean([c.min() * len(classes) / c.sum() for c in counts]))
    if len(subsets) > 1:
        kept = [_bits(one, len(pool)) for one in subsets]
        pairs = [_jaccard(a, b) for i, a in enumerate(kept) for b in kept[:i]]
        row["stable"] = float(np.mean(pairs))
    return row


def coverage(features: Array, kept: Array) -> float:
    """Root mean square distance of the rows of `features` to the nearest row of `kept`."""
    total = 0.0
    squares = np.einsum("ij,ij->i", kept, kept, dtype=np.float64)
    for rows in blocks(len(features), max(len(kept), features.shape[1])):
        part = features[rows].astype(np.float64)
        gaps = squares - 2 * part @ kept.T
        nearest = gaps.min(axis=1) + np.einsum("ij,ij->i", part, part)
        total += float(np.sum(np.maximum(nearest, 0.0)))
    return float(np.sqrt(total / len(features)))


def _bits(subset: Subset, n: int) -> Bits:
    """Which of the pool's n examples are kept, a bit each."""
    kept = np.zeros(n, dtype=bool)
    kept[subset.indices] = True
    return np.packbits(kept)


def _jaccard(one: Bits, other: Bits) -> float:
    common, union = (
        int(np.bitwise_count(b).sum(dtype=np.int64)) for b in (one & other, one | other)
    )
    return common / union if union else 1.0


def _mean_jaccard(ones: list[Bits], others: list[Bits]) -> float:
    return float(np.mean([_jaccard(a, b) for a in ones for b in others]))


def _table(rows: list[dict[str, Any]], alike: dict[str, dict[str, float]]) -> str:
    width = max(len(row["method"]) for row in rows) + 2
    lines = [f"{'method':<{width}}" + "".join(f"{n:>{f.split('.')[0]}}" for n, f in COLUMNS)]
    for row in rows:
        cells = "".join(
            f"{'-':>{form.split('.')[0]}}" if row[name] is None else f"{row[name]:{form}}"
            for name, form in COLUMNS
        )
        lines.append(f"{row['method']:<{width}}{cells}")
    lines += ["", "Jaccard index"]
    for one, others in alike.items():
        lines.append(f"{one:<{width}}" + "".join(f"{value:8.3f}" for value in others.values()))
    return "\n".join(lines)
