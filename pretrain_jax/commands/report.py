"""The command `report`: one page and one table of what a run of the pipeline found."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hardset.checks import check_integer
from hardset.cli import Parser, integer

EXAMPLES = """examples:
  python -m pretrain_jax report runs/optidel
  python -m pretrain_jax report runs/optidel --out report-2 --sample 64
The page, index.html, needs no other file; results.csv has a line for each fine-tuned model.
A report of the same run is kept as it is; of a run that went on since, name another --out.
"""


def main(argv: Sequence[str]) -> int:
    """Write the report; returns the exit code."""
    options = _parser().parse_args(argv)
    check_integer("--sample", options.sample, 2, 1 << 20)
    check_integer("--seed", options.seed, 0, 2**32 - 1)
    from pretrain_jax.report.page import PAGE, write_report

    out = Path(options.run) / "report" if options.out is None else Path(options.out)
    manifest = write_report(
        options.run,
        out,
        sample=options.sample,
        seed=options.seed,
        report=lambda line: print(line, file=sys.stderr),
    )
    missing = manifest.counts["missing"]
    print(f"{out / PAGE}: {manifest.counts['results']} results, {missing} missing")
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="python -m pretrain_jax report",
        description="Tables, charts and pictures of a run, published numbers beside them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", help="folder that the command pipeline wrote")
    parser.add_argument("--out", metavar="FOLDER", help="default RUN/report")
    parser.add_argument(
        "--sample",
        type=integer,
        default=256,
        help="images of each set on which V-information is evaluated, default 256",
    )
    parser.add_argument("--seed", type=integer, default=0, help="of masks and bootstrap")
    return parser
