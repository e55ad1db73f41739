"""Groups of examples that a method treats one after the other."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from hardset.checks import check_range
from selection.core.arrays import Integers

__all__ = ["class_rows", "largest_remainder", "proportional"]


def class_rows(labels: Integers | None, n: int) -> list[Integers]:
    """Rows of every class, ascending; the classes by their first row, whatever their names."""
    if labels is None:
        return [np.arange(n)]
    order = np.argsort(labels, kind="stable")
    cuts = np.flatnonzero(np.diff(labels[order])) + 1
    return sorted(np.split(order, cuts), key=lambda rows: int(rows[0]))


def proportional(
    groups: Sequence[Integers], budget: int, given: Sequence[int] = (), inside: Sequence[int] = ()
) -> list[int]:
    """Parts of the budget in proportion to the groups' sizes, by the largest remainder.

    Args:
        groups: rows of each group.
        budget: sum of the parts.
        given: how many of each group are kept already; these and the parts together are in
            proportion to the sizes, but for groups that have more than that already.
        inside: how many of these are rows of the group, which cannot be picked.
    """
    sizes = np.array([len(rows) for rows in groups])
    if not any(given):
        return [int(count) for count in largest_remainder(sizes, budget, sizes)]
    held = np.asarray(given)
    most = sizes - np.asarray(inside) + held
    short = np.ones(len(groups), dtype=bool)
    while True:
        total = budget + int(held[short].sum())
        counts = largest_remainder(np.where(short, sizes, 0), total, most)
        sated = short & (counts < held)
        if not np.any(sated):
            return [int(count) for count in np.where(short, counts - held, 0)]
        short &= ~sated


def largest_remainder(
    shares: ArrayLike, budget: int, available: ArrayLike | None = None
) -> Integers:
    """Whole numbers that sum to `budget`, as near to proportional to `shares` as they can be.

    Each gets the floor of its share, and those with the largest remainders one more, the first of
    equals first. A group that is smaller than its share gives all it has, and the rest is shared
    again among the others.

    Args:
        shares: wanted proportions, >= 0, not all 0, shape (m,).
        budget: their sum, >= 0.
        available: upper limits, shape (m,); default none.

    Raises:
        ValueError: a share below 0, or limits that sum to less than `budget`.
    """
    wanted = np.asarray(shares, dtype=np.float64)
    check_range("shares", wanted, 0.0, np.inf)
    limits = np.full(wanted.shape, budget) if available is None else np.asarray(available)
    reachable = int(limits[wanted > 0].sum())
    if reachable < budget:
        raise ValueError(
            f"the groups with a share hold {reachable} examples, fewer than the budget {budget}"
        )
    full = np.zeros(len(wanted), dtype=bool)
    while True:
        counts = np.where(full, limits, 0)
        left = budget - int(counts.sum())
        weight = np.where(full, 0.0, wanted)
        exact = left * weight / weight.sum() if left else np.zeros(len(wanted))
        floors = np.floor(exact).astype(np.int64)
        order = np.argsort(floors - exact, kind="stable")
        floors[order[: left - int(floors.sum())]] += 1
        over = ~full & (floors > limits)
        if not np.any(over):
            return counts + floors
        full |= over
