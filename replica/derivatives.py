"""Computes derivatives of the solution on a whole grid, from numbers alone.

The caller needs no JAX transformation.
"""

import dataclasses
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from hardset.float64 import float64
from hardset.pytree import pytree_dataclass
from replica.erm import point as erm
from replica.gordon import moments
from replica.implicit import differentiable
from replica.lanes import map_lanes
from replica.newton import Student
from replica.point import prepare, read_out
from replica.solution import ReplicaSolution
from replica.solver import point_lanes, regularised_lanes, solve
from theory.problem import PerceptronProblem, beyond_max_margin
from theory.students import ERM

Array = jnp.ndarray

_LEADING = ("alpha_total", "keep_fraction", "theta", "redundancy")  # a point's first leaves


@pytree_dataclass
class Sensitivities:
    """The first derivatives of the solution, as arrays of the problem's shape.

    Angles are in radians.

    Attributes:
        solution: the solution itself, with its status.
        error_alpha_total: d e/d alpha_total at fixed f and theta.
        error_keep_fraction: d e/d f at fixed alpha_total and theta.
        error_theta: d e/d theta at fixed alpha_total and f.
        error_redundancy: d e/d r at fixed alpha_total and f.
        overlap_alpha_total: d R/d alpha_total.
        overlap_keep_fraction: d R/d f.
        overlap_theta: d R/d theta.
        overlap_redundancy: d R/d r.
        margin_alpha_total: d kappa/d alpha_total.
        margin_keep_fraction: d kappa/d f.
        margin_theta: d kappa/d theta.
        margin_redundancy: d kappa/d r.
        error_lam: d e/d lam at fixed selection; NaN for max-margin students.
        overlap_lam: d R/d lam.
    """

    solution: ReplicaSolution
    error_alpha_total: ArrayLike
    error_keep_fraction: ArrayLike
    error_theta: ArrayLike
    error_redundancy: ArrayLike
    overlap_alpha_total: ArrayLike
    overlap_keep_fraction: ArrayLike
    overlap_theta: ArrayLike
    overlap_redundancy: ArrayLike
    margin_alpha_total: ArrayLike
    margin_keep_fraction: ArrayLike
    margin_theta: ArrayLike
    margin_redundancy: ArrayLike
    error_lam: ArrayLike
    overlap_lam: ArrayLike


@float64
def sensitivities(problem: PerceptronProblem) -> Sensitivities:
    """Compute the solution and the first derivatives of e, R and kappa.

    The derivatives are found at every point by implicit differentiation.

    A Custom weight keeps its shape: f does not enter, and the derivatives with respect to it
    vanish. Students with a loss have no margin, and copies that are kept by chance no derivative:
    those are NaN. For derivatives with respect to a policy's own parameters or the label noise
    differentiate `replica.solve`.

    Args:
        problem: a point or a grid of numbers; an `Independent` probe counts as the angle it has.

    Raises:
        ValueError: an in-sample probe, which has no angle to turn, or traced arguments.
    """
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(problem)):
        raise ValueError(
            "sensitivities takes numbers; under jit, vmap or grad differentiate replica.solve"
        )
    if beyond_max_margin(problem):
        return _regularised(problem)
    tree, shape, leaves = point_lanes(problem)
    columns = [np.broadcast_to(np.asarray(leaf, np.float64), shape).ravel() for leaf in leaves]
    solution = solve(problem)
    q = np.ravel(solution.orthogonal)
    across = np.tan(np.ravel(solution.student_angle)) * np.ravel(solution.overlap)
    student = [np.ravel(part) / q for part in (solution.overlap, across, solution.margin)]
    rates = map_lanes(_lane(tree), (columns, student))
    return Sensitivities(
        solution=solution,
        **{
            f"{name}_{parameter}": rates[:, leaf, k].reshape(shape)
            for k, name in enumerate(("error", "overlap", "margin"))
            for leaf, parameter in enumerate(_LEADING)
        },
        error_lam=np.full(shape, np.nan),
        overlap_lam=np.full(shape, np.nan),
    )


def _regularised(problem: PerceptronProblem) -> Sensitivities:
    """Differentiate solutions with noisy labels, a loss, a spectrum or cross-fitted probes."""
    tree, shape, columns = regularised_lanes(problem)
    # As columns of their own, whatever the tree.
    point = jax.tree.unflatten(tree, columns)
    given = [getattr(point, name) for name in _LEADING]
    ridge = isinstance(problem.student, ERM)
    given += [point.student.lam] if ridge else []
    solution, rates = map_lanes(_regularised_lane(tree), (columns, given))
    # A constant NaN has the derivative 0.
    rates[np.isnan(solution.margin), :, 2] = np.nan
    names = (*_LEADING, "lam")
    missing = np.full((len(rates), 1, 3), np.nan)
    rates = rates if ridge else np.concatenate([rates, missing], axis=1)
    return Sensitivities(
        solution=jax.tree.map(lambda column: column.reshape(shape), solution),
        **{
            f"{name}_{parameter}": rates[:, leaf, k].reshape(shape)
            for k, name in enumerate(("error", "overlap", "margin"))
            for leaf, parameter in enumerate(names)
            if (name, parameter) != ("margin", "lam")
        },
    )


@cache
def _regularised_lane(tree: jax.tree_util.PyTreeDef) -> Callable[[Any], Any]:
    return partial(_regularised_rates, tree)


def _regularised_rates(
    tree: jax.tree_util.PyTreeDef, lane: tuple[list[Array], list[Array]]
) -> tuple[ReplicaSolution, Array]:
    """Return the solution of one point, and the derivatives of e, R and kappa.

    The first axis of the derivatives is that of the leading numbers, lam the last one.
    """
    leaves, given = lane
    point = jax.tree.unflatten(tree, leaves)

    def of(leading: Array) -> tuple[Array, ReplicaSolution]:
        changed = dict(zip(_LEADING, leading, strict=False))
        moved = dataclasses.replace(point, **changed)
        if len(leading) > len(_LEADING):
            student = dataclasses.replace(point.student, lam=leading[len(_LEADING)])
            moved = dataclasses.replace(moved, student=student)
        found = erm.solve_prepared(erm.prepare(moved))
        return jnp.stack([found.error, found.overlap, found.margin]), found

    _, push, found = jax.linearize(of, jnp.stack(given), has_aux=True)
    return found, jax.vmap(push)(jnp.eye(len(given)))


@cache
def _lane(tree: jax.tree_util.PyTreeDef) -> Callable[[Any], Array]:
    """Return the function that differentiates a lane, one object for each tree.

    A compiled loop knows its function by identity.
    """
    return partial(_rates, tree)


def _rates(tree: jax.tree_util.PyTreeDef, lane: tuple[list[Array], list[Array]]) -> Array:
    """Return the derivatives of e, R and kappa at one point.

    The first axis is that of the leading leaves, the last one that of e, R and kappa.
    """
    leaves, (along, across, mu) = lane
    y = jnp.stack([along, across])
    ensemble = prepare(jax.tree.unflatten(tree, leaves)).ensemble
    student = Student(y=y, mu=mu, moments=moments(ensemble, y, mu), last_step=jnp.zeros(()))

    def of(leading: Array) -> Array:
        point = jax.tree.unflatten(tree, [*leading, *leaves[len(_LEADING) :]])
        prepared = prepare(point)
        nothing = jnp.zeros(())
        found = read_out(
            prepared,
            differentiable(prepared.ensemble, student, jnp.ones(())),
            residual_saddle=nothing,
            residual_gordon=nothing,
            status=nothing,
            steps=nothing,
        )
        return jnp.stack([found.error, found.overlap, found.margin])

    push = jax.linearize(of, jnp.stack(leaves[: len(_LEADING)]))[1]
    return jax.vmap(push)(jnp.eye(len(_LEADING)))
