"""Converts between overlap, angle and error of a student.

No digits are lost near R = 1.
"""

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from hardset.float64 import Float64Array, float64

Array = jnp.ndarray


@float64
def angle_from_components(parallel: ArrayLike, orthogonal: ArrayLike) -> Float64Array:
    """Return the angle atan2(orthogonal, parallel) between two vectors.

    Args:
        parallel: component of the first vector along the second, any common scale.
        orthogonal: norm of what remains, >= 0, same scale.

    Returns:
        The angle in radians, in [0, pi], accurate to a few ulp at both ends.
    """
    return jnp.arctan2(_f(orthogonal), _f(parallel))


@float64
def angle_from_overlap(overlap: ArrayLike) -> Float64Array:
    """Return the angle arccos(R) for an overlap R in [-1, 1], in radians.

    Near R = 1 the angle is known only to sqrt(eps) from R alone. Where the orthogonal part is
    known, use `angle_from_components`.
    """
    overlap = _f(overlap)
    return jnp.arctan2(jnp.sqrt(jnp.maximum((1 - overlap) * (1 + overlap), 0.0)), overlap)


@float64
def error_from_angle(angle: ArrayLike) -> Float64Array:
    """Return the fitting error e = angle/pi.

    It is the probability that teacher and student disagree on x ~ N(0, I). The angle is in radians.
    """
    return _f(angle) / np.pi


@float64
def angle_from_error(error: ArrayLike) -> Float64Array:
    """Return the teacher-student angle pi e in radians, for an error e in [0, 1]."""
    return _f(error) * np.pi


@float64
def error_from_overlap(overlap: ArrayLike) -> Float64Array:
    """Return the fitting error e = arccos(R)/pi for an overlap R in [-1, 1]."""
    return angle_from_overlap(overlap) / np.pi


@float64
def overlap_from_error(error: ArrayLike) -> Float64Array:
    """Return the overlap R = cos(pi e) for a fitting error e in [0, 1]."""
    return jnp.cos(_f(error) * np.pi)


@float64
def overlap_complement(error: ArrayLike) -> Float64Array:
    """Return 1 - R for a fitting error e in [0, 1].

    It is 2 sin^2(pi e / 2), which has full relative accuracy also for small errors.
    """
    return 2 * jnp.sin(_f(error) * (np.pi / 2)) ** 2


def _f(value: ArrayLike) -> Array:
    return jnp.asarray(value, jnp.float64)
