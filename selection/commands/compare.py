"""The command `compare`: several methods or stored subsets on the same pool."""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from selection.commands.inputs import FILES, add_pool_options, parse_budget, read_pool
from selection.core.arrays import Array, blocks
from selection.core.files import SUBSET_SUFFIXES, json_text, read_subset
from selection.core.pool import Pool
from selection.core.subset import Subset
from selection.method_text import parse_method
from theory.checks import check_integer
from theory.command_line import integer

EXAMPLES = """columns:
  kept       number of examples, mean over the seeds
  score      mean score of the kept examples
  coverage   root mean square distance of all examples to the nearest kept one
  least      share of the rarest class among the kept, times the number of classes; 1 is balanced
  stable     mean Jaccard index of two seeds
  seconds    of one selection
and the Jaccard indices of the methods among each other.

{files}
examples:
  python -m selection compare hard random ccs:cutoff=0.1 --scores el2n.npy --budget 0.1 --seeds 5
  python -m selection compare k-center herding kept.parquet --features x.npy --labels y.npy \\
      --budget 500 --json
"""

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
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Select by every method and print; returns the exit code."""
    check_integer("seeds", options.seeds, 1, 10**4)
    known = {text: _source(text) for text in options.methods}
    pool = read_pool(options)
    budget = parse_budget(options.budget, len(pool))
    found: dict[str, list[Subset]] = {}
    seconds: dict[str, float] = {}
    for text, source in tqdm(known.items(), desc="methods", leave=False, disable=None):
        begun = time.perf_counter()
        if isinstance(source, Subset):
            _check_rows(text, source, len(pool))
            found[text] = [source]
        else:
            found[text] = [source.select(pool, budget, seed) for seed in range(options.seeds)]
        seconds[text] = (time.perf_counter() - begun) / len(found[text])
    rows = [_row(text, found[text], pool, seconds[text]) for text in found]
    alike = {
        one: {other: _mean_jaccard(found[one], found[other]) for other in found} for one in found
    }
    if options.json:
        print(json_text({"methods": rows, "jaccard": alike}))
    else:
        print(_table(rows, alike))
    return 0


def _source(text: str) -> Any:
    return read_subset(text) if Path(text).suffix in SUBSET_SUFFIXES else parse_method(text)


def _check_rows(path: str, subset: Subset, n: int) -> None:
    if subset.achieved and subset.indices.max() >= n:
        raise ValueError(
            f"subset file {path} keeps row {subset.indices.max()}; the pool has {n} examples"
        )


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
    if pool.scores is not None:
        values = pool.scores.values
        row["score"] = float(np.mean([values[one.indices].mean() for one in subsets]))
    if pool.features is not None and pool.features.ndim == 2:
        gaps = [coverage(pool.features, pool.features[one.indices]) for one in subsets]
        row["coverage"] = float(np.mean(gaps))
    if pool.labels is not None:
        classes, labels = np.unique(pool.labels, return_inverse=True)
        counts = [np.bincount(labels[one.indices], minlength=len(classes)) for one in subsets]
        row["least"] = float(np.mean([c.min() * len(classes) / c.sum() for c in counts]))
    if len(subsets) > 1:
        pairs = [_jaccard(a, b) for i, a in enumerate(subsets) for b in subsets[:i]]
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


def _jaccard(one: Subset, other: Subset) -> float:
    common = len(np.intersect1d(one.indices, other.indices))
    return common / (one.achieved + other.achieved - common)


def _mean_jaccard(ones: list[Subset], others: list[Subset]) -> float:
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
