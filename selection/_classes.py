"""Groups of examples that a method treats one after the other."""

from collections.abc import Sequence

import numpy as np

from selection._arrays import Integers
from selection.wrappers import largest_remainder

__all__ = ["class_rows", "proportional"]


def class_rows(labels: Integers | None, n: int) -> list[Integers]:
    """Rows of every class, ascending; the classes by their first row, whatever their names."""
    if labels is None:
        return [np.arange(n)]
    order = np.argsort(labels, kind="stable")
    cuts = np.flatnonzero(np.diff(labels[order])) + 1
    return sorted(np.split(order, cuts), key=lambda rows: int(rows[0]))


def proportional(groups: Sequence[Integers], budget: int) -> list[int]:
    """Parts of the budget in proportion to the groups' sizes, by the largest remainder."""
    sizes = [len(rows) for rows in groups]
    return [int(count) for count in largest_remainder(sizes, budget, sizes)]
