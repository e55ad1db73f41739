"""The command `lossless`: how much a probe trained on the same data can prune at no cost."""

import argparse
from typing import Any

import numpy as np

from hardset.checks import check_range
from hardset.cli import Numbers, number
from replica._command_output import print_records

EXAMPLES = """examples:
  python -m replica lossless --alpha-total 2 5 10 20
  python -m replica lossless --alpha-total 100 --redundancy 10 --json

A max-margin probe trained on all the data ranks them, ties at its margin by the dual variable.
Keeping the lossless fraction of them keeps all its support vectors: the student is the probe.
"""


def add_command(commands: Any) -> None:
    """Add the command to the subparsers of `python -m replica`."""
    parser = commands.add_parser(
        "lossless",
        help="the fraction that an in-sample probe keeps without any loss",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--alpha-total",
        action=Numbers,
        nargs="+",
        metavar="X",
        required=True,
        help="total examples over N, > 0",
    )
    parser.add_argument(
        "--redundancy", type=number, default=1.0, help="copies of each example, >= 1"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Compute and print; returns the exit code."""
    check_range("alpha_total", options.alpha_total, 0.0, np.inf, open_low=True)
    check_range("redundancy", options.redundancy, 1.0, np.inf)
    # Imported where the arguments are known to be right: JAX takes a second to load.
    from replica.in_sample.solver import lossless_fraction

    fractions = np.asarray(lossless_fraction(np.divide(options.alpha_total, options.redundancy)))
    records = [
        {
            "alpha_total": alpha,
            "redundancy": options.redundancy,
            "lossless_fraction": float(fraction),
            "support_over_dim": alpha / options.redundancy * float(fraction),
        }
        for alpha, fraction in zip(options.alpha_total, fractions, strict=True)
    ]
    print_records(records, options.json)
    return 0
