"""Gauss-Legendre panels between breakpoints that follow the integrand's own scales."""

from functools import cache

import jax.numpy as jnp
import numpy as np

__all__ = ["FINE", "away_from_zero", "feature_breaks", "panel_grid", "panel_nodes"]

Array = jnp.ndarray

# A Gaussian feature Phi((x - c)/s) is saturated to 1e-16 at |x - c| = 8.3 s; between these offsets
# a 12-point rule resolves it to 1e-14.
FINE = (-8.3, -5.5, -3.0, -1.0, 1.0, 3.0, 5.5, 8.3)


@cache
def _legendre(order: int) -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(order)


def feature_breaks(centre: Array, scale: Array, offsets: tuple[float, ...] = FINE) -> Array:
    """Breakpoints, flattened, around Gaussian transitions at `centre` of width `scale` >= 0."""
    centre, scale = jnp.broadcast_arrays(centre, scale)
    return (centre[..., None] + scale[..., None] * jnp.asarray(offsets)).ravel()


def panel_grid(breaks: Array, low: Array, high: Array, order: int) -> tuple[Array, Array]:
    """Nodes and weights of a composite Gauss-Legendre rule on [low, high].

    Args:
        breaks: breakpoints in any order, shape (n,); those outside [low, high] collapse onto its
            ends, where they make panels of zero width and zero weight; so does a NaN, the
            breakpoint of a feature that is absent.
        low: lower end, finite scalar.
        high: upper end, finite scalar, at least `low`.
        order: nodes a panel.

    Returns:
        Nodes and weights, each of shape (order, n + 1). Flattened they would cost the compiled
        loops an integer division a node.
    """
    points, weights = _legendre(order)
    inside = jnp.where(jnp.isnan(breaks), low, jnp.clip(breaks, low, high))
    ends = jnp.sort(jnp.concatenate([jnp.stack([low, high]), inside]))
    half = (ends[1:] - ends[:-1]) / 2
    middle = (ends[1:] + ends[:-1]) / 2
    nodes = middle[None, :] + half[None, :] * jnp.asarray(points)[:, None]
    return nodes, half[None, :] * jnp.asarray(weights)[:, None]


def panel_nodes(breaks: Array, low: Array, high: Array, order: int) -> tuple[Array, Array]:
    """`panel_grid` flattened: nodes and weights of shape ((n + 1) * order,)."""
    nodes, weights = panel_grid(breaks, low, high, order)
    return nodes.ravel(), weights.ravel()


def away_from_zero(value: Array) -> Array:
    """`value`, or 1e-300 in place of a zero, so that a ratio goes to its one-sided limit."""
    return jnp.where(jnp.abs(value) < 1e-300, 1e-300, value)
