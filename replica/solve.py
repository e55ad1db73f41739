"""Solve problems at infinite dimension: a point, a grid, under jit or vmap."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from replica.gordon import Ensemble
from replica.newton import Student, maximise_margin
from replica.saddle import saddle_residual
from replica.solution import ReplicaSolution, Status
from theory._float64 import float64
from theory.policies import Policy
from theory.probes import FixedAngle, Independent, InSample
from theory.problem import DownstreamShift, PerceptronProblem
from theory.weights import IntervalWeight, kept_mass

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
    if isinstance(problem.probe, InSample):
        raise ValueError(
            "probe = InSample() has no fixed angle: simulate it with sims.run, or use FixedAngle "
            "or Independent"
        )
    probe = (
        problem.probe.theta if isinstance(problem.probe, FixedAngle) else problem.probe.alpha_probe
    )
    arguments = (
        problem.alpha_total,
        problem.keep_fraction,
        probe,
        problem.redundancy,
        problem.policy,
        problem.downstream,
    )
    shape = problem.shape
    leaves, tree = jax.tree.flatten(arguments)
    concrete = not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
    library = np if concrete else jnp
    flat = [
        library.broadcast_to(library.asarray(leaf, np.float64), shape).ravel() for leaf in leaves
    ]
    point = partial(_solve_point, isinstance(problem.probe, Independent))
    if concrete:
        columns = _run_chunks(point, tree, flat)
    else:
        columns = jax.lax.map(lambda lane: point(*jax.tree.unflatten(tree, lane)), flat)
    solution: ReplicaSolution = jax.tree.map(lambda column: column.reshape(shape), columns)
    if throw and concrete and solution.failed:
        first = int(np.flatnonzero(solution.status)[0])
        index = tuple(int(i) for i in np.unravel_index(first, shape))
        sentence = Status(int(np.ravel(solution.status)[first])).sentence
        raise RuntimeError(
            f"{solution.failed} of {max(1, len(flat[0]))} points failed, first {index}: {sentence}"
        )
    return solution


def _run_chunks(
    point: Callable[..., ReplicaSolution], tree: jax.tree_util.PyTreeDef, flat: list[np.ndarray]
) -> ReplicaSolution:
    """Lanes one after the other in compiled chunks, one thread a core.

    A lane at a time beats vmap on CPU: no lane waits for the slowest one.
    """
    count = flat[0].shape[0]
    starts = range(0, max(count, 1), CHUNK)

    def run(start: int) -> ReplicaSolution:
        stop = min(start + CHUNK, count)
        padded = [np.resize(column[start:stop], CHUNK) for column in flat]
        with jax.enable_x64(True):  # the setting is a thread's own
            out = _compiled_chunk(point, tree, stop - start, padded)
            return jax.tree.map(lambda column: np.asarray(column)[: stop - start], out)

    first = run(starts[0])  # compiles once, before the threads
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = [first, *pool.map(run, starts[1:])]
    return jax.tree.map(lambda *columns: np.concatenate(columns), *parts)


@partial(jax.jit, static_argnums=(0, 1))
def _compiled_chunk(
    point: Callable[..., ReplicaSolution],
    tree: jax.tree_util.PyTreeDef,
    count: Array,
    columns: list[Array],
) -> ReplicaSolution:
    """The first `count` of CHUNK lanes: one compilation serves grids of every size."""
    shapes = jax.eval_shape(lambda: point(*jax.tree.unflatten(tree, [c[0] for c in columns])))
    empty = jax.tree.map(lambda s: jnp.zeros((CHUNK, *s.shape), s.dtype), shapes)

    def lane(i: Array, out: ReplicaSolution) -> ReplicaSolution:
        value = point(*jax.tree.unflatten(tree, [column[i] for column in columns]))
        return jax.tree.map(lambda column, entry: column.at[i].set(entry), out, value)

    return jax.lax.fori_loop(0, count, lane, empty)


def _solve_point(
    independent: bool,
    alpha_total: Array,
    keep_fraction: Array,
    probe: Array,
    redundancy: Array,
    policy: Policy,
    downstream: DownstreamShift,
) -> ReplicaSolution:
    theta = _independent_angle(probe) if independent else probe
    valid = (
        (alpha_total > 0)
        & (keep_fraction > 0)
        & (keep_fraction <= 1)
        & (theta >= 0)
        & (theta <= np.pi / 2)
        & (redundancy >= 1)
        & jnp.isfinite(alpha_total * redundancy)
    )
    # A harmless stand-in keeps an invalid lane from spinning until the step limit.
    alpha_total = jnp.where(valid, alpha_total, 1.0)
    keep_fraction = jnp.where(valid, keep_fraction, 1.0)
    theta = jnp.where(valid, theta, 0.0)
    redundancy = jnp.where(valid, redundancy, 1.0)
    ensemble = Ensemble(
        alpha_total=alpha_total / redundancy,
        weight=policy.kept_weight(keep_fraction, theta, redundancy),
        theta=theta,
    )
    student, steps, converged = maximise_margin(ensemble)
    gordon = jnp.max(jnp.abs(gordon_residual(student)))
    saddle = jnp.max(jnp.abs(saddle_residual(ensemble, student.y, student.mu)))
    alpha_kept = kept_count(ensemble)
    valid = valid & (alpha_kept > 0)
    certified = (saddle <= CERTIFIED) & (gordon <= CERTIFIED) & (student.mu > 0)
    status = jnp.where(certified, Status.CONVERGED, Status.NOT_CERTIFIED)
    status = jnp.where(converged, status, Status.NOT_CONVERGED)
    status = jnp.where(valid, status, Status.INVALID)
    norm = student.norm
    along, across, q = student.y[0] / norm, student.y[1] / norm, 1 / norm
    judged, angle = _judge(along, across, q, downstream)
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
        support_fraction=student.moments.count / alpha_kept,
        residual_saddle=saddle,
        residual_gordon=gordon,
        status=status,
        steps=steps,
    )
    return jax.tree.map(
        lambda entry: entry if entry.dtype != jnp.float64 else jnp.where(valid, entry, jnp.nan),
        solution,
    )


def gordon_residual(student: Student) -> Array:
    """Feasibility E[s_+^2] - 1 and the gradient of log kappa in y, relative; shape (3,).

    The gradient is measured for a relative change of y, which is what the error feels.
    """
    at = student.moments
    scale = jnp.maximum(jnp.hypot(student.y[0], student.y[1]), 1e-2) / student.mu
    return jnp.concatenate([(at.second - 1)[None], student.slope() * scale])


def _independent_angle(alpha_probe: Array) -> Array:
    """Angle between the teacher and a max-margin perceptron trained on alpha_probe * N examples."""
    everything = IntervalWeight(
        low=jnp.array([-jnp.inf]), high=jnp.array([jnp.inf]), level=jnp.ones(1)
    )
    ensemble = Ensemble(alpha_total=alpha_probe, weight=everything, theta=jnp.zeros(()))
    student, _, _ = maximise_margin(ensemble)
    return jnp.arctan2(1.0, student.y[0])


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
