"""What certifies a separator or its absence, computed from the definitions."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from sims.maxmargin.interior import Rows

MANTISSA_BITS = 52
BIAS = 1023


def exponent_of(x: Array) -> Array:
    """The integer n with 2^(n-1) <= x < 2^n, for a normal float64 x > 0."""
    bits = lax.bitcast_convert_type(x, jnp.int64)
    return (bits >> MANTISSA_BITS) - (BIAS - 1)


def scale(x: Array, exponent: Array) -> Array:
    """x 2^exponent for a scalar exponent in [-1074, 1074], rounded only below 2.2e-308."""
    # Two factors, because 2^1024 and 2^-1023 are no normal numbers.
    half = exponent >> 1
    return x * _power(half) * _power(exponent - half)


def _power(exponent: Array) -> Array:
    return lax.bitcast_convert_type((exponent + BIAS) << MANTISSA_BITS, jnp.float64)


SEPARABLE_BRACKET = 1e-10
FARKAS = 1e-12
# Rounding of a_i w and of A^T u, in units of norm(a_i) and of sum u_i norm(a_i), held against the
# bracket: several times what a thousand problems of 2 to 200 dimensions showed.
MARGIN_ROUNDING = 2.2e-16
BOUND_ROUNDING = 1.1e-16


class Candidate(NamedTuple):
    """A direction and a dual with what they prove.

    Attributes:
        direction: unit vector w, shape (N,).
        dual: u >= 0 with unit sum, shape (P,).
        margins: A w, shape (P,); +inf on masked rows.
        margin: the smallest of them.
        bound: the upper bound norm(A^T u) on the best margin, rounded up.
        bracket: relative gap between `margin`, rounded down, and `bound`.
        farkas: norm(A^T u) / sum u_i norm(a_i): zero proves that nothing separates the rows.
    """

    direction: Array
    dual: Array
    margins: Array
    margin: Array
    bound: Array
    bracket: Array
    farkas: Array


def safe_norm(vector: Array) -> Array:
    """Return norm(vector), or 1 where it vanishes."""
    length = jnp.sqrt(jnp.sum(vector**2))
    return jnp.where(length > 0, length, 1.0)


def relative_gap(margins: Array, norms: Array, bound: Array) -> Array:
    """Return how far the smallest margin may be below the best one, rounding included."""
    lower = jnp.min(margins - MARGIN_ROUNDING * norms)
    return jnp.where(bound > 0, 1.0 - lower / jnp.where(bound > 0, bound, 1.0), jnp.inf)


def certify(rows: Rows, direction: Array, dual: Array) -> Candidate:
    """Return what `direction` and the non-negative part of `dual` prove, each on its own side.

    The two are kept apart although w = A^T u at the optimum: that sum cancels to kappa, and its
    rounding would cost norm(a_i) / kappa in the margins once more.
    """
    dual = jnp.where(rows.mask, jnp.maximum(dual, 0.0), 0.0)
    total = jnp.sum(dual)
    dual = jnp.where(total > 0, dual / jnp.where(total > 0, total, 1.0), 0.0)
    direction = direction / safe_norm(direction)
    margins = jnp.where(rows.mask, direction @ rows.columns, jnp.inf)
    length = jnp.sqrt(jnp.sum((rows.columns @ dual) ** 2))
    scale = jnp.sum(dual * rows.norms)
    farkas = jnp.where(scale > 0, length / jnp.where(scale > 0, scale, 1.0), 0.0)
    bound = length + BOUND_ROUNDING * scale
    bracket = relative_gap(margins, rows.norms, bound)
    return Candidate(direction, dual, margins, jnp.min(margins), bound, bracket, farkas)
