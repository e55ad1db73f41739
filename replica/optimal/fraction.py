"""Finds the best fraction to keep, and the smallest one that is nearly as good."""

import numpy as np
from jax.typing import ArrayLike

from hardset.checks import check_range
from hardset.pytree import pytree_dataclass
from replica.optimal.search import (
    Family,
    Floats,
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
from theory.policies import Hard, Policy, Window, WindowSigned
from theory.probe_field import ProbeField
from theory.problem import DownstreamShift, PerceptronProblem, Probe
from theory.students import Student

LOWEST = 1e-3
SLACK = 1e-6  # relative: what counts as the least error
PLATEAU = 1.05  # a stretch of best fractions longer than this factor is a plateau


@pytree_dataclass
class OptimalFraction:
    """The smallest of the best fractions, as arrays of the arguments' shape.

    Attributes:
        keep_fraction: smallest f whose error is at most (1 + 1e-6) times the least one.
        alpha_kept: kept distinct examples over N there.
        error: the error there.
        least_error: the least error over the range of f.
        least_fraction: where it is taken; on a plateau, one of its fractions.
        plateau_end: where the stretch of equally good fractions from `keep_fraction` on ends.
        plateau: whether that stretch is longer than a factor 1.05.
        full_error: the error at f = 1.
        minima: number of local minima that the scan met.
        lam: the student's ridge strength there; NaN for max-margin.
        status: a `SearchStatus`.
    """

    keep_fraction: ArrayLike
    alpha_kept: ArrayLike
    error: ArrayLike
    least_error: ArrayLike
    least_fraction: ArrayLike
    plateau_end: ArrayLike
    plateau: ArrayLike
    full_error: ArrayLike
    minima: ArrayLike
    lam: ArrayLike
    status: ArrayLike


@pytree_dataclass
class SufficientFraction:
    """The smallest fraction that is nearly as good as all data.

    All are arrays of the arguments' shape.

    Attributes:
        keep_fraction: smallest f whose error is at most (1 + tolerance) times that of f = 1; NaN
            where there is none.
        alpha_kept: kept distinct examples over N there.
        error: the error there.
        full_error: the error at f = 1.
        crossings: how often the scan crosses that level: above 1, some larger fractions fail it.
        lam: the student's ridge strength there; NaN for max-margin.
        status: a `SearchStatus`.
    """

    keep_fraction: ArrayLike
    alpha_kept: ArrayLike
    error: ArrayLike
    full_error: ArrayLike
    crossings: ArrayLike
    lam: ArrayLike
    status: ArrayLike


def optimal_fraction(
    alpha_total: ArrayLike,
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
    lowest: float = LOWEST,
) -> OptimalFraction:
    """Find the smallest fraction of least error at a given volume of data.

    It is the smallest f with e(f) <= (1 + 1e-6) min_f e(f).

    The range of f is scanned, every local minimum that can compete is polished and the first
    crossing of the level is bracketed. A dip narrower than the scan's steps, a factor of 1.4, is
    missed. Fractions of which no student exists, max-margin with too much noise, are left out.

    Args:
        alpha_total: total examples / N, > 0; the arguments broadcast against each other.
        theta: probe angle in radians, in [0, pi/2].
        policy: one that can keep any fraction, default `Hard()`; its parameters broadcast too.
        redundancy: copies of each example, >= 1.
        downstream: shift between the labels' teacher and the one that judges the student.
        probe: in the place of theta, `FixedAngle`, `Independent` or `CrossFitted`.
        student: default `MaxMargin()`; its own numbers broadcast too, as those of the next ones do.
        labels: default `Clean()`.
        inputs: default `Isotropic()`.
        probe_field: default `NormalField()`.
        lam_bounds: range of lam to search, > 0; the student is then the best one at every point,
            and its own lam has no effect.
        lowest: lower end of the range of f, in [1e-6, 0.5]; the upper end is 1, or 1 - lo for
            `Window(lo)`.

    Returns:
        Arrays of the common shape; where `status` is not FOUND see its sentence.

    Raises:
        ValueError: an argument outside its range, or a policy whose weight fixes its fraction.
    """
    _check_range(policy, lowest)
    problem = asked_problem(
        alpha_total,
        lowest,
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
    family, grid, objective = _prepare(problem, lam_bounds, lowest)
    lanes = np.arange(family.size)
    values = scan(objective, grid)
    least_fraction, least_error, minima = least(objective, grid, values)
    # The polished minimum joins the scan: it may be the only point that meets the level.
    grid = np.concatenate([grid, least_fraction[:, None]], axis=1)
    order = np.argsort(grid, axis=1)
    grid = np.take_along_axis(grid, order, axis=1)
    values = np.concatenate([values, least_error[:, None]], axis=1)
    values = np.take_along_axis(values, order, axis=1)
    level = least_error * (1 + SLACK)
    first = first_below(objective, grid, values, level, lanes)
    end = _stretch_end(objective, grid, values, level)
    found = ~np.isnan(first.x)
    keep_fraction = np.where(found, first.x, 1.0)
    chosen = family.tuned(lanes, keep_fraction=np.where(found, first.x, grid[:, -1]))
    at = solve(chosen)
    failed = ~found | np.isnan(certified(at)) | np.isnan(end)
    return OptimalFraction(
        keep_fraction=family.fold(np.where(found, keep_fraction, np.nan)),
        alpha_kept=family.fold(np.where(found, at.alpha_kept, np.nan)),
        error=family.fold(np.where(found, certified(at), np.nan)),
        least_error=family.fold(least_error),
        least_fraction=family.fold(np.where(np.isnan(least_error), np.nan, least_fraction)),
        plateau_end=family.fold(end),
        plateau=family.fold(end > PLATEAU * keep_fraction),
        full_error=family.fold(_full_errors(family)),
        minima=family.fold(minima),
        lam=family.fold(np.where(found, lam_of(chosen), np.nan)),
        status=family.fold(np.where(failed, SearchStatus.FAILED.value, first.status)),
    )


def sufficient_fraction(
    alpha_total: ArrayLike,
    tolerance: ArrayLike,
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
    lowest: float = LOWEST,
) -> SufficientFraction:
    """Find the smallest fraction that is nearly as good as all data.

    It is the smallest f with e(f) <= (1 + tolerance) e(1) at a given volume of data.

    Args:
        alpha_total: total examples / N, > 0; the arguments broadcast against each other.
        tolerance: relative loss that is accepted, in [1e-6, 100].
        theta: probe angle in radians, in [0, pi/2].
        policy: one that can keep any fraction, default `Hard()`; its parameters broadcast too.
        redundancy: copies of each example, >= 1.
        downstream: shift between the labels' teacher and the one that judges the student.
        probe: in the place of theta, `FixedAngle`, `Independent` or `CrossFitted`.
        student: default `MaxMargin()`; its own numbers broadcast too, as those of the next ones do.
        labels: default `Clean()`.
        inputs: default `Isotropic()`.
        probe_field: default `NormalField()`.
        lam_bounds: range of lam to search, > 0; the student is then the best one at every point,
            and its own lam has no effect.
        lowest: lower end of the range of f, in [1e-6, 0.5].

    Returns:
        Arrays of the common shape; where `status` is not FOUND see its sentence.

    Raises:
        ValueError: an argument outside its range, or a policy whose weight fixes its fraction.
    """
    check_range("tolerance", tolerance, 1e-6, 100.0)
    _check_range(policy, lowest)
    problem = asked_problem(
        alpha_total,
        lowest,
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
    family, grid, objective = _prepare(problem, lam_bounds, lowest)
    shape = np.broadcast_shapes(family.shape, np.shape(tolerance))
    # One scan serves all tolerances.
    source = np.broadcast_to(np.arange(family.size).reshape(family.shape), shape).ravel()
    full = _full_errors(family)[source]
    level = full * (1 + np.broadcast_to(np.asarray(tolerance, float), shape).ravel())
    first = first_below(objective, grid, scan(objective, grid), level, source)
    found = ~np.isnan(first.x)
    chosen = family.tuned(source, keep_fraction=np.where(found, first.x, grid[source, -1]))
    at = solve(chosen)
    failed = np.isnan(full) | (found & np.isnan(certified(at)))
    return SufficientFraction(
        keep_fraction=first.x.reshape(shape),
        alpha_kept=np.where(found, at.alpha_kept, np.nan).reshape(shape),
        error=np.where(found, certified(at), np.nan).reshape(shape),
        full_error=full.reshape(shape),
        crossings=first.count.reshape(shape),
        lam=np.where(found, lam_of(chosen), np.nan).reshape(shape),
        status=np.where(failed, SearchStatus.FAILED.value, first.status).reshape(shape),
    )


def _prepare(
    problem: PerceptronProblem, lam_bounds: tuple[float, float] | None, lowest: float
) -> tuple[Family, Floats, Objective]:
    """Return the family, each lane's fractions to scan, and its error by fraction."""
    family = Family.of(problem, lam_bounds)
    grid = fractions_to_scan(np.full(family.size, lowest), family.largest_fractions())
    return family, grid, lambda lane, f: family.errors(lane, keep_fraction=f)


def _check_range(policy: Policy | None, lowest: float) -> None:
    """Check that a policy can keep all fractions of a range from `lowest` on."""
    check_range("lowest", lowest, 1e-6, 0.5)
    refuse_fixed_mass(policy)
    if isinstance(policy, Window | WindowSigned):
        # A window can keep 1 - lo at most.
        check_range("lo", policy.lo, 0.0, 1.0 - lowest)


def _stretch_end(objective: Objective, grid: Floats, values: Floats, level: Floats) -> Floats:
    """Find where each lane's first stretch of fractions within the level ends."""
    met = values <= level[:, None]
    above = values > level[:, None]
    begun = np.cumsum(met, axis=1) > 0
    over = np.cumsum(begun & above, axis=1)
    # The end is the first point within the level from the right, with all points beyond it hidden.
    hidden = (over > 1) | ((over == 1) & ~above)
    backwards = first_below(
        lambda lane, x: objective(lane, -x),
        -grid[:, ::-1],
        np.where(hidden, np.nan, values)[:, ::-1],
        level,
        np.arange(len(grid)),
    )
    return np.where(backwards.status == SearchStatus.FAILED, np.nan, -backwards.x)


def _full_errors(family: Family) -> Floats:
    """Return the error without selection, where policies do not differ."""
    return family.errors(np.arange(family.size), keep_fraction=1.0, policy=Hard())
