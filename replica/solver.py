"""Solves problems at infinite dimension: points, grids, under jit, vmap or a derivative."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from hardset.checks import is_concrete
from hardset.float64 import float64
from replica.erm import point as erm
from replica.in_sample.solver import solve_in_sample
from replica.lanes import map_lanes, trace_lanes
from replica.point import (
    Point,
    Prepared,
    certificate,
    largest_residual,
    prepare,
    solve_prepared,
)
from replica.solution import ReplicaSolution, Status
from theory.policies import Custom, Random, Steps
from theory.probe_field import FieldLaw
from theory.problem import (
    CrossFitted,
    FixedAngle,
    InSample,
    OutOfFold,
    PerceptronProblem,
    Probe,
    beyond_max_margin,
    has_vectors,
)
from theory.students import ERM

Array = jnp.ndarray


@float64
def solve(problem: PerceptronProblem, *, throw: bool = False) -> ReplicaSolution:
    """Solve for the student trained on the selected examples.

    Its order parameters are those at infinite dimension, N -> infinity.

    The margin is maximised in the Gordon form, a convex program, and the replica saddle-point
    equations certify the result (Sorscher et al. 2022, arXiv:2206.14486; Gardner 1988).

    Noisy labels, students with a loss, spectra and cross-fitted probes have four equations instead
    of the Gordon form's three; one quadrature solves them and another certifies (docs/erm.md).

    It can be differentiated once, forwards and backwards, with respect to every number of the
    problem, the policy's own parameters included: by the implicit function theorem, at the cost of
    a few quadratures more than the solution.

    Args:
        problem: a point or a grid of any shape; alpha_total > 0, keep_fraction in (0, 1], theta
            in [0, pi/2]. `Independent` probes are solved first, `InSample` ones have a theory of
            their own (see `replica.in_sample.solver`).
        throw: raise if a point is not CONVERGED.

    Returns:
        Arrays of `problem.shape`: NumPy float64 when called with numbers, tracers under a
        transformation. Points that fail are marked by `status`, never by NaN alone.

    Raises:
        ValueError: an out-of-fold probe; an in-sample one with a policy, student, labels or
            inputs that it has no theory for; a measured probe field with Custom or Steps; copies
            kept by chance that are no whole number.
        NotImplementedError: a second derivative.
        RuntimeError: with `throw`, naming the first point that failed.
    """
    if isinstance(problem.probe, InSample):
        _check_in_sample(problem)
        solution = solve_in_sample(problem)
    elif beyond_max_margin(problem):
        solution = _solve_regularised(problem)
    else:
        tree, shape, leaves = point_lanes(problem)
        if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            columns = [_column(leaf, shape, jnp) for leaf in leaves]
            flat = trace_lanes(partial(_solve_lane, tree), columns)
        else:
            flat = _solve_flat(tree, [_column(leaf, shape, np) for leaf in leaves])
        solution = jax.tree.map(lambda column: column.reshape(shape), flat)
    if throw and not isinstance(solution.status, jax.core.Tracer) and solution.failed:
        status = np.asarray(solution.status)
        first = int(np.flatnonzero(status)[0])
        index = tuple(int(i) for i in np.unravel_index(first, status.shape))
        sentence = Status(int(status.ravel()[first])).sentence
        raise RuntimeError(
            f"{solution.failed} of {status.size} points failed, first {index}: {sentence}"
        )
    return solution


def _check_in_sample(problem: PerceptronProblem) -> None:
    if beyond_max_margin(problem):
        raise ValueError(
            "probe = InSample() has a theory for max-margin students, clean labels and isotropic "
            "inputs only: use FixedAngle, Independent or CrossFitted"
        )


def _solve_regularised(problem: PerceptronProblem) -> ReplicaSolution:
    """Solve a problem with noisy labels, a loss, a spectrum or cross-fitted probes."""
    tree, shape, columns = regularised_lanes(problem)
    if any(isinstance(column, jax.core.Tracer) for column in columns):
        flat = trace_lanes(partial(_regularised_lane, tree), columns)
    else:
        flat = map_lanes(erm.solve_prepared, columns, partial(prepare_regularised, tree))
    return jax.tree.map(lambda column: column.reshape(shape), flat)


def regularised_lanes(
    problem: PerceptronProblem,
) -> tuple[jax.tree_util.PyTreeDef, tuple[int, ...], list[Any]]:
    """Return the tree of a problem's `ErmPoint`, its shape and its leaves as flat columns.

    Raises:
        ValueError: a combination that the theory does not cover.
    """
    if isinstance(problem.policy, Custom | Steps) and isinstance(problem.probe_field, FieldLaw):
        raise ValueError(
            f"policy = {type(problem.policy).__name__}(...) is a function of z whose kept fraction "
            "is known for a normal probe field only: use a policy of ranks, or Power"
        )
    copies = problem.redundancy
    chance = not erm.keeps_all_copies(problem.policy) and isinstance(problem.student, ERM)
    if chance and is_concrete(copies) and np.any(np.asarray(copies) != np.round(copies)):
        raise ValueError(
            f"redundancy = {copies} with the policy {problem.policy.name!r}, which keeps copies by "
            "chance, must be a whole number for a student with a loss"
        )
    point = erm.ErmPoint.of(problem, probe_angle(problem.probe))
    leaves, tree = jax.tree.flatten(point)
    own = [
        1 if has_vectors(part) else 0
        for part in jax.tree.leaves(point, is_leaf=has_vectors)
        for _ in jax.tree.leaves(part)
    ]
    shape = problem.shape
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
    xp = jnp if traced else np
    columns = [
        xp.broadcast_to(
            xp.asarray(leaf, np.float64), shape + np.shape(leaf)[np.ndim(leaf) - axes :]
        ).reshape(-1, *np.shape(leaf)[np.ndim(leaf) - axes :])
        for leaf, axes in zip(leaves, own, strict=True)
    ]
    return tree, shape, columns


@partial(jax.jit, static_argnums=0)
def prepare_regularised(tree: jax.tree_util.PyTreeDef, columns: list[Array]) -> erm.Prepared:
    """Prepare a chunk of points, so that all of a kind share the compiled solver."""
    return jax.vmap(lambda *lane: erm.prepare(jax.tree.unflatten(tree, lane)))(*columns)


def _regularised_lane(tree: jax.tree_util.PyTreeDef, lane: list[Array]) -> ReplicaSolution:
    return erm.solve_prepared(erm.prepare(jax.tree.unflatten(tree, lane)))


def point_lanes(
    problem: PerceptronProblem,
) -> tuple[jax.tree_util.PyTreeDef, tuple[int, ...], list[Any]]:
    """Return the leaves of a problem's `Point`, their tree and their common shape.

    An independent probe counts as the angle that it has.
    """
    point = Point(
        alpha_total=problem.alpha_total,
        keep_fraction=problem.keep_fraction,
        theta=probe_angle(problem.probe),
        redundancy=problem.redundancy,
        policy=problem.policy,
        downstream=problem.downstream,
    )
    leaves, tree = jax.tree.flatten(point)
    return tree, np.broadcast_shapes(*(np.shape(leaf) for leaf in leaves)), leaves


def _column(leaf: Any, shape: tuple[int, ...], xp: Any) -> Any:
    return xp.broadcast_to(xp.asarray(leaf, np.float64), shape).ravel()


def probe_angle(probe: Probe) -> ArrayLike:
    """Return a probe's angle to the teacher; that of an independent one is solved for.

    Raises:
        ValueError: a probe trained on the data, which has none.
    """
    if isinstance(probe, FixedAngle | CrossFitted):
        return probe.theta
    if isinstance(probe, OutOfFold):
        raise ValueError(
            "probe = OutOfFold(...) has no theory: simulate it by sims.run, or use CrossFitted, "
            "whose probes never saw the data"
        )
    if isinstance(probe, InSample):
        raise ValueError(
            "probe = InSample() has no angle of its own: use FixedAngle or Independent"
        )
    # A max-margin perceptron on alpha_probe * N other examples, without selection.
    trained = solve(PerceptronProblem(alpha_total=probe.alpha_probe, policy=Random()))
    return np.pi * trained.error


def _solve_flat(tree: jax.tree_util.PyTreeDef, flat: list[np.ndarray]) -> ReplicaSolution:
    """Solve all lanes, with a finer certificate where the first does not confirm.

    They are rare, and the finer certificate takes as long to compile as all the rest.
    """
    made = partial(_prepare_chunk, tree)
    solution = map_lanes(_solve_coarse, flat, made)
    doubtful = np.flatnonzero(solution.status == Status.NOT_CERTIFIED)
    if not doubtful.size:
        return solution
    again = map_lanes(_solve_fine, [column[doubtful] for column in flat], made)

    def replaced(column: np.ndarray, better: np.ndarray) -> np.ndarray:
        column = column.copy()
        column[doubtful] = better
        return column

    return jax.tree.map(replaced, solution, again)


@partial(jax.jit, static_argnums=0)
def _prepare_chunk(tree: jax.tree_util.PyTreeDef, columns: list[Array]) -> Prepared:
    """Prepare a chunk of points for the solver.

    Policies with as many intervals give the same type, so that they share the compiled solver.
    """
    return jax.vmap(lambda *lane: prepare(jax.tree.unflatten(tree, lane)))(*columns)


def _solve_coarse(prepared: Prepared) -> ReplicaSolution:
    return solve_prepared(prepared, partial(largest_residual, fine=False))


def _solve_fine(prepared: Prepared) -> ReplicaSolution:
    return solve_prepared(prepared, partial(largest_residual, fine=True))


def _solve_lane(tree: jax.tree_util.PyTreeDef, lane: list[Array]) -> ReplicaSolution:
    return solve_prepared(prepare(jax.tree.unflatten(tree, lane)), certificate)
