"""Computes the smooth selection weight of the policy `Power`, and the constant it needs."""

import jax
import jax.numpy as jnp

from theory.quadrature import normal_pdf, panel_nodes

Array = jnp.ndarray

FARTHEST = 9.0  # phi is below the rounding error there
BISECTIONS = 60


def power_weight(z: Array, level: Array, scale: Array, exponent: Array, clip: Array) -> Array:
    """Return min(exp(level) s(scale z)^exponent, 1) at the fields z, any shape."""
    return jnp.exp(jnp.minimum(level + exponent * _log_variance(scale * z, clip), 0.0))


def _log_variance(score: Array, clip: Array) -> Array:
    """Return log(sigma (1 - sigma)) at a score, clipped to +-clip."""
    size = jnp.minimum(jnp.abs(score), clip)
    return -size - 2 * jnp.log1p(jnp.exp(-size))


def power_breaks(level: Array, scale: Array, exponent: Array, clip: Array) -> Array:
    """Return the fields where the weight bends, and panels of its own scale between them."""
    last = clip / scale
    # exp(level) s^exponent = 1 at 1/(4 cosh^2(x/2)) = exp(-level/exponent).
    safe = jnp.where(exponent == 0, 1.0, exponent)
    half = jnp.exp(jnp.clip(level / (2 * safe), -300.0, 300.0)) / 2
    inside = (exponent != 0) & (half > 1)
    full = jnp.where(inside, 2 * jnp.arccosh(jnp.where(inside, half, 2.0)) / scale, 0.0)
    full = jnp.minimum(full, last)
    steps = jnp.arange(1, 6) * jnp.minimum(2 / scale, 2.0)
    marks = jnp.concatenate([jnp.stack([full, last]), jnp.minimum(steps, last)])
    return jnp.concatenate([-marks, jnp.zeros(1), marks])


def power_level(keep_fraction: Array, scale: Array, exponent: Array, clip: Array) -> Array:
    """Return log c for which the weight keeps the fraction f.

    The probe's field is z ~ N(0, 1). The answer is differentiable in all arguments, by one Newton
    step from the solution.
    """

    def mass(level: Array, *own: Array) -> tuple[Array, Array]:
        breaks = jnp.concatenate([power_breaks(level, *own), jnp.arange(-8.0, 9.0)])
        z, dz = panel_nodes(breaks, jnp.asarray(-FARTHEST), jnp.asarray(FARTHEST), 16)
        weight = power_weight(z, level, *own)
        density = dz * normal_pdf(z)
        return jnp.sum(density * weight), jnp.sum(density * weight * (weight < 1))

    fixed = [jax.lax.stop_gradient(part) for part in (scale, exponent, clip)]
    target = jax.lax.stop_gradient(keep_fraction)
    ends = exponent * _log_variance(jnp.stack([jnp.zeros(()), clip]), clip)
    low = jax.lax.stop_gradient(jnp.log(keep_fraction) - jnp.max(ends))
    high = jax.lax.stop_gradient(-jnp.min(ends))

    def halve(_: int, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) / 2
        above = mass(middle, *fixed)[0] > target
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    low, high = jax.lax.fori_loop(0, BISECTIONS, halve, (low, high))
    level = (low + high) / 2
    kept, rate = mass(level, scale, exponent, clip)
    rate = jax.lax.stop_gradient(rate)
    return level - jnp.where(rate > 0, (kept - keep_fraction) / jnp.where(rate > 0, rate, 1.0), 0.0)
