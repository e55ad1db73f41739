"""Where the window of kept examples should start: the best offset at a given fraction."""

import numpy as np
from jax.typing import ArrayLike

from hardset.pytree import pytree_dataclass
from replica.optimal.search import Family, Floats, SearchStatus, certified, least, scan
from replica.solver import solve
from theory.policies import Random, Window
from theory.problem import DownstreamShift

SCAN = 19
INTERIOR = 1e-6  # relative gain over an end below which the end is the answer


@pytree_dataclass
class OptimalWindow:
    """The best window of a given mass, arrays of the arguments' shape.

    Attributes:
        lo: abs(z) quantile where it starts; 0 is `Hard`, 1 - f `Easy`.
        error: its error.
        alpha_kept: kept distinct examples over N.
        hard_error: the error at lo = 0.
        easy_error: the error at lo = 1 - f.
        random_error: the error of `Random` at the same f.
        minima: number of local minima that the scan met.
        status: a `SearchStatus`.
    """

    lo: ArrayLike
    error: ArrayLike
    alpha_kept: ArrayLike
    hard_error: ArrayLike
    easy_error: ArrayLike
    random_error: ArrayLike
    minima: ArrayLike
    status: ArrayLike


def optimal_window(
    alpha_total: ArrayLike,
    keep_fraction: ArrayLike,
    theta: ArrayLike = 0.0,
    *,
    redundancy: ArrayLike = 1.0,
    downstream: DownstreamShift | None = None,
) -> OptimalWindow:
    """Offset lo in [0, 1 - f] of least error e(`Window(lo)`), at given volume and fraction.

    The range of lo is scanned at 27 points that crowd towards both ends, and every local minimum
    that can compete is polished. An end is the answer unless the interior gains more than 1e-6
    on it, relatively.

    Args:
        alpha_total: total examples / N, > 0; the arguments broadcast against each other.
        keep_fraction: kept fraction f, in (0, 1].
        theta: probe angle in radians, in [0, pi/2].
        redundancy: copies of each example, >= 1.
        downstream: shift between the labels' teacher and the one that judges the student.

    Returns:
        Arrays of the common shape.

    Raises:
        ValueError: an argument outside its range.
    """
    family = Family.of(alpha_total, keep_fraction, theta, Window(0.0), redundancy, downstream)
    lanes = np.arange(family.size)
    problem = family.problem(lanes)
    grid = _offsets(np.asarray(problem.keep_fraction))

    def objective(lane: np.ndarray, lo: Floats) -> Floats:
        return family.errors(lane, policy=Window(lo))

    values = scan(objective, grid)
    lo, error, minima = least(objective, grid, values)
    for end in (-1, 0):
        as_good = values[:, end] <= error * (1 + INTERIOR)
        lo, error = (
            np.where(as_good, grid[:, end], lo),
            np.where(as_good, values[:, end], error),
        )
    at = family.solve(lanes, policy=Window(lo))
    failed = np.isnan(certified(at)) | np.isnan(values[:, 0]) | np.isnan(values[:, -1])
    random = solve(family.problem(lanes, policy=Random()))
    columns = {
        "lo": np.where(np.isnan(error), np.nan, lo),
        "error": error,
        "alpha_kept": at.alpha_kept,
        "hard_error": values[:, 0],
        "easy_error": values[:, -1],
        "random_error": certified(random),
        "minima": minima,
        "status": np.where(failed, SearchStatus.FAILED.value, SearchStatus.FOUND.value),
    }
    return OptimalWindow(**{name: family.fold(column) for name, column in columns.items()})


def _offsets(keep_fraction: Floats) -> Floats:
    """Offsets to scan for each lane, both ends included: finer towards them, also at scale f."""
    spare = (1 - keep_fraction)[:, None]
    even = spare * (1 - np.cos(np.linspace(0, np.pi, SCAN))) / 2
    near = np.minimum(keep_fraction[:, None], spare) * np.array([1e-4, 1e-3, 1e-2, 5e-2])
    return np.sort(np.concatenate([even, near, spare - near], axis=1), axis=1)
