"""The command `solve`: a point, or a file of points."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from hardset.checks import check_choice, check_range
from hardset.cli import number
from replica._command_output import print_json
from replica.solution import ReplicaSolution, Status
from replica.solve import solve
from theory.policies import POLICY_NAMES, policy_from_name
from theory.probes import FixedAngle
from theory.problem import DownstreamShift, PerceptronProblem

EXAMPLES = """examples:
  python -m replica solve --alpha-total 5 --keep-fraction 0.35 --theta-deg 20 --policy hard
  python -m replica solve --alpha-total 20 --keep-fraction 0.2 --policy window --lo 0.1
  python -m replica solve --alpha-total 100 --keep-fraction 0.1 --redundancy 5 --json
  python -m replica solve --points points.json --json

A points file is a JSON list of objects such as
  {"alpha_total": 20, "f": 0.2, "theta_deg": 10, "policy": "window", "lo": 0.1}
with optional "redundancy" and "downstream_deg"; "window" needs "lo" and "mixture" needs "w".
"""

PARAMETERS = {"window": "lo", "mixture": "w"}


def run(options: argparse.Namespace) -> int:
    """Solve and print; returns the exit code (1 if a point is not certified)."""
    if options.points is not None:
        _refuse_beside_points(options)
    points = _read_points(options.points) if options.points else [_point_of(options)]
    points = [
        _checked(point, f"point {i}: " if options.points else "") for i, point in enumerate(points)
    ]
    solved = solve_points(points)
    if options.json:
        print_json(solved if options.points else solved[0])
    else:
        for point in solved:
            print(_report(point))
    return 0 if all(point["status"] == Status.CONVERGED.name.lower() for point in solved) else 1


def solve_points(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Solve points of the file's format; the same points with the results added, in order.

    Points of one policy are solved together.
    """
    solved: list[dict[str, Any]] = [{} for _ in points]
    for name in sorted({point["policy"] for point in points}):
        rows = [i for i, point in enumerate(points) if point["policy"] == name]

        def column(key: str, default: float | None = None, rows: list[int] = rows) -> np.ndarray:
            return np.array([points[i].get(key, default) for i in rows], dtype=np.float64)

        parameters = {PARAMETERS[name]: column(PARAMETERS[name])} if name in PARAMETERS else {}
        solution = solve(
            PerceptronProblem(
                alpha_total=column("alpha_total"),
                keep_fraction=column("f"),
                probe=FixedAngle.degrees(column("theta_deg")),
                policy=policy_from_name(name, **parameters),
                redundancy=column("redundancy", 1.0),
                downstream=DownstreamShift.degrees(column("downstream_deg", 0.0)),
            )
        )
        for lane, i in enumerate(rows):
            solved[i] = points[i] | _results(solution, lane)
    return solved


def _results(solution: ReplicaSolution, lane: int) -> dict[str, Any]:
    def value(name: str) -> float | None:
        entry = float(np.asarray(getattr(solution, name))[lane])
        return entry if np.isfinite(entry) else None  # JSON has no NaN

    status = Status(int(np.asarray(solution.status)[lane]))
    return {
        "R": value("overlap"),
        "rho": value("probe_overlap"),
        "kappa": value("margin"),
        "error": value("error"),
        "support_fraction": value("support_fraction"),
        "v_information": value("v_information"),
        "residual_saddle": value("residual_saddle"),
        "residual_gordon": value("residual_gordon"),
        "residual": value("residual"),
        "status": status.name.lower(),
    }


def _report(point: dict[str, Any]) -> str:
    lines = [f"  {key:<16} {value}" for key, value in point.items()]
    lines.append(f"  {Status[point['status'].upper()].sentence}")
    return "\n".join(lines)


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


def _read_points(path: str) -> list[dict[str, Any]]:
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"points file {path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"points file {path} is not JSON: {error}") from None
    if not isinstance(content, list) or not all(isinstance(point, dict) for point in content):
        raise ValueError(f"points file {path} is not a JSON list of objects")
    return content


def _checked(point: dict[str, Any], where: str) -> dict[str, Any]:
    """The point, if every entry is there and in its range."""
    for key in ("alpha_total", "f", "theta_deg", "policy"):
        if key not in point:
            raise ValueError(f"{where}the key {key!r} is missing")
    name = point["policy"]
    check_choice(f"{where}policy", name, POLICY_NAMES)
    needed = PARAMETERS.get(name)
    given = {key: point[key] for key in ("lo", "w") if point.get(key) is not None}
    if needed and needed not in given:
        raise ValueError(f"{where}policy {name!r} needs the parameter {needed!r}")
    for key in point.keys() & {
        "alpha_total",
        "f",
        "theta_deg",
        "redundancy",
        "downstream_deg",
        "lo",
        "w",
    }:
        if isinstance(point[key], bool) or not isinstance(point[key], int | float):
            raise ValueError(f"{where}{key} = {point[key]!r} is not a number")
    try:
        check_range("f", point["f"], 0.0, 1.0, open_low=True)
        policy_from_name(name, **given).check(point["f"], None)
        PerceptronProblem(alpha_total=point["alpha_total"], redundancy=point.get("redundancy", 1.0))
        FixedAngle.degrees(point["theta_deg"])
        DownstreamShift.degrees(point.get("downstream_deg", 0.0))
    except ValueError as error:
        raise ValueError(f"{where}{error}") from None
    return point


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
    one.add_argument("--theta-deg", type=number, default=0.0, help="probe angle, 0 to 90 degrees")
    one.add_argument("--policy", default="hard", help=f"one of {', '.join(POLICY_NAMES)}")
    one.add_argument("--lo", type=number, help="start of the window, an abs(z) quantile")
    one.add_argument("--w", type=number, help="share of the hardest examples in the mixture")
    one.add_argument("--redundancy", type=number, default=1.0, help="copies of each example, >= 1")
    one.add_argument(
        "--downstream-deg", type=number, default=0.0, help="angle of the downstream teacher's shift"
    )
    one.add_argument("--points", metavar="FILE.json", help="a JSON list of points")
    one.add_argument("--json", action="store_true", help="print JSON")
    one.set_defaults(run=run)
