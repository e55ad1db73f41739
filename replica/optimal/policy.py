"""Finds the best weight w(z) of a given mass, by ascent from several starts.

The ascent uses the exact gradient.

The influence of a rank is an analytic function of it, so that it takes any value only at isolated
ranks (unless it is constant). To first order the best weight of a given mass keeps the examples of
least influence and no others: every stationary weight is a union of intervals of ranks, and the
ascent moves their ends. Where examples outside the union have less influence than some inside, an
exchange gives birth to a new interval.
"""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from scipy.special import erf, ndtri

from hardset.float64 import float64
from hardset.progress import bar
from hardset.pytree import pytree_dataclass
from replica.gordon import Ensemble
from replica.implicit import LineAverages, probe_line, student_response
from replica.newton import Student as Separator
from replica.newton import maximise_margin
from replica.optimal.influence import LossRanks, LossStudents, influence_of, train_one
from replica.optimal.search import Family, Floats, SearchStatus, asked_problem, certified
from replica.optimal.window import optimal_window
from replica.point import judge
from replica.solver import solve
from theory.inputs import Inputs
from theory.labels import Labels
from theory.policies import Moderate, Steps
from theory.problem import (
    DownstreamShift,
    FixedAngle,
    PerceptronProblem,
    Probe,
    beyond_max_margin,
)
from theory.students import Student
from theory.weights import IntervalWeight

Array = jnp.ndarray

INTERVALS = 3
BATCH = 64
FEW, MANY = 2 * INTERVALS, 512
FARTHEST = 8.0  # 1e-15 of the examples have larger fields
GAP = 1e-6  # relative first-order gain below which a set of ranks is locally optimal
ROUNDS = 12  # of ascent and exchange
STARTS = 5  # sets that are improved, the best of all starts and those unlike them
SHARES = (0.15, 0.3, 0.5, 0.7, 0.85)  # of the mass, in the first of two intervals
OFFSETS = 7
UNLIKE = 0.7  # two starts are alike if they share this part of the mass or more
PANELS = 48
ORDER = 6
CONFIRMED = 1e-8  # relative: the error by `solve`, with its certificate
SPECK = 1e-7  # intervals and gaps shorter than this share of the mass are dropped


@pytree_dataclass
class RankProblem:
    """A problem of scalars, without the ranks that are kept."""

    alpha_total: ArrayLike
    theta: ArrayLike
    downstream: DownstreamShift


@pytree_dataclass
class Students:
    """The trained students of several sets of ranks, with a leading axis of sets.

    Attributes:
        ensemble: what they were trained on.
        student: the students.
        error: their errors; NaN where the margin's maximum was not found.
    """

    ensemble: Ensemble
    student: Separator
    error: Array


def fields_of(ranks: np.ndarray) -> np.ndarray:
    """Return abs(z) at the ranks, any shape.

    It is +inf at rank 1.
    """
    ranks = np.asarray(ranks, float)
    return np.abs(ndtri(np.clip((1 - ranks) / 2, 0.0, 0.5)))


AnyProblem = RankProblem | LossRanks
AnyStudents = Students | LossStudents


@float64
def train(problem: AnyProblem, sets: np.ndarray) -> AnyStudents:
    """Train the students of several sets of ranks, shape (count, INTERVALS, 2)."""
    edges = fields_of(sets)
    problem = _double(problem)
    parts = []
    for start in range(0, len(edges), BATCH):
        chunk = edges[start : start + BATCH]
        trained = _train_batch(problem, np.resize(chunk, (BATCH, *chunk.shape[1:])), len(chunk))
        parts.append(jax.tree.map(partial(_first, count=len(chunk)), trained))
    return jax.tree.map(lambda *columns: np.concatenate(columns), *parts)


def _double(problem: AnyProblem) -> AnyProblem:
    """Convert the numbers of a problem to double precision.

    Python's numbers would need a compilation of their own.
    """
    doubled: AnyProblem = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), problem)
    return doubled


def _first(column: Array, count: int) -> np.ndarray:
    return np.asarray(column)[:count]


@float64
def influence(problem: AnyProblem, students: AnyStudents, index: int, ranks: np.ndarray) -> Array:
    """Return the influence of the ranks on the error of one of the students.

    It is d error/d w per unit of kept mass, shape (n,).

    alpha_total is fixed: keeping a small mass m more at a rank changes the error by m times this.
    """
    one = jax.tree.map(lambda column: column[index], students)
    fields = np.minimum(fields_of(ranks), FARTHEST)
    # Only two shapes are compiled: one for the ends of a set, one for a whole profile.
    size = FEW if len(fields) <= FEW else -(-len(fields) // MANY) * MANY
    return _influences(_double(problem), one, np.resize(fields, size))[: len(fields)]


@jax.jit
def _train_batch(problem: AnyProblem, edges: Array, count: Array) -> AnyStudents:
    def lane(i: Array, out: AnyStudents) -> AnyStudents:
        value = _train(problem, edges[i])
        return jax.tree.map(lambda column, entry: column.at[i].set(entry), out, value)

    example = jax.eval_shape(lambda: _train(problem, edges[0]))
    empty = jax.tree.map(lambda entry: jnp.zeros((BATCH, *entry.shape), entry.dtype), example)
    return jax.lax.fori_loop(0, count, lane, empty)


def _train(problem: AnyProblem, edges: Array) -> AnyStudents:
    start, end = edges.T
    weight = IntervalWeight(
        low=jnp.concatenate([start, -end]),
        high=jnp.concatenate([end, -start]),
        level=jnp.ones(2 * INTERVALS),
    )
    tail = jax.scipy.special.erfc(edges / np.sqrt(2))
    kept = jnp.sum(tail[:, 0] - tail[:, 1])
    if isinstance(problem, LossRanks):
        return train_one(problem, weight, kept)
    alpha_total, theta = jnp.asarray(problem.alpha_total), jnp.asarray(problem.theta)
    ensemble = Ensemble(alpha_total, weight, theta)
    student, _, converged = maximise_margin(ensemble, alpha_total * kept)
    found = converged & (student.mu > 0)
    error = jnp.where(found, _error(student.y, problem.downstream), jnp.nan)
    return Students(ensemble=ensemble, student=student, error=error)


def _error(y: Array, shift: DownstreamShift) -> Array:
    norm = jnp.sqrt(1 + y @ y)
    return judge(y[0] / norm, y[1] / norm, 1 / norm, shift)[1] / np.pi


@jax.jit
def _influences(problem: AnyProblem, trained: AnyStudents, fields: Array) -> Array:
    if isinstance(problem, LossRanks) and isinstance(trained, LossStudents):
        return influence_of(problem, trained, fields)
    assert isinstance(problem, RankProblem) and isinstance(trained, Students)
    student, ensemble = trained.student, trained.ensemble
    rate = jax.grad(_error)(student.y, problem.downstream)

    def error_change(change: LineAverages) -> Array:
        return rate @ student_response(ensemble, student, change).y

    zero = LineAverages(*(jnp.zeros(()),) * 4, jnp.zeros(2))
    # The answer is linear in the change of the averages: its coefficients serve every rank.
    coefficients = jax.grad(error_change)(zero)

    def at(field: Array) -> Array:
        sides = jax.vmap(probe_line, in_axes=(None, None, None, 0))(
            ensemble.theta, student.y, student.mu, jnp.stack([field, -field])
        )
        terms = jax.tree.map(lambda c, side: jnp.sum(c * side), coefficients, sides)
        return ensemble.alpha_total * sum(jax.tree.leaves(terms))

    return jax.lax.map(at, fields)


@pytree_dataclass
class OptimalPolicy:
    """The best weights found, as arrays of the arguments' shape.

    They are locally optimal; no more is proven.

    Attributes:
        ranks: abs(z) rank intervals that are kept, shape (..., 3, 2): (start, end) in ascending
            order, empty ones at the end as (1, 1).
        fields: the same as values of abs(z).
        intervals: number of intervals that are not empty.
        error: the error.
        gap: first-order gain that is left: the decrease of the error, relative, that its gradient
            promises if the whole weight is exchanged for the examples of least influence.
        window_error: the error of the best single window.
        named_error: the least error of hard, easy, moderate and random selection.
        starts: number of starts that were improved to the end.
        agreeing: how many of them ended at this error, to 1e-6.
        status: a `SearchStatus`; FAILED where the gap is above 1e-6 or the certificate is missing.
    """

    ranks: ArrayLike
    fields: ArrayLike
    intervals: ArrayLike
    error: ArrayLike
    gap: ArrayLike
    window_error: ArrayLike
    named_error: ArrayLike
    starts: ArrayLike
    agreeing: ArrayLike
    status: ArrayLike

    def policy(self) -> Steps:
        """Return the weights as a policy that keeps the fraction of the search.

        It can be solved or simulated.
        """
        return rank_policy(np.asarray(self.ranks))


class Found(NamedTuple):
    """A set of ranks, its error and its first-order gap."""

    ranks: Floats
    error: float
    gap: float


def optimal_policy(
    alpha_total: ArrayLike,
    keep_fraction: ArrayLike,
    theta: ArrayLike = 0.0,
    *,
    downstream: DownstreamShift | None = None,
    probe: Probe | None = None,
    student: Student | None = None,
    labels: Labels | None = None,
    inputs: Inputs | None = None,
) -> OptimalPolicy:
    """Find a weight w(z) in [0, 1] of mass f with a locally minimal error.

    Starts are hard, easy and moderate selection, the best window, the examples of least influence
    under random selection, and pairs of windows; the best of them and those unlike it are
    improved. The error is not known to be convex in w: another local minimum may be lower.

    Args:
        alpha_total: total examples / N, > 0; the arguments broadcast against each other.
        keep_fraction: kept fraction f, in (0, 1].
        theta: probe angle in radians, in [0, pi/2].
        downstream: shift between the labels' teacher and the one that judges the student.
        probe: in the place of theta, `FixedAngle`, `Independent` or `CrossFitted`.
        student: default `MaxMargin()`; its own numbers broadcast too, as those of the next ones do.
        labels: default `Clean()`.
        inputs: default `Isotropic()`.

    Returns:
        Arrays of the common shape.

    Raises:
        ValueError: an argument outside its range.
    """
    asked = asked_problem(
        alpha_total,
        keep_fraction,
        theta,
        None,
        downstream=downstream,
        probe=probe,
        student=student,
        labels=labels,
        inputs=inputs,
    )
    family = Family.of(asked)
    lanes = np.arange(family.size)
    problem = family.problem(lanes)
    fraction = np.asarray(problem.keep_fraction)
    window = optimal_window(
        problem.alpha_total,
        fraction,
        downstream=problem.downstream,
        probe=problem.probe,
        student=problem.student,
        labels=problem.labels,
        inputs=problem.inputs,
    )
    moderate = family.errors(lanes, policy=Moderate())
    beyond = beyond_max_margin(problem)
    problems: list[Any] = LossRanks.of(problem) if beyond else _rank_problems(problem)
    found = []
    with bar(len(problems), "weights", "point") as shown:
        for k, one in enumerate(problems):
            found.append(_ascend(one, float(fraction[k]), float(np.asarray(window.lo)[k])))
            shown.update()
    ranks = np.array([best.ranks for best, _, _ in found]).reshape(-1, INTERVALS, 2)
    error = np.array([best.error for best, _, _ in found])
    gap = np.array([best.gap for best, _, _ in found])
    at = certified(solve(dataclasses.replace(problem, policy=rank_policy(ranks))))
    sound = (gap <= GAP) & (np.abs(at - error) <= CONFIRMED * error)
    status = np.where(sound, SearchStatus.FOUND, SearchStatus.FAILED)
    others = (window.hard_error, window.easy_error, window.random_error)
    rivals = [moderate, *map(np.asarray, others)]
    columns = {
        "ranks": ranks,
        "fields": fields_of(ranks),
        "intervals": np.sum(ranks[:, :, 1] > ranks[:, :, 0], axis=1),
        "error": error,
        "gap": gap,
        "window_error": window.error,
        "named_error": np.min(rivals, axis=0),
        "starts": np.array([starts for _, starts, _ in found], int),
        "agreeing": np.array([agreeing for _, _, agreeing in found], int),
        "status": status.astype(int),
    }
    return OptimalPolicy(
        **{
            name: np.asarray(column).reshape(family.shape + np.shape(column)[1:])
            for name, column in columns.items()
        }
    )


def _rank_problems(problem: PerceptronProblem) -> list[RankProblem]:
    """Return the problems of a family of lanes, one each."""
    assert isinstance(problem.probe, FixedAngle)
    alpha_total, angle = np.asarray(problem.alpha_total), np.asarray(problem.probe.theta)
    return [
        RankProblem(
            alpha_total[k],
            angle[k],
            jax.tree.map(lambda leaf, k=k: np.asarray(leaf)[k], problem.downstream),
        )
        for k in range(len(alpha_total))
    ]


def rank_policy(ranks: Floats) -> Steps:
    """Return the policy that keeps given intervals of abs(z) ranks.

    The intervals have the shape (..., n, 2).
    """
    lengths = ranks[..., 1] - ranks[..., 0]
    used = max(int(np.max(np.sum(lengths > 0, axis=-1), initial=1)), 1)
    fields = fields_of(ranks[..., :used, :])
    # Empty intervals move to the end of the last one that is not.
    last = np.max(np.where(lengths[..., :used] > 0, fields[..., 1], 0.0), axis=-1)
    fields = np.where(lengths[..., :used, None] > 0, fields, last[..., None, None])
    levels = np.tile([1.0, 0.0], used)[:-1]
    return Steps(
        edges=fields.reshape(*fields.shape[:-2], 2 * used),
        levels=np.broadcast_to(levels, (*fields.shape[:-2], len(levels))),
    )


def _ascend(problem: AnyProblem, fraction: float, lo: float) -> tuple[Found, int, int]:
    """Find the best set of ranks, the number of starts and how many ended there."""
    if fraction == 1.0:
        everything = _tidy(np.array([[0.0, 1.0]]), 1.0)
        return Found(everything, float(train(problem, everything[None]).error[0]), 0.0), 1, 1
    sets = _starts(fraction, lo)
    errors = np.asarray(train(problem, sets).error)
    chosen: list[int] = []
    for k in np.argsort(np.where(np.isnan(errors), np.inf, errors)):
        if all(_common(sets[k], sets[other]) < UNLIKE * fraction for other in chosen):
            chosen.append(int(k))
        if len(chosen) == STARTS:
            break
    ends = [_improve(problem, sets[k], fraction) for k in chosen]
    best = min(ends, key=lambda end: end.error)
    agreeing = sum(end.error <= best.error * (1 + 1e-6) for end in ends)
    return best, len(ends), agreeing


def _starts(fraction: float, lo: float) -> Floats:
    """Return the windows and pairs of windows of mass `fraction`, shape (count, INTERVALS, 2)."""
    spare = 1 - fraction
    windows = [[[start, start + fraction]] for start in (lo, 0.0, spare, spare / 2)]
    pairs = [
        [[first, first + share * fraction], [second, second + (1 - share) * fraction]]
        for share in SHARES
        for first in sorted({0.0, 0.1 * spare, lo})
        for second in first + share * fraction + (spare - first) * np.linspace(0.05, 1, OFFSETS)
    ]
    return np.array([_tidy(np.array(one), fraction) for one in [*windows, *pairs]])


def _improve(problem: AnyProblem, ranks: Floats, fraction: float) -> Found:
    """Improve a set of ranks by ascent and exchange, until the gap is closed.

    The gap is the first-order gain that is left.
    """
    found = _measured(problem, ranks, fraction)
    for _ in range(ROUNDS):
        if not found.gap > GAP:
            break
        better = _measured(problem, _slide(problem, found.ranks, fraction), fraction)
        if not better.error < found.error:
            better = found
        if better.gap > GAP:
            better = _exchange(problem, better, fraction)
        stuck = not better.error < found.error * (1 - 1e-12)
        found = better
        if stuck:
            break
    return found


def _slide(problem: AnyProblem, ranks: Floats, fraction: float) -> Floats:
    """Move the ends of the intervals to a local minimum of the error.

    The mass stays the same.
    """
    count = int(np.sum(ranks[:, 1] > ranks[:, 0]))
    ends = 2 * count

    def objective(x: Floats) -> tuple[float, Floats]:
        trial = ranks.copy()
        trial[:count] = fraction * x.reshape(count, 2)
        students = train(problem, trial[None])
        error = float(students.error[0])
        if not np.isfinite(error):
            return 0.0, np.zeros(ends)
        slope = np.asarray(influence(problem, students, 0, trial.ravel()))[:ends]
        sign = np.tile([-1.0, 1.0], count)
        return np.log(error), fraction * sign * slope / error

    # Imported where it is needed: it takes as long as a grid's solution.
    from scipy.optimize import minimize

    order = np.diff(np.eye(ends), axis=0)
    lengths = np.tile([-1.0, 1.0], count)
    result = minimize(
        objective,
        ranks[:count].ravel() / fraction,
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1 / fraction)] * ends,
        constraints=[
            {"type": "eq", "fun": lambda x: lengths @ x - 1, "jac": lambda x: lengths},
            {"type": "ineq", "fun": lambda x: order @ x, "jac": lambda x: order},
        ],
        options={"maxiter": 60, "ftol": 1e-15},
    )
    return _tidy(fraction * result.x.reshape(count, 2), fraction)


class Profile(NamedTuple):
    """The influence on quadrature cells of the ranks, in ascending order.

    Attributes:
        edges: edges of the cells, shape (n + 1,).
        influence: at the cells, shape (n,).
        kept: whether they are kept, shape (n,).
    """

    edges: Floats
    influence: Floats
    kept: np.ndarray


def _profile(problem: AnyProblem, ranks: Floats, fraction: float) -> tuple[float, Profile]:
    """Return the error and the influence of all ranks."""
    near = fraction * 2.0 ** -np.arange(7)
    breaks = np.sort(np.concatenate([np.linspace(0, 1, PANELS + 1), near, 1 - near, ranks.ravel()]))
    nodes, weights = np.polynomial.legendre.leggauss(ORDER)
    middle, half = (breaks[1:] + breaks[:-1]) / 2, np.diff(breaks) / 2
    points = (middle[:, None] + half[:, None] * nodes).ravel()
    cells = (half[:, None] * weights).ravel()
    students = train(problem, ranks[None])
    values = np.asarray(influence(problem, students, 0, points))
    kept = np.any((points > ranks[:, :1]) & (points < ranks[:, 1:]), axis=0)
    return float(students.error[0]), Profile(np.append(0.0, np.cumsum(cells)), values, kept)


def _measured(problem: AnyProblem, ranks: Floats, fraction: float) -> Found:
    error, profile = _profile(problem, ranks, fraction)
    cells = np.diff(profile.edges)
    order = np.argsort(profile.influence)
    filled = np.clip(fraction - (np.cumsum(cells[order]) - cells[order]), 0, cells[order])
    least = filled @ profile.influence[order]
    now = (cells * profile.kept) @ profile.influence
    return Found(ranks, error, float(now - least) / error)


def _exchange(problem: AnyProblem, found: Found, fraction: float) -> Found:
    """Exchange the most harmful kept examples for the most useful others.

    As many are exchanged as pay off.
    """
    _, (edges, values, kept) = _profile(problem, found.ranks, fraction)
    cells = np.diff(edges)
    out = np.argsort(np.where(kept, -values, np.inf))[: np.sum(kept)]
    into = np.argsort(np.where(kept, np.inf, values))[: np.sum(~kept)]
    out_mass, in_mass = np.cumsum(cells[out]), np.cumsum(cells[into])
    # The masses at which the two influences meet.
    common = np.linspace(0, min(out_mass[-1], in_mass[-1]), 400)
    gain = np.interp(common, out_mass, values[out]) - np.interp(common, in_mass, values[into])
    most = float(common[np.argmax(gain < 0)]) if np.any(gain < 0) else float(common[-1])
    trials = []
    for mass in most * 2.0 ** -np.arange(10):
        chosen = kept.copy()
        chosen[out[out_mass <= mass]] = False
        chosen[into[in_mass <= mass]] = True
        turns = np.flatnonzero(np.diff(np.concatenate([[0], chosen.astype(int), [0]])))
        if turns.size:
            trials.append(_tidy(edges[turns].reshape(-1, 2), fraction))
    if not trials:
        return found
    errors = np.asarray(train(problem, np.array(trials)).error)
    errors = np.where(np.isnan(errors), np.inf, errors)
    best = int(np.argmin(errors))
    if not errors[best] < found.error:
        return found
    return _measured(problem, trials[best], fraction)


def _tidy(ranks: Floats, fraction: float) -> Floats:
    """Turn a set of ranks into disjoint ascending intervals of mass `fraction`.

    The longest intervals stay, and the rest is padded with (1, 1).
    """
    merged: list[list[float]] = []
    for start, end in sorted(np.clip(ranks, 0.0, 1.0).tolist()):
        if merged and start <= merged[-1][1] + SPECK * fraction:
            merged[-1][1] = max(end, merged[-1][1])
        elif end - start > SPECK * fraction:
            merged.append([start, end])
    merged = sorted(sorted(merged, key=lambda one: one[0] - one[1])[:INTERVALS])
    # Mass that rounding or a lost interval left out is taken from the gaps. Excess comes off the
    # ends of the intervals.
    surplus = sum(end - start for start, end in merged) - fraction
    for k in np.argsort([start - end for start, end in merged]):
        start, end = merged[k]
        if surplus > 0:
            taken = min(surplus, (end - start) / 2)
            merged[k][1] -= taken
            surplus -= taken
            continue
        above = merged[k + 1][0] if k + 1 < len(merged) else 1.0
        given = min(-surplus, above - end)
        merged[k][1] += given
        below = merged[k - 1][1] if k else 0.0
        more = min(-surplus - given, start - below)
        merged[k][0] -= more
        surplus += given + more
    padded = np.ones((INTERVALS, 2))
    padded[: len(merged)] = merged
    return padded


def _common(one: Floats, other: Floats) -> float:
    """Return the mass that two sets of ranks share."""
    low = np.maximum(one[:, None, 0], other[None, :, 0])
    high = np.minimum(one[:, None, 1], other[None, :, 1])
    return float(np.sum(np.maximum(high - low, 0)))


def weight_influence(
    alpha_total: float,
    theta: float,
    ranks: Floats,
    fields: Floats,
    *,
    downstream: DownstreamShift | None = None,
) -> Floats:
    """Return the influence d e/d w at the probe fields, per unit of kept mass.

    alpha_total is fixed.

    Args:
        alpha_total: total examples / N, > 0.
        theta: probe angle in radians, in [0, pi/2].
        ranks: what is kept, an entry of `OptimalPolicy.ranks`, shape (3, 2).
        fields: probe fields, shape (n,); the influence is even in them.
        downstream: shift between the labels' teacher and the one that judges the student.

    Returns:
        The influence, shape (n,).
    """
    shift = DownstreamShift() if downstream is None else downstream
    problem = RankProblem(alpha_total, theta, shift)
    students = train(problem, np.asarray(ranks)[None])
    return np.asarray(influence(problem, students, 0, erf(np.abs(fields) / np.sqrt(2))))
