"""Checks points of a file or a grid, and solves them together.

The checks come before JAX is imported.
"""

import dataclasses
import itertools
import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_choice, check_integer, check_range, meant
from theory.policy_names import (
    LOSSES,
    OWN_PARAMETERS,
    POLICIES,
    POLICY_NAMES,
    check_policy,
    policy_parameter,
)

if TYPE_CHECKING:
    from theory.inputs import Inputs
    from theory.labels import Labels
    from theory.policies import Policy
    from theory.problem import PerceptronProblem, Probe
    from theory.students import Student

Point = dict[str, Any]
Floats = NDArray[np.float64]

# Each with the parameters that it needs.
PROBES: dict[str, tuple[str, ...]] = {
    "fixed": ("theta_deg",),
    "independent": ("alpha_probe",),
    "in-sample": (),
    "cross-fitted": ("theta_deg", "folds"),
    "out-of-fold": ("folds",),
}
# Label noise by the parameter that gives it; a flip may stand beside either.
NOISE = ("noise_sigma", "noise_temperature")
# Parameters of the policy "power", which a point holds in the object "weight".
WEIGHT = POLICIES["power"][1]
# Keys of the object "spectrum", by its kind or by what it lists.
POWER_LAW = {"dim": None, "a": None, "r": 0.0, "rv": 0.0}
VECTORS = ("eigenvalues", "teacher", "direction")
STEPS = ("edges", "probabilities")
RANGES: dict[str, dict[str, Any]] = {
    "alpha_total": {"low": 0.0, "high": np.inf, "open_low": True},
    "keep_fraction": {"low": 0.0, "high": 1.0, "open_low": True},
    "theta_deg": {"low": 0.0, "high": 90.0, "unit": "degrees"},
    "alpha_probe": {"low": 0.0, "high": np.inf, "open_low": True},
    "redundancy": {"low": 1.0, "high": np.inf},
    "downstream_deg": {"low": 0.0, "high": 90.0, "open_high": True, "unit": "degrees"},
    "lam": {"low": 0.0, "high": np.inf},
    "flip": {"low": 0.0, "high": 0.5},
    "noise_sigma": {"low": 0.0, "high": np.inf},
    "noise_temperature": {"low": 0.0, "high": np.inf},
    "folds": {"low": 1.0, "high": np.inf},
    "folds_overlap": {"low": 0.0, "high": 1.0},
    **{own: {"low": 0.0, "high": 1.0} for own in OWN_PARAMETERS},
}
# Those of the numbers inside a point's objects.
NESTED: dict[str, dict[str, Any]] = {
    "weight.scale": {"low": 0.0, "high": 1e3, "open_low": True},
    "weight.exponent": {"low": -20.0, "high": 20.0},
    "weight.clip": {"low": 0.0, "high": 1e2, "open_low": True},
    "spectrum.a": {"low": 0.0, "high": 20.0},
    "spectrum.r": {"low": -20.0, "high": 20.0},
    "spectrum.rv": {"low": -20.0, "high": 20.0},
}
WINDOW_END = "lo + keep_fraction"
# Fields of `ReplicaSolution` that are added to a point.
RESULTS = (
    "overlap",
    "probe_overlap",
    "margin",
    "error",
    "support_fraction",
    "norm",
    "weight_norm2",
    "observed_error",
    "training_loss",
    "training_error",
    "test_loss",
    "active_fraction",
    "v_information",
    "residual_saddle",
    "residual_gordon",
    "residual",
)
REQUIRED = ("alpha_total", "keep_fraction", "policy")
DEFAULTS = {"redundancy": 1.0, "downstream_deg": 0.0}
OBJECTS = ("weight", "spectrum", "label_steps")
OPTIONAL = (
    "probe",
    "theta_deg",
    "alpha_probe",
    "folds",
    "folds_overlap",
    *DEFAULTS,
    *OWN_PARAMETERS,
    "loss",
    "lam",
    "flip",
    *NOISE,
    *OBJECTS,
    "id",
    "note",
)
# A file of answers can be asked again: its results are computed anew.
KNOWN = frozenset((*REQUIRED, *OPTIONAL, *RESULTS, "status"))
NULLABLE = (
    "theta_deg",
    "alpha_probe",
    "folds",
    "folds_overlap",
    *OWN_PARAMETERS,
    "lam",
    "flip",
    *NOISE,
)


@dataclasses.dataclass(frozen=True, order=True)
class Kind:
    """What points must have in common to be solved together.

    Attributes:
        policy: name of the policy.
        probe: name of the probe's kind.
        loss: name of the student's loss, "" for the max-margin student.
        noise: the noise parameters that are given.
        steps: number of label steps, 0 without.
        spectrum: "" for isotropic inputs, else "powerlaw" or "vectors".
        size: number of eigenvalues, 0 for isotropic inputs.
    """

    policy: str
    probe: str
    loss: str
    noise: tuple[str, ...]
    steps: int
    spectrum: str
    size: int

    @classmethod
    def of(cls, point: Point) -> "Kind":
        """Return the kind of a point whose keys were checked."""
        spectrum = point.get("spectrum")
        vectors = spectrum is not None and "kind" not in spectrum
        steps = point.get("label_steps")
        return cls(
            policy=point["policy"],
            probe=point.get("probe", "fixed"),
            loss=point.get("loss") or "",
            noise=tuple(name for name in ("flip", *NOISE) if point.get(name) is not None),
            steps=len(steps["edges"]) if steps else 0,
            spectrum="" if spectrum is None else "vectors" if vectors else "powerlaw",
            size=0
            if spectrum is None
            else len(spectrum["eigenvalues"])
            if vectors
            else int(spectrum["dim"]),
        )


@dataclasses.dataclass(frozen=True)
class Batch:
    """A batch of points of one kind, as columns.

    Attributes:
        rows: their places in the list of points.
        kind: what they have in common.
        columns: numbers by name, an array each; an object's by its name, a dot and the key.
        numbered: whether a message names the point by its place in the file.
    """

    rows: list[int]
    kind: Kind
    columns: dict[str, Floats]
    numbered: bool


def read_points(path: Path) -> list[Point]:
    """Read the points of a JSON file.

    Raises:
        ValueError: a file that cannot be read, is not JSON or not a list of objects.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        points = json.loads(text, object_pairs_hook=_object)
    except OSError as error:
        raise ValueError(f"points file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"points file {path} is not JSON: save it as UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"points file {path} is not JSON: {error}") from None
    if not isinstance(points, list) or not all(isinstance(point, dict) for point in points):
        raise ValueError(f"points file {path} is not a JSON list of objects")
    return points


def _object(pairs: list[tuple[str, Any]]) -> Point:
    """Check that the keys of a JSON object differ and its numbers are finite."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"an object has the key {twice!r} twice")
    for key, value in pairs:
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, float) and not math.isfinite(one):
                raise ValueError(f"{key} = {one} is no finite number")
    return found


def grid(axes: Mapping[str, Sequence[float]], fixed: Mapping[str, str]) -> list[Point]:
    """Make the points of the outer product of axes.

    The last axis varies fastest.

    Args:
        axes: values by name.
        fixed: what all points have in common.
    """
    rows = itertools.product(*axes.values())
    return [{**dict(zip(axes, row, strict=True)), **fixed} for row in rows]


def solve_points(
    points: Sequence[Point],
    *,
    numbered: bool = True,
    work: "Callable[[PerceptronProblem], dict[str, list[Any]]] | None" = None,
) -> list[Point]:
    """Solve points, and return them in order with the results added.

    Points of one policy and one kind of probe are solved together.

    Args:
        points: objects with the keys of a points file.
        numbered: whether a message names the point by its place in the file.
        work: maps a problem, a column of points, to columns of results; by default the solution.

    Raises:
        ValueError: the first point that is wrong.
    """
    solved: list[Point] = [{} for _ in points]
    parts = batches(points, numbered=numbered)
    # One policy's program is compiled while another one's points are solved.
    with ThreadPoolExecutor(2) as pool:
        answers = pool.map(partial(_solve, work or _solution), parts)
        for batch, found in zip(parts, answers, strict=True):
            for row, results in zip(batch.rows, found, strict=True):
                solved[row] = points[row] | results
    return solved


def _solve(
    work: "Callable[[PerceptronProblem], dict[str, list[Any]]]", batch: Batch
) -> list[Point]:
    """Return the results of the points of a batch."""
    try:
        columns = work(_problem(batch.kind, batch.columns))
    except ValueError as error:
        raise ValueError(_where(batch) + str(error)) from None
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _solution(problem: "PerceptronProblem") -> dict[str, list[Any]]:
    # Imported where the arguments are known to be right: JAX takes a second to load.
    from replica.solution import Status
    from replica.solver import solve

    solution = solve(problem)
    columns: dict[str, list[Any]] = {key: json_numbers(getattr(solution, key)) for key in RESULTS}
    names = {int(status): status.name.lower() for status in Status}
    columns["status"] = [names[status] for status in np.asarray(solution.status).tolist()]
    return columns


def problem_of(batch: Batch) -> "PerceptronProblem":
    """Make the problem of a batch's only point, of scalars."""
    return _problem(batch.kind, {name: column[0] for name, column in batch.columns.items()})


def _problem(kind: Kind, given: Mapping[str, Any]) -> "PerceptronProblem":
    from theory.problem import DownstreamShift, PerceptronProblem

    return PerceptronProblem(
        alpha_total=given["alpha_total"],
        keep_fraction=given["keep_fraction"],
        probe=probe_from_name(kind.probe, given),
        policy=_policy(kind, given),
        redundancy=given["redundancy"],
        downstream=DownstreamShift.degrees(given["downstream_deg"]),
        student=student_of(kind, given),
        labels=labels_of(kind, given),
        inputs=_inputs(kind, given),
    )


def _where(batch: Batch) -> str:
    """Name the first point of a batch that cannot be made a problem."""
    if not batch.numbered:
        return ""
    for i, row in enumerate(batch.rows):
        try:
            _problem(batch.kind, {name: column[i] for name, column in batch.columns.items()})
        except ValueError:
            return f"point {row}: "
    return f"point {batch.rows[0]}: "


def _policy(kind: Kind, given: Mapping[str, Any]) -> "Policy":
    from theory.policies import policy_from_name

    if kind.policy == "power":
        return policy_from_name("power", **{name: given[f"weight.{name}"] for name in WEIGHT})
    own = policy_parameter(kind.policy)
    return policy_from_name(kind.policy, **({own: given[own]} if own else {}))


def student_of(kind: Kind, given: Mapping[str, Any]) -> "Student":
    """Make the student of a kind from the parameters that are given."""
    from theory.students import ERM, MaxMargin

    return ERM(kind.loss, given["lam"]) if kind.loss else MaxMargin()


def labels_of(kind: Kind, given: Mapping[str, Any]) -> "Labels":
    """Make the label channel of a kind from the parameters that are given."""
    from theory.labels import Clean, Flip, LabelSteps, Logit, Probit

    if kind.steps:
        return LabelSteps(*(given[f"label_steps.{name}"] for name in STEPS))
    flip = given.get("flip", 0.0)
    if "noise_sigma" in kind.noise:
        return Probit(given["noise_sigma"], flip)
    if "noise_temperature" in kind.noise:
        return Logit(given["noise_temperature"], flip)
    return Flip(flip) if "flip" in kind.noise else Clean()


def _inputs(kind: Kind, given: Mapping[str, Any]) -> "Inputs":
    from theory.inputs import Isotropic, PowerLaw, Spectrum

    if kind.spectrum == "powerlaw":
        return PowerLaw(kind.size, *(given[f"spectrum.{name}"] for name in ("a", "r", "rv")))
    if kind.spectrum == "vectors":
        return Spectrum(*(given[f"spectrum.{name}"] for name in VECTORS))
    return Isotropic()


def probe_from_name(name: str, given: Mapping[str, Any]) -> "Probe":
    """Make the probe of a kind from the parameters that are given."""
    from theory.problem import CrossFitted, FixedAngle, Independent, InSample, OutOfFold

    if name == "cross-fitted":
        overlap = given.get("folds_overlap", 0.0)
        return CrossFitted.degrees(given["theta_deg"], given["folds"], overlap)
    if name == "in-sample":
        return InSample()
    if name == "out-of-fold":
        return OutOfFold(given["folds"])
    if name == "independent":
        return Independent(given["alpha_probe"])
    return FixedAngle.degrees(given["theta_deg"])


def json_numbers(values: Any) -> list[float | None]:
    """List the entries of an array, with None in place of NaN and infinities."""
    array = np.asarray(values, np.float64).ravel()
    known = np.isfinite(array)
    if known.all():
        return list(array.tolist())
    return [value if fine else None for value, fine in zip(array.tolist(), known, strict=True)]


def batches(points: Sequence[Point], *, numbered: bool = True) -> list[Batch]:
    """Gather points as columns, one batch for each kind.

    Args:
        points: objects with the keys of a points file.
        numbered: whether a message names the point by its place in the file.

    Raises:
        ValueError: the first point that is wrong: a key that is missing, unknown or does not
            belong to policy or probe, a value outside its range.
    """
    kinds: dict[Kind, list[int]] = {}
    for i, point in enumerate(points):
        try:
            _check_keys(point)
            kinds.setdefault(Kind.of(point), []).append(i)
        except ValueError as error:
            raise ValueError(f"point {i}: {error}" if numbered else str(error)) from None
    made = [_batch(points, kinds[kind], kind, numbered) for kind in sorted(kinds)]
    for batch in made:
        _check_ranges(batch, numbered)
    return made


def _check_keys(point: Point) -> None:
    for key in sorted(point.keys() - KNOWN, key=str):
        known = ", ".join((*REQUIRED, *OPTIONAL))
        raise ValueError(f"unknown key {key!r}{meant(str(key), sorted(KNOWN))} (known are {known})")
    for key in REQUIRED:
        if key not in point:
            raise ValueError(f"the key {key!r} is missing")
    given = []
    for key in RANGES:
        value = point.get(key)
        if value is None and (key not in point or key in NULLABLE):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            shown = repr(value)
            shown = shown if len(shown) < 80 else f"{shown[:60]}..."
            raise ValueError(f"{key} = {shown} is not a number")
        given.append(key)
    _check_objects(point)
    own = [*given, *WEIGHT] if point.get("weight") is not None else given
    check_kind(point["policy"], point.get("probe", "fixed"), own)
    check_student(point.get("loss"), given)
    if all(name in given for name in NOISE):
        raise ValueError("noise_sigma and noise_temperature are two kinds of noise: give one")
    if point.get("label_steps") is not None:
        for name in ("flip", *NOISE):
            if name in given:
                raise ValueError(f"{name} has no effect beside label_steps, which say it all")


def check_student(loss: object, given: Collection[str]) -> None:
    """Check that a loss is known and has its ridge strength.

    Raises:
        ValueError: an unknown loss, or one of loss and lam without the other.
    """
    if loss is not None:
        check_choice("loss", loss, LOSSES)
        if "lam" not in given:
            raise ValueError(f"loss {loss!r} needs the parameter 'lam'")
    elif "lam" in given:
        raise ValueError("lam has no effect without a loss: the max-margin student has no ridge")


def _check_objects(point: Point) -> None:
    """Check the objects inside a point: their keys, and that they hold numbers."""
    for name in OBJECTS:
        value = point.get(name)
        if value is None:
            continue
        if not isinstance(value, dict):
            raise ValueError(f"{name} = {value!r} is not an object")
        needed, lists = _object_keys(name, value)
        for key in value:
            if key not in needed and not (name == "spectrum" and key == "kind"):
                known = ", ".join(needed)
                raise ValueError(f"unknown key {key!r} in {name} (known are {known})")
        for key, default in needed.items():
            if key not in value and default is None:
                raise ValueError(f"{name} needs the key {key!r}")
            found = value.get(key, default)
            entries = found if lists and isinstance(found, list) and found else [found]
            if lists and entries is not found:
                raise ValueError(f"{name}.{key} = {found!r} is not a list of numbers")
            for entry in entries:
                if isinstance(entry, bool) or not isinstance(entry, int | float):
                    raise ValueError(f"{name}.{key} = {entry!r} is not a number")
    steps = point.get("label_steps")
    if steps is not None and len(steps["probabilities"]) != len(steps["edges"]) + 1:
        raise ValueError(
            f"label_steps has {len(steps['edges'])} edges and {len(steps['probabilities'])} "
            "probabilities; K edges need K + 1"
        )
    spectrum = point.get("spectrum")
    if spectrum is None:
        return
    if "kind" in spectrum:
        check_integer("spectrum.dim", spectrum["dim"], 2, 10**7)
    elif len({len(spectrum[name]) for name in VECTORS}) > 1:
        raise ValueError("spectrum's eigenvalues, teacher and direction differ in length")


def _object_keys(name: str, value: dict[str, Any]) -> tuple[dict[str, float | None], bool]:
    """Return the keys of an object with their defaults, and whether they hold lists."""
    if name == "weight":
        return dict.fromkeys(WEIGHT), False
    if name == "label_steps":
        return dict.fromkeys(STEPS), True
    if "kind" in value:
        check_choice("spectrum.kind", value["kind"], ("powerlaw",))
        return dict(POWER_LAW), False
    return dict.fromkeys(VECTORS), True


def check_kind(policy: object, probe: object, given: Collection[str]) -> None:
    """Check that policy and probe are known, and that their parameters fit.

    All of their parameters must be given, and no others.

    Args:
        policy: name of the policy.
        probe: name of the probe's kind.
        given: names of the parameters.

    Raises:
        ValueError: an unknown name, a parameter that is missing or one too many.
    """
    check_choice("policy", policy, POLICY_NAMES)
    check_choice("probe", probe, PROBES)
    needed = policy_parameter(str(policy))
    if needed and needed not in given:
        raise ValueError(f"policy {policy!r} needs the parameter {needed!r}")
    if policy == "power" and WEIGHT[0] not in given:
        raise ValueError(
            f"policy 'power' needs the object 'weight' of {', '.join(WEIGHT)}, in a points file"
        )
    check_policy(policy, [name for name in (*OWN_PARAMETERS, *WEIGHT) if name in given])
    wanted = PROBES[str(probe)]
    for name in wanted:
        if name not in given:
            raise ValueError(f"probe {probe!r} needs the parameter {name!r}")
    allowed = (*wanted, "folds_overlap") if probe == "cross-fitted" else wanted
    for name in ("theta_deg", "alpha_probe", "folds", "folds_overlap"):
        if name in given and name not in allowed:
            raise ValueError(f"probe {probe!r} takes no parameter {name!r}")


def _batch(points: Sequence[Point], rows: list[int], kind: Kind, numbered: bool) -> Batch:
    own = list(PROBES[kind.probe])
    parameter = policy_parameter(kind.policy)
    own += [parameter] if parameter else []
    own += ["lam"] if kind.loss else []
    defaults = DEFAULTS
    if kind.probe == "cross-fitted":
        own.append("folds_overlap")
        defaults = DEFAULTS | {"folds_overlap": 0.0}

    def number(point: Point, key: str) -> float:
        value = point.get(key)
        return _real(defaults[key] if value is None and key in defaults else value)

    columns = {
        key: np.array([number(points[i], key) for i in rows])
        for key in ("alpha_total", "keep_fraction", *DEFAULTS, *own, *kind.noise)
    }

    def nested(name: str, key: str, default: float | None = None) -> None:
        values = [points[i][name].get(key, default) for i in rows]
        columns[f"{name}.{key}"] = np.array(
            [
                [_real(one) for one in value] if isinstance(value, list) else _real(value)
                for value in values
            ]
        )

    if kind.policy == "power":
        for key in WEIGHT:
            nested("weight", key)
    if kind.steps:
        for key in STEPS:
            nested("label_steps", key)
    if kind.spectrum == "powerlaw":
        for key in ("a", "r", "rv"):
            nested("spectrum", key, POWER_LAW[key])
    elif kind.spectrum:
        for key in VECTORS:
            nested("spectrum", key)
    return Batch(rows=rows, kind=kind, columns=columns, numbered=numbered)


def _real(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer beyond double precision: refused as infinite
        return float("inf") if value > 0 else float("-inf")


def check_parameter(name: str, value: Any, where: str = "") -> None:
    """Check that a problem's number lies in its range.

    `where` is put before its name in the message.
    """
    check_range(where + name, value, **(NESTED | RANGES).get(name, RANGES["lo"]))


def _check_ranges(batch: Batch, numbered: bool) -> None:
    """Check the ranges of whole columns.

    Only a wrong one is checked entry by entry, for the message.
    """
    columns = dict(batch.columns)
    if "lo" in columns:
        columns[WINDOW_END] = window_end(columns["lo"], columns["keep_fraction"])
    for name, values in columns.items():
        if values.ndim > 1:  # the constructors check vectors
            continue
        try:
            check_parameter(name, values)
        except ValueError:
            for row, value in zip(batch.rows, values, strict=True):
                check_parameter(name, value, f"point {row}: " if numbered else "")
            raise


def window_end(lo: Any, keep_fraction: Any) -> Any:
    """Return the rank at which a window ends, less 1e-12.

    Sums of fractions such as .7 + .3 may exceed 1 by rounding.
    """
    return np.maximum(np.add(lo, keep_fraction) - 1e-12, 0.0)
