"""The downstream teacher's verdict on a student."""

import jax.numpy as jnp

from theory.problem import DownstreamShift

Array = jnp.ndarray


def judge(along: Array, across: Array, q: Array, shift: DownstreamShift) -> tuple[Array, Array]:
    """Overlap and angle between the student (along, across, q) and T' = (T + delta v)/norm.

    The part of v outside span(T, J_p) has no overlap with the student.
    """
    outside = jnp.sqrt(jnp.maximum(1 - shift.along_teacher**2 - shift.along_plane**2, 0.0))
    target = jnp.stack(
        [
            1 + shift.delta * shift.along_teacher,
            shift.delta * shift.along_plane,
            shift.delta * outside,
        ]
    )
    target = target / jnp.linalg.norm(target)
    overlap = along * target[0] + across * target[1]
    # The rest is formed as a vector: 1 - R'^2 would lose the digits of a small angle.
    rest = jnp.stack(
        [along - overlap * target[0], across - overlap * target[1], q, -overlap * target[2]]
    )
    return overlap, jnp.arctan2(jnp.linalg.norm(rest), overlap)
