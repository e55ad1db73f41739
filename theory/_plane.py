"""Gaussian moments of the kept examples in the plane of teacher and probe, along one axis of it.

In the gauge y = +1, x is the example's component along the student's direction in the plane and w
the one orthogonal to it, both N(0, 1): the teacher field is x cos(psi) - w sin(psi), the probe
field x cos(theta - psi) + w sin(theta - psi), psi the student's angle from the teacher.
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr
from jax.scipy.stats.norm import pdf

from theory.quadrature import away_from_zero, feature_breaks, panel_nodes
from theory.weights import IntervalWeight, SelectionWeight

__all__ = ["axis_breaks", "field_rule", "orthogonal_moments"]

Array = jnp.ndarray

REACH = 10.0  # phi(10) = 8e-23: below rounding even after division by f = 1e-3


def orthogonal_moments(
    x: Array, theta: Array, student_angle: Array, weight: SelectionWeight
) -> tuple[Array, Array]:
    """int phi(w) 1[teacher field > 0] wt(probe field) w^k dw for k = 0 and 1.

    Args:
        x: in-plane component along the student, scalar.
        theta: probe-teacher angle.
        student_angle: psi, from the teacher towards the probe.
        weight: selection weight in the gauge y = +1.

    Returns:
        The moments k = 0 and k = 1, scalars.
    """
    low, high = _teacher_half_line(x, student_angle)
    sine, cosine = jnp.sin(theta - student_angle), jnp.cos(theta - student_angle)
    if isinstance(weight, IntervalWeight):
        first, second = (
            (edge - x * cosine) / away_from_zero(sine) for edge in (weight.low, weight.high)
        )
        low = jnp.maximum(low, jnp.minimum(first, second))
        high = jnp.maximum(jnp.minimum(high, jnp.maximum(first, second)), low)
        return (
            jnp.sum(weight.level * _interval_probability(low, high)),
            jnp.sum(weight.level * (pdf(low) - pdf(high))),
        )
    breaks = (weight.breakpoints - x * cosine) / away_from_zero(sine)
    low, high = jnp.clip(low, -REACH, REACH), jnp.clip(high, -REACH, REACH)
    w, dw = panel_nodes(jnp.concatenate([breaks, jnp.arange(-8.0, 9.0, 2.0)]), low, high, 16)
    density = dw * pdf(w) * weight(x * cosine + w * sine)
    return jnp.sum(density), jnp.sum(density * w)


def axis_breaks(theta: Array, student_angle: Array, weight: SelectionWeight) -> Array:
    """Values of x where `orthogonal_moments` is steep or kinked, whatever the width."""
    apart = theta - student_angle
    # Finite edges only: the infinite ones bound nothing.
    edges = jnp.nan_to_num(weight.breaks(), nan=0.0, posinf=1e6, neginf=-1e6)
    cosine = away_from_zero(jnp.cos(apart))
    at_edges = jax.vmap(feature_breaks, in_axes=(0, None))(
        edges / cosine, jnp.abs(jnp.sin(apart) / cosine)
    )
    at_zero = feature_breaks(jnp.zeros(()), jnp.abs(jnp.tan(student_angle)))
    # Where an edge of the window meets the decision line of the teacher.
    corners = edges * jnp.sin(student_angle) / away_from_zero(jnp.sin(theta))
    return jnp.concatenate([at_edges.ravel(), edges / cosine, at_zero, jnp.zeros(1), corners])


def field_rule(
    features: tuple[tuple[Array, Array], ...], extra: Array, order: int = 12
) -> tuple[Array, Array]:
    """Nodes and weights (phi included) for a standard normal variable.

    Args:
        features: pairs (centre, width) of the integrand's transitions.
        extra: further breakpoints.
        order: nodes a panel.
    """
    breaks = [extra, jnp.arange(-8.0, 9.0, 2.0)]
    breaks += [feature_breaks(*feature) for feature in features]
    joined = jnp.nan_to_num(jnp.concatenate(breaks), nan=REACH, posinf=REACH, neginf=-REACH)
    nodes, weights = panel_nodes(joined, jnp.asarray(-REACH), jnp.asarray(REACH), order)
    return nodes, weights * pdf(nodes)


def _teacher_half_line(x: Array, student_angle: Array) -> tuple[Array, Array]:
    """The w with x cos(psi) - w sin(psi) > 0: an open interval, empty as low = high."""
    sine = jnp.sin(student_angle)
    edge = x * jnp.cos(student_angle) / away_from_zero(sine)
    return jnp.where(sine >= 0, -jnp.inf, edge), jnp.where(sine >= 0, edge, jnp.inf)


def _interval_probability(low: Array, high: Array) -> Array:
    """Phi(high) - Phi(low) from the tails that hold the digits."""
    swap = low > 0
    return ndtr(jnp.where(swap, -low, high)) - ndtr(jnp.where(swap, -high, low))
