"""Max-margin separators of a batch of problems on the processor, certified or none at all."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import spotrf, spotrs

from sims.maxmargin.host_interior import Interior, holding, interior
from sims.maxmargin.host_support import Settled, settle
from sims.maxmargin.support import ROUNDING

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


Singles = NDArray[np.float32]

# Up to this many rows a dimension this is quicker than an interior point.
PIVOTING_PER_DIM = 1.5
# Gradient steps before the pivots, and a dimension's worth of rows more.
STEPS, STEPS_PER_DIM = 10, 20
POWER_STEPS = 6
PIVOTS = 20
# Ridges, over the mean squared norm, of the first pivots and the later ones: where more rows than
# dimensions may hold w G is singular, and without a ridge the pivots would run in circles.
RIDGES = (0.0,)
RIDGES_OF_MANY = (0.03, 0.01, 0.003, 1e-4)
DUAL_ROUNDING = 1e-5


class Guess(NamedTuple):
    """Rows that may hold w, in increasing order, their multipliers, and if at hand a Cholesky
    factor of their Gram matrix."""

    support: NDArray[np.int64]
    dual: NDArray[np.float64]
    factor: Singles | None


def pivot(lanes: Sequence[Singles]) -> list[Guess | None]:
    """Guess the support of each lane from rows (P, N); nothing where the pivots do not end."""
    count, dim = lanes[0].shape
    grams = np.empty((len(lanes), count, count), np.float32)
    for rows, gram in zip(lanes, grams, strict=True):
        np.matmul(rows, rows.T, out=gram)
    duals = _descend(grams, STEPS + STEPS_PER_DIM * count // dim)
    ridges = RIDGES if count <= dim else RIDGES_OF_MANY
    return [_pivot(gram, dual, ridges) for gram, dual in zip(grams, duals, strict=True)]


def _descend(grams: Singles, steps: int) -> Singles:
    """Take accelerated projected gradient steps, with restarts where they turn uphill."""

    def times(vector: Singles) -> Singles:
        return np.matmul(grams, vector[:, :, None])[:, :, 0]

    dual = np.ones(grams.shape[:2], np.float32)
    for _ in range(POWER_STEPS):
        image = times(dual)
        largest = np.max(image, axis=1, keepdims=True)
        dual = image / largest
    step = 1 / largest
    dual = step * np.ones_like(dual)
    ahead = dual
    momentum = np.ones_like(step)
    for _ in range(steps):
        new = np.maximum(ahead + step * (1 - times(ahead)), 0)
        change = new - dual
        uphill = np.sum((ahead - new) * change, axis=1, keepdims=True) > 0
        momentum = np.where(uphill, 1, momentum)
        grown = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = new + ((momentum - 1) / grown) * change
        dual, momentum = new, grown
    return dual


def _pivot(gram: Singles, dual: Singles, ridges: tuple[float, ...]) -> Guess | None:
    """Solve on the rows of positive multiplier and the violated ones until both stay the same."""
    size = np.mean(gram.diagonal())
    support = np.flatnonzero(dual > 0)
    for attempt in range(PIVOTS):
        if len(support) == 0:
            return None
        chosen = gram.take(support, axis=0).take(support, axis=1)
        chosen.reshape(-1)[:: len(support) + 1] += ridges[min(attempt, len(ridges) - 1)] * size
        factor, failed = spotrf(chosen.T, lower=1, clean=0, overwrite_a=1)
        if failed:
            return None
        equal = spotrs(factor, np.ones(len(support), np.float32), lower=1)[0]
        dual = np.zeros(len(gram), np.float32)
        dual[support] = equal
        wanted = gram @ dual < 1 - DUAL_ROUNDING
        wanted[support] = equal > 0
        new = np.flatnonzero(wanted)
        if attempt >= len(ridges) - 1 and np.array_equal(new, support):
            return Guess(support, equal.astype(np.float64), None if ridges[-1] else factor)
        support = new
    return None


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
