"""Differentiates the student by the implicit function theorem, without unrolling the solver.

The problem's parameters act on the student only through the measure of the kept examples, so each
derivative is a change of that measure's averages at a fixed student, followed by one Newton step.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hardset.pytree import BRANCH, pytree_dataclass
from replica.gordon import Ensemble, Moments, moments, support_density
from replica.newton import Student, newton_step
from theory.quadrature import (
    away_from_zero,
    feature_breaks,
    integrate_panels,
    normal_cdf,
    normal_pdf,
)
from theory.weights import (
    LAST_EDGE,
    NUMBER_LIMIT,
    FunctionWeight,
    IntervalWeight,
    SelectionWeight,
    kept_mass,
)

Array = jnp.ndarray

ORDER = 12
BLOCK = 8
AT_ZERO = np.sqrt(0.5 / np.pi)  # phi(0)
# Panels for the bulk of a standard normal and for its tails.
BULK = np.concatenate([np.linspace(-9.0, 9.0, 11), [-25.0, -17.0, -12.0, 12.0, 17.0, 25.0]])
# A Gaussian tail beyond t > 1 falls like exp(-t x), and has panels of its own near its start.
TAIL = (-24.0, -12.0, -5.0, -2.0)


@pytree_dataclass
class LineAverages:
    """The integrals of powers of the slack s over a line, as in `replica.gordon.Moments`.

    Attributes:
        mass: of 1, scalar.
        second: of s_+^2, scalar.
        first: of s_+, scalar.
        count: of 1(s > 0), scalar.
        first_field: of s_+ u, shape (2,).
    """

    mass: Array
    second: Array
    first: Array
    count: Array
    first_field: Array


def probe_line(theta: Array, y: Array, mu: Array, z: Array) -> LineAverages:
    """Return the averages of the examples at a given probe field z.

    They are those with positive teacher field, per phi(z) dz.

    Args:
        theta: probe-teacher angle in radians.
        y: in-plane part of the student over its out-of-plane norm, shape (2,).
        mu: margin in the same units.
        z: probe field, scalar; beyond 37 it is taken there, where phi(z) is still a number.
    """
    z = jnp.clip(z, -NUMBER_LIMIT, NUMBER_LIMIT)
    cos, sin = jnp.cos(theta), jnp.maximum(jnp.sin(theta), 1e-300)
    corner = jnp.clip(z * cos / sin, -NUMBER_LIMIT, NUMBER_LIMIT)
    limit = jnp.sqrt(80 + corner**2)
    top = jnp.where(z * cos / sin > limit, limit, corner)
    offset = z * (y[0] * cos + y[1] * sin)
    slope = away_from_zero(y[1] * cos - y[0] * sin)
    breaks = jnp.concatenate(
        [
            BULK,
            feature_breaks((mu - offset) / slope, 1 / jnp.abs(slope)),
            feature_breaks(top, 1 / jnp.maximum(jnp.abs(top), 1.0), TAIL),
        ]
    )

    def integrands(v: Array) -> tuple[Array, ...]:
        fields = (z * cos - v * sin, z * sin + v * cos)
        return _integrands(normal_pdf(v), mu - offset - v * slope, fields)

    return _averages(integrands, breaks, -limit, top)


def label_line(ensemble: Ensemble, y: Array, mu: Array) -> LineAverages:
    """Return the averages on the line where the teacher's field vanishes.

    The weight is -u, where u is the field orthogonal to T.

    They are the rate at which a turn of the probe, the student turning with it, carries kept
    examples over the label's boundary.
    """
    sin = jnp.maximum(jnp.sin(ensemble.theta), 1e-300)
    edges = ensemble.weight.breaks() / sin
    edges = jnp.where(jnp.abs(edges) < NUMBER_LIMIT, edges, 0.0)
    limit = jnp.sqrt(80 + jnp.max(jnp.abs(edges), initial=0.0) ** 2)
    slope = away_from_zero(y[1])
    breaks = jnp.concatenate(
        [
            BULK,
            edges,
            feature_breaks(edges, 1 / jnp.maximum(jnp.abs(edges), 1.0), TAIL),
            feature_breaks(edges, -1 / jnp.maximum(jnp.abs(edges), 1.0), TAIL),
            feature_breaks(mu / slope, 1 / jnp.abs(slope)),
        ]
    )

    def integrands(s: Array) -> tuple[Array, ...]:
        rate = -s * AT_ZERO * normal_pdf(s) * ensemble.weight(s * jnp.sin(ensemble.theta))
        return _integrands(rate, mu - y[1] * s, (jnp.zeros_like(s), s))

    return _averages(integrands, breaks, -limit, limit)


def _integrands(density: Array, slack: Array, fields: tuple[Array, Array]) -> tuple[Array, ...]:
    below, at = normal_cdf(slack), normal_pdf(slack)
    first = density * (slack * below + at)
    return (
        density,
        density * ((slack**2 + 1) * below + slack * at),
        first,
        density * below,
        first * fields[0],
        first * fields[1],
    )


def _averages(
    integrands: Callable[[Array], tuple[Array, ...]], breaks: Array, low: Array, high: Array
) -> LineAverages:
    mass, second, first, count, one, two = integrate_panels(
        integrands, breaks, low, high, order=ORDER, block=BLOCK
    )
    return LineAverages(
        mass=mass, second=second, first=first, count=count, first_field=jnp.stack([one, two])
    )


@pytree_dataclass
class Outcome:
    """The numbers from which the order parameters are computed.

    Attributes:
        y: in-plane part of the student over its out-of-plane norm, shape (2,).
        mu: margin in the same units, scalar.
        count: support vectors over N, scalar.
        alpha_kept: kept distinct examples over N, scalar.
    """

    y: Array
    mu: Array
    count: Array
    alpha_kept: Array


@jax.custom_jvp
def differentiable(ensemble: Ensemble, student: Student, alpha_kept: Array) -> Outcome:
    """Return the outcome of a solved problem, with derivatives with respect to `ensemble`.

    Args:
        ensemble: the kept examples.
        student: the student of largest margin on them; carries no derivative.
        alpha_kept: kept examples over N; carries no derivative.
    """
    return Outcome(y=student.y, mu=student.mu, count=student.moments.count, alpha_kept=alpha_kept)


@differentiable.defjvp
def _differentiate(
    primals: tuple[Ensemble, Student, Array], tangents: tuple[Ensemble, Student, Array]
) -> tuple[Outcome, Outcome]:
    ensemble, student, _ = primals
    change = measure_change(ensemble, tangents[0], student)
    return differentiable(*primals), student_response(ensemble, student, change)


def student_response(ensemble: Ensemble, student: Student, change: LineAverages) -> Outcome:
    """Return the student's response to a small change of the measure's averages.

    It is linear in `change`.
    """
    at, y, norm = student.moments, student.y, student.norm
    gradient = at.first_field / at.first
    mu = -change.second / (2 * at.first)  # at fixed y
    first = change.first + at.count * mu
    first_field = change.first_field + at.count_field * mu
    slope = (first_field - gradient * first) / at.first - mu * y / norm**2
    y = newton_step(student, slope)
    mu = mu + gradient @ y
    density, density_field = support_density(ensemble, student.y, student.mu)
    return Outcome(
        y=y,
        mu=mu,
        count=change.count + density * mu - density_field @ y,
        alpha_kept=change.mass,
    )


def measure_change(ensemble: Ensemble, tangent: Ensemble, student: Student) -> LineAverages:
    """Return the change of the averages along `tangent` at a fixed student.

    It is linear in `tangent`.
    """
    parts = [_volume_change(ensemble, tangent, student), _turn_change(ensemble, tangent, student)]
    if isinstance(ensemble.weight, IntervalWeight) and isinstance(tangent.weight, IntervalWeight):
        parts.append(_edge_change(ensemble, ensemble.weight, tangent.weight, student))
    return jax.tree.map(lambda *terms: sum(terms), *parts)


@pytree_dataclass
class _FunctionRate(FunctionWeight):
    """The rate of change of a user's weight with its redundancy and its parameters.

    Attributes:
        redundancy_rate: rate of change of the redundancy.
        parameter_rates: rates of change of the parameters, a tree like theirs.
    """

    redundancy_rate: Array
    parameter_rates: tuple[Any, ...] = dataclasses.field(metadata=BRANCH)

    def __call__(self, z: Array) -> Array:
        def at(redundancy: Array, parameters: tuple[Any, ...]) -> Array:
            weight = FunctionWeight(
                self.function, self.even, redundancy, parameters, self.breakpoints
            )
            return weight(z)

        return jax.jvp(
            at,
            (self.redundancy, self.parameters),
            (self.redundancy_rate, self.parameter_rates),
        )[1]


def _volume_change(ensemble: Ensemble, tangent: Ensemble, student: Student) -> LineAverages:
    """Return the change of the averages with alpha_total and the weight's levels.

    The averages are linear in both.
    """
    alpha, theta = ensemble.alpha_total, ensemble.theta
    rate = _weight_rate(ensemble.weight, tangent.weight)
    growth = tangent.alpha_total / alpha
    whole = _of_moments(student.moments, alpha * kept_mass(ensemble.weight, theta))
    part = _of_moments(
        moments(Ensemble(alpha, rate, theta), student.y, student.mu), alpha * kept_mass(rate, theta)
    )
    return jax.tree.map(lambda all_, new: growth * all_ + new, whole, part)


def _weight_rate(weight: SelectionWeight, tangent: SelectionWeight) -> SelectionWeight:
    """Return the rate of change of a weight between its edges."""
    if isinstance(weight, IntervalWeight) and isinstance(tangent, IntervalWeight):
        return IntervalWeight(weight.low, weight.high, tangent.level)
    assert isinstance(weight, FunctionWeight) and isinstance(tangent, FunctionWeight)
    return _FunctionRate(
        **vars(weight), redundancy_rate=tangent.redundancy, parameter_rates=tangent.parameters
    )


def _edge_change(
    ensemble: Ensemble, weight: IntervalWeight, tangent: IntervalWeight, student: Student
) -> LineAverages:
    """Return the change of the averages with the edges of the selection."""
    edges = _reached(jnp.concatenate([weight.low, weight.high]), ensemble.theta)
    level = jnp.concatenate([-weight.level, weight.level])
    moved = jnp.concatenate([tangent.low, tangent.high])
    # The density multiplies first: a quantile's derivative is its inverse and would overflow alone.
    rate = 2 * ensemble.alpha_total * level * (normal_pdf(edges) * moved)
    lines = jax.vmap(probe_line, in_axes=(None, None, None, 0))(
        ensemble.theta, student.y, student.mu, edges
    )
    return jax.tree.map(lambda values: rate @ values, lines)


def _turn_change(ensemble: Ensemble, tangent: Ensemble, student: Student) -> LineAverages:
    """Return the change of the averages with the probe's angle.

    In the probe's frame the label's boundary and y turn.
    """
    at, y = student.moments, student.y
    density_field = support_density(ensemble, y, student.mu)[1]
    turned = jnp.stack([-y[1], y[0]])
    moved = LineAverages(
        mass=jnp.zeros(()),
        second=2 * turned @ at.first_field,
        first=turned @ at.count_field,
        count=turned @ density_field,
        first_field=at.count_square @ turned + jnp.stack([-at.first_field[1], at.first_field[0]]),
    )
    boundary = label_line(ensemble, y, student.mu)
    return jax.tree.map(
        lambda line, rest: tangent.theta * (2 * ensemble.alpha_total * line + rest), boundary, moved
    )


def _of_moments(at: Moments, mass: Array) -> LineAverages:
    return LineAverages(
        mass=mass,
        second=at.second,
        first=at.first,
        count=at.count,
        first_field=at.first_field,
    )


def _reached(edges: Array, theta: Array) -> Array:
    """Move edges that cut off nothing to the farthest field that counts.

    No f < 1 can reach a field farther out.
    """
    edges = jnp.clip(edges, -NUMBER_LIMIT, NUMBER_LIMIT)
    edges = jnp.where(jnp.abs(edges) == NUMBER_LIMIT, jnp.sign(edges) * LAST_EDGE, edges)
    signed = -NUMBER_LIMIT * jnp.sin(theta)
    return jnp.where(edges == signed, -LAST_EDGE * jnp.sin(theta), edges)
