"""Numbers so small that their squares vanish, times a power of two, which rounds nothing."""

import numpy as np

from selection.core.arrays import Array, blocks

__all__ = ["lift_exponent", "lifted"]

# Below these sizes squares of differences lose digits, or vanish, at the precision's lower end.
SMALLEST_SINGLE, SMALLEST_DOUBLE = 1e-12, 1e-120


def lifted(rows: Array, before: Array) -> tuple[float, Array, Array]:
    """Rows of one space in a size whose squares keep all digits.

    Args:
        rows: shape (n, ...); rows of ordinary size come back as they are.
        before: others of the same space, shape (k, ...).

    Returns:
        What to multiply a distance among the returned rows with, a power of two, and the rows.
    """
    exponent = lift_exponent(rows, before)
    if exponent == 0:
        return 1.0, rows, before
    scale = float(np.ldexp(1.0, -exponent))
    return scale, np.ldexp(rows, exponent), np.ldexp(before, exponent)


def lift_exponent(*arrays: Array, single: bool = False) -> int:
    """e such that 2^e times the arrays has its largest number in [1/2, 1); 0 for ordinary ones.

    Args:
        *arrays: shape (n, ...).
        single: whether the work is done in single precision, whatever the arrays' own.
    """
    largest = 0.0
    for array in arrays:
        for part in blocks(len(array), array[0].size if len(array) else 1):
            block = np.asarray(array[part])
            largest = max(largest, float(np.max(block)), -float(np.min(block)))
    narrow = single or any(array.dtype == np.float32 for array in arrays if len(array))
    if largest == 0 or largest >= (SMALLEST_SINGLE if narrow else SMALLEST_DOUBLE):
        return 0
    return -int(np.frexp(largest)[1])
