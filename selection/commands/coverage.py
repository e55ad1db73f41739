"""The command `coverage`: where methods put their examples in the plane."""

import argparse
from pathlib import Path
from typing import Any

from hardset.checks import check_integer
from hardset.cli import integer, number
from hardset.datafile import write_bytes_atomic
from hardset.folder import alone
from selection.commands.inputs import keep_or_print
from selection.files import check_new_file
from selection.registry import check_method, parse_method
from selection.selector import budget_count

EXAMPLES = """Examples lie in clumps on a uniform ground; the score has a hill on a clump and one
where examples are few. The table has the mean score of what is kept, how far examples are from it,
and how much of it is close together.

examples:
  python -m selection coverage --out out/coverage
  python -m selection coverage --methods hard "ccs:cutoff=0.1" "infomax:weight=4" --out mine
"""


def add_command(commands: Any) -> None:
    """Add the command to the subparsers of `python -m selection`."""
    parser = commands.add_parser(
        "coverage",
        help="a picture of what methods keep in the plane",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for table and picture")
    parser.add_argument(
        "--methods", nargs="+", metavar="METHOD[:option=value,...]", help="as for `select`"
    )
    parser.add_argument("--n", type=integer, default=2000, help="examples, default 2000")
    parser.add_argument("--keep", type=number, default=0.1, help="fraction, default 0.1")
    parser.add_argument("--seed", type=integer, default=0, help="of all random choices, default 0")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Select, print the table and write it with the picture; returns the exit code."""
    check_integer("n", options.n, 100, 10**6)
    check_integer("seed", options.seed, 0, 2**62)
    budget = budget_count(float(options.keep), options.n)
    check_integer("kept examples", budget, 2, options.n)
    for method in options.methods or ():
        check_method(method)
    folder = Path(options.out)
    to_write = check_new_file(folder / "coverage.md", (".md",))
    # Here, for it brings SciPy and JAX.
    from selection.experiments.coverage import (
        METHODS,
        cover,
        coverage_table,
        draw_coverage,
        make_plane,
    )

    methods = options.methods or METHODS
    for method in methods:
        parse_method(method)
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        plane = make_plane(options.n, options.seed)
        found = {method: cover(plane, method, budget, options.seed) for method in methods}
        table = coverage_table(found)

        def write() -> None:
            for suffix in ("png", "pdf"):
                draw_coverage(plane, found, folder / f"coverage.{suffix}")
            write_bytes_atomic(to_write, table.encode())

        keep_or_print(write, lambda: table)
    print(table)
    return 0
