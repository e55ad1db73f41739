"""Constraint generation on the processor: few rows hold the separator of very many."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sims._maxmargin_host_support import Settled
from sims._maxmargin_support import ROUNDING

Floats = NDArray[np.float64]

# Matrix entries from which on working sets are quicker than one interior point, and rows over N
# beside which a set is small.
WORTH_IT = 4_000_000
MANY = 40
# Rows over N: of the first set, and of every other that stay and that come in.
FIRST, STAY, ENTER = 5, 3, 2
ROUNDS = 40


def worth_it(count: int, dim: int) -> bool:
    """Whether to go through working sets for `count` rows; never for a working set's own."""
    return count >= MANY * dim and count * dim >= WORTH_IT


def by_working_sets(
    rows: Floats, norms: Floats, solve: Callable[[Floats], Settled | None]
) -> Settled | None:
    """The separator of the working set that no row outside violates.

    Args:
        rows: A, shape (P, N), entries about 1.
        norms: norm of every row.
        solve: solves for a working set; nothing if it cannot.

    Returns:
        Support and dual in the numbering of `rows`, certified for the working set only; nothing
        where `solve` fails or sets keep replacing each other.
    """
    dim = rows.shape[1]
    working = _smallest(rows @ np.mean(rows, axis=0), FIRST * dim)
    tolerance = ROUNDING * np.sqrt(dim) * norms
    for _ in range(ROUNDS):
        found = solve(rows[working])
        if found is None:
            return None
        margins = rows @ found.direction
        violated = np.flatnonzero(margins < found.margin - tolerance)
        if not len(violated):
            return found._replace(support=working[found.support])
        stay = working[_smallest(margins[working], STAY * dim)]
        enter = violated[_smallest(margins[violated], ENTER * dim)]
        working = np.union1d(stay, enter)
    return None


def _smallest(values: Floats, count: int) -> NDArray[np.int64]:
    """Places of the `count` smallest values."""
    if count >= len(values):
        return np.arange(len(values))
    return np.argpartition(values, count)[:count]
