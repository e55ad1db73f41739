"""Finds the volume of data up to which a hyperplane separates the noisy kept examples."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from hardset.float64 import float64
from hardset.pytree import pytree_dataclass
from replica.erm import plane
from replica.erm.measure import Fields
from replica.erm.point import Prepared, prepare
from replica.erm.separability import separability
from replica.lanes import map_lanes, trace_lanes
from replica.solver import prepare_regularised, regularised_lanes
from theory.inputs import Isotropic
from theory.problem import PerceptronProblem
from theory.students import MaxMargin

Array = jnp.ndarray


@pytree_dataclass
class SeparabilityThreshold:
    """The threshold of separability, as arrays of the problem's shape.

    Below it a hyperplane separates the kept examples and their observed labels, and a max-margin
    student exists; above it none does, and the minimiser of an unregularised logistic loss exists.

    Attributes:
        alpha_total: total examples / N at the threshold, copies counted; inf where the kept
            examples are separable at any volume, NaN where a parameter is outside its range.
        alpha_kept: kept distinct examples / N at the threshold.
    """

    alpha_total: ArrayLike
    alpha_kept: ArrayLike


@float64
def separability_threshold(problem: PerceptronProblem) -> SeparabilityThreshold:
    """Find the volume of data up to which the kept examples are linearly separable.

    1/alpha_total is the least average, over students in the plane of teacher and probe, of the
    squared part of y (W.x) that is below zero (Candes and Sur 2020 for all data; docs/erm.md).

    It can be differentiated once, with respect to every number of the problem that it depends on.

    Args:
        problem: a point or a grid of any shape. Its policy, probe, fraction, copies and labels
            matter; alpha_total, student and inputs do not.

    Returns:
        Arrays of `problem.shape`: NumPy float64 when called with numbers, tracers under a
        transformation. Thresholds above 2e7/keep_fraction count as infinite.

    Raises:
        ValueError: an in-sample probe, which has no theory of separability with noise.
    """
    volumes = np.ones(np.shape(problem.alpha_total))
    problem = dataclasses.replace(
        problem, alpha_total=volumes, student=MaxMargin(), inputs=Isotropic()
    )
    tree, shape, columns = regularised_lanes(problem)
    if any(isinstance(column, jax.core.Tracer) for column in columns):
        flat = trace_lanes(partial(_lane, tree), columns)
    else:
        flat = map_lanes(_threshold, columns, partial(prepare_regularised, tree))
    return jax.tree.map(lambda column: column.reshape(shape), flat)


def _lane(tree: jax.tree_util.PyTreeDef, lane: list[Any]) -> SeparabilityThreshold:
    return _threshold(prepare(jax.tree.unflatten(tree, lane)))


def _threshold(prepared: Prepared) -> SeparabilityThreshold:
    """Return the threshold of a point whose alpha_total is 1."""
    kept, one = prepared.kept, jnp.ones(())
    inverse = jnp.where(prepared.valid, separability(kept, prepared.penalty.share), jnp.nan)
    distinct = kept.alpha_total  # a copy of each
    counted = plane.totals(kept, Fields(0 * one, 0 * one, one, one), "separation").distinct
    return SeparabilityThreshold(
        alpha_total=1 / (distinct * inverse), alpha_kept=counted / (distinct * inverse)
    )
