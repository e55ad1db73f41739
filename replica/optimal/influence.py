"""Trains students with a loss on sets of ranks, and finds each rank's influence.

The averages over the kept examples are linear in the weight, so that a rank acts by what its
examples add to four averages. The student's answer to them is one Newton step of its equations,
whose adjoint serves every rank.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hardset.pytree import STATIC, pytree_dataclass
from replica.erm import line
from replica.erm.equations import Penalty, Unknowns, fields_at, newton_matrix, residuals
from replica.erm.losses import gaussian_slopes
from replica.erm.measure import Averages, Fields, Kept
from replica.erm.newton import find_root
from replica.point import judge
from replica.solver import prepare_regularised, regularised_lanes
from theory.problem import DownstreamShift, PerceptronProblem
from theory.quadrature import away_from_zero, feature_breaks, integrate_panels, normal_pdf
from theory.weights import LEAST_ANGLE, IntervalWeight

Array = jnp.ndarray

REACH = 9.0  # phi is below the rounding error there
ORDER = 16
BLOCK = 4
# Breaks around a bend of the logistic loss, whose slope is felt far from it.
SLOW = (-25.0, -9.0, -4.0, -1.5, 1.5, 4.0, 9.0, 25.0)


@pytree_dataclass
class LossRanks:
    """A problem of scalars beyond max-margin, without the ranks that are kept.

    Attributes:
        kept: its kept examples; the weight is a stand-in.
        penalty: the rest of its equations.
        downstream: shift between the labels' teacher and the one that judges the student.
        loss: name of the loss.
    """

    kept: Kept
    penalty: Penalty
    downstream: DownstreamShift
    loss: str = dataclasses.field(metadata=STATIC)

    @classmethod
    def of(cls, problem: PerceptronProblem) -> list["LossRanks"]:
        """Return the problems of a family of lanes, one each."""
        tree, _, columns = regularised_lanes(problem)
        found = []
        for k in range(len(columns[0])):
            with jax.enable_x64(True):
                made = prepare_regularised(tree, [column[k : k + 1] for column in columns])
            one: Any = jax.tree.map(lambda leaf: np.asarray(leaf)[0], made)
            found.append(cls(one.kept, one.penalty, one.downstream, one.loss))
        return found


@pytree_dataclass
class LossStudents:
    """The trained students of several sets of ranks, with a leading axis of sets.

    Attributes:
        weight: what they were trained on.
        x: the vectors of their unknowns.
        error: their errors; NaN where the equations were not solved.
    """

    weight: IntervalWeight
    x: Array
    error: Array


def train_one(problem: LossRanks, weight: IntervalWeight, mass: Array) -> LossStudents:
    """Train the student of one set of ranks, `mass` being the share that it keeps."""
    kept = dataclasses.replace(problem.kept, weight=weight)
    root = find_root(
        lambda fields: line.averages_and_slopes(kept, fields, problem.loss),
        problem.penalty,
        problem.kept.alpha_total * mass,
        hard=problem.loss == "hard-margin",
    )
    error = jnp.where(root.converged, _error(root.x, problem), jnp.nan)
    return LossStudents(weight=weight, x=root.x, error=error)


def _error(x: Array, problem: LossRanks) -> Array:
    fields = fields_at(x, problem.penalty)
    norm = Unknowns.of(x, problem.penalty.lam).norm()
    student = (fields.along / norm, fields.across / norm, fields.apart / norm)
    return judge(*student, problem.downstream)[1] / np.pi


def influence_of(problem: LossRanks, student: LossStudents, fields: Array) -> Array:
    """Return d error/d w at the probe fields, per unit of kept mass, shape (n,)."""
    kept, penalty = dataclasses.replace(problem.kept, weight=student.weight), problem.penalty
    at = fields_at(student.x, penalty)
    found, slopes = line.averages_and_slopes(kept, at, problem.loss)
    flat = jnp.concatenate([found.pull, jnp.stack([found.square, found.curvature])])

    def residual(flat: Array) -> Array:
        return residuals(student.x, Averages(flat[:2], flat[2], flat[3]), penalty)

    rate = jax.grad(_error)(student.x, problem)
    matrix = newton_matrix(student.x, found, slopes, penalty)
    adjoint = -jnp.linalg.solve(matrix.T, rate) @ jax.jacfwd(residual)(flat)

    def of(z: Array) -> Array:
        added = sum(_line_averages(problem, at, side) for side in (z, -z))
        return kept.alpha_total * (adjoint @ added)

    return jax.lax.map(of, fields)


def _line_averages(problem: LossRanks, student: Fields, z: Array) -> Array:
    """Average (u M', s M', M'^2, M'') over the examples with probe field z.

    The averages are weighted by the chance of the observed label that is +1 in the gauge.
    """
    theta, labels = jnp.maximum(problem.kept.theta, LEAST_ANGLE), problem.kept.labels
    cos, sin = jnp.cos(theta), jnp.sin(theta)
    ahead = student.along * cos + student.across * sin
    aside = away_from_zero(student.along * sin - student.across * cos)
    step, spread = student.prox_step, student.apart

    def integrands(side: Array) -> tuple[Array, ...]:
        u, s = z * cos + side * sin, z * sin - side * cos
        e1, e2, e3 = gaussian_slopes(problem.loss, ahead * z + aside * side, spread, step)[0]
        density = normal_pdf(side) * labels.probability(u)
        return density * u * e1, density * s * e1, density * e2, density * e3

    turns = (labels.at - z * cos) / sin
    parts = [
        jnp.asarray(np.linspace(-7.0, 7.0, 8)),
        feature_breaks(turns, labels.width / sin),
    ]
    if problem.loss == "logistic":
        bends = jnp.stack([jnp.log1p(step), -step - jnp.log1p(step)])
        width = jnp.sqrt(spread**2 + 1)
        parts.append(feature_breaks((bends - ahead * z) / aside, width / aside, SLOW))
    else:
        kinks = jnp.stack([jnp.ones(()), 1 - step])
        parts.append(feature_breaks((kinks - ahead * z) / aside, spread / aside))
    breaks = jnp.concatenate(parts)
    breaks = jnp.where(jnp.isfinite(breaks), breaks, REACH)
    ends = (jnp.asarray(-REACH), jnp.asarray(REACH))
    return jnp.stack(integrate_panels(integrands, breaks, *ends, order=ORDER, block=BLOCK))
