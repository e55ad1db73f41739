"""How much data a target error takes, at a given fraction and policy."""

import numpy as np
from jax.typing import ArrayLike

from hardset.checks import check_range
from hardset.pytree import pytree_dataclass
from replica.optimal.search import Family, SearchStatus, certified, first_below, scan
from theory.policies import Policy
from theory.problem import DownstreamShift

RANGE = (1e-2, 1e5)
PER_DECADE = 4


@pytree_dataclass
class RequiredData:
    """The least volume of data that meets a target, arrays of the arguments' shape.

    Attributes:
        alpha_total: smallest total examples / N whose error is the target; NaN where there is
            none.
        alpha_kept: kept distinct examples over N there.
        error: the error there.
        low: a verified bracket's lower end: the error is above the target.
        high: its upper end: the error is not above the target.
        crossings: how often the scan crosses the target: above 1, the error is not monotone and
            some larger volumes miss it.
        status: a `SearchStatus`.
    """

    alpha_total: ArrayLike
    alpha_kept: ArrayLike
    error: ArrayLike
    low: ArrayLike
    high: ArrayLike
    crossings: ArrayLike
    status: ArrayLike


def required_data(
    target_error: ArrayLike,
    keep_fraction: ArrayLike = 1.0,
    theta: ArrayLike = 0.0,
    policy: Policy | None = None,
    *,
    redundancy: ArrayLike = 1.0,
    downstream: DownstreamShift | None = None,
    alpha_range: tuple[float, float] = RANGE,
) -> RequiredData:
    """Smallest alpha_total with e(alpha_total) <= target_error, at a given fraction.

    The range of alpha_total is scanned, four points a decade, and the first crossing of the
    target is bracketed. The error of some policies rises with alpha_total in places: `crossings`
    tells.

    Args:
        target_error: in (0, 1/2); the arguments broadcast against each other.
        keep_fraction: kept fraction f, in (0, 1].
        theta: probe angle in radians, in [0, pi/2].
        policy: default `Hard()`; its parameters broadcast too.
        redundancy: copies of each example, >= 1.
        downstream: shift between the labels' teacher and the one that judges the student; an
            independent one leaves the floor arctan(delta)/pi.
        alpha_range: lowest and highest alpha_total, within [1e-4, 1e6].

    Returns:
        Arrays of the common shape; UNREACHABLE where no volume of the range meets the target.

    Raises:
        ValueError: an argument outside its range.
    """
    check_range("target_error", target_error, 0.0, 0.5, open_low=True, open_high=True)
    check_range("alpha_range", alpha_range, 1e-4, 1e6)
    if np.shape(alpha_range) != (2,) or not alpha_range[0] < alpha_range[1]:
        raise ValueError(f"alpha_range = {alpha_range} must be two increasing numbers")
    lowest, highest = (float(end) for end in alpha_range)
    family = Family.of(lowest, keep_fraction, theta, policy, redundancy, downstream)
    shape = np.broadcast_shapes(family.shape, np.shape(target_error))
    source = np.broadcast_to(np.arange(family.size).reshape(family.shape), shape).ravel()
    target = np.broadcast_to(np.asarray(target_error, float), shape).ravel()
    points = int(np.ceil(np.log10(highest / lowest) * PER_DECADE)) + 1
    logs = np.tile(np.linspace(np.log(lowest), np.log(highest), points), (family.size, 1))

    def objective(lane: np.ndarray, log_alpha: np.ndarray) -> np.ndarray:
        return family.errors(lane, alpha_total=np.exp(log_alpha))

    first = first_below(objective, logs, scan(objective, logs), target, source)
    found = ~np.isnan(first.x)
    alpha_total = np.exp(np.where(found, first.x, np.log(highest)))
    at = family.solve(source, alpha_total=alpha_total)
    failed = found & np.isnan(certified(at))
    columns = {
        "alpha_total": np.where(found, alpha_total, np.nan),
        "alpha_kept": np.where(found, at.alpha_kept, np.nan),
        "error": np.where(found, certified(at), np.nan),
        "low": np.exp(first.below),
        "high": np.exp(first.above),
        "crossings": first.count,
        "status": np.where(failed, SearchStatus.FAILED.value, first.status),
    }
    return RequiredData(**{name: column.reshape(shape) for name, column in columns.items()})
