"""Max-margin separators of a batch of problems on the processor, certified or none at all."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sims._maxmargin_host_interior import Interior, holding, interior
from sims._maxmargin_host_pivoting import PIVOTING_PER_DIM, pivot
from sims._maxmargin_host_support import Settled, settle
from sims._maxmargin_host_working import by_working_sets, worth_it

Floats = NDArray[np.float64]

# Entries of the matrices that one batch holds: those of the pivots should stay in the cache,
# interior points do more with each entry.
PIVOTING_ENTRIES, INTERIOR_ENTRIES = 2**19, 2**21
# Gaps at which single and double precision have told the support.
FIRST_TARGET, SECOND_TARGET = 1e-4, 1e-7
# Rows that go on, over N: in single precision early and late, and in double.
EARLY_PER_DIM, LATE_PER_DIM, SECOND_PER_DIM = 5, 2, 20
# Bracket of a point that is worth settling.
NEAR = 0.1
# Norms between this and its inverse have room in single precision, squares of squares included.
TINY = 1e-6


class _Lane(NamedTuple):
    """Rows with entries about 1, their norms, and the power of two that was taken out of them."""

    rows: Floats
    norms: Floats
    exponent: int


# What overflows or divides by zero ends as no answer.
@np.errstate(all="ignore")
def solve_on_host(matrices: Sequence[Floats]) -> list[Settled | None]:
    """Solve for the rows of each matrix, all of one shape (P, N).

    Returns:
        Separators in the units of the rows, whose digits do not depend on the other matrices;
        nothing for rows that are not separable, not finite, dependent or at the limits of double
        precision: those need the compiled solver.
    """
    found: list[Settled | None] = [None] * len(matrices)
    lanes = {
        place: lane for place, matrix in enumerate(matrices) if (lane := _lane(matrix)) is not None
    }
    count, dim = matrices[0].shape
    if count <= PIVOTING_PER_DIM * dim:
        for part in _batches(list(lanes), PIVOTING_ENTRIES // (count * max(count, dim))):
            guesses = pivot([lanes[place].rows.astype(np.float32) for place in part])
            for place, guess in zip(part, guesses, strict=True):
                if guess is not None:
                    found[place] = settle(lanes[place].rows, lanes[place].norms, *guess)
    elif worth_it(count, dim):
        for place, lane in lanes.items():
            told = by_working_sets(lane.rows, lane.norms, lambda few: solve_on_host([few])[0])
            if told is not None:
                found[place] = settle(lane.rows, lane.norms, told.support, told.dual)
    left = [place for place in lanes if found[place] is None]
    for part in _batches(left, INTERIOR_ENTRIES // (count * dim)):
        _solve_interior(lanes, part, found)
    return [
        one and one._replace(margin=float(np.ldexp(one.margin, lanes[place].exponent)))
        for place, one in enumerate(found)
    ]


def _lane(matrix: Floats) -> _Lane | None:
    """Return the lane of these rows; nothing if one of them vanishes or is not finite."""
    exponent = 0
    norms = _norms(matrix)
    largest = np.max(norms)
    if not TINY < largest < 1 / TINY:
        largest = np.max(np.abs(matrix))
        if not 0 < largest < np.inf:
            return None
        exponent = int(np.frexp(largest)[1])
        matrix = np.ldexp(matrix, -exponent)
        norms = _norms(matrix)
    return _Lane(matrix, norms, exponent) if np.min(norms) > 0 else None


def _norms(rows: Floats) -> Floats:
    norms: Floats = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return norms


def _batches(places: list[int], size: int) -> list[list[int]]:
    size = max(1, size)
    return [places[first : first + size] for first in range(0, len(places), size)]


def _solve_interior(
    lanes: dict[int, _Lane], places: list[int], found: list[Settled | None]
) -> None:
    """Write to `found` what interior points tell, in single precision and then in double."""
    count, dim = lanes[places[0]].rows.shape
    few = EARLY_PER_DIM * dim, LATE_PER_DIM * dim
    single = np.stack([lanes[place].rows.astype(np.float32) for place in places])
    for place, point in zip(places, interior(single, FIRST_TARGET, few), strict=True):
        lane = lanes[place]
        if _near(lane.rows, point):
            found[place] = settle(lane.rows, lane.norms, *holding(point))
    for least in sorted({min(SECOND_PER_DIM * dim, count), count}):
        left = [place for place in places if found[place] is None]
        if not left:
            return
        rows = np.stack([lanes[place].rows for place in left])
        points = interior(rows, SECOND_TARGET, (least, least))
        for place, point in zip(left, points, strict=True):
            found[place] = settle(lanes[place].rows, lanes[place].norms, *holding(point))


def _near(rows: Floats, point: Interior) -> bool:
    """Whether a point of single precision is near the separator in all digits and rows, too.

    At small margins its rounding hides which rows are violated.
    """
    direction = point.direction[0].astype(np.float64)
    image = point.dual[0].astype(np.float64) @ rows.take(point.members[0], axis=0)
    best = np.sum(point.dual) * np.min(rows @ direction)
    return bool(best > (1 - NEAR) * np.sqrt((direction @ direction) * (image @ image)))
