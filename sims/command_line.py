"""What `python -m sims run`, `solve` and `verify` do: simulate, separate own data, check theory."""

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from hardset.checks import check_integer, check_range
from hardset.cli import Numbers, Parser, check_output_folder, integer, number
from hardset.datafile import check_output_file, parameters_of, read_dataset, write_dataset
from sims.draws import check_kept
from theory.policy_names import POLICY_NAMES, check_policy, policy_parameter

if TYPE_CHECKING:
    from theory.problem import PerceptronProblem


KIND = "simulation"
REPORTED = ("error", "overlap", "probe_overlap", "downstream_overlap", "margin", "support_fraction")
COUNTS = ("solved", "not_separable", "failed", "empty")

# Heading, key and format of the table's columns.
COLUMNS = (
    ("alpha_t", "alpha_total", "8g"),
    ("f", "keep_fraction", "9.4g"),
    ("theta", "theta_deg_mean", "7.4g"),
    ("r", "redundancy", "4g"),
    ("error", "error_mean", "10.6f"),
    ("+/-", "error_stderr", "9.6f"),
    ("R", "overlap_mean", "10.6f"),
    ("rho", "probe_overlap_mean", "10.6f"),
    ("kappa", "margin_mean", "10.5g"),
    ("support", "support_fraction_mean", "9.4f"),
    ("solved", "solved", "7d"),
)


def grid_points(dataset: xr.Dataset) -> list[dict[str, Any]]:
    """One flat dictionary a grid point, its parameters first, angles in degrees."""
    coordinates = {
        str(name): dataset[name].broadcast_like(dataset["error_mean"]).values
        for name in dataset.coords
        if name not in ("draw", "delta", "along_teacher", "along_plane", "theta")
    }
    coordinates["downstream_deg"] = _degrees(np.arctan(_full(dataset, "delta")))
    if "theta" in dataset.coords:
        coordinates["theta_deg"] = _degrees(_full(dataset, "theta"))
    names = [f"{name}_{part}" for name in REPORTED for part in ("mean", "stderr")]
    values = {name: dataset[name].values for name in names}
    values |= {f"theta_deg_{part}": _degrees(dataset[f"theta_{part}"]) for part in ("mean", "std")}
    values["bracket_max"] = dataset["bracket_max"].values
    columns: dict[str, list[Any]] = {
        name: np.ravel(array).astype(float).tolist() for name, array in coordinates.items()
    }
    for name, array in values.items():
        columns[name] = [_finite(value) for value in np.ravel(array).tolist()]
    columns |= {name: np.ravel(dataset[name].values).astype(int).tolist() for name in COUNTS}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _full(dataset: xr.Dataset, name: str) -> Any:
    return dataset[name].broadcast_like(dataset["error_mean"]).values


def _degrees(radians: Any) -> Any:
    # The way to radians and back leaves its rounding behind 20.
    return np.round(np.rad2deg(np.asarray(radians)), 12)


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None  # JSON has no NaN


def points_table(points: list[dict[str, Any]]) -> str:
    """The points as text, one line each; "-" for what has no value."""
    lines = ["".join(f"{head:>{_width(form)}}" for head, _, form in COLUMNS)]
    for point in points:
        cells = [(point[key], form) for _, key, form in COLUMNS]
        line = "".join(f"{'-':>{_width(f)}}" if v is None else f"{v:{f}}" for v, f in cells)
        missing = [f"{point[name]} {name.replace('_', ' ')}" for name in COUNTS[1:] if point[name]]
        lines.append("  ".join([line, *missing]))
    return "\n".join(lines)


def _width(form: str) -> int:
    return int(form.rstrip("dfg").split(".")[0])


def stored_run(path: Path, parameters: dict[str, Any]) -> xr.Dataset | None:
    """The run of `parameters` that `path` holds already, None if there is no such file.

    Raises:
        ValueError: `path` is a folder, or a file that a new one must not replace: of another run,
            damaged, or no data file.
    """
    if not path.exists():
        return None
    if not path.is_file():
        what = "folder" if path.is_dir() else "device or a pipe"
        raise ValueError(f"output file {path} is a {what}; give a file's name with --out")
    dataset = read_dataset(path, kind=KIND)
    found = parameters_of(dataset)
    for name in sorted(found | parameters):
        if found.get(name) != parameters.get(name):
            raise ValueError(
                f"output file {path} was computed with {name} = {found.get(name)}, not "
                f"{parameters.get(name)}; name another one with --out, or delete it"
            )
    print(f"{path} holds this run already", file=sys.stderr)
    return dataset


def save_run(dataset: xr.Dataset, path: Path, parameters: dict[str, Any]) -> str:
    """Write a run to a file that was not there; returns why that failed, or nothing.

    A file that another process wrote meanwhile is as good if it holds the same run.
    """
    try:
        write_dataset(dataset, path, kind=KIND, parameters=parameters, replace=False)
    except FileExistsError:
        try:
            stored_run(path, parameters)
        except (ValueError, OSError) as error:
            return f"another process wrote {path} meanwhile: {error}"
    except OSError as error:
        return f"{error.filename or path}: {error.strerror or error}"
    return ""


DEFAULT_OUTPUT = "direction.npy"  # of `sims solve`
VERIFICATIONS = ("quick", "full")  # see `sims.verify`


def _fractions(count: int) -> tuple[float, ...]:
    return tuple(float(f) for f in np.logspace(-2, 0, count))


@dataclasses.dataclass(frozen=True)
class Preset:
    """Settings of a published experiment, hard selection.

    Attributes:
        dim: N.
        draws: number of draws.
        alpha_total: values of alpha_total.
        keep_fraction: values of f.
        theta_deg: probe angles in degrees.
    """

    dim: int
    draws: int
    alpha_total: tuple[float, ...]
    keep_fraction: tuple[float, ...]
    theta_deg: tuple[float, ...]


PRESETS = {
    # The numbers in the text of OptiDEL, arXiv:2408.07107.
    "published-n200": Preset(200, 50, (5.0, 10.0, 20.0, 50.0, 100.0), _fractions(20), (0.0,)),
    # The numbers in its published code.
    "published-n30": Preset(
        30, 50, (5.0, 10.0, 20.0, 50.0, 100.0), _fractions(12), (0.0, 10.0, 20.0)
    ),
}


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
    from sims.separate import run_solve

    code, report, trouble = run_solve(options.features, options.labels, options.out, options.json)
    print(report)
    if trouble:
        raise ValueError(f"the direction above was not saved: {trouble}")
    return code


def _verify(options: argparse.Namespace) -> int:
    check_integer("seed", options.seed, 0, math.inf)
    _check_devices(options)
    from tqdm import tqdm

    from sims.verification import PLANS, verify

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
    from theory.problem import DownstreamShift, Independent, InSample, PerceptronProblem

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
