"""Exact scaling by powers of two.

`jax.numpy.frexp` and `ldexp` are expanded late in some versions of JAX, when the 64-bit setting of
this package's border is gone, and lose their digits there. These are plain operations on the bits.
"""

import jax.numpy as jnp
from jax import Array, lax

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
