"""Computes the averages of the Gordon form at infinite dimension.

They are moments of the kept examples' margins, and integrals in one dimension.

The student is J = q (y + xi) in units of its out-of-plane norm q: `y` is its part in
span(T, J_p), with components (along T, along the unit vector orthogonal to T on the probe's
side), and xi ~ N(0, 1). With x the field of y/norm(y) and v the orthogonal in-plane field, the
selection and the gauge y = +1 bound v by lines in x, so every average is one integral over x of
elementary functions: exact up to quadrature, at any angle.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from hardset.pytree import pytree_dataclass
from theory.quadrature import (
    away_from_zero,
    feature_breaks,
    integrate_panels,
    normal_cdf,
    normal_pdf,
    panel_nodes,
)
from theory.weights import FunctionWeight, IntervalWeight, SelectionWeight

Array = jnp.ndarray

TINY = 1e-300
FAR = 40.0  # phi vanishes in float64 beyond it
BEYOND = 30.0  # edges of the selection farther out cut off nothing
ORDER = 12
BLOCK = 16


@pytree_dataclass
class Moments:
    """The averages over the kept examples of powers of the slack.

    Each is an average of alpha_total * 2 wt(z) 1[teacher field > 0] times the quantity.

    The slack is s = mu - y.u - xi, u the in-plane field vector in the frame (T, orthogonal).

    Attributes:
        second: E[s_+^2], scalar.
        first: E[s_+], scalar.
        count: E[1(s > 0)], scalar: support vectors / N.
        first_field: E[s_+ u], shape (2,).
        count_field: E[1(s > 0) u], shape (2,).
        count_square: E[1(s > 0) u u'], shape (2, 2).
    """

    second: Array
    first: Array
    count: Array
    first_field: Array
    count_field: Array
    count_square: Array


@pytree_dataclass
class Ensemble:
    """The kept examples of one problem: alpha_total, weight and probe angle.

    alpha_total counts distinct examples.
    """

    alpha_total: Array
    weight: SelectionWeight
    theta: Array


@pytree_dataclass
class Frame:
    """The norm and direction of the student's in-plane part.

    The direction is given by the angle psi from T and the angle theta - psi to J_p.
    """

    norm: Array
    cos_psi: Array
    sin_psi: Array
    cos_probe: Array
    sin_probe: Array

    @classmethod
    def of(cls, ensemble: Ensemble, y: Array) -> "Frame":
        """Return the frame of the in-plane part y, shape (2,).

        At y = 0 it is that of T.
        """
        norm = jnp.hypot(y[0], y[1])
        safe = jnp.where(norm > 0, norm, 1.0)
        cos_psi = jnp.where(norm > 0, y[0] / safe, 1.0)
        sin_psi = y[1] / safe
        cos_theta, sin_theta = jnp.cos(ensemble.theta), jnp.sin(ensemble.theta)
        return cls(
            norm=norm,
            cos_psi=cos_psi,
            sin_psi=sin_psi,
            cos_probe=cos_theta * cos_psi + sin_theta * sin_psi,
            sin_probe=sin_theta * cos_psi - cos_theta * sin_psi,
        )

    def axes(self) -> tuple[Array, Array]:
        """Return unit vectors along and across the student's in-plane part, shape (2,)."""
        return (
            jnp.stack([self.cos_psi, self.sin_psi]),
            jnp.stack([-self.sin_psi, self.cos_psi]),
        )


def moments(ensemble: Ensemble, y: Array, mu: Array) -> Moments:
    """Return all averages that the solver needs at a student and a margin.

    The student is its in-plane part y, shape (2,), and mu is the margin in the same units.
    """
    frame = Frame.of(ensemble, y)

    def integrands(x: Array) -> tuple[Array, ...]:
        v0, v1, v2 = _across_moments(ensemble.weight, x, frame)
        slack = mu - frame.norm * x
        density = 2 * ensemble.alpha_total * normal_pdf(x)
        below, at = density * normal_cdf(slack), density * normal_pdf(slack)
        first, xv0 = slack * below + at, x * v0
        return (
            ((slack**2 + 1) * below + slack * at) * v0,
            first * v0,
            first * xv0,
            first * v1,
            below * v0,
            below * xv0,
            below * v1,
            below * x * xv0,
            below * x * v1,
            below * v2,
        )

    second, first, first_x, first_v, count, count_x, count_v, xx, xv, vv = _along(
        ensemble, mu, frame, integrands
    )
    along, orthogonal = frame.axes()
    mixed = jnp.outer(along, orthogonal)
    return Moments(
        second=second,
        first=first,
        count=count,
        first_field=first_x * along + first_v * orthogonal,
        count_field=count_x * along + count_v * orthogonal,
        count_square=xx * jnp.outer(along, along)
        + vv * jnp.outer(orthogonal, orthogonal)
        + xv * (mixed + mixed.T),
    )


def support_density(ensemble: Ensemble, y: Array, mu: Array) -> tuple[Array, Array]:
    """Return the rates at which support vectors turn up as mu and y move.

    They are E[delta(s)], scalar, and E[delta(s) u], shape (2,).
    """
    frame = Frame.of(ensemble, y)

    def integrands(x: Array) -> tuple[Array, ...]:
        v0, v1, _ = _across_moments(ensemble.weight, x, frame)
        at = 2 * ensemble.alpha_total * normal_pdf(x) * normal_pdf(mu - frame.norm * x)
        return at * v0, at * x * v0, at * v1

    density, density_x, density_v = _along(ensemble, mu, frame, integrands)
    along, orthogonal = frame.axes()
    return density, density_x * along + density_v * orthogonal


def _along(
    ensemble: Ensemble, mu: Array, frame: Frame, integrands: Callable[[Array], tuple[Array, ...]]
) -> tuple[Array, ...]:
    """Return the integrals over x by a quadrature that follows every scale of the integrand."""
    edges = ensemble.weight.breaks()
    edges = jnp.where(jnp.abs(edges) < BEYOND, edges, 0.0)
    # phi(x)/phi(edge) is below the rounding error at the limit.
    limit = jnp.sqrt(80 + jnp.max(jnp.abs(edges), initial=0.0) ** 2)
    norm = jnp.maximum(frame.norm, TINY)
    label = jnp.abs(frame.sin_psi / away_from_zero(frame.cos_psi))
    slope = away_from_zero(frame.cos_probe)
    turn = jnp.abs(frame.sin_probe / slope)
    breaks = jnp.concatenate(
        [
            limit * np.linspace(-0.8, 0.8, 9),
            feature_breaks(jnp.zeros(()), label),
            edges * frame.sin_psi / away_from_zero(jnp.sin(ensemble.theta)),
            feature_breaks(edges / slope, turn),
            feature_breaks(mu / norm, 1 / norm),
        ]
    )
    low = jnp.where(frame.cos_psi > 0, -limit * jnp.minimum(label, 1.0), -limit)
    high = jnp.minimum((mu + 9) / norm, limit)
    # Outside of this range no v within the limit has a positive label and a kept probe field.
    least, most = ensemble.weight.reach()
    forward = frame.cos_probe > 1e-3
    low = jnp.where(forward, jnp.maximum(low, least / slope - limit * turn), low)
    high = jnp.where(forward, jnp.minimum(high, most / slope + limit * turn), high)
    return integrate_panels(integrands, breaks, low, high, order=ORDER, block=BLOCK)


def _across_moments(weight: SelectionWeight, x: Array, frame: Frame) -> tuple[Array, Array, Array]:
    """Integrate the selection weight over the in-plane field v across the student.

    The integrals are int dv phi(v) v^k wt(z) 1[teacher field > 0] for k = 0, 1, 2 at the fields x.
    """
    if isinstance(weight, IntervalWeight):
        return _interval_moments(weight, x, frame)
    return _function_moments(weight, x, frame)


def _interval_moments(weight: IntervalWeight, x: Array, frame: Frame) -> tuple[Array, Array, Array]:
    """Return the integrals over v of a step function in closed form.

    For each step v lies in one interval.
    """
    floor, ceiling = _teacher_bounds(x, frame)
    slope = away_from_zero(frame.sin_probe)
    total = [jnp.zeros_like(x) for _ in range(3)]
    for k in range(weight.level.shape[0]):
        one = (weight.low[k] - x * frame.cos_probe) / slope
        two = (weight.high[k] - x * frame.cos_probe) / slope
        low = jnp.clip(jnp.maximum(floor, jnp.minimum(one, two)), -FAR, FAR)
        high = jnp.clip(jnp.minimum(ceiling, jnp.maximum(one, two)), low, FAR)
        # Phi(high) - Phi(low) is taken in the tail where it is small.
        flip = low > 0
        mass = normal_cdf(jnp.where(flip, -low, high)) - normal_cdf(jnp.where(flip, -high, low))
        pdf_low, pdf_high = normal_pdf(low), normal_pdf(high)
        parts = (mass, pdf_low - pdf_high, mass + low * pdf_low - high * pdf_high)
        total = [sum_ + weight.level[k] * part for sum_, part in zip(total, parts, strict=True)]
    return total[0], total[1], total[2]


def _function_moments(weight: FunctionWeight, x: Array, frame: Frame) -> tuple[Array, Array, Array]:
    """Return the integrals over v of a smooth weight by Gauss-Legendre panels."""
    low, high = _teacher_bounds(x, frame)
    limit = 9.0
    low, high = jnp.clip(low, -limit, limit), jnp.clip(high, -limit, limit)
    slope = away_from_zero(frame.sin_probe)
    grid = jnp.asarray(np.linspace(-limit, limit, 10))

    def at(x: Array, low: Array, high: Array) -> tuple[Array, Array, Array]:
        kinks = jnp.clip((weight.breakpoints - x * frame.cos_probe) / slope, -limit, limit)
        v, dv = panel_nodes(jnp.concatenate([grid, kinks]), low, jnp.maximum(low, high), ORDER)
        mass = dv * normal_pdf(v) * weight(x * frame.cos_probe + v * frame.sin_probe)
        return jnp.sum(mass), jnp.sum(mass * v), jnp.sum(mass * v * v)

    flat = jax.vmap(at)(x.ravel(), low.ravel(), high.ravel())
    return flat[0].reshape(x.shape), flat[1].reshape(x.shape), flat[2].reshape(x.shape)


def _teacher_bounds(x: Array, frame: Frame) -> tuple[Array, Array]:
    """Return the bounds on v from the gauge: x cos(psi) - v sin(psi) > 0."""
    slope = away_from_zero(frame.sin_psi)
    line, positive = x * frame.cos_psi / slope, slope > 0
    return jnp.where(positive, -jnp.inf, line), jnp.where(positive, line, jnp.inf)
