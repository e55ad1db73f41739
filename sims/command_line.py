"""What `python -m sims run`, `solve` and `verify` do: simulate, separate own data, check theory."""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hardset.checks import check_integer, check_range
from hardset.cli import Numbers, Parser, check_output_folder, integer, number
from hardset.datafile import check_output_file
from sims.presets import DEFAULT_OUTPUT, PRESETS, VERIFICATIONS
from sims.ranges import check_kept
from theory.policy_names import POLICY_NAMES, check_policy, policy_parameter

if TYPE_CHECKING:
    from theory.problem import PerceptronProblem

# What computes takes seconds to import, and is imported when the arguments are known to be right.

EXAMPLES = """examples:
  python -m sims run --alpha-total 5 --keep-fraction 0.2,0.5,1 --theta-deg 20 --dim 50 --draws 20
  python -m sims run --preset published-n30 --cache parts --out students.nc
  python -m sims run --alpha-total 5 --keep-fraction 0.5 --probe in-sample --json
  python -m sims run --preset published-n200 --scheduler tcp://host:8786 --cache parts
  python -m sims solve --features X.npy --labels y.npy --json
  python -m sims verify --preset quick
"""


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit code."""
    options = _parser().parse_args(argv)
    code: int = options.command(options)
    return code


def _run(options: argparse.Namespace) -> int:
    parameters = _parameters(options)
    _check(parameters, options)
    from sims.experiment import run
    from sims.report import grid_points, points_table, save_run, stored_run

    out = None if options.out is None else Path(options.out)
    dataset = None if out is None else stored_run(out, parameters)
    trouble = ""
    if dataset is None:
        dataset = run(
            _problem(parameters),
            parameters["dim"],
            parameters["draws"],
            options.seed,
            overlap=options.overlap,
            solver=options.solver,
            memory_gb=options.memory_gb,
            cache=options.cache,
            progress=options.progress or sys.stderr.isatty(),
            devices=options.devices,
            scheduler=options.scheduler,
        )
        if out is not None:
            trouble = save_run(dataset, out, parameters)
    points = grid_points(dataset)
    if options.json:
        print(json.dumps({**parameters, "points": points}, indent=1, allow_nan=False))
    else:
        print(points_table(points))
    if trouble:
        raise ValueError(f"the result above was not saved: {trouble}")
    return 0 if all(point["failed"] == 0 for point in points) else 1


def _solve(options: argparse.Namespace) -> int:
    from sims.userdata import run_solve

    code, report, trouble = run_solve(options.features, options.labels, options.out, options.json)
    print(report)
    if trouble:
        raise ValueError(f"the direction above was not saved: {trouble}")
    return code


def _verify(options: argparse.Namespace) -> int:
    check_integer("seed", options.seed, 0, math.inf)
    _check_devices(options)
    from tqdm import tqdm

    from sims.verify_plans import PLANS
    from sims.verify_theory import verify

    plan = PLANS[options.preset]
    hidden = not (options.progress or sys.stderr.isatty())
    total = len(plan.cases) * sum(plan.draws)
    with tqdm(total=total, unit="student", file=sys.stderr, disable=hidden, leave=False) as bar:
        found = verify(
            preset=options.preset, seed=options.seed, advance=bar.update, devices=options.devices
        )
    print(json.dumps(found.report(), indent=1, allow_nan=False) if options.json else found.table())
    return 0 if found.passed else 1


def _parameters(options: argparse.Namespace) -> dict[str, Any]:
    """All that the results depend on, as JSON types; the preset fills in what is not given."""
    preset = PRESETS.get(options.preset) if options.preset else None

    def chosen(name: str, default: Any = None) -> Any:
        value = getattr(options, name)
        if value is None:
            value = default if preset is None else getattr(preset, name)
        if value is None:
            raise ValueError(f"--{name.replace('_', '-')} must be given, or a --preset")
        return list(value) if isinstance(value, tuple) else value

    parameters = {
        "alpha_total": chosen("alpha_total"),
        "keep_fraction": chosen("keep_fraction"),
        "probe": options.probe,
        "policy": options.policy,
        "redundancy": options.redundancy,
        "downstream_deg": options.downstream_deg,
        "dim": chosen("dim", 100),
        "draws": chosen("draws", 20),
        "seed": options.seed,
        "overlap": options.overlap,
        "solver": options.solver,
    }
    if options.probe == "fixed":
        parameters["theta_deg"] = chosen("theta_deg", [0.0])
    elif options.theta_deg is not None:
        raise ValueError(f"--theta-deg is for --probe fixed; {options.probe!r} trains its probe")
    if options.probe == "independent":
        if options.alpha_probe is None:
            raise ValueError("--probe independent needs --alpha-probe")
        parameters["alpha_probe"] = options.alpha_probe
    elif options.alpha_probe is not None:
        raise ValueError(f"--alpha-probe is for --probe independent, not {options.probe!r}")
    own = {key: value for key in ("lo", "w") if (value := getattr(options, key)) is not None}
    return parameters | own


def _check(parameters: dict[str, Any], options: argparse.Namespace) -> None:
    """Raise ValueError for what the library would refuse, before it is imported."""
    own = {key: parameters[key] for key in ("lo", "w") if key in parameters}
    needed = policy_parameter(parameters["policy"])
    if needed is not None and needed not in own:
        raise ValueError(f"policy {parameters['policy']!r} needs the option --{needed}")
    check_policy(parameters["policy"], own)
    for name, value in own.items():
        check_range(name, value, 0.0, 1.0)
    check_range("alpha_total", parameters["alpha_total"], 0.0, math.inf, open_low=True)
    check_range("keep_fraction", parameters["keep_fraction"], 0.0, 1.0, open_low=True)
    if "lo" in own:
        check_range(
            "lo + keep_fraction", own["lo"] + max(parameters["keep_fraction"]) - 1e-12, 0.0, 1.0
        )
    check_range("theta_deg", parameters.get("theta_deg", 0.0), 0.0, 90.0, unit="degrees")
    for value in parameters["redundancy"]:
        check_integer("redundancy", value, 1, math.inf)
    check_range("downstream_deg", parameters["downstream_deg"], 0.0, 90.0, open_high=True)
    if "alpha_probe" in parameters:
        check_range("alpha_probe", parameters["alpha_probe"], 0.0, math.inf, open_low=True)
    check_integer("dim", parameters["dim"], 2, math.inf)
    check_integer("draws", parameters["draws"], 1, math.inf)
    check_integer("seed", parameters["seed"], 0, math.inf)
    check_kept(min(parameters["keep_fraction"]), min(parameters["alpha_total"]), parameters["dim"])
    if options.memory_gb is not None:
        check_range("memory_gb", options.memory_gb, 0.0, math.inf, open_low=True, unit="GiB")
    _check_devices(options)
    if options.out is not None and not Path(options.out).is_file():
        if not Path(options.out).exists():
            check_output_folder(Path(options.out).parent)
        check_output_file(options.out)
    if options.cache is not None:
        check_output_folder(options.cache)
    if options.devices is not None and options.scheduler is not None:
        raise ValueError(
            "--devices are this process's, a --scheduler has its own: give one of them"
        )


def _check_devices(options: argparse.Namespace) -> None:
    if options.devices is not None:
        check_integer("devices", options.devices, 1, math.inf)


def _problem(parameters: dict[str, Any]) -> "PerceptronProblem":
    import dataclasses

    import numpy as np

    from theory.policies import policy_from_name
    from theory.probes import Independent, InSample
    from theory.problem import DownstreamShift, PerceptronProblem

    own = {key: parameters[key] for key in ("lo", "w") if key in parameters}
    grid = PerceptronProblem.grid(
        alpha_total=parameters["alpha_total"],
        keep_fraction=parameters["keep_fraction"],
        theta=np.deg2rad(parameters.get("theta_deg", 0.0)),
        policy=policy_from_name(parameters["policy"], **own),
        redundancy=parameters["redundancy"],
        downstream=DownstreamShift.degrees(parameters["downstream_deg"]),
    )
    if parameters["probe"] == "in-sample":
        return dataclasses.replace(grid, probe=InSample())
    if parameters["probe"] == "independent":
        return dataclasses.replace(grid, probe=Independent(parameters["alpha_probe"]))
    return grid


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m sims",
        description="Simulate a grid, separate one's own data, verify the theory.",
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
    sweep.add_argument(
        "--policy",
        choices=POLICY_NAMES,
        default="hard",
        help="which examples are kept, default hard",
    )
    sweep.add_argument("--lo", type=number, help="lower quantile of the window policy")
    sweep.add_argument("--w", type=number, help="weight of hard in the mixture policy")
    sweep.add_argument(
        "--redundancy",
        action=Numbers,
        nargs="+",
        default=[1.0],
        metavar="R",
        help="copies of each distinct example, default 1",
    )
    sweep.add_argument(
        "--downstream-deg",
        type=number,
        default=0.0,
        metavar="D",
        help="angle of the downstream task to the teacher, default 0",
    )
    sweep.add_argument(
        "--probe",
        choices=("fixed", "independent", "in-sample"),
        default="fixed",
        help="where the scores come from, default a probe at the angle --theta-deg",
    )
    sweep.add_argument("--alpha-probe", type=number, help="examples / N of an independent probe")
    sweep.add_argument("--dim", type=integer, metavar="N", help="default 100")
    sweep.add_argument("--draws", type=integer, help="default 20")
    sweep.add_argument("--seed", type=integer, default=0, help="of all draws, default 0")
    sweep.add_argument(
        "--overlap",
        choices=("cosine", "pearson"),
        default="cosine",
        help="how student and teacher are compared, default cosine",
    )
    sweep.add_argument(
        "--solver",
        choices=("native", "cvxpy"),
        default="native",
        help="of the max-margin students, default native",
    )
    sweep.add_argument("--memory-gb", type=number, help="default half of the memory")
    sweep.add_argument(
        "--scheduler", metavar="ADDRESS", help="solve on the workers of this dask scheduler"
    )
    sweep.add_argument("--cache", metavar="DIR", help="keep finished parts; a rerun resumes")
    sweep.add_argument(
        "--out", metavar="FILE.nc", help="write all draws as NetCDF-4; never replaces another run"
    )

    solve = commands.add_parser("solve", help="max-margin separator of your own data")
    solve.set_defaults(command=_solve)
    solve.add_argument("--features", required=True, metavar="X.npy", help="shape (P, N)")
    solve.add_argument("--labels", required=True, metavar="y.npy", help="-1/+1 or 0/1")
    solve.add_argument("--out", metavar="W.npy", help=f"direction, default {DEFAULT_OUTPUT}")

    check = commands.add_parser("verify", help="theory against simulation; exit code 1 if not")
    check.set_defaults(command=_verify)
    check.add_argument(
        "--preset",
        choices=VERIFICATIONS,
        default="quick",
        help="how much is compared, default quick",
    )
    check.add_argument("--seed", type=integer, default=0, help="of all draws, default 0")

    for command in (sweep, solve, check):
        command.add_argument("--json", action="store_true", help="print JSON")
    for command in (sweep, check):
        command.add_argument("--devices", type=integer, metavar="N", help="solve on N JAX devices")
        command.add_argument("--progress", action="store_true", help="even without a terminal")
    return parser
