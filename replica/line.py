"""Averages on the lines where the measure of the kept examples changes.

Two lines matter: a probe field z that the selection lets in or out, and the vanishing teacher
field, where a turn of the probe moves the label's boundary. On each the remaining in-plane field is
one-dimensional and everything else elementary.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from replica.gordon import Ensemble
from theory._pytree import pytree_dataclass
from theory.normal import normal_cdf, normal_pdf
from theory.quadrature import away_from_zero, feature_breaks, integrate_panels
from theory.weights import NUMBER_LIMIT

Array = jnp.ndarray

ORDER = 12
BLOCK = 8
AT_ZERO = np.sqrt(0.5 / np.pi)  # phi(0)
# Panels for the bulk of a standard normal and for its tails.
BULK = np.concatenate([np.linspace(-9.0, 9.0, 11), [-25.0, -17.0, -12.0, 12.0, 17.0, 25.0]])
# A Gaussian tail beyond t > 1 falls like exp(-t x): panels of its own near the end of the line.
TAIL = (-24.0, -12.0, -5.0, -2.0)


@pytree_dataclass
class LineAverages:
    """Integrals of powers of the slack s over a line, as in `replica.gordon.Moments`.

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
    """Averages of the examples with positive teacher field at the probe field z, per phi(z) dz.

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
    """Averages with the weight -u at vanishing teacher field, u the field orthogonal to T.

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
