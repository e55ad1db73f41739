"""The command `select`: keep a budget of examples by any method."""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hardset.checks import check_integer, check_range
from hardset.cli import integer, number
from hardset.progress import asked_for_progress, bar
from selection.arrays import Array
from selection.commands.class_report import ClassReport
from selection.commands.given import add_given_options, given_facts, read_given
from selection.commands.inputs import (
    FILES,
    add_pool_options,
    add_progress,
    check_sources,
    class_number,
    keep_or_print,
    parse_budget,
    read_pool,
)
from selection.files import SUBSET_SUFFIXES, check_new_file, json_text, write_subset
from selection.methods.wrappers import Cutoff, Listed, Partitioned, Quotas
from selection.pool import Pool
from selection.registry import check_method, describe_methods, parse_method
from selection.selector import Selector, check_seed
from selection.subset import Subset

EXAMPLES = """methods, the files they cannot do without, their options and defaults:
{methods}

{files}  --include and --exclude name text files, one id a line.
  --given FILE and --given-features FILE name examples that are kept already: the budget counts new
  ones only, methods that compare examples count the given ones as picked, the others leave them
  out. Those of --given-features are no examples of the pool.
  --out FILE.parquet or FILE.json holds index, id, weight (and gain) in pick order, and the
  diagnostics. Where "nested" is true the first rows are the answer to a smaller budget, apart from
  weights: those of facility-location, craig and adacore are cluster sizes of the whole, so that a
  smaller budget needs them computed again.

A class report comes with --labels: how many of each are kept, least first, and which are lost.

Lists come first, then the cut-off, the quotas, the partitions, and then the method.

examples:
  python -m selection select hard --scores margin.npy --budget 0.1 --out kept.parquet
  python -m selection select ccs:cutoff=0.1 --scores aum.parquet:score --budget 5000 --seed 1
  python -m selection select k-center --features x.npy --labels y.npy --balance equal --budget 100
  python -m selection select k-center --features 'table.parquet:x*' --budget 0.2 --json
  python -m selection select easy --scores s.npy --labels y.npy --quota 0=2 1=1 --budget 300
  python -m selection select hard --scores d.parquet:aum --labels d.parquet:species \\
      --quota cat=2 dog=1 --budget 300
  python -m selection select infomax:weight=0.3 --scores s.npy --features x.npy --budget 0.2 \\
      --partitions 10 --scheduler local --resume parts --out kept.parquet
  python -m selection select random --scores s.npy --mislabel aum.npy --mislabel-cutoff 0.05 \\
      --include seed_set.txt --budget 0.5 --json
  python -m selection select k-center --features x.npy --given labelled.txt --budget 100
  python -m selection select facility-location --features x.npy --given-features old.npy --budget 9
"""


def add_command(commands: Any) -> None:
    """Add the command to the subparsers of `python -m selection`."""
    parser = commands.add_parser(
        "select",
        help="keep a budget of examples",
        epilog=EXAMPLES.format(methods=describe_methods(), files=FILES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("method", metavar="METHOD[:option=value,...]", help="one of those below")
    parser.add_argument("--budget", required=True, help="a count, or a fraction such as 0.1")
    add_pool_options(parser)
    parser.add_argument(
        "--balance", choices=("equal", "proportional"), help="select within classes or groups"
    )
    parser.add_argument(
        "--by",
        choices=("labels", "groups"),
        default="labels",
        help="what --balance and --quota are about, default labels",
    )
    parser.add_argument("--classes", type=integer, help="classes 0 ... CLASSES-1 must be there")
    parser.add_argument(
        "--quota",
        nargs="+",
        metavar="CLASS=SHARE",
        help="shares of the classes, by number or by name",
    )
    parser.add_argument(
        "--mislabel-cutoff", type=number, metavar="F", help="first drop this share of the hardest"
    )
    parser.add_argument("--partitions", type=integer, default=1, help="random parts, one by one")
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="solve the parts on a Dask cluster, or `local`"
    )
    parser.add_argument(
        "--resume", metavar="DIR", help="keep finished parts there, and take those that are there"
    )
    parser.add_argument("--include", metavar="FILE", help="ids that must be kept")
    parser.add_argument("--exclude", metavar="FILE", help="ids that must not be kept")
    add_given_options(parser)
    parser.add_argument("--seed", type=integer, default=0, help="of all random choices, default 0")
    parser.add_argument("--out", metavar="FILE", help="file to write; never replaces another one")
    add_progress(parser)
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Select, write and report; returns the exit code."""
    check_method(options.method)
    parse_budget(options.budget)
    check_seed(options.seed)
    if options.classes is not None:
        check_integer("--classes", options.classes, 1, 2**31)
    check_integer("--partitions", options.partitions, 1, 2**31)
    if options.mislabel_cutoff is not None:
        check_range("--mislabel-cutoff", options.mislabel_cutoff, 0.0, 1.0, open_high=True)
    if options.out is not None:
        check_new_file(options.out, SUBSET_SUFFIXES)
    check_sources(options)
    method = parse_method(options.method)  # which may bring JAX and Numba
    with asked_for_progress(options.progress), bar(3, "select", "stage") as stages:
        stages.set_postfix_str("reading files")
        cut = {"mislabel", "scores"} if options.mislabel_cutoff is not None else set()
        pool, names = read_pool(options, method.reads | cut)
        given = read_given(options, pool)
        budget = parse_budget(options.budget, len(pool))
        wrapped = _wrapped(method, options, pool, names)
        stages.update()
        stages.set_postfix_str(f"{budget} of {len(pool)} by {method.name}")
        subset = _named(wrapped.select(pool, budget, options.seed, given), names.get(options.by))
        stages.update()
        stages.set_postfix_str("writing")
        if options.out is not None:
            _write(options, pool, subset, given_facts(options, given))
        stages.update()
    report = None
    if pool.labels is not None:
        report = ClassReport.of(pool.labels, subset.indices, names.get("labels"))
    if options.out is None and not options.json:
        print("\n".join(str(one) for one in pool.ids[subset.indices]))
        for sentence in () if report is None else report.warnings():
            print(f"warning: {sentence}", file=sys.stderr)
        return 0
    summary = _summary(options, pool, subset, report) | given_facts(options, given)
    if options.json:
        print(json_text(summary))
    else:
        diagnostics = summary.pop("diagnostics")
        for name in ("classes", "class_report", "classes_lost", "warnings"):
            summary.pop(name, None)
        lines = _flat(summary | diagnostics)
        if report is not None:
            lines += report.lines()
            lines += [("warning", sentence) for sentence in report.warnings()]
        width = max(len(name) for name, _ in lines)
        print("\n".join(f"{name:<{width}}  {value}" for name, value in lines))
    return 0


def _write(options: argparse.Namespace, pool: Pool, subset: Subset, given: dict[str, Any]) -> None:
    """Write the subset with all that it was made from."""
    made_from = {
        name: value
        for name, value in vars(options).items()
        if value is not None and name not in ("run", "command", "out", "json", "progress", "resume")
    }
    facts = {"method": options.method, "seed": options.seed, "examples": len(pool)} | given
    ids = None if options.ids is None else pool.ids
    keep_or_print(
        lambda: write_subset(options.out, subset, ids, **facts, options=made_from),
        lambda: "\n".join(str(one) for one in pool.ids[subset.indices]),
    )


def _flat(facts: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    """Names and values for one line each; of what parts report only how many there are."""
    lines: list[tuple[str, str]] = []
    for name, value in facts.items():
        if isinstance(value, Mapping):
            lines += _flat(value, f"{above}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            lines.append((above + name, f"{len(value)}, each with diagnostics of its own (--json)"))
        else:
            shown = f"{value:.6g}" if isinstance(value, float) else f"{value}"
            lines.append((above + name, shown))
    return lines


def _named(subset: Subset, names: Array | None) -> Subset:
    """The subset with quotas of its classes by their names."""
    quotas = subset.diagnostics.get("quotas")
    if names is None or quotas is None:
        return subset
    by_name = {str(names[int(one)]): count for one, count in quotas.items()}
    return replace(subset, diagnostics={**subset.diagnostics, "quotas": by_name})


def _wrapped(
    method: Selector, options: argparse.Namespace, pool: Pool, names: Mapping[str, Array]
) -> Selector:
    """The method under the conditions that the options ask for."""
    if options.partitions != 1 or options.scheduler is not None:
        method = Partitioned(method, options.partitions, options.scheduler, options.resume)
    elif options.resume is not None:
        raise ValueError("--resume has no effect without --partitions")
    if options.quota is not None and options.balance is not None:
        raise ValueError("--balance and --quota exclude each other")
    if options.quota is not None or options.balance is not None:
        partition, known = getattr(pool, options.by), names.get(options.by)
        if partition is None:
            raise ValueError(f"--balance and --quota need --{options.by}")
        if known is not None and (options.classes or 0) > len(known):
            raise ValueError(f"--classes = {options.classes}, but {options.by} has {len(known)}")
        shares = options.balance if options.quota is None else _shares(options.quota, known)
        present = range(options.classes) if options.classes else np.unique(partition).tolist()
        expected = None if options.quota else tuple(present)
        method = Quotas(method, by=options.by, shares=shares, expected=expected)
    elif options.classes is not None or options.by != "labels":
        raise ValueError("--classes and --by have no effect without --balance or --quota")
    if options.mislabel_cutoff is not None:
        method = Cutoff(method, options.mislabel_cutoff)
    elif options.mislabel is not None:
        raise ValueError("--mislabel has no effect without --mislabel-cutoff")
    if options.include is not None or options.exclude is not None:
        lists = {
            name: _id_list(name, path, pool)
            for name in ("include", "exclude")
            if (path := getattr(options, name)) is not None
        }
        method = Listed(method, **lists)
    return method


def _shares(texts: list[str], names: Array | None) -> dict[int, float]:
    shares = {}
    for text in texts:
        one, _, share = text.rpartition("=")
        try:
            value = float(share) if one else None
        except ValueError:
            value = None
        if value is None:
            raise ValueError(f"--quota {text!r} is not CLASS=SHARE, such as 3=0.5")
        check_range(f"--quota {one}", value, 0.0, np.inf)
        number_of_class = class_number("--quota", one, names)
        if number_of_class in shares:
            raise ValueError(f"--quota names class {one} twice")
        shares[number_of_class] = value
    return shares


def _id_list(name: str, path: str, pool: Pool) -> tuple[int | str, ...]:
    """Ids of a text file, one a line."""
    if not Path(path).is_file():  # a pipe would block its reader for ever
        what = "does not exist" if not Path(path).exists() else "is no file"
        raise ValueError(f"{name} file {path} {what}")
    try:
        # Spreadsheets begin their texts with a byte-order mark.
        lines = [line.strip() for line in Path(path).read_text("utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{name} file {path} cannot be read: {error}") from None
    ids = tuple(filter(None, lines))
    if pool.ids.dtype.kind == "U":
        return ids
    numbers = []
    for one in ids:
        try:
            numbers.append(int(one))
        except ValueError:
            raise ValueError(
                f"{name} file {path} holds {one[:80]!r}; the ids are integers"
            ) from None
    return tuple(numbers)


def _summary(
    options: argparse.Namespace, pool: Pool, subset: Subset, report: ClassReport | None
) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "method": options.method,
        "examples": len(pool),
        "requested": subset.requested,
        "achieved": subset.achieved,
        "nested": subset.nested,
        "objective": subset.objective,
    }
    if report is not None:
        summary["classes"] = {one["class"]: one["kept"] for one in report.rows() if one["kept"]}
        summary["class_report"] = report.rows()
        summary["classes_lost"] = report.lost()
        summary["warnings"] = report.warnings()
    summary["diagnostics"] = dict(subset.diagnostics)
    if options.out is None:
        summary["kept"] = pool.ids[subset.indices].tolist()
    else:
        summary["out"] = str(Path(options.out))
    return summary
