"""The Pareto frontier: the least error of a number of kept examples, over all ways to choose them.

Data to choose from are free here, training on them is not.
"""

from collections.abc import Sequence

import numpy as np
from jax.typing import ArrayLike

from hardset.checks import check_range
from hardset.pytree import pytree_dataclass
from replica.derivatives import sensitivities
from replica.optimal.search import (
    Family,
    Floats,
    Integers,
    Objective,
    SearchStatus,
    certified,
    fractions_to_scan,
    least,
    refuse_fixed_mass,
)
from replica.solver import solve
from theory.policies import Policy, Random
from theory.problem import DownstreamShift

LOWEST = 1e-3


@pytree_dataclass
class Frontier:
    """The best selection of a given number of examples, arrays of the arguments' shape.

    Attributes:
        keep_fraction: the best f.
        alpha_total: the volume that it chooses from, alpha_kept/f.
        error: its error e*.
        exponent: d log e*/d log alpha_kept, negative where more examples help.
        random_error: the error of as many examples at random.
        minima: number of local minima over f that the scan met; 1 for a set of volumes.
        status: a `SearchStatus`; AT_RANGE_END where f is the lowest one that was searched.
    """

    keep_fraction: ArrayLike
    alpha_total: ArrayLike
    error: ArrayLike
    exponent: ArrayLike
    random_error: ArrayLike
    minima: ArrayLike
    status: ArrayLike


def frontier(
    alpha_kept: ArrayLike,
    theta: ArrayLike = 0.0,
    policy: Policy | None = None,
    *,
    downstream: DownstreamShift | None = None,
    volumes: Sequence[float] | None = None,
    lowest: float = LOWEST,
) -> Frontier:
    """e*(alpha_kept) = min over f of e(alpha_kept/f, f), and its local exponent.

    By the envelope theorem the exponent is that of alpha_total at fixed f, d log e/d log
    alpha_total; among fixed volumes it is that of f at fixed alpha_total, d log e/d log f.

    Args:
        alpha_kept: kept examples / N, > 0; the arguments broadcast against each other.
        theta: probe angle in radians, in [0, pi/2].
        policy: one that can keep any fraction, default `Hard()`; its parameters broadcast too.
        downstream: shift between the labels' teacher and the one that judges the student.
        volumes: the values of alpha_total to choose from, the largest at least the largest
            alpha_kept; default any.
        lowest: lower end of the range of f, in [1e-6, 0.5].

    Returns:
        Arrays of the common shape.

    Raises:
        ValueError: an argument outside its range, or a policy whose weight fixes its fraction.
    """
    check_range("alpha_kept", alpha_kept, 0.0, np.inf, open_low=True)
    check_range("lowest", lowest, 1e-6, 0.5)
    refuse_fixed_mass(policy)
    family = Family.of(alpha_kept, lowest, theta, policy, 1.0, downstream)
    lanes = np.arange(family.size)
    kept = np.asarray(family.problem(lanes).alpha_total)

    def objective(lane: Integers, f: Floats) -> Floats:
        return family.errors(lane, alpha_total=kept[lane] / f, keep_fraction=f)

    if volumes is None:
        grid = fractions_to_scan(np.full(family.size, lowest), family.largest_fractions())
    else:
        grid = _volume_fractions(kept, volumes)
    values = _scan_known(objective, grid)
    if volumes is None:
        f, error, minima = least(objective, grid, values)
    else:
        best = np.argmin(np.where(np.isnan(values), np.inf, values), axis=1)
        f, error, minima = grid[lanes, best], values[lanes, best], np.ones(family.size, int)
    chosen = family.problem(lanes, alpha_total=kept / f, keep_fraction=f)
    slopes = sensitivities(chosen)
    if volumes is None:
        exponent = slopes.error_alpha_total * chosen.alpha_total / error
    else:
        exponent = slopes.error_keep_fraction * f / error
    at_end = (f <= grid[:, 0] * (1 + 1e-9)) & (volumes is None)
    status = np.where(at_end, SearchStatus.AT_RANGE_END.value, SearchStatus.FOUND.value)
    status = np.where(np.isnan(error), SearchStatus.FAILED.value, status)
    columns = {
        "keep_fraction": np.where(np.isnan(error), np.nan, f),
        "alpha_total": np.where(np.isnan(error), np.nan, kept / f),
        "error": error,
        "exponent": exponent,
        "random_error": certified(
            solve(family.problem(lanes, alpha_total=kept, keep_fraction=1.0, policy=Random()))
        ),
        "minima": minima,
        "status": status,
    }
    return Frontier(**{name: family.fold(column) for name, column in columns.items()})


def _volume_fractions(kept: Floats, volumes: Sequence[float]) -> Floats:
    """The fraction of each volume that each lane keeps; NaN where the volume is too small."""
    check_range("volumes", volumes, 0.0, np.inf, open_low=True)
    available = np.sort(np.asarray(volumes, float).ravel())[::-1]
    if not available.size or np.max(kept, initial=0.0) > available[0]:
        raise ValueError(
            f"volumes = {list(volumes)}: the largest must be at least the largest alpha_kept, "
            f"{np.max(kept, initial=0.0):.6g}"
        )
    fractions = kept[:, None] / available
    return np.where(fractions <= 1, fractions, np.nan)


def _scan_known(objective: Objective, grid: Floats) -> Floats:
    """The objective where the grid has a point, NaN elsewhere."""
    values = np.full(grid.shape, np.nan)
    lane, column = np.nonzero(~np.isnan(grid))
    values[lane, column] = objective(lane, grid[lane, column])
    return values
