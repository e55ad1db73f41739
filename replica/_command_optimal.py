"""The command `optimal`: best fraction, best window and weight, or the data that a target takes."""

import argparse
import dataclasses
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
  python -m replica optimal --alpha-total 10 100 --policy hard
  python -m replica optimal --alpha-total 20 --theta-deg 20 --tolerance 0.01 0.1 --json
  python -m replica optimal --alpha-total 20 --theta-deg 20 --keep-fraction 0.2
  python -m replica optimal --alpha-total 20 --theta-deg 20 --keep-fraction 0.2 --weight --json
  python -m replica optimal --target-error 0.01 --keep-fraction 0.3 --theta-deg 10

With --alpha-total alone: the smallest fraction of least error under the policy; with --tolerance,
the smallest one whose error is at most (1 + tolerance) times that of all data. With a
--keep-fraction too: the best window of abs(z) ranks, or with --weight the best weight w(z) found.
With --target-error: the alpha_total that the policy needs at --keep-fraction (default 1).
"""


def add_command(commands: Any) -> None:
    """Add the command to the subparsers of `python -m replica`."""
    parser = commands.add_parser(
        "optimal",
        help="the best fraction, window or weight, or the data that a target error takes",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for flag, text in (
        ("--alpha-total", "total examples over N, > 0"),
        ("--keep-fraction", "kept fraction f, in (0, 1]"),
        ("--tolerance", "accepted relative loss against all data"),
        ("--target-error", "errors to reach, in (0, 1/2)"),
    ):
        parser.add_argument(flag, action=Numbers, nargs="+", metavar="X", help=text)
    parser.add_argument(
        "--weight", action="store_true", help="the best weight w(z) instead of the best window"
    )
    add_policy_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Compute and print; returns the exit code (1 if an answer is missing)."""
    if (options.alpha_total is None) == (options.target_error is None):
        raise ValueError("exactly one of --alpha-total and --target-error must be given")
    _refuse_unused(options)
    _check_numbers(options)
    # Imported where the arguments are known to be right: JAX takes a second to load.
    from theory.problem import FixedAngle

    theta = np.asarray(FixedAngle.degrees(options.theta_deg).theta)
    if options.target_error is not None:
        found = _required(options, theta)
    elif options.keep_fraction is None:
        found = _fraction(options, theta)
    else:
        found = _weight(options, theta) if options.weight else _window(options, theta)
    print_records(found, options.json)
    return int(any(record["status"] in ("unreachable", "failed") for record in found))


def _refuse_unused(options: argparse.Namespace) -> None:
    """Raise ValueError for an option without effect."""
    fixed = options.keep_fraction is not None
    searched = options.target_error is None and fixed
    for flag, given, used in (
        ("--tolerance", options.tolerance is not None, not fixed and not options.target_error),
        ("--weight", options.weight, searched),
        ("--policy", options.policy != "hard", not searched),
        ("--lo", options.lo is not None, not searched),
        ("--w", options.w is not None, not searched),
    ):
        if given and not used:
            raise ValueError(f"{flag} has no effect on what is asked for (see --help)")


def _check_numbers(options: argparse.Namespace) -> None:
    check_policy_options(options)
    if options.alpha_total is not None:
        check_range("alpha_total", options.alpha_total, 0.0, np.inf, open_low=True)
    if options.keep_fraction is not None:
        check_range("keep_fraction", options.keep_fraction, 0.0, 1.0, open_low=True)
    if options.tolerance is not None:
        check_range("tolerance", options.tolerance, 1e-6, 100.0)
    if options.target_error is not None:
        check_range("target_error", options.target_error, 0.0, 0.5, open_low=True, open_high=True)


def _required(options: argparse.Namespace, theta: np.ndarray) -> list[dict[str, Any]]:
    from replica.optimal.search import SearchStatus
    from replica.optimal.volumes import required_data

    target = np.asarray(options.target_error)[:, None]
    fraction = np.asarray(options.keep_fraction or [1.0])
    found = required_data(target, fraction, theta, policy_of(options))
    asked = {"target_error": target, "keep_fraction": fraction, "theta_deg": options.theta_deg}
    return records(asked | _columns(found), SearchStatus)


def _fraction(options: argparse.Namespace, theta: np.ndarray) -> list[dict[str, Any]]:
    from replica.optimal.fraction import optimal_fraction, sufficient_fraction
    from replica.optimal.search import SearchStatus

    alpha = np.asarray(options.alpha_total)[:, None]
    asked = {"alpha_total": alpha, "theta_deg": options.theta_deg}
    if options.tolerance is None:
        best = optimal_fraction(alpha, theta, policy_of(options))
        return records(asked | _columns(best), SearchStatus)
    tolerance = np.asarray(options.tolerance)
    enough = sufficient_fraction(alpha, tolerance, theta, policy_of(options))
    return records(asked | {"tolerance": tolerance} | _columns(enough), SearchStatus)


def _window(options: argparse.Namespace, theta: np.ndarray) -> list[dict[str, Any]]:
    from replica.optimal.search import SearchStatus
    from replica.optimal.window import optimal_window

    alpha, fraction = np.asarray(options.alpha_total)[:, None], np.asarray(options.keep_fraction)
    found = optimal_window(alpha, fraction, theta)
    asked = {"alpha_total": alpha, "keep_fraction": fraction, "theta_deg": options.theta_deg}
    return records(asked | _columns(found), SearchStatus)


def _weight(options: argparse.Namespace, theta: np.ndarray) -> list[dict[str, Any]]:
    from replica.optimal.policy import optimal_policy
    from replica.optimal.search import SearchStatus

    alpha, fraction = np.asarray(options.alpha_total)[:, None], np.asarray(options.keep_fraction)
    found = optimal_policy(alpha, fraction, theta)
    asked = {"alpha_total": alpha, "keep_fraction": fraction, "theta_deg": options.theta_deg}
    columns = _columns(found)
    ranks, fields = columns.pop("ranks"), columns.pop("fields")
    listed = records(asked | columns, SearchStatus)
    for record, index in zip(listed, np.ndindex(np.shape(found.error)), strict=True):
        kept = ranks[index][:, 1] > ranks[index][:, 0]
        record["ranks"] = ranks[index][kept].tolist()
        record["abs_z"] = fields[index][kept].tolist()
    return listed


def _columns(found: Any) -> dict[str, Any]:
    return {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
