"""The command `knee`: the theory's advice for binary tasks beside measured curves."""

import argparse
from pathlib import Path
from typing import Any

from hardset.checks import check_integer, check_range
from hardset.cli import integer, number
from hardset.datafile import versions, write_bytes_atomic
from hardset.folder import alone
from hardset.seal import sealed_json
from selection.commands.inputs import keep_or_print

EXAMPLES = """The theory recommends a policy and a fraction for the coordinates that are estimated
from a task's training part; by this policy a max-margin student is trained at every fraction and
tested. The knee is the smallest fraction from which on the error stays within the tolerance of
that of all data.

examples:
  python -m selection knee mnist-5k --out out/knee
  python -m selection knee letter --splits 20 --tolerance 0.05 --out out/knee
"""


def add_command(commands: Any) -> None:
    """Add the command to the subparsers of `python -m selection`."""
    from selection.experiments.datasets import PAIRS

    parser = commands.add_parser(
        "knee",
        help="the recommended fraction beside the measured knee, on binary tasks",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dataset", choices=sorted(PAIRS), help="where the tasks come from")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for table and curves")
    parser.add_argument("--splits", type=integer, default=10, help="default 10")
    parser.add_argument("--tolerance", type=number, default=0.1, help="relative, default 0.1")
    parser.add_argument("--seed", type=integer, default=0, help="of all random choices, default 0")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure, print the table and write it; returns the exit code."""
    from selection.files import check_new_file

    check_integer("splits", options.splits, 2, 10**4)
    check_range("tolerance", options.tolerance, 0.0, 10.0)
    check_integer("seed", options.seed, 0, 2**62)
    folder = Path(options.out)
    to_write = check_new_file(folder / f"knee-{options.dataset}.md", (".md",))
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        table, curves = _measured(options)
        record = {
            "curves": curves,
            "options": {name: getattr(options, name) for name in ("splits", "tolerance", "seed")},
            "made_with": versions(),
        }

        def write() -> None:
            write_bytes_atomic(to_write.with_suffix(".json"), sealed_json(record))
            write_bytes_atomic(to_write, table.encode())

        keep_or_print(write, lambda: table)
    print(table)
    return 0


def _measured(options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """The table, and the curves of every task."""
    from tqdm import tqdm

    from selection.experiments.datasets import PAIRS, load_dataset
    from selection.experiments.knee import knee_table, measure_knee

    pairs = PAIRS[options.dataset]
    dataset = load_dataset(options.dataset)
    knees = []
    with tqdm(total=len(pairs) * options.splits, desc="splits", disable=None) as bar:
        for task, pair in pairs.items():
            bar.set_postfix_str(task)
            knees.append(
                measure_knee(
                    dataset,
                    task,
                    pair,
                    splits=options.splits,
                    tolerance=options.tolerance,
                    seed=options.seed,
                    advance=bar.update,
                )
            )
    curves = {
        one.task: {"fractions": one.fractions.tolist(), "errors": one.errors.tolist()}
        for one in knees
    }
    return knee_table(knees), curves
