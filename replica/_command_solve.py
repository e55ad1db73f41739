"""The command `solve`: a point, or a file of points."""

import argparse
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from hardset.cli import number
from replica._command_output import add_policy_options, json_numbers, print_json
from replica.points import RESULTS, Batch, Point, batches, read_points

EXAMPLES = """examples:
  python -m replica solve --alpha-total 5 --keep-fraction 0.35 --theta-deg 20 --policy hard
  python -m replica solve --alpha-total 20 --keep-fraction 0.2 --policy window --lo 0.1
  python -m replica solve --alpha-total 100 --keep-fraction 0.1 --redundancy 5 --json
  python -m replica solve --points points.json --json

A points file is a JSON list of objects such as
  {"alpha_total": 20, "f": 0.2, "theta_deg": 10, "policy": "window", "lo": 0.1}
with optional "redundancy" and "downstream_deg"; "window" needs "lo" and "mixture" needs "w".
"keep_fraction" may stand for "f"; "id" and "note" hold what you like, other keys are refused.
"""


def run(options: argparse.Namespace) -> int:
    """Solve and print; returns the exit code (1 if a point is not certified)."""
    if options.points is not None:
        _refuse_beside_points(options)
        points = read_points(options.points)
    else:
        points = [_point_of(options)]
    solved = solve_points(points, numbered=options.points is not None)
    if options.json:
        print_json(solved if options.points is not None else solved[0])
    else:
        print_points(solved)
    return 0 if all(point["status"] == "converged" for point in solved) else 1


def solve_points(points: list[Point], *, numbered: bool = True) -> list[Point]:
    """Solve points of the file's format; the same points with the results added, in order.

    Points of one policy are solved together.

    Args:
        points: objects with the keys of a points file.
        numbered: whether a message names the point by its place in the file.

    Raises:
        ValueError: the first point that is wrong.
    """
    solved: list[Point] = [{} for _ in points]
    parts = batches(points, numbered=numbered)
    # One policy's program is compiled while another one's points are solved.
    with ThreadPoolExecutor(2) as pool:
        for batch, found in zip(parts, pool.map(_solve, parts), strict=True):
            for row, results in zip(batch.rows, found, strict=True):
                solved[row] = points[row] | results
    return solved


def _solve(batch: Batch) -> list[Point]:
    """The results of a batch's points."""
    # Imported where the arguments are known to be right: JAX takes a second to load.
    from replica.solution import Status
    from replica.solver import solve
    from theory.policies import policy_from_name
    from theory.problem import DownstreamShift, FixedAngle, PerceptronProblem

    solution = solve(
        PerceptronProblem(
            alpha_total=batch.alpha_total,
            keep_fraction=batch.keep_fraction,
            probe=FixedAngle.degrees(batch.theta_deg),
            policy=policy_from_name(batch.policy, **batch.parameters),
            redundancy=batch.redundancy,
            downstream=DownstreamShift.degrees(batch.downstream_deg),
        )
    )
    columns: dict[str, list[Any]] = {
        key: json_numbers(getattr(solution, name)) for key, name in RESULTS.items()
    }
    names = {int(status): status.name.lower() for status in Status}
    columns["status"] = [names[status] for status in np.asarray(solution.status).tolist()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def print_points(points: list[Point]) -> None:
    """Print points as paragraphs of names and values, each with its status as a sentence."""
    from replica.solution import Status

    for point in points:
        lines = [f"  {key:<16} {value}" for key, value in point.items()]
        print("\n".join([*lines, f"  {Status[point['status'].upper()].sentence}"]))


# Options of one point, by their attribute, with their defaults.
_POINT_OPTIONS = {
    "alpha_total": None,
    "keep_fraction": None,
    "theta_deg": 0.0,
    "policy": "hard",
    "lo": None,
    "w": None,
    "redundancy": 1.0,
    "downstream_deg": 0.0,
}


def _refuse_beside_points(options: argparse.Namespace) -> None:
    for name, default in _POINT_OPTIONS.items():
        if getattr(options, name) != default:
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag} has no effect beside --points, whose file says it all")


def _point_of(options: argparse.Namespace) -> dict[str, Any]:
    missing = [
        flag
        for flag, value in (
            ("--alpha-total", options.alpha_total),
            ("--keep-fraction", options.keep_fraction),
        )
        if value is None
    ]
    if missing:
        raise ValueError(f"{' and '.join(missing)} must be given, or a file with --points")
    point = {
        "alpha_total": options.alpha_total,
        "f": options.keep_fraction,
        "theta_deg": options.theta_deg,
        "policy": options.policy,
        "redundancy": options.redundancy,
        "downstream_deg": options.downstream_deg,
    }
    return point | {
        key: value for key in ("lo", "w") if (value := getattr(options, key)) is not None
    }


def add_command(commands: Any) -> None:
    """Add the command to the subparsers of `python -m replica`."""
    one = commands.add_parser(
        "solve",
        help="solve a point or a file of points",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    one.add_argument("--alpha-total", type=number, help="total examples over N, > 0")
    one.add_argument("--keep-fraction", type=number, help="kept fraction f, in (0, 1]")
    add_policy_options(one)
    one.add_argument("--redundancy", type=number, default=1.0, help="copies of each example, >= 1")
    one.add_argument(
        "--downstream-deg", type=number, default=0.0, help="angle of the downstream teacher's shift"
    )
    one.add_argument("--points", metavar="FILE.json", help="a JSON list of points")
    one.add_argument("--json", action="store_true", help="print JSON")
    one.set_defaults(run=run)
