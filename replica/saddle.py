"""Certifies students by the replica saddle-point equations.

These are the second form of the theory, in the fields (t, z).

Equations of the appendix of Sorscher et al. 2022 (arXiv:2206.14486), with averages over the kept
examples in the gauge y = +1. Their left sides lose all digits at small angles when computed from
(R, rho); here they are written in (c, q, psi): R = c cos psi, rho = c cos(theta - psi),
Lambda = q sin theta. Nothing is shared with the Gordon form but the panel rule: the student's
field t and the probe's field z are integrated in two dimensions.
"""

import jax.numpy as jnp
import numpy as np

from replica.gordon import BEYOND, Ensemble, Frame
from theory.quadrature import (
    FINE,
    away_from_zero,
    feature_breaks,
    integrate_panels,
    normal_cdf,
    normal_pdf,
)

Array = jnp.ndarray

TINY = 1e-300
ORDER = 12
BLOCK = 4  # panels in each step of the quadrature
# Panels are 4.4 widths long: there the 12-point rule errs by 3e-11, which suffices to certify.
COARSE = (-6.5, -2.2, 2.2, 6.5)


def saddle_residual(ensemble: Ensemble, y: Array, mu: Array, *, fine: bool = False) -> Array:
    """Return the relative residuals of the three saddle-point equations.

    They are left minus right sides, relative to their left sides.

    The first and third equation are the components of half the gradient of
    F(v, kappa) = alpha E[(kappa - y u - q xi)_+^2] - q^2 along T and J_p, the second is -F. The
    first two entries combine the former into the components along T and orthogonal to it, which
    keeps them meaningful at theta = 0, over the in-plane norm c; the third is divided by q^2.

    Args:
        ensemble: the kept examples of one problem (scalars).
        y: in-plane part of the student over its out-of-plane norm, shape (2,).
        mu: margin kappa over the out-of-plane norm.
        fine: spend ten times the nodes, also on tails that begin at an edge of the window: where
            a wide margin excludes almost every example, they hold all that is left.

    Returns:
        The residuals, shape (3,).
    """
    first, second, third = saddle_sides(ensemble, y, mu, fine=fine)
    frame = Frame.of(ensemble, y)
    norm = jnp.sqrt(1 + frame.norm**2)
    q, c = 1 / norm, frame.norm / norm
    theta = ensemble.theta
    scale = jnp.maximum(c, 1e-2)
    return jnp.stack(
        [
            (c * frame.cos_psi - first - third * jnp.cos(theta)) / scale,
            (c * frame.sin_psi - third * jnp.sin(theta)) / scale,
            (q**2 - second) / q**2,
        ]
    )


def saddle_sides(
    ensemble: Ensemble, y: Array, mu: Array, *, fine: bool = False
) -> tuple[Array, Array, Array]:
    """Return the right sides of the three saddle-point equations.

    Their left sides are c sin(theta - psi)/sin(theta), q^2 and c sin(psi)/sin(theta).
    """
    frame = Frame.of(ensemble, y)
    norm = jnp.sqrt(1 + frame.norm**2)
    q, c, kappa = 1 / norm, frame.norm / norm, mu / norm
    rest = q**2 + (c * frame.sin_probe) ** 2  # 1 - rho^2
    offsets = FINE if fine else COARSE
    boundary = _boundary_average(ensemble, frame, c, q, kappa, offsets)
    second, third = _bulk_averages(ensemble, frame, c, q, kappa, rest, offsets)
    tilt = frame.sin_probe * frame.sin_psi - q**2 * frame.cos_probe * frame.cos_psi
    return boundary, second, third + boundary * tilt / rest


def _boundary_average(
    ensemble: Ensemble,
    frame: Frame,
    c: Array,
    q: Array,
    kappa: Array,
    offsets: tuple[float, ...],
) -> Array:
    """Integrate the slack over the line where the teacher's field vanishes.

    The average is alpha/(pi Lambda) <int dt exp(-Delta/(2 Lambda^2)) (kappa - t)>. On the line
    z = s sin(theta), and t is Gaussian with mean s c sin(psi) and width q.
    """
    sin_theta = jnp.maximum(jnp.sin(ensemble.theta), TINY)
    limit = jnp.asarray(9.0)
    slope = away_from_zero(c * frame.sin_psi)
    edges = _finite(ensemble.weight.breaks()) / sin_theta
    breaks = jnp.concatenate(
        [
            _around(edges, (jnp.abs(q / slope),), offsets),
            feature_breaks(kappa / slope, jnp.abs(q / slope), offsets),
            np.linspace(-7.0, 7.0, 8),
        ]
    )

    def integrand(s: Array) -> tuple[Array]:
        slack = (kappa - s * c * frame.sin_psi) / q
        average = q * (slack * normal_cdf(slack) + normal_pdf(slack))
        return (normal_pdf(s) * ensemble.weight(s * sin_theta) * average,)

    (total,) = integrate_panels(integrand, breaks, -limit, limit, order=ORDER, block=BLOCK)
    return ensemble.alpha_total * np.sqrt(2 / np.pi) * total


def _bulk_averages(
    ensemble: Ensemble,
    frame: Frame,
    c: Array,
    q: Array,
    kappa: Array,
    rest: Array,
    offsets: tuple[float, ...],
) -> tuple[Array, Array]:
    """Integrate powers of the slack over the fields (t, z).

    The averages are 2 alpha <int dt g H (kappa - t)^2>, and the same with
    (z - rho t)/(1 - rho^2) (kappa - t) instead of the square.
    """
    theta = ensemble.theta
    rho, width = c * frame.cos_probe, jnp.sqrt(rest)
    sin_theta = jnp.maximum(jnp.sin(theta), TINY)
    edges = _finite(ensemble.weight.breaks())
    limit = jnp.sqrt(80 + jnp.max(jnp.abs(edges), initial=0.0) ** 2)
    slope = away_from_zero(c * frame.sin_psi) / sin_theta
    label = jnp.tan(jnp.minimum(theta, 1.5))
    slack = width / jnp.abs(away_from_zero(rho))
    breaks = jnp.concatenate(
        [
            _around(edges, (label, slack), offsets),
            feature_breaks(jnp.zeros(()), label, offsets),
            feature_breaks(kappa / away_from_zero(rho), slack, offsets),
            feature_breaks(kappa / slope, q / jnp.abs(slope), offsets),
            limit * np.linspace(-0.75, 0.75, 7),
        ]
    )
    # Outside of this range nothing is kept, or no label or no slack is positive.
    least, most = ensemble.weight.reach()
    low = jnp.maximum(jnp.maximum(least, -limit), -limit * jnp.tan(jnp.minimum(theta, 0.8)))
    reached = jnp.where(rho > 1e-3, (kappa + 9 * width) / rho, limit)
    high = jnp.minimum(jnp.minimum(most, limit), reached)
    # H's argument is (z tilt - t c sin(theta) sin(theta - psi)) / (width q sin(theta)).
    tilt = frame.sin_probe * frame.sin_psi - q**2 * frame.cos_probe * frame.cos_psi
    turn = away_from_zero(c * frame.sin_probe)

    def over_t(z: Array) -> tuple[Array, Array]:
        deep, at = z[..., None, None], normal_pdf(z) * ensemble.weight(z)

        def integrands(t: Array) -> tuple[Array, Array]:
            gauss = normal_pdf((t - rho * deep) / width) / width
            teacher = normal_cdf(-(deep * tilt / sin_theta - t * turn) / (width * q))
            mass = gauss * teacher * (kappa - t)
            return mass * (kappa - t), mass * (deep - rho * t)

        breaks = jnp.concatenate(
            [
                _spread(rho * z, width, offsets),
                _spread(z * tilt / (turn * sin_theta), width * q / jnp.abs(turn), offsets),
                _spread(z * slope, q, offsets),
            ],
            axis=-1,
        )
        bottom = rho * z - 10 * width
        second, third = integrate_panels(
            integrands,
            breaks,
            bottom,
            jnp.full_like(bottom, kappa),
            order=ORDER,
            block=BLOCK,
        )
        return at * second, at * third

    second, third = integrate_panels(over_t, breaks, low, high, order=ORDER, block=BLOCK)
    return 2 * ensemble.alpha_total * second, 2 * ensemble.alpha_total * third / rest


def _spread(centre: Array, scale: Array, offsets: tuple[float, ...]) -> Array:
    """Return the breaks around each centre, along a last axis."""
    return centre[..., None] + scale * jnp.asarray(offsets)


def _around(edges: Array, scales: tuple[Array, ...], offsets: tuple[float, ...]) -> Array:
    """Return the window's edges, with fine offsets also breaks at every scale around them."""
    if offsets is COARSE:
        return edges
    return jnp.concatenate([edges, *(feature_breaks(edges, scale, offsets) for scale in scales)])


def _finite(edges: Array) -> Array:
    return jnp.where(jnp.abs(edges) < BEYOND, edges, 0.0)
