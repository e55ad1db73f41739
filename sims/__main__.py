"""Command line: simulate a grid, separate one's own data, verify the theory."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from tqdm import tqdm

from sims.experiment import run as simulate
from sims.presets import PRESETS
from sims.userdata import DEFAULT_OUTPUT, run_solve
from sims.verify_plans import PLANS
from sims.verify_theory import verify
from theory.checks import check_range
from theory.command_line import Numbers, Parser, check_output_folder, integer, number, run
from theory.datafile import write_dataset
from theory.policies import POLICY_NAMES, policy_from_name
from theory.probes import Independent, InSample, Probe
from theory.problem import DownstreamShift, PerceptronProblem

EXAMPLES = """examples:
  python -m sims run --alpha-total 5 --keep-fraction 0.2,0.5,1 --theta-deg 20 --dim 50 --draws 20
  python -m sims run --preset published-n30 --cache parts --out students.nc
  python -m sims run --alpha-total 5 --keep-fraction 0.5 --probe in-sample --json
  python -m sims solve --features X.npy --labels y.npy --json
  python -m sims verify --preset quick
"""

PARAMETERS = {"window": "lo", "mixture": "w"}
REPORTED = ("error", "overlap", "probe_overlap", "downstream_overlap", "margin", "support_fraction")
COUNTS = ("solved", "not_separable", "failed", "empty")


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit code."""
    options = _parser().parse_args(argv)
    code: int = options.command(options)
    return code


def _run(options: argparse.Namespace) -> int:
    problem, dim, draws = _problem(options)
    if options.out is not None:
        check_output_folder(Path(options.out).parent)
    dataset = simulate(
        problem,
        dim,
        draws,
        options.seed,
        overlap=options.overlap,
        solver=options.solver,
        memory_gb=options.memory_gb,
        cache=options.cache,
        progress=options.progress or sys.stderr.isatty(),
    )
    points = _points(dataset)
    if options.out is not None:
        parameters = {"dim": dim, "draws": draws, "seed": options.seed, "points": len(points)}
        write_dataset(dataset, options.out, kind="simulation", parameters=parameters)
    if options.json:
        attributes = {key: dataset.attrs[key] for key in ("dim", "draws", "seed", "overlap")}
        content = {**attributes, "solver": options.solver, "points": points}
        print(json.dumps(content, indent=1, allow_nan=False))
    else:
        for point in points:
            print("  ".join(f"{key}={_short(value)}" for key, value in point.items()))
    return 0 if all(point["failed"] == 0 for point in points) else 1


def _solve(options: argparse.Namespace) -> int:
    code, report = run_solve(options.features, options.labels, options.out, options.json)
    print(report)
    return code


def _verify(options: argparse.Namespace) -> int:
    plan = PLANS[options.preset]
    hidden = not (options.progress or sys.stderr.isatty())
    total = len(plan.cases) * sum(plan.draws)
    with tqdm(total=total, unit="student", file=sys.stderr, disable=hidden, leave=False) as bar:
        found = verify(preset=options.preset, seed=options.seed, advance=bar.update)
    print(json.dumps(found.report(), indent=1, allow_nan=False) if options.json else found.table())
    return 0 if found.passed else 1


def _problem(options: argparse.Namespace) -> tuple[PerceptronProblem, int, int]:
    preset = PRESETS.get(options.preset) if options.preset else None

    def chosen(name: str, default: Any = None) -> Any:
        value = getattr(options, name)
        if value is None:
            value = default if preset is None else getattr(preset, name)
        if value is None:
            raise ValueError(f"--{name.replace('_', '-')} must be given, or a --preset")
        return value

    alpha, fraction = chosen("alpha_total"), chosen("keep_fraction")
    theta = np.asarray(chosen("theta_deg", [0.0]))
    check_range("theta_deg", theta, 0.0, 90.0, unit="degrees")
    own = {key: value for key in ("lo", "w") if (value := getattr(options, key)) is not None}
    needed = PARAMETERS.get(options.policy)
    if needed and needed not in own:
        raise ValueError(f"policy {options.policy!r} needs the option --{needed}")
    grid = PerceptronProblem.grid(
        alpha_total=alpha,
        keep_fraction=fraction,
        theta=np.deg2rad(theta),
        policy=policy_from_name(options.policy, **own),
        redundancy=options.redundancy,
        downstream=DownstreamShift.degrees(options.downstream_deg),
    )
    problem = grid if options.probe == "fixed" else _without_angle(grid, options)
    return problem, chosen("dim", 100), chosen("draws", 20)


def _without_angle(grid: PerceptronProblem, options: argparse.Namespace) -> PerceptronProblem:
    """The grid with a trained probe, whose angle nobody chooses."""
    if options.theta_deg is not None:
        raise ValueError(f"--theta-deg is for --probe fixed; {options.probe!r} trains its probe")
    if options.probe == "in-sample":
        probe: Probe = InSample()
    elif options.alpha_probe is None:
        raise ValueError("--probe independent needs --alpha-probe")
    else:
        probe = Independent(options.alpha_probe)
    # Without angles the grid has no such axis.
    axis = 2
    return PerceptronProblem(
        alpha_total=np.squeeze(np.asarray(grid.alpha_total), axis),
        keep_fraction=np.squeeze(np.asarray(grid.keep_fraction), axis),
        probe=probe,
        policy=grid.policy,
        redundancy=np.squeeze(np.asarray(grid.redundancy), axis),
        downstream=grid.downstream,
        dims=("alpha_total", "keep_fraction", "redundancy"),
    )


def _points(dataset: xr.Dataset) -> list[dict[str, Any]]:
    """One flat dictionary a grid point, its parameters first."""
    shape = dataset["error_mean"].shape
    coordinates = [name for name in dataset.coords if name != "draw"]
    broadcast = {
        name: dataset[name].broadcast_like(dataset["error_mean"]).values for name in coordinates
    }
    names = [f"{name}_{part}" for name in REPORTED for part in ("mean", "stderr")]
    names += ["theta_mean", "theta_std", "bracket_max"]
    points = []
    for index in np.ndindex(*shape):
        point: dict[str, Any] = {str(name): float(v[index]) for name, v in broadcast.items()}
        point |= {name: _finite(float(dataset[name].values[index])) for name in names}
        point |= {name: int(dataset[name].values[index]) for name in COUNTS}
        points.append(point)
    return points


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None  # JSON has no NaN


def _short(value: float | int | None) -> str:
    return "none" if value is None else f"{value:.6g}"


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m sims",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="run | solve | verify")

    sweep = commands.add_parser("run", help="train students on selected data")
    sweep.set_defaults(command=_run)
    sweep.add_argument("--preset", choices=tuple(PRESETS), help="a published experiment")
    sweep.add_argument("--alpha-total", action=Numbers, nargs="+", metavar="A", help="examples / N")
    sweep.add_argument("--keep-fraction", action=Numbers, nargs="+", metavar="F", help="in (0, 1]")
    sweep.add_argument(
        "--theta-deg", action=Numbers, nargs="+", metavar="T", help="0 to 90, default 0"
    )
    sweep.add_argument("--policy", choices=POLICY_NAMES, default="hard")
    sweep.add_argument("--lo", type=number, help="lower quantile of the window policy")
    sweep.add_argument("--w", type=number, help="weight of hard in the mixture policy")
    sweep.add_argument("--redundancy", action=Numbers, nargs="+", default=[1.0], metavar="R")
    sweep.add_argument("--downstream-deg", type=number, default=0.0, metavar="D")
    sweep.add_argument("--probe", choices=("fixed", "independent", "in-sample"), default="fixed")
    sweep.add_argument("--alpha-probe", type=number, help="examples / N of an independent probe")
    sweep.add_argument("--dim", type=integer, metavar="N", help="default 100")
    sweep.add_argument("--draws", type=integer, help="default 20")
    sweep.add_argument("--seed", type=integer, default=0)
    sweep.add_argument("--overlap", choices=("cosine", "pearson"), default="cosine")
    sweep.add_argument("--solver", choices=("native", "cvxpy"), default="native")
    sweep.add_argument("--memory-gb", type=number, help="default half of the memory")
    sweep.add_argument("--cache", metavar="DIR", help="keep finished parts; a rerun resumes")
    sweep.add_argument("--out", metavar="FILE.nc", help="write all draws as NetCDF-4")

    solve = commands.add_parser("solve", help="max-margin separator of your own data")
    solve.set_defaults(command=_solve)
    solve.add_argument("--features", required=True, metavar="X.npy", help="shape (P, N)")
    solve.add_argument("--labels", required=True, metavar="y.npy", help="-1/+1 or 0/1")
    solve.add_argument("--out", metavar="W.npy", help=f"direction, default {DEFAULT_OUTPUT}")

    check = commands.add_parser("verify", help="theory against simulation; exit code 1 if not")
    check.set_defaults(command=_verify)
    check.add_argument("--preset", choices=tuple(PLANS), default="quick")
    check.add_argument("--seed", type=integer, default=0)

    for command in (sweep, solve, check):
        command.add_argument("--json", action="store_true", help="print JSON")
    for command in (sweep, check):
        command.add_argument("--progress", action="store_true", help="even without a terminal")
    return parser


if __name__ == "__main__":
    sys.exit(run(main))
