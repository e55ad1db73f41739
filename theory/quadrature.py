"""Integrates by Gauss-Legendre panels between breakpoints.

The breakpoints follow the integrand's own scales.
"""

from collections.abc import Callable
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erfc

Array = jnp.ndarray

# A Gaussian feature Phi((x - c)/s) is saturated to 1e-16 at |x - c| = 8.3 s; between these offsets
# a 12-point rule resolves it to 1e-14.
FINE = (-8.3, -5.5, -3.0, -1.0, 1.0, 3.0, 5.5, 8.3)


def normal_cdf(x: Array) -> Array:
    """Return Phi(x) with full relative accuracy in the lower tail.

    It takes one erfc. `jax.scipy.special.ndtr` evaluates three branches, at five times the cost.
    """
    return 0.5 * erfc(-np.sqrt(0.5) * x)


def normal_pdf(x: Array) -> Array:
    """Return phi(x) = exp(-x^2/2)/sqrt(2 pi)."""
    return np.sqrt(0.5 / np.pi) * jnp.exp(-0.5 * x * x)


@cache
def _legendre(order: int) -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(order)


def feature_breaks(centre: Array, scale: Array, offsets: tuple[float, ...] = FINE) -> Array:
    """Return breakpoints around Gaussian transitions, flattened.

    The transitions lie at `centre` and have the width `scale` >= 0.
    """
    centre, scale = jnp.broadcast_arrays(centre, scale)
    return (centre[..., None] + scale[..., None] * jnp.asarray(offsets)).ravel()


def panel_grid(breaks: Array, low: Array, high: Array, order: int) -> tuple[Array, Array]:
    """Return nodes and weights of a composite Gauss-Legendre rule on [low, high].

    Args:
        breaks: breakpoints in any order, shape (n,); those outside [low, high] collapse onto its
            ends, where they make panels of zero width and zero weight; so does a NaN, the
            breakpoint of a feature that is absent.
        low: lower end, finite scalar.
        high: upper end, finite scalar, at least `low`.
        order: number of nodes in each panel.

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


def integrate_panels(
    integrands: Callable[[Array], tuple[Array, ...]],
    breaks: Array,
    low: Array,
    high: Array,
    *,
    order: int,
    block: int,
) -> tuple[Array, ...]:
    """Integrate several functions over [low, high] by one Gauss-Legendre rule.

    The rule is composite. Only panels of positive width are visited, `block` of them at a time, so
    that the cost follows the features inside the interval.

    Args:
        integrands: maps nodes of shape (..., order, block) to arrays of that shape.
        breaks: breakpoints in any order, shape (..., n); NaN and those outside count for nothing.
        low: lower ends, finite, shape (...).
        high: upper ends, finite; an empty interval where below `low`.
        order: number of nodes in each panel.
        block: number of panels in each step, the arrays' last axis.

    Returns:
        The integrals, each of shape (...).
    """
    points, weights = _legendre(order)
    top = jnp.maximum(low, high)[..., None]
    inside = jnp.where((breaks > low[..., None]) & (breaks < top), breaks, top)
    ends = jnp.sort(jnp.concatenate([low[..., None], inside], axis=-1), axis=-1)
    panels = jnp.max(jnp.sum(ends < top, axis=-1))
    missing = -ends.shape[-1] % block + 1
    ends = jnp.concatenate([ends, jnp.repeat(top, missing, axis=-1)], axis=-1)
    rows = jnp.asarray(points)[:, None]
    scale = jnp.asarray(weights)[:, None]

    def add(state: tuple[Array, tuple[Array, ...]]) -> tuple[Array, tuple[Array, ...]]:
        first, sums = state
        left = jax.lax.dynamic_slice_in_dim(ends, first, block, axis=-1)
        right = jax.lax.dynamic_slice_in_dim(ends, first + 1, block, axis=-1)
        half, middle = ((right - left) / 2)[..., None, :], ((right + left) / 2)[..., None, :]
        dx = half * scale
        values = tuple(dx * value for value in integrands(middle + half * rows))
        # All integrals share one reduction: separate ones would each evaluate the integrands.
        axes = (values[0].ndim - 2, values[0].ndim - 1)
        parts = jax.lax.reduce(values, (0.0,) * len(values), _add_each, axes)
        return first + block, tuple(a + b for a, b in zip(sums, parts, strict=True))

    shape = jax.eval_shape(lambda: integrands(jnp.zeros((*low.shape, order, block))))
    zeros = tuple(jnp.zeros(low.shape) for _ in shape)
    return jax.lax.while_loop(lambda state: state[0] < panels, add, (jnp.array(0), zeros))[1]


def _add_each(one: tuple[Array, ...], two: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(a + b for a, b in zip(one, two, strict=True))


def panel_nodes(breaks: Array, low: Array, high: Array, order: int) -> tuple[Array, Array]:
    """Return the nodes and weights of `panel_grid`, flattened to ((n + 1) * order,)."""
    nodes, weights = panel_grid(breaks, low, high, order)
    return nodes.ravel(), weights.ravel()


def away_from_zero(value: Array) -> Array:
    """Replace values below 1e-300 in size by 1e-300.

    So a ratio with such a denominator goes to its one-sided limit.
    """
    return jnp.where(jnp.abs(value) < 1e-300, 1e-300, value)
