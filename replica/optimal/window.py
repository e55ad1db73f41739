"""Finds the best start of the window, and the selection of least error."""

import numpy as np
from jax.typing import ArrayLike

from hardset.checks import check_range
from hardset.pytree import pytree_dataclass
from replica.optimal.phase import Phase
from replica.optimal.search import (
    Family,
    Floats,
    SearchStatus,
    asked_problem,
    certified,
    lam_of,
    least,
    scan,
)
from replica.solver import solve
from theory.inputs import Inputs
from theory.labels import Labels
from theory.policies import Random, Window, WindowSigned
from theory.probe_field import ProbeField
from theory.problem import DownstreamShift, Probe
from theory.students import Student

SCAN = 19
INTERIOR = 1e-6  # relative gain over an end below which the end is the answer
TIE = 1e-6  # relative lead below which nobody wins


@pytree_dataclass
class OptimalWindow:
    """The best window of a given mass, as arrays of the arguments' shape.

    Attributes:
        lo: abs(z) quantile where it starts; 0 is `Hard`, 1 - f `Easy`.
        error: its error.
        alpha_kept: kept distinct examples over N.
        hard_error: the error at lo = 0.
        easy_error: the error at lo = 1 - f.
        random_error: the error of `Random` at the same f.
        minima: number of local minima that the scan met.
        lam: the student's ridge strength at lo; NaN for max-margin.
        status: a `SearchStatus`.
    """

    lo: ArrayLike
    error: ArrayLike
    alpha_kept: ArrayLike
    hard_error: ArrayLike
    easy_error: ArrayLike
    random_error: ArrayLike
    minima: ArrayLike
    lam: ArrayLike
    status: ArrayLike


def optimal_window(
    alpha_total: ArrayLike,
    keep_fraction: ArrayLike,
    theta: ArrayLike = 0.0,
    *,
    redundancy: ArrayLike = 1.0,
    downstream: DownstreamShift | None = None,
    probe: Probe | None = None,
    student: Student | None = None,
    labels: Labels | None = None,
    inputs: Inputs | None = None,
    probe_field: ProbeField | None = None,
    lam_bounds: tuple[float, float] | None = None,
    signed: bool = False,
) -> OptimalWindow:
    """Find the best window at a given volume of data and fraction.

    Its start lo in [0, 1 - f] is where e(`Window(lo)`) is least.

    The range of lo is scanned at 27 points that crowd towards both ends, and every local minimum
    that can compete is polished. An end is the answer unless the interior gains more than 1e-6
    on it, relatively.

    Args:
        alpha_total: total examples / N, > 0; the arguments broadcast against each other.
        keep_fraction: kept fraction f, in (0, 1].
        theta: probe angle in radians, in [0, pi/2].
        redundancy: copies of each example, >= 1.
        downstream: shift between the labels' teacher and the one that judges the student.
        probe: in the place of theta, `FixedAngle`, `Independent` or `CrossFitted`.
        student: default `MaxMargin()`; its own numbers broadcast too, as those of the next ones do.
        labels: default `Clean()`.
        inputs: default `Isotropic()`.
        probe_field: default `NormalField()`.
        lam_bounds: range of lam to search, > 0; the student is then the best one at every point,
            and its own lam has no effect.
        signed: whether windows are those of y z with the observed label y, `WindowSigned`, which
            under label noise are better: lo skips the examples that contradict the probe.

    Returns:
        Arrays of the common shape.

    Raises:
        ValueError: an argument outside its range.
    """
    window = WindowSigned if signed else Window
    problem = asked_problem(
        alpha_total,
        keep_fraction,
        theta,
        window(0.0),
        redundancy=redundancy,
        downstream=downstream,
        probe=probe,
        student=student,
        labels=labels,
        inputs=inputs,
        probe_field=probe_field,
    )
    family = Family.of(problem, lam_bounds)
    lanes = np.arange(family.size)
    grid = _offsets(np.asarray(family.problem(lanes).keep_fraction))

    def objective(lane: np.ndarray, lo: Floats) -> Floats:
        return family.errors(lane, policy=window(lo))

    values = scan(objective, grid)
    lo, error, minima = least(objective, grid, values)
    for end in (-1, 0):
        as_good = values[:, end] <= error * (1 + INTERIOR)
        lo, error = (
            np.where(as_good, grid[:, end], lo),
            np.where(as_good, values[:, end], error),
        )
    chosen = family.tuned(lanes, policy=window(lo))
    at = solve(chosen)
    failed = np.isnan(certified(at)) | np.isnan(values[:, 0]) | np.isnan(values[:, -1])
    columns = {
        "lo": np.where(np.isnan(error), np.nan, lo),
        "error": error,
        "alpha_kept": at.alpha_kept,
        "hard_error": values[:, 0],
        "easy_error": values[:, -1],
        "random_error": family.errors(lanes, policy=Random()),
        "minima": minima,
        "lam": np.where(np.isnan(error), np.nan, lam_of(chosen)),
        "status": np.where(failed, SearchStatus.FAILED.value, SearchStatus.FOUND.value),
    }
    return OptimalWindow(**{name: family.fold(column) for name, column in columns.items()})


def _offsets(keep_fraction: Floats) -> Floats:
    """Return the window starts to scan for each lane, both ends included.

    They are finer towards the ends, also at the scale f.
    """
    spare = (1 - keep_fraction)[:, None]
    even = spare * (1 - np.cos(np.linspace(0, np.pi, SCAN))) / 2
    near = np.minimum(keep_fraction[:, None], spare) * np.array([1e-4, 1e-3, 1e-2, 5e-2])
    return np.sort(np.concatenate([even, near, spare - near], axis=1), axis=1)


@pytree_dataclass
class PhaseDiagram:
    """The errors of selections and the best one, as arrays of the arguments' shape.

    Attributes:
        phase: the best of all windows and random selection, a `Phase`: WINDOW where one that is
            neither hard nor easy wins, TIE where the winner's lead is below 1e-6, relatively.
        named_phase: the best of hard, easy and random selection alone.
        alpha_total: total examples over N.
        alpha_kept: kept examples over N, f * alpha_total.
        lo: offset of the best window.
        window_error: its error; never above those of hard and easy selection, its ends.
        hard_error: the error of `Hard`.
        easy_error: the error of `Easy`.
        random_error: the error of `Random`.
        lam: the student's ridge strength at the best window; NaN for max-margin.
        status: a `SearchStatus`.
    """

    phase: ArrayLike
    named_phase: ArrayLike
    alpha_total: ArrayLike
    alpha_kept: ArrayLike
    lo: ArrayLike
    window_error: ArrayLike
    hard_error: ArrayLike
    easy_error: ArrayLike
    random_error: ArrayLike
    lam: ArrayLike
    status: ArrayLike


def phase_diagram(
    keep_fraction: ArrayLike,
    theta: ArrayLike = 0.0,
    *,
    alpha_total: ArrayLike | None = None,
    alpha_kept: ArrayLike | None = None,
    downstream: DownstreamShift | None = None,
    probe: Probe | None = None,
    student: Student | None = None,
    labels: Labels | None = None,
    inputs: Inputs | None = None,
    probe_field: ProbeField | None = None,
    lam_bounds: tuple[float, float] | None = None,
    signed: bool = False,
) -> PhaseDiagram:
    """Find the selection of least error at each fraction.

    The selections are compared at equal alpha_total or at equal alpha_kept.

    Args:
        keep_fraction: kept fraction f, in (0, 1]; the arguments broadcast against each other.
        theta: probe angle in radians, in [0, pi/2].
        alpha_total: total examples / N, > 0: the data are given, f says how many are kept.
        alpha_kept: kept examples / N, > 0, instead: the training budget is given, f says from how
            many, alpha_kept/f, they are chosen.
        downstream: shift between the labels' teacher and the one that judges the student.
        probe: in the place of theta, `FixedAngle`, `Independent` or `CrossFitted`.
        student: default `MaxMargin()`; its own numbers broadcast too, as those of the next ones do.
        labels: default `Clean()`.
        inputs: default `Isotropic()`.
        probe_field: default `NormalField()`.
        lam_bounds: range of lam to search, > 0; the student is then the best one at every point,
            and its own lam has no effect.
        signed: whether windows are those of y z with the observed label y, `WindowSigned`, which
            under label noise are better: lo skips the examples that contradict the probe.

    Returns:
        Arrays of the common shape.

    Raises:
        ValueError: an argument outside its range, or not exactly one of the two volumes.
    """
    if (alpha_total is None) == (alpha_kept is None):
        raise ValueError("exactly one of alpha_total and alpha_kept must be given")
    check_range("keep_fraction", keep_fraction, 0.0, 1.0, open_low=True)
    if alpha_total is None:
        check_range("alpha_kept", alpha_kept, 0.0, np.inf, open_low=True)
        alpha_total = np.asarray(alpha_kept, float) / np.asarray(keep_fraction, float)
    best = optimal_window(
        alpha_total,
        keep_fraction,
        theta,
        downstream=downstream,
        probe=probe,
        student=student,
        labels=labels,
        inputs=inputs,
        probe_field=probe_field,
        lam_bounds=lam_bounds,
        signed=signed,
    )
    lo, spare = np.asarray(best.lo), 1 - np.asarray(keep_fraction, float)
    window, random = np.asarray(best.error), np.asarray(best.random_error)
    hard, easy = np.asarray(best.hard_error), np.asarray(best.easy_error)
    interior = np.where((lo > 0) & (lo < spare), window, np.inf)
    known = (np.asarray(best.status) == SearchStatus.FOUND) & ~np.isnan(random)
    named = {Phase.RANDOM: random, Phase.HARD: hard, Phase.EASY: easy}
    volume = np.broadcast_to(np.asarray(alpha_total, float), lo.shape)
    return PhaseDiagram(
        phase=np.where(known, _winner(named | {Phase.WINDOW: interior}), Phase.UNKNOWN.value),
        named_phase=np.where(known, _winner(named), Phase.UNKNOWN.value),
        alpha_total=volume,
        alpha_kept=volume * np.asarray(keep_fraction, float),
        lo=lo,
        window_error=window,
        hard_error=hard,
        easy_error=easy,
        random_error=random,
        lam=best.lam,
        status=best.status,
    )


def _winner(errors: dict[Phase, np.ndarray]) -> np.ndarray:
    """Return the selection of least error, or TIE where the next one is as good."""
    ranked = np.array(list(errors))
    table = np.stack(list(errors.values()))
    first, second = np.sort(table, axis=0)[:2]
    winner = ranked[np.argmin(table, axis=0)]
    return np.where(second <= first * (1 + TIE), Phase.TIE.value, winner)
