"""The command `experiment`: accuracy against the kept fraction on real data."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from hardset.cli import Numbers, integer
from hardset.datafile import write_bytes_atomic
from hardset.folder import alone
from selection.commands.inputs import keep_or_print
from selection.files import check_writable

EXAMPLES = """examples:
  python -m selection experiment demo --out out/selection
  python -m selection experiment demo --methods random hard "ccs:cutoff=0.2" --seeds 3 --out mine
  python -m selection experiment letter --out out/letter

A rerun with the same arguments computes only what is missing.
"""


def add_command(commands: Any) -> None:
    """Add the command to the subparsers of `python -m selection`."""
    from selection.experiments.plans import PLANS

    parser = commands.add_parser(
        "experiment",
        help="accuracy against the kept fraction on real data, all methods in one run",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("plan", choices=sorted(PLANS), help="what to compare")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for parts and tables")
    parser.add_argument("--dataset", help="another data set: " + _datasets())
    parser.add_argument("--data", metavar="DIR", help="where a data set lies that is not shipped")
    parser.add_argument("--train", type=integer, help="training examples; the others test")
    parser.add_argument(
        "--methods", nargs="+", metavar="METHOD[:option=value,...]", help="as for `select`"
    )
    parser.add_argument("--fractions", nargs="+", action=Numbers, metavar="F", help="in (0, 1]")
    parser.add_argument("--seeds", type=integer, help="seeds 0 ... SEEDS-1")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the plan, print the tables and write them; returns the exit code."""
    from selection.experiments.datasets import load_dataset, make_task
    from selection.experiments.plans import PLANS, Entry, check_plan

    plan = PLANS[options.plan]
    changed: dict[str, Any] = {
        name: value
        for name in ("dataset", "train", "seeds")
        if (value := getattr(options, name)) is not None
    }
    if options.methods:
        changed["entries"] = tuple(Entry(method) for method in options.methods)
    if options.fractions:
        changed["fractions"] = tuple(options.fractions)
    plan = replace(plan, **changed)
    check_plan(plan)
    folder, data = check_writable(options.out), options.data
    if not folder.exists():  # a plan that its data do not fit leaves no folder behind
        data = load_dataset(plan.dataset, data)
        make_task(data, "clean", 0, plan.train)
    folder.mkdir(parents=True, exist_ok=True)
    # Of two processes the second one would find files that it is about to write.
    with alone(folder):
        _run(plan, options.plan, data, folder)
    return 0


def _run(plan: Any, name: str, data: Any, folder: Path) -> None:
    from tqdm import tqdm

    from selection.experiments.published import PUBLISHED, beside
    from selection.experiments.results import draw
    from selection.experiments.runs import run_plan

    parts = len(plan.conditions) * plan.seeds
    with tqdm(total=parts, desc=plan.dataset, unit="part", disable=None) as bar:

        def advance(text: str) -> None:
            bar.set_postfix_str(text)
            bar.update()

        results = run_plan(plan, folder, data=data, advance=advance)
    table = results.markdown()
    if name in PUBLISHED:
        table += beside(results, PUBLISHED[name])
    tables = {
        "results.md": table,
        "results.csv": results.csv(),
        "recalls.csv": results.recalls_csv(),
    }

    def write() -> None:
        for one, text in tables.items():
            write_bytes_atomic(folder / one, text.encode())
        for suffix in ("png", "pdf"):
            draw(results, folder / f"accuracy.{suffix}")

    keep_or_print(write, lambda: table)
    print(table)
    for one in (*tables, "accuracy.png", "accuracy.pdf"):
        print(folder / one, file=sys.stderr)


def _datasets() -> str:
    from selection.experiments.datasets import DATASETS

    return ", ".join(DATASETS)
