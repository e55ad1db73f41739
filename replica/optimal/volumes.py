"""Finds the data that a target error needs, and the least error of a budget.

The budget is a number of kept examples. Its least error is the Pareto frontier over all fractions:
data to choose from are free, and training on them is not.
"""

from collections.abc import Sequence

import numpy as np
from jax.typing import ArrayLike

from hardset.checks import check_range
from hardset.pytree import pytree_dataclass
from replica.derivatives import sensitivities
from replica.optimal.search import (
    Family,
    Floats,
    Integers,
    Objective,
    SearchStatus,
    asked_problem,
    certified,
    first_below,
    fractions_to_scan,
    lam_of,
    least,
    refuse_fixed_mass,
    scan,
)
from replica.solver import solve
from theory.inputs import Inputs
from theory.labels import Labels
from theory.policies import Hard, Policy
from theory.probe_field import ProbeField
from theory.problem import DownstreamShift, Probe
from theory.students import Student

# Volumes over N that are searched for a target, and points of the search.
RANGE = (1e-2, 1e5)
PER_DECADE = 4
LOWEST = 1e-3  # fraction that a frontier may keep


@pytree_dataclass
class RequiredData:
    """The least volume of data that meets a target, as arrays of the arguments' shape.

    Attributes:
        alpha_total: smallest total examples / N whose error is the target; NaN where there is
            none.
        alpha_kept: kept distinct examples over N there.
        error: the error there.
        low: a verified bracket's lower end: the error is above the target.
        high: its upper end: the error is not above the target.
        crossings: how often the scan crosses the target: above 1, the error is not monotone and
            some larger volumes miss it.
        lam: the student's ridge strength there; NaN for max-margin.
        status: a `SearchStatus`.
    """

    alpha_total: ArrayLike
    alpha_kept: ArrayLike
    error: ArrayLike
    low: ArrayLike
    high: ArrayLike
    crossings: ArrayLike
    lam: ArrayLike
    status: ArrayLike


def required_data(
    target_error: ArrayLike,
    keep_fraction: ArrayLike = 1.0,
    theta: ArrayLike = 0.0,
    policy: Policy | None = None,
    *,
    redundancy: ArrayLike = 1.0,
    downstream: DownstreamShift | None = None,
    probe: Probe | None = None,
    student: Student | None = None,
    labels: Labels | None = None,
    inputs: Inputs | None = None,
    probe_field: ProbeField | None = None,
    lam_bounds: tuple[float, float] | None = None,
    alpha_range: tuple[float, float] = RANGE,
) -> RequiredData:
    """Find the least volume of data that meets a target error at a given fraction.

    It is the smallest alpha_total with e(alpha_total) <= target_error.

    The range of alpha_total is scanned at four points in each decade, and the first crossing of the
    target is bracketed. The error of some policies rises with alpha_total in places, which
    `crossings` tells.

    Args:
        target_error: in (0, 1/2); the arguments broadcast against each other.
        keep_fraction: kept fraction f, in (0, 1].
        theta: probe angle in radians, in [0, pi/2].
        policy: default `Hard()`; its parameters broadcast too.
        redundancy: copies of each example, >= 1.
        downstream: shift between the labels' teacher and the one that judges the student; an
            independent one leaves the floor arctan(delta)/pi.
        probe: in the place of theta, `FixedAngle`, `Independent` or `CrossFitted`.
        student: default `MaxMargin()`; its own numbers broadcast too, as those of the next ones do.
        labels: default `Clean()`.
        inputs: default `Isotropic()`.
        probe_field: default `NormalField()`.
        lam_bounds: range of lam to search, > 0; the student is then the best one at every point,
            and its own lam has no effect.
        alpha_range: lowest and highest alpha_total, within [1e-4, 1e6].

    Returns:
        Arrays of the common shape; UNREACHABLE where no volume of the range meets the target.

    Raises:
        ValueError: an argument outside its range.
    """
    check_range("target_error", target_error, 0.0, 0.5, open_low=True, open_high=True)
    check_range("alpha_range", alpha_range, 1e-4, 1e6)
    if np.shape(alpha_range) != (2,) or not alpha_range[0] < alpha_range[1]:
        raise ValueError(f"alpha_range = {alpha_range} must be two increasing numbers")
    lowest, highest = (float(end) for end in alpha_range)
    problem = asked_problem(
        lowest,
        keep_fraction,
        theta,
        policy,
        redundancy=redundancy,
        downstream=downstream,
        probe=probe,
        student=student,
        labels=labels,
        inputs=inputs,
        probe_field=probe_field,
    )
    family = Family.of(problem, lam_bounds)
    shape = np.broadcast_shapes(family.shape, np.shape(target_error))
    source = np.broadcast_to(np.arange(family.size).reshape(family.shape), shape).ravel()
    target = np.broadcast_to(np.asarray(target_error, float), shape).ravel()
    points = int(np.ceil(np.log10(highest / lowest) * PER_DECADE)) + 1
    logs = np.tile(np.linspace(np.log(lowest), np.log(highest), points), (family.size, 1))

    def objective(lane: np.ndarray, log_alpha: np.ndarray) -> np.ndarray:
        return family.errors(lane, alpha_total=np.exp(log_alpha))

    first = first_below(objective, logs, scan(objective, logs), target, source)
    found = ~np.isnan(first.x)
    alpha_total = np.exp(np.where(found, first.x, np.log(highest)))
    chosen = family.tuned(source, alpha_total=alpha_total)
    at = solve(chosen)
    failed = found & np.isnan(certified(at))
    columns = {
        "alpha_total": np.where(found, alpha_total, np.nan),
        "alpha_kept": np.where(found, at.alpha_kept, np.nan),
        "error": np.where(found, certified(at), np.nan),
        "low": np.exp(first.below),
        "high": np.exp(first.above),
        "crossings": first.count,
        "lam": np.where(found, lam_of(chosen), np.nan),
        "status": np.where(failed, SearchStatus.FAILED.value, first.status),
    }
    return RequiredData(**{name: column.reshape(shape) for name, column in columns.items()})


@pytree_dataclass
class Frontier:
    """The best selection of a number of examples, as arrays of the arguments' shape.

    Attributes:
        keep_fraction: the best f.
        alpha_total: the volume that it chooses from, alpha_kept/f.
        error: its error e*.
        exponent: d log e*/d log alpha_kept, negative where more examples help.
        random_error: the error of as many examples at random.
        minima: number of local minima over f that the scan met; 1 for a set of volumes.
        lam: the student's ridge strength; NaN for max-margin.
        status: a `SearchStatus`; AT_RANGE_END where f is the lowest one that was searched.
    """

    keep_fraction: ArrayLike
    alpha_total: ArrayLike
    error: ArrayLike
    exponent: ArrayLike
    random_error: ArrayLike
    minima: ArrayLike
    lam: ArrayLike
    status: ArrayLike


def frontier(
    alpha_kept: ArrayLike,
    theta: ArrayLike = 0.0,
    policy: Policy | None = None,
    *,
    downstream: DownstreamShift | None = None,
    volumes: Sequence[float] | None = None,
    probe: Probe | None = None,
    student: Student | None = None,
    labels: Labels | None = None,
    inputs: Inputs | None = None,
    probe_field: ProbeField | None = None,
    lam_bounds: tuple[float, float] | None = None,
    lowest: float = LOWEST,
) -> Frontier:
    """Find the least error of a number of kept examples, and its local exponent.

    The least error is e*(alpha_kept) = min over f of e(alpha_kept/f, f).

    By the envelope theorem the exponent is that of alpha_total at fixed f and lam, d log e/d log
    alpha_total; among fixed volumes it is that of f at fixed alpha_total, d log e/d log f.

    Args:
        alpha_kept: kept examples / N, > 0; the arguments broadcast against each other.
        theta: probe angle in radians, in [0, pi/2].
        policy: one that can keep any fraction, default `Hard()`; its parameters broadcast too.
        downstream: shift between the labels' teacher and the one that judges the student.
        volumes: the values of alpha_total to choose from, the largest at least the largest
            alpha_kept; default any.
        probe: in the place of theta, `FixedAngle`, `Independent` or `CrossFitted`.
        student: default `MaxMargin()`; its own numbers broadcast too, as those of the next ones do.
        labels: default `Clean()`.
        inputs: default `Isotropic()`.
        probe_field: default `NormalField()`.
        lam_bounds: range of lam to search, > 0; the student is then the best one at every point,
            and its own lam has no effect.
        lowest: lower end of the range of f, in [1e-6, 0.5].

    Returns:
        Arrays of the common shape.

    Raises:
        ValueError: an argument outside its range, or a policy whose weight fixes its fraction.
    """
    check_range("alpha_kept", alpha_kept, 0.0, np.inf, open_low=True)
    check_range("lowest", lowest, 1e-6, 0.5)
    refuse_fixed_mass(policy)
    problem = asked_problem(
        alpha_kept,
        lowest,
        theta,
        policy,
        downstream=downstream,
        probe=probe,
        student=student,
        labels=labels,
        inputs=inputs,
        probe_field=probe_field,
    )
    family = Family.of(problem, lam_bounds)
    lanes = np.arange(family.size)
    kept = np.asarray(family.problem(lanes).alpha_total)

    def objective(lane: Integers, f: Floats) -> Floats:
        return family.errors(lane, alpha_total=kept[lane] / f, keep_fraction=f)

    if volumes is None:
        grid = fractions_to_scan(np.full(family.size, lowest), family.largest_fractions())
    else:
        grid = _volume_fractions(kept, volumes, family.largest_fractions())
    values = _scan_known(objective, grid)
    if volumes is None:
        f, error, minima = least(objective, grid, values)
    else:
        best = np.argmin(np.where(np.isnan(values), np.inf, values), axis=1)
        f, error, minima = grid[lanes, best], values[lanes, best], np.ones(family.size, int)
    chosen = family.tuned(lanes, alpha_total=kept / f, keep_fraction=f)
    slopes = sensitivities(chosen)
    if volumes is None:
        exponent = slopes.error_alpha_total * chosen.alpha_total / error
    else:
        exponent = slopes.error_keep_fraction * f / error
    at_end = (f <= grid[:, 0] * (1 + 1e-9)) & (volumes is None)
    status = np.where(at_end, SearchStatus.AT_RANGE_END.value, SearchStatus.FOUND.value)
    status = np.where(np.isnan(error), SearchStatus.FAILED.value, status)
    columns = {
        "keep_fraction": np.where(np.isnan(error), np.nan, f),
        "alpha_total": np.where(np.isnan(error), np.nan, kept / f),
        "error": error,
        "exponent": exponent,
        "random_error": family.errors(lanes, alpha_total=kept, keep_fraction=1.0, policy=Hard()),
        "minima": minima,
        "lam": np.where(np.isnan(error), np.nan, lam_of(chosen)),
        "status": status,
    }
    return Frontier(**{name: family.fold(column) for name, column in columns.items()})


def _volume_fractions(kept: Floats, volumes: Sequence[float], most: Floats) -> Floats:
    """Return the fraction of each volume that each lane keeps.

    It is NaN where the volume is too small: the policy can keep at most the fraction `most`.
    """
    check_range("volumes", volumes, 0.0, np.inf, open_low=True)
    available = np.sort(np.asarray(volumes, float).ravel())[::-1]
    needed = np.max(kept / most, initial=0.0)
    if not available.size or needed > available[0]:
        raise ValueError(
            f"volumes = {list(volumes)}: the largest must be at least {needed:.6g}, of which the "
            "policy can keep the largest alpha_kept"
        )
    fractions = kept[:, None] / available
    return np.where(fractions <= most[:, None], fractions, np.nan)


def _scan_known(objective: Objective, grid: Floats) -> Floats:
    """Evaluate the objective where the grid has a point, with NaN elsewhere."""
    values = np.full(grid.shape, np.nan)
    lane, column = np.nonzero(~np.isnan(grid))
    values[lane, column] = objective(lane, grid[lane, column])
    return values
