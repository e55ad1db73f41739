"""Defines the commands of sims, which simulate, separate your own data and check theory."""

import dataclasses
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from hardset.checks import check_integer, check_range
from hardset.cli import Choice, Json, Numbers, Progress, check_output_folder, print_json, wanted
from hardset.datafile import check_output_file, parameters_of, read_dataset, write_dataset
from replica.commands import LossName, PolicyName, ProbeName
from replica.points import (
    NOISE,
    RANGES,
    WINDOW_END,
    Kind,
    check_kind,
    check_parameter,
    check_student,
    labels_of,
    probe_from_name,
    student_of,
    window_end,
)
from sims.draws import check_kept
from theory.policy_names import LOSSES, OWN_PARAMETERS

if TYPE_CHECKING:
    import xarray as xr

    from theory.problem import PerceptronProblem


KIND = "simulation"
REPORTED = (
    "error",
    "overlap",
    "probe_overlap",
    "downstream_overlap",
    "margin",
    "support_fraction",
    "norm",
    "weight_norm2",
    "training_loss",
    "training_error",
)
COUNTS = ("solved", "not_separable", "failed", "empty")

# Key, format and, where it differs, heading of the table's columns.
COLUMNS = (
    ("alpha_total", "12g", ""),
    ("keep_fraction", "15.4g", ""),
    ("theta_deg_mean", "11.4g", "theta_deg"),
    ("redundancy", "12g", ""),
    ("error_mean", "10.6f", "error"),
    ("error_stderr", "10.6f", "+/-"),
    ("overlap_mean", "10.6f", "overlap"),
    ("probe_overlap_mean", "15.6f", "probe_overlap"),
    ("margin_mean", "10.5g", "margin"),
    ("support_fraction_mean", "18.4f", "support_fraction"),
    ("solved", "8d", ""),
)


def grid_points(dataset: "xr.Dataset") -> list[dict[str, Any]]:
    """List the grid points as flat dictionaries, parameters first, angles in degrees."""
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


def _full(dataset: "xr.Dataset", name: str) -> Any:
    return dataset[name].broadcast_like(dataset["error_mean"]).values


def _degrees(radians: Any) -> Any:
    # Converted to radians and back, 20 degrees carry a rounding error.
    return np.round(np.rad2deg(np.asarray(radians)), 12)


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None  # JSON has no NaN


def points_table(points: list[dict[str, Any]]) -> str:
    """Write the points as a table, one line each, with "-" for a missing value."""
    lines = ["".join(f"{head or key:>{_width(form)}}" for key, form, head in COLUMNS)]
    for point in points:
        cells = [(point[key], form) for key, form, _ in COLUMNS]
        line = "".join(f"{'-':>{_width(f)}}" if v is None else f"{v:{f}}" for v, f in cells)
        missing = [f"{point[name]} {name.replace('_', ' ')}" for name in COUNTS[1:] if point[name]]
        lines.append("  ".join([line, *missing]))
    return "\n".join(lines)


def _width(form: str) -> int:
    return int(form.rstrip("dfg").split(".")[0])


def stored_run(path: Path, parameters: dict[str, Any]) -> "xr.Dataset | None":
    """Read the run of `parameters` from a file, or return None without the file.

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


def save_run(dataset: "xr.Dataset", path: Path, parameters: dict[str, Any]) -> str:
    """Write a run to a new file.

    The answer says why that failed, and is empty otherwise. A file that another process wrote
    meanwhile is as good if it holds the same run.
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


VERIFICATIONS = ("quick", "full")  # see `sims.verification.PLANS`


def _fractions(count: int) -> tuple[float, ...]:
    return tuple(float(f) for f in np.logspace(-2, 0, count))


@dataclasses.dataclass(frozen=True)
class Preset:
    """The settings of a published experiment with hard selection.

    Attributes:
        dim: N.
        draws: number of draws.
        alpha_total: values of alpha_total.
        keep_fraction: kept fractions.
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


# The computing modules take seconds to import, so they are imported once the arguments are checked.


def run(
    *,
    preset: Annotated[str, Choice(PRESETS)] | None = None,
    alpha_total: Numbers | None = None,
    keep_fraction: Numbers | None = None,
    probe: ProbeName = "fixed",
    theta_deg: Numbers | None = None,
    alpha_probe: float | None = None,
    policy: PolicyName = "hard",
    lo: float | None = None,
    w: float | None = None,
    redundancy: Numbers = (1.0,),
    downstream_deg: float = 0.0,
    loss: LossName | None = None,
    lam: float | None = None,
    flip: float | None = None,
    noise_sigma: float | None = None,
    noise_temperature: float | None = None,
    folds: float | None = None,
    folds_overlap: float | None = None,
    dim: int | None = None,
    draws: int | None = None,
    seed: int = 0,
    overlap: Literal["cosine", "pearson"] = "cosine",
    solver: Literal["native", "cvxpy"] = "native",
    memory_gb: float | None = None,
    devices: int | None = None,
    scheduler: str | None = None,
    cache: Path | None = None,
    out: Path | None = None,
    progress: Progress = False,
    as_json: Json = False,
) -> int:
    """Train students on selected data of a finite dimension.

    Several values of an option make a grid, the outer product of all lists. The exit code is 1 if
    a student could not be trained to the end.

    Args:
        preset: a published experiment, which says what is not given.
        alpha_total: total examples over N, > 0.
        keep_fraction: kept fraction, in (0, 1].
        probe: a probe at a fixed angle, one trained on independent data, one trained on the
            very data that is pruned, or one for each fold of the data.
        theta_deg: angle of a fixed probe to the teacher, 0 to 90 degrees, by default 0.
        alpha_probe: examples over N that an independent probe saw, > 0.
        policy: which examples are kept.
        lo: start of the window, a quantile of abs(z).
        w: share of the hardest examples in the mixture.
        redundancy: copies of each distinct example, whole numbers.
        downstream_deg: angle of the downstream teacher's shift, 0 to 90 degrees.
        loss: the student minimises this loss with a ridge; without it, it has the largest margin.
        lam: ridge strength of the loss, > 0: the sum over the kept + (lam N/2) W.W.
        flip: probability that an observed label is flipped, 0 to 1/2.
        noise_sigma: Gaussian noise on the teacher's field before its sign is taken.
        noise_temperature: temperature of logistic labels.
        folds: folds and probes of a cross-fitted probe, a whole number.
        folds_overlap: product of two such probes' parts beside the teacher, 0 to 1.
        dim: the dimension N, by default 100.
        draws: how often each point is drawn, by default 20.
        seed: of all draws.
        overlap: how student and teacher are compared.
        solver: of the max-margin students.
        memory_gb: memory that may be used, by default half of it.
        devices: solve on that many JAX devices.
        scheduler: address of a dask scheduler on whose workers is solved.
        cache: folder of finished parts; a rerun goes on from them.
        out: a NetCDF-4 file for all draws; another run is never replaced.

    Examples:
        python -m sims run --alpha-total 5 --keep-fraction 0.2,0.5,1 --theta-deg 20 --dim 50
        python -m sims run --preset published-n30 --cache parts --out students.nc
        python -m sims run --alpha-total 5 --keep-fraction 0.5 --probe in-sample --json
        python -m sims run --alpha-total 4 --keep-fraction 0.5 --loss hinge --lam .1 --flip .1
        python -m sims run --preset published-n200 --scheduler tcp://host:8786 --cache parts
    """
    chosen = PRESETS.get(preset or "")
    parameters: dict[str, Any] = {
        "alpha_total": alpha_total or (chosen and chosen.alpha_total),
        "keep_fraction": keep_fraction or (chosen and chosen.keep_fraction),
        "probe": probe,
        "policy": policy,
        "redundancy": redundancy,
        "downstream_deg": downstream_deg,
        "dim": (chosen.dim if chosen else 100) if dim is None else dim,
        "draws": (chosen.draws if chosen else 20) if draws is None else draws,
        "seed": seed,
        "overlap": overlap,
        "solver": solver,
    }
    if probe in ("fixed", "cross-fitted"):
        parameters["theta_deg"] = theta_deg or (chosen.theta_deg if chosen else (0.0,))
    elif theta_deg is not None:
        parameters["theta_deg"] = theta_deg
    own: dict[str, Any] = {
        "alpha_probe": alpha_probe,
        "lo": lo,
        "w": w,
        "loss": loss,
        "lam": lam,
        "flip": flip,
        "noise_sigma": noise_sigma,
        "noise_temperature": noise_temperature,
        "folds": folds,
        "folds_overlap": folds_overlap,
    }
    parameters |= {name: value for name, value in own.items() if value is not None}
    for name in ("alpha_total", "keep_fraction"):
        if parameters[name] is None:
            raise ValueError(f"--{name.replace('_', '-')} must be given, or a --preset")
    # The parameters in the form in which a file of an earlier run holds them.
    parameters = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in parameters.items()
    }
    _check(parameters)
    if memory_gb is not None:
        check_range("memory_gb", memory_gb, 0.0, math.inf, open_low=True, unit="GiB")
    _check_devices(devices)
    if out is not None and not out.is_file():
        if not out.exists():
            check_output_folder(out.parent)
        check_output_file(out)
    if cache is not None:
        check_output_folder(cache)
    if devices is not None and scheduler is not None:
        raise ValueError(
            "--devices are this process's, a --scheduler has its own: give one of them"
        )
    from sims.experiment import run as simulate

    dataset = None if out is None else stored_run(out, parameters)
    trouble = ""
    if dataset is None:
        dataset = simulate(
            _problem(parameters),
            parameters["dim"],
            parameters["draws"],
            seed,
            overlap=overlap,
            solver=solver,
            memory_gb=memory_gb,
            cache=cache,
            progress=wanted(progress),
            devices=devices,
            scheduler=scheduler,
        )
        if out is not None:
            trouble = save_run(dataset, out, parameters)
    points = grid_points(dataset)
    if as_json:
        print_json({**parameters, "points": points})
    else:
        print(points_table(points))
    if trouble:
        raise ValueError(f"the result above was not saved: {trouble}")
    return 0 if all(point["failed"] == 0 for point in points) else 1


def solve(
    *,
    features: Path,
    labels: Path,
    loss: Annotated[str, Choice(LOSSES)] | None = None,
    lam: float | None = None,
    intercept: bool = False,
    sample_weight: Path | None = None,
    out: Path | None = None,
    as_json: Json = False,
) -> int:
    """Find the certified best separator or minimiser for your own data.

    Without --loss it is the max-margin separator, or the proof that there is none. With --loss it
    is the minimiser of the sum of the losses plus (lam N / 2) W.W. The exit code is 0 for an
    answer, 3 for data that none separates or that have no minimiser, and 1 for a solve that ended
    without an answer.

    Args:
        features: examples, a .npy file of shape (P, N).
        labels: -1/+1 or 0/1, a .npy file of shape (P,).
        loss: a loss to minimise instead of separating.
        lam: strength of the ridge, > 0, with a loss.
        intercept: fit an offset too, without penalty, with a loss.
        sample_weight: a weight >= 0 for each example, a .npy file of shape (P,), with a loss.
        out: a .npy file for the direction or the weights, by default direction.npy or weights.npy;
            never replaced.

    Examples:
        python -m sims solve --features X.npy --labels y.npy --json
        python -m sims solve --features X.npy --labels y.npy --loss logistic --lam 0.1 --intercept
    """
    own = {"lam": lam is not None, "intercept": intercept, "sample-weight": sample_weight}
    if loss is None:
        for name, given in own.items():
            if given:
                raise ValueError(f"--{name} needs a --loss: a max-margin separator has none")
        from sims.separate import run_solve

        code, report, trouble = run_solve(features, labels, out, as_json)
    else:
        if lam is None:
            raise ValueError("--lam must be given with --loss")
        from sims.fit import run_fit

        code, report, trouble = run_fit(
            features, labels, loss, lam, intercept, sample_weight, out, as_json
        )
    print(report)
    if trouble:
        what = "direction" if loss is None else "result"
        raise ValueError(f"the {what} above was not saved: {trouble}")
    return code


def verify(
    *,
    preset: Annotated[str, Choice(VERIFICATIONS)] = "quick",
    seed: int = 0,
    devices: int | None = None,
    progress: Progress = False,
    as_json: Json = False,
) -> int:
    """Compare theory and simulation.

    The exit code is 1 if they disagree.

    Args:
        preset: how much is compared.
        seed: of all draws.
        devices: solve on that many JAX devices.

    Examples:
        python -m sims verify --preset quick
    """
    check_integer("seed", seed, 0, math.inf)
    _check_devices(devices)
    from hardset.progress import bar
    from sims.verification import PLANS
    from sims.verification import verify as compare

    plan = PLANS[preset]
    total = len(plan.cases) * sum(plan.draws)
    with bar(total, "verify", "student", shown=wanted(progress)) as students:
        found = compare(preset=preset, seed=seed, advance=students.update, devices=devices)
    if as_json:
        print_json(found.report())
    else:
        print(found.table())
    return 0 if found.passed else 1


def _check(parameters: dict[str, Any]) -> None:
    """Raise ValueError for parameters that the library would refuse.

    The library is not imported for this.
    """
    numbers = [name for name in RANGES if name in parameters]
    check_kind(parameters["policy"], parameters["probe"], numbers)
    check_student(parameters.get("loss"), numbers)
    if all(name in numbers for name in NOISE):
        raise ValueError("noise_sigma and noise_temperature are two kinds of noise: give one")
    if parameters.get("lam") == 0:
        raise ValueError("lam = 0 has no simulation: students with a loss need lam > 0")
    for name in numbers:
        check_parameter(name, parameters[name])
    if "lo" in parameters:
        ends = window_end(parameters["lo"], max(parameters["keep_fraction"]))
        check_parameter(WINDOW_END, ends)
    for value in parameters["redundancy"]:
        check_integer("redundancy", value, 1, math.inf)
    check_integer("dim", parameters["dim"], 2, math.inf)
    check_integer("draws", parameters["draws"], 1, math.inf)
    check_integer("seed", parameters["seed"], 0, math.inf)
    check_kept(min(parameters["keep_fraction"]), min(parameters["alpha_total"]), parameters["dim"])


def _check_devices(devices: int | None) -> None:
    if devices is not None:
        check_integer("devices", devices, 1, math.inf)


def _problem(parameters: dict[str, Any]) -> "PerceptronProblem":
    from theory.policies import policy_from_name
    from theory.problem import CrossFitted, DownstreamShift, FixedAngle, PerceptronProblem

    own = {name: parameters[name] for name in OWN_PARAMETERS if name in parameters}
    grid = PerceptronProblem.grid(
        alpha_total=parameters["alpha_total"],
        keep_fraction=parameters["keep_fraction"],
        theta=np.deg2rad(parameters.get("theta_deg", 0.0)),
        policy=policy_from_name(parameters["policy"], **own),
        redundancy=parameters["redundancy"],
        downstream=DownstreamShift.degrees(parameters["downstream_deg"]),
    )
    kind = Kind.of(parameters)
    grid = dataclasses.replace(
        grid, student=student_of(kind, parameters), labels=labels_of(kind, parameters)
    )
    if kind.probe == "fixed":
        return grid
    probe = probe_from_name(kind.probe, parameters | {"theta_deg": 0.0})
    if isinstance(probe, CrossFitted):
        assert isinstance(grid.probe, FixedAngle)
        probe = dataclasses.replace(probe, theta=grid.probe.theta)
    return dataclasses.replace(grid, probe=probe)
