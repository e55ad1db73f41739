"""Which of equals comes first, where equals differ by rounding."""

import numpy as np

from selection.core.arrays import Floats, Integers

__all__ = ["TIE", "first_largest", "first_least", "levels"]

TIE = 1e-12  # of the values' size: nearer values are equal but for rounding


def first_largest(values: Floats, size: float | None = None) -> int:
    """The first position of a value that is the largest one but for rounding.

    Args:
        values: shape (n,), not empty.
        size: of the terms that the values are sums of; by default the largest value's own.
    """
    top = float(np.max(values))
    return int(np.argmax(values >= top - TIE * (abs(top) if size is None else size)))


def first_least(values: Floats, size: float | None = None) -> int:
    """The first position of a value that is the least one but for rounding."""
    return first_largest(-values, size)


def levels(values: Floats) -> Integers:
    """Ranks 0, 1, ... by ascending value; neighbours that are equal but for rounding share one."""
    order = np.argsort(values, kind="stable")
    ascending = values[order]
    size = float(np.max(np.abs(values), initial=0.0))
    found = np.empty(len(values), np.int64)
    found[order] = np.concatenate([[0], np.cumsum(np.diff(ascending) > TIE * size)])
    return found
