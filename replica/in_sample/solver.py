"""Solves problems whose probe was trained on the very data that it ranks.

Where all support vectors of the probe are kept, the student is the probe. For hard selection that
is at keep_fraction >= f_sv, see `lossless_fraction`. Elsewhere the two-stage theory is solved.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from hardset.checks import check_range
from hardset.float64 import float64
from hardset.pytree import pytree_dataclass
from replica.in_sample.cavity import OrderParameters, probe_residual, student_residual
from replica.in_sample.gordon import RankedData, components
from replica.in_sample.newton import conditions, largest_margin, relative_residual, solve_conditions
from replica.in_sample.probe import TrainedProbe, train
from replica.lanes import map_lanes, trace_lanes
from replica.point import in_range, judge
from replica.solution import ReplicaSolution, Status
from theory.field_information import v_information
from theory.policies import (
    Easy,
    EasySigned,
    Hard,
    HardSigned,
    Mixture,
    Moderate,
    Policy,
    Random,
    Window,
    WindowSigned,
)
from theory.problem import DownstreamShift, PerceptronProblem
from theory.weights import survival

Array = jnp.ndarray

CERTIFIED = 1e-8
# Share of the probe's squared dual variables that is pruned. e differs from the lossless one by
# about its power 2/3, relatively: 1e-11.
LOSSLESS = 3e-17
END = 1e-13  # ranks closer to 0 or 1 are rounding errors of 1 - f


@pytree_dataclass
class KeptRanks:
    """The kept share of the distinct examples, as a step function of the rank.

    Attributes:
        lower: ranks where the share changes, ascending, shape (2,).
        upper: 1 - `lower`, with its own digits.
        levels: share below, between and above them, shape (3,).
    """

    lower: Array
    upper: Array
    levels: Array

    def mass(self) -> Array:
        """Return the kept share of all distinct examples."""
        low, high = self.lower
        return self.levels[0] * low + self.levels[1] * (high - low) + self.levels[2] * self.upper[1]

    def of(self, probe: TrainedProbe) -> RankedData:
        """Return the data of `probe`, with these ranks kept.

        A change of the share at rank 0 or 1 concerns no example. Its edge moves to the other edge.
        """
        inside = (self.lower > END) & (self.upper > END)
        rank = jnp.where(inside, self.lower, 0.5)
        edges = (
            probe.quantile(rank[0], jnp.where(inside[0], self.upper[0], 0.5)),
            probe.quantile(rank[1], jnp.where(inside[1], self.upper[1], 0.5)),
        )
        first = jnp.where(self.lower[0] > END, self.levels[0], self.levels[1])
        last = jnp.where(self.upper[1] > END, self.levels[2], self.levels[1])
        # Where neither edge is inside, the share does not change at all.
        low = jnp.where(inside[0], edges[0], jnp.where(inside[1], edges[1], 0.0))
        high = jnp.where(inside[1], edges[1], low)
        return RankedData(
            probe=probe,
            edges=jnp.stack([low, high]),
            levels=jnp.stack([first, self.levels[1], last]),
        )


def kept_ranks(policy: Policy, keep_fraction: Array, redundancy: Array) -> KeptRanks:
    """Return the ranks that a policy keeps.

    Args:
        policy: any named policy.
        keep_fraction: f in (0, 1], scalar.
        redundancy: copies r >= 1 of every distinct example.

    Raises:
        ValueError: a policy whose weight is a function of the probe's field.
    """
    f, none, whole = keep_fraction, jnp.zeros(()), jnp.ones(())
    if isinstance(policy, Random):
        share = survival(f, redundancy)
        return _steps(none, whole, none, whole, (share, share, share))
    if isinstance(policy, Mixture):
        w = jnp.asarray(policy.w)
        outside = (1 - w) * f / jnp.maximum(1 - w * f, 1e-150)
        share = survival(jnp.minimum(outside, 1.0), redundancy)
        share = jnp.where(w * f < 1 - END, share, 1.0)
        return _steps(w * f, 1 - w * f, w * f, 1 - w * f, (whole, share, share))
    if isinstance(policy, Hard | HardSigned):
        return _steps(f, 1 - f, f, 1 - f, (whole, whole, none))
    if isinstance(policy, Easy | EasySigned):
        return _steps(1 - f, f, 1 - f, f, (none, whole, whole))
    if isinstance(policy, Moderate | Window | WindowSigned):
        lo = (1 - f) / 2 if isinstance(policy, Moderate) else jnp.asarray(policy.lo)
        return _steps(lo, 1 - lo, lo + f, 1 - lo - f, (none, whole, none))
    raise ValueError(
        f"policy = {policy.name!r} is a function of the probe's field, whose values an in-sample "
        "probe moves; with probe = InSample() use a policy by rank: hard, easy, moderate, random, "
        "hard-signed, easy-signed, window, window-signed or mixture"
    )


def _steps(
    low: Array, above_low: Array, high: Array, above_high: Array, levels: tuple[Array, ...]
) -> KeptRanks:
    return KeptRanks(
        lower=jnp.stack([low, high]),
        upper=jnp.stack([above_low, above_high]),
        levels=jnp.stack(levels),
    )


@float64
def lossless_fraction(alpha_total: ArrayLike) -> ArrayLike:
    """Return the share of all examples that are the in-sample probe's support vectors.

    It is f_sv = P(h1 < kappa1).

    Keeping the f >= f_sv hardest examples, ties at the margin broken by the dual variable, largest
    first, keeps every support vector: the student is the probe, and pruning costs nothing.

    Args:
        alpha_total: examples / N, > 0, any shape; distinct ones, or divide by the redundancy.

    Returns:
        f_sv in (0, 1), the shape of `alpha_total`: 1/alpha_total for many examples. NumPy float64
        when called with numbers, differentiable tracers under a transformation.

    Raises:
        ValueError: `alpha_total` outside its range.
    """
    check_range("alpha_total", alpha_total, 0.0, np.inf, open_low=True)
    if isinstance(alpha_total, jax.core.Tracer):
        alpha = jnp.asarray(alpha_total, jnp.float64)
        return trace_lanes(_support_fraction, [alpha.ravel()]).reshape(alpha.shape)
    shape = np.shape(alpha_total)
    found = map_lanes(_support_fraction, [np.ravel(np.asarray(alpha_total, float))])
    return np.reshape(found, shape)


def _support_fraction(lane: list[Array]) -> Array:
    return train(lane[0]).support


@float64
def solve_in_sample(problem: PerceptronProblem) -> ReplicaSolution:
    """Solve for the student trained on what an in-sample probe keeps.

    The probe J1 is the max-margin perceptron of all the data, so its angle is no parameter. Both
    stages are convex: the Gordon form of the second, given the first, is solved, and the two-stage
    cavity equations certify it; `residual_gordon` and `residual_saddle` are what is left of them.

    Args:
        problem: a point or a grid with `probe=InSample()` and any named policy.

    Returns:
        Arrays of `problem.shape`: NumPy float64 when called with numbers, differentiable tracers
        under a transformation. `theta` is the probe's angle arccos R1. Where every support vector
        of the probe is kept the student is the probe, and `orthogonal` is 0.

    Raises:
        ValueError: a policy whose weight is a function of the probe's field.
    """
    point = Point(
        alpha_total=problem.alpha_total,
        keep_fraction=problem.keep_fraction,
        redundancy=problem.redundancy,
        policy=problem.policy,
        downstream=problem.downstream,
    )
    one = jnp.ones(())
    kept_ranks(problem.policy, one, one)  # refuses before anything is compiled
    leaves, tree = jax.tree.flatten(point)
    shape = np.broadcast_shapes(*(np.shape(leaf) for leaf in leaves))
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        flat = [jnp.broadcast_to(jnp.asarray(leaf, jnp.float64), shape).ravel() for leaf in leaves]
        columns = trace_lanes(
            lambda lane: _solve_prepared(_prepare(jax.tree.unflatten(tree, lane))), flat
        )
    else:
        lanes = [np.broadcast_to(np.asarray(leaf, np.float64), shape).ravel() for leaf in leaves]
        columns = map_lanes(_solve_prepared, jax.tree.unflatten(tree, lanes), _prepare_lanes)
    solution: ReplicaSolution = jax.tree.map(lambda column: column.reshape(shape), columns)
    return solution


@pytree_dataclass
class Point:
    """The numbers of a problem with an in-sample probe, before they are broadcast."""

    alpha_total: Any
    keep_fraction: Any
    redundancy: Any
    policy: Policy
    downstream: DownstreamShift


@pytree_dataclass
class Prepared:
    """A point in the form that the solver takes.

    It has the same type for every policy.
    """

    alpha: Array
    ranks: KeptRanks
    valid: Array
    downstream: DownstreamShift


def _prepare(point: Point) -> Prepared:
    given = (point.alpha_total, point.keep_fraction, point.redundancy)
    valid = in_range(*given, point.policy, point.downstream)
    # A harmless stand-in keeps an invalid lane from spinning until the step limit.
    ranks = kept_ranks(
        point.policy,
        jnp.where(valid, point.keep_fraction, 1.0),
        jnp.where(valid, point.redundancy, 1.0),
    )
    alpha = jnp.where(valid, point.alpha_total / point.redundancy, 1.0)
    return Prepared(alpha=alpha, ranks=ranks, valid=valid, downstream=point.downstream)


_prepare_lanes = jax.jit(jax.vmap(_prepare))


def _solve_prepared(prepared: Prepared) -> ReplicaSolution:
    ranks = prepared.ranks
    probe = train(prepared.alpha)
    data = ranks.of(probe)
    alpha_kept = prepared.alpha * ranks.mass()
    valid = prepared.valid & (alpha_kept > 0)
    lossless = ~valid | (jax.lax.stop_gradient(data).lost() < LOSSLESS)
    # A stand-in keeps the averages of a lane with nothing to solve finite.
    half = RankedData(probe=probe, edges=jnp.zeros(2), levels=jnp.asarray([1.0, 0.0, 0.0]))
    data = jax.tree.map(lambda own, other: jnp.where(lossless, other, own), data, half)
    fixed = jax.lax.stop_gradient(data)
    found = largest_margin(fixed, ~lossless)
    at = found.at
    outcome = _differentiable(data, found.student, at.count, found.jacobian)
    student, count = outcome[:4], outcome[4]
    plane = components(probe, student[1], student[2])
    norm = jnp.sqrt(1 + plane @ plane)
    angle = probe.angle

    def joined(own: Array, of_probe: Array) -> Array:
        return jnp.where(lossless, of_probe, own)

    along = joined(plane[0] / norm, probe.overlap)
    across = joined(plane[1] / norm, probe.orthogonal)
    q = joined(1 / norm, jnp.zeros(()))
    gordon = joined(jnp.max(jnp.abs(relative_residual(fixed, found.student, at))), jnp.zeros(()))
    order = OrderParameters.of(fixed, found.student, at.count)
    first = probe_residual(fixed)
    # As long as a search, so left out where the student is the probe.
    second = jax.lax.cond(lossless, lambda: jnp.zeros(5), lambda: student_residual(fixed, order))
    saddle = jnp.maximum(jnp.max(jnp.abs(first)), jnp.max(jnp.abs(second)))
    certified = (saddle <= CERTIFIED) & (gordon <= CERTIFIED)
    status = jnp.where(certified, Status.CONVERGED.value, Status.NOT_CERTIFIED.value)
    margin = (student[0] + probe.mu * student[2]) / norm
    solved = lossless | found.settled
    status = jnp.where(solved, status, Status.NOT_CONVERGED.value)
    status = jnp.where(valid, status, Status.INVALID.value)
    judged, error_angle = judge(along, across, q, prepared.downstream)
    solution = ReplicaSolution.of_max_margin(
        overlap=along,
        probe_overlap=joined(
            (plane[0] * probe.overlap + plane[1] * probe.orthogonal) / norm, jnp.ones(())
        ),
        margin=joined(margin, probe.margin),
        orthogonal=q,
        student_angle=jnp.arctan2(across, along),
        downstream_overlap=judged,
        error=error_angle / np.pi,
        v_information=v_information(error_angle / np.pi),
        theta=angle,
        alpha_kept=alpha_kept,
        support_fraction=joined(count, probe.alpha * probe.support) / alpha_kept,
        residual_saddle=saddle,
        residual_gordon=gordon,
        status=status,
        steps=jnp.where(lossless, 0, found.steps),
    )
    # A product, so that the derivatives of an invalid lane are NaN too.
    known = jnp.where(valid, 1.0, jnp.nan)
    return jax.tree.map(
        lambda entry: entry * known if entry.dtype == jnp.float64 else entry, solution
    )


@jax.custom_jvp
def _differentiable(data: RankedData, student: Array, support: Array, _: Array) -> Array:
    """Return a student and its support vectors, with derivatives by `data`.

    The shape is (5,). The last entry is the number of support vectors over N.
    """
    return jnp.append(student, support)


@_differentiable.defjvp
def _differentiate(
    primals: tuple[RankedData, Array, Array, Array],
    tangents: tuple[RankedData, Array, Array, Array],
) -> tuple[Array, Array]:
    """Apply the implicit function theorem with the solution's own Jacobian.

    The solver's steps are not differentiated.
    """
    data, student, _, jacobian = primals
    _, moved = jax.jvp(lambda data: conditions(data, student)[0], (data,), (tangents[0],))
    change = -solve_conditions(jacobian, moved[:4], student)
    return _differentiable(*primals), jnp.append(change, moved[4] + jacobian[4] @ change)
