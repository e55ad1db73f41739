"""Finds the best ridge strength of a student with a loss."""

import numpy as np
from jax.typing import ArrayLike

from hardset.pytree import pytree_dataclass
from replica.optimal.search import (
    Family,
    SearchStatus,
    check_lam_bounds,
    least_over_lam,
)
from theory.problem import PerceptronProblem

BOUNDS = (1e-6, 1e6)
INTERIOR = 1e-6  # relative gain over a bound below which the bound is the answer


@pytree_dataclass
class OptimalLam:
    """The best ridge strength of each point, as arrays of the problem's shape.

    Attributes:
        lam: ridge strength of least error.
        error: the error there.
        low_error: the error at the lower bound.
        high_error: the error at the upper bound.
        minima: number of local minima that the scan met.
        status: a `SearchStatus`; AT_RANGE_END where lam is one of the bounds.
    """

    lam: ArrayLike
    error: ArrayLike
    low_error: ArrayLike
    high_error: ArrayLike
    minima: ArrayLike
    status: ArrayLike


def optimal_lam(problem: PerceptronProblem, bounds: tuple[float, float] = BOUNDS) -> OptimalLam:
    """Find the ridge strength of least error at each point.

    The range is scanned at two points a decade, and every local minimum that can compete is
    polished: logistic students can have two. A bound is the answer unless the interior gains more
    than 1e-6 on it, relatively; at the lower one no ridge is best, at the upper one a ridge so
    strong that the student is the mean of y x.

    Args:
        problem: a point or a grid of numbers with a student `ERM(loss)`, whose own lam has no
            effect.
        bounds: range of lam, in the convention of `theory.ERM`, > 0.

    Returns:
        Arrays of the problem's shape.

    Raises:
        ValueError: a max-margin student, an in-sample probe, or bounds that are no range.
    """
    check_lam_bounds("bounds", problem.student, bounds)
    family = Family.of(problem)
    lam, error, minima, ends = least_over_lam(family, bounds)
    at_end = np.zeros(family.size, bool)
    for bound, value in zip(bounds[::-1], ends[::-1], strict=True):
        as_good = value <= error * (1 + INTERIOR)
        lam, error = np.where(as_good, bound, lam), np.where(as_good, value, error)
        at_end |= as_good
    failed = np.isnan(error) | np.isnan(ends).any(axis=0)
    status = np.where(at_end, SearchStatus.AT_RANGE_END.value, SearchStatus.FOUND.value)
    columns = {
        "lam": np.where(np.isnan(error), np.nan, lam),
        "error": error,
        "low_error": ends[0],
        "high_error": ends[1],
        "minima": minima,
        "status": np.where(failed, SearchStatus.FAILED.value, status),
    }
    return OptimalLam(**{name: family.fold(column) for name, column in columns.items()})
