"""The command `frontier`: the least error of a number of kept examples."""

import argparse
from typing import Any

import numpy as np

from hardset.checks import check_range
from hardset.cli import Numbers
from replica._command_output import (
    add_policy_options,
    check_policy_options,
    policy_of,
    print_records,
    records,
)

EXAMPLES = """examples:
  python -m replica frontier --alpha-kept 1 2 5 10
  python -m replica frontier --alpha-kept 5 --theta-deg 20 --policy window --lo 0.1 --json
  python -m replica frontier --alpha-kept 5 --theta-deg 20 --alpha-total 5 10 20 50

For every alpha_kept: the fraction f of alpha_total = alpha_kept/f whose student has the least
error, that error, and the exponent d log e/d log alpha_kept. Without --alpha-total any volume can
be chosen from, up to 1000 alpha_kept.
"""


def add_command(commands: Any) -> None:
    """Add the command to the subparsers of `python -m replica`."""
    parser = commands.add_parser(
        "frontier",
        help="the least error of alpha_kept examples, over all volumes to choose them from",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--alpha-kept",
        action=Numbers,
        nargs="+",
        metavar="X",
        required=True,
        help="kept examples over N, > 0",
    )
    parser.add_argument(
        "--alpha-total",
        action=Numbers,
        nargs="+",
        metavar="X",
        help="the volumes to choose from, over N; default any",
    )
    add_policy_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Compute and print; returns the exit code (1 if an answer is missing)."""
    check_policy_options(options)
    check_range("alpha_kept", options.alpha_kept, 0.0, np.inf, open_low=True)
    if options.alpha_total is not None:
        check_range("alpha_total", options.alpha_total, 0.0, np.inf, open_low=True)
    # Imported where the arguments are known to be right: JAX takes a second to load.
    from replica.optimal.search import SearchStatus
    from replica.optimal.volumes import frontier
    from theory.problem import FixedAngle

    theta = FixedAngle.degrees(options.theta_deg).theta
    found = frontier(
        np.asarray(options.alpha_kept),
        np.asarray(theta),
        policy_of(options),
        volumes=options.alpha_total,
    )
    columns = {
        "alpha_kept": options.alpha_kept,
        "theta_deg": options.theta_deg,
        "keep_fraction": found.keep_fraction,
        "alpha_total": found.alpha_total,
        "error": found.error,
        "exponent": found.exponent,
        "random_error": found.random_error,
        "status": found.status,
    }
    print_records(records(columns, SearchStatus), options.json)
    return int(np.any(np.asarray(found.status) == SearchStatus.FAILED))
