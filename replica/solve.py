"""Solve problems at infinite dimension: a point, a grid, under jit or vmap."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from replica.gordon import Ensemble
from replica.newton import Student, maximise_margin
from replica.saddle import saddle_residual
from replica.solution import ReplicaSolution, Status
from theory._float64 import float64
from theory._pytree import pytree_dataclass
from theory.policies import Policy, Random
from theory.probes import FixedAngle, InSample, Probe
from theory.problem import DownstreamShift, PerceptronProblem
from theory.weights import kept_mass

__all__ = ["solve"]

Array = jnp.ndarray

# Both residuals are relative; the solver reaches 1e-13, the certifying quadrature 4e-10 at worst.
CERTIFIED = 1e-8
CHUNK = 256


@float64
def solve(problem: PerceptronProblem, *, throw: bool = False) -> ReplicaSolution:
    """Order parameters of the max-margin student trained on the selected examples, N -> infinity.

    The margin is maximised in the Gordon form, a convex program, and the replica saddle-point
    equations certify the result (Sorscher et al. 2022, arXiv:2206.14486; Gardner 1988).

    Args:
        problem: a point or a grid of any shape; alpha_total > 0, keep_fraction in (0, 1], theta
            in [0, pi/2]. `Independent` probes are solved first.
        throw: raise if a point is not CONVERGED.

    Returns:
        Arrays of `problem.shape`: NumPy float64 when called with numbers, tracers under a
        transformation. Points that fail are marked by `status`, never by NaN alone.

    Raises:
        ValueError: an in-sample probe, which no fixed-angle theory describes.
        RuntimeError: with `throw`, naming the first point that failed.
    """
    theta = _probe_angle(problem.probe)
    arguments = Point(
        alpha_total=problem.alpha_total,
        keep_fraction=problem.keep_fraction,
        theta=theta,
        redundancy=problem.redundancy,
        policy=problem.policy,
        downstream=problem.downstream,
    )
    leaves, tree = jax.tree.flatten(arguments)
    shape = np.broadcast_shapes(*(np.shape(leaf) for leaf in leaves))
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        flat = [jnp.broadcast_to(jnp.asarray(leaf, jnp.float64), shape).ravel() for leaf in leaves]
        columns = jax.lax.map(lambda lane: _solve_point(jax.tree.unflatten(tree, lane)), flat)
        return jax.tree.map(lambda column: column.reshape(shape), columns)
    lanes = [np.broadcast_to(np.asarray(leaf, np.float64), shape).ravel() for leaf in leaves]
    solution: ReplicaSolution = jax.tree.map(
        lambda column: column.reshape(shape), _solve_flat(tree, lanes)
    )
    if throw and solution.failed:
        first = int(np.flatnonzero(solution.status)[0])
        index = tuple(int(i) for i in np.unravel_index(first, shape))
        sentence = Status(int(np.ravel(solution.status)[first])).sentence
        raise RuntimeError(
            f"{solution.failed} of {len(lanes[0])} points failed, first {index}: {sentence}"
        )
    return solution


@pytree_dataclass
class Point:
    """A problem whose probe has an angle; arrays of any kind until they are broadcast."""

    alpha_total: Any
    keep_fraction: Any
    theta: Any
    redundancy: Any
    policy: Policy
    downstream: DownstreamShift


@pytree_dataclass
class Prepared:
    """A point as the solver takes it: the same type for every policy with as many intervals."""

    ensemble: Ensemble
    valid: Array
    downstream: DownstreamShift


def _probe_angle(probe: Probe) -> ArrayLike:
    if isinstance(probe, FixedAngle):
        return probe.theta
    if isinstance(probe, InSample):
        raise ValueError(
            "probe = InSample() has no fixed angle: simulate it with sims.run, or use FixedAngle "
            "or Independent"
        )
    # A max-margin perceptron on alpha_probe * N other examples, without selection.
    trained = solve(PerceptronProblem(alpha_total=probe.alpha_probe, policy=Random()))
    return np.pi * trained.error


def _solve_flat(tree: jax.tree_util.PyTreeDef, flat: list[np.ndarray]) -> ReplicaSolution:
    """All lanes; those that the first certificate does not confirm get a finer one.

    They are rare, and the finer certificate takes as long to compile as all the rest.
    """
    if not flat[0].size:
        one = _solve_flat(tree, [np.ones(1)] * len(flat))
        return jax.tree.map(lambda column: column[:0], one)
    solution = _solve_lanes(tree, flat, False)
    doubtful = np.flatnonzero(solution.status == Status.NOT_CERTIFIED)
    if not doubtful.size:
        return solution
    again = _solve_lanes(tree, [column[doubtful] for column in flat], True)

    def replaced(column: np.ndarray, better: np.ndarray) -> np.ndarray:
        column = column.copy()
        column[doubtful] = better
        return column

    return jax.tree.map(replaced, solution, again)


def _solve_lanes(
    tree: jax.tree_util.PyTreeDef, flat: list[np.ndarray], fine: bool
) -> ReplicaSolution:
    """Lanes one after the other in compiled chunks, one thread a core.

    A lane at a time beats vmap on CPU: no lane waits for the slowest one.
    """
    count = flat[0].shape[0]

    def run(start: int) -> ReplicaSolution:
        size = min(CHUNK, count - start)
        padded = [np.resize(column[start : start + size], CHUNK) for column in flat]
        with jax.enable_x64(True):  # the setting is a thread's own
            out = _solve_chunk(_prepare_chunk(tree, padded), size, fine)
            return jax.tree.map(lambda column: np.asarray(column)[:size], out)

    starts = range(0, count, CHUNK)
    first = run(starts[0])  # compiles once, before the threads
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = [first, *pool.map(run, starts[1:])]
    return jax.tree.map(lambda *columns: np.concatenate(columns), *parts)


@partial(jax.jit, static_argnums=0)
def _prepare_chunk(tree: jax.tree_util.PyTreeDef, columns: list[Array]) -> Prepared:
    return jax.vmap(lambda *lane: _prepare(jax.tree.unflatten(tree, lane)))(*columns)


@partial(jax.jit, static_argnums=2)
def _solve_chunk(prepared: Prepared, count: Array, fine: bool) -> ReplicaSolution:
    """The first `count` lanes: one compilation serves grids of every size."""
    solve_lane = partial(_solve_prepared, certificate=partial(_largest_residual, fine=fine))

    def lane(i: Array, out: ReplicaSolution) -> ReplicaSolution:
        value = solve_lane(jax.tree.map(lambda column: column[i], prepared))
        return jax.tree.map(lambda column, entry: column.at[i].set(entry), out, value)

    example = jax.eval_shape(lambda: solve_lane(jax.tree.map(lambda c: c[0], prepared)))
    empty = jax.tree.map(lambda entry: jnp.zeros((CHUNK, *entry.shape), entry.dtype), example)
    return jax.lax.fori_loop(0, count, lane, empty)


def _solve_point(point: Point) -> ReplicaSolution:
    return _solve_prepared(_prepare(point), _certificate)


def _prepare(point: Point) -> Prepared:
    """Selection weight and validity of one point."""
    shift = point.downstream
    valid = (
        (point.alpha_total > 0)
        & (point.keep_fraction > 0)
        & (point.keep_fraction <= 1)
        & (point.theta >= 0)
        & (point.theta <= np.pi / 2)
        & (point.redundancy >= 1)
        & jnp.isfinite(point.alpha_total * point.redundancy)
        & point.policy.fits(point.keep_fraction)
        & (jnp.asarray(shift.delta) >= 0)
        & jnp.isfinite(shift.delta)
        & (jnp.hypot(shift.along_teacher, shift.along_plane) <= 1 + 1e-12)
    )
    # A harmless stand-in keeps an invalid lane from spinning until the step limit.
    alpha_total = jnp.where(valid, point.alpha_total, 1.0)
    keep_fraction = jnp.where(valid, point.keep_fraction, 1.0)
    theta = jnp.where(valid, point.theta, 0.0)
    redundancy = jnp.where(valid, point.redundancy, 1.0)
    weight = point.policy.kept_weight(keep_fraction, theta, redundancy)
    ensemble = Ensemble(alpha_total=alpha_total / redundancy, weight=weight, theta=theta)
    return Prepared(ensemble=ensemble, valid=valid, downstream=point.downstream)


def _solve_prepared(
    prepared: Prepared, certificate: Callable[[Ensemble, Student], Array]
) -> ReplicaSolution:
    ensemble = prepared.ensemble
    theta = ensemble.theta
    alpha_kept = ensemble.alpha_total * kept_mass(ensemble.weight, theta)
    valid = prepared.valid & (alpha_kept > 0)
    student, steps, converged = maximise_margin(ensemble, jnp.where(valid, alpha_kept, 1.0))
    gordon = jnp.max(jnp.abs(gordon_residual(student)))
    saddle = certificate(ensemble, student)
    certified = (saddle <= CERTIFIED) & (gordon <= CERTIFIED) & (student.mu > 0)
    status = jnp.where(certified, Status.CONVERGED.value, Status.NOT_CERTIFIED.value)
    status = jnp.where(converged, status, Status.NOT_CONVERGED.value)
    status = jnp.where(valid, status, Status.INVALID.value)
    norm = student.norm
    along, across, q = student.y[0] / norm, student.y[1] / norm, 1 / norm
    judged, angle = _judge(along, across, q, prepared.downstream)
    solution = ReplicaSolution(
        overlap=along,
        probe_overlap=along * jnp.cos(theta) + across * jnp.sin(theta),
        margin=student.margin,
        orthogonal=q,
        student_angle=jnp.arctan2(across, along),
        downstream_overlap=judged,
        error=angle / np.pi,
        theta=theta,
        alpha_kept=alpha_kept,
        support_fraction=jnp.minimum(student.moments.count / alpha_kept, 1.0),
        residual_saddle=saddle,
        residual_gordon=gordon,
        status=status,
        steps=steps,
    )
    return jax.tree.map(
        lambda entry: entry if entry.dtype != jnp.float64 else jnp.where(valid, entry, jnp.nan),
        solution,
    )


def _largest_residual(ensemble: Ensemble, student: Student, fine: bool) -> Array:
    return jnp.max(jnp.abs(saddle_residual(ensemble, student.y, student.mu, fine=fine)))


def _certificate(ensemble: Ensemble, student: Student) -> Array:
    """Largest saddle residual; by the finer quadrature where the first does not confirm."""
    coarse = _largest_residual(ensemble, student, False)
    return jax.lax.cond(
        coarse <= CERTIFIED, lambda: coarse, lambda: _largest_residual(ensemble, student, True)
    )


def gordon_residual(student: Student) -> Array:
    """Feasibility E[s_+^2] - 1 and the gradient of log kappa in y, relative; shape (3,).

    The gradient is measured for changes of y that change the error by as much, relatively.
    """
    slope = student.slope() * student.scale() / student.mu
    return jnp.concatenate([(student.moments.second - 1)[None], slope])


def _judge(along: Array, across: Array, q: Array, shift: DownstreamShift) -> tuple[Array, Array]:
    """Overlap and angle between the student (along, across, q) and T' = (T + delta v)/norm.

    The part of v outside span(T, J_p) has no overlap with the student.
    """
    outside = jnp.sqrt(jnp.maximum(1 - shift.along_teacher**2 - shift.along_plane**2, 0.0))
    target = jnp.stack(
        [
            1 + shift.delta * shift.along_teacher,
            shift.delta * shift.along_plane,
            shift.delta * outside,
        ]
    )
    target = target / jnp.linalg.norm(target)
    overlap = along * target[0] + across * target[1]
    # The rest is formed as a vector: 1 - R'^2 would lose the digits of a small angle.
    rest = jnp.stack(
        [along - overlap * target[0], across - overlap * target[1], q, -overlap * target[2]]
    )
    return overlap, jnp.arctan2(jnp.linalg.norm(rest), overlap)
