"""How much of a data set to keep, and by which policy, if it were the toy model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from replica import SearchStatus, optimal_fraction, solve, sufficient_fraction
from selection.advice.estimates import Coordinates
from selection.core.arrays import Floats
from theory import FixedAngle, PerceptronProblem, policy_from_name

__all__ = ["CAVEAT", "POLICIES", "PolicyAdvice", "Recommendation", "recommend"]

CAVEAT = (
    "The fraction is exact for normal features, a linear teacher without label noise and a "
    "max-margin student. On other data it is a heuristic: compare it with a measured curve."
)
POLICIES = ("hard", "easy", "moderate", "random")

NODES = 7
FRACTIONS = 61
TIE = 1e-5  # relative; each policy's fraction is within 1e-6 of its least error


@dataclass(frozen=True)
class PolicyAdvice:
    """What the theory says of one policy at the coordinates.

    Attributes:
        policy: its name.
        keep_fraction: the smallest of the best fractions.
        error: the error there.
        sufficient_fraction: the smallest fraction whose error is at most (1 + tolerance) times
            that of all data; NaN if there is none.
    """

    policy: str
    keep_fraction: float
    error: float
    sufficient_fraction: float


@dataclass(frozen=True, eq=False)
class Recommendation:
    """The policy and the fraction of least error, and how sharp the minimum is.

    Attributes:
        coordinates: what was estimated of the data.
        policy: name of the best policy; of equally good ones that which keeps least.
        keep_fraction: its best fraction.
        error: the theory's error there.
        full_error: the error of all data.
        band: fractions around it whose error is at most (1 + tolerance) times the least one.
        fraction_interval: best fractions over the interval of theta, under any policy.
        tolerance: relative loss that is accepted.
        policies: what the theory says of each policy.
        caveat: what the numbers hold for.
    """

    coordinates: Coordinates
    policy: str
    keep_fraction: float
    error: float
    full_error: float
    band: tuple[float, float]
    fraction_interval: tuple[float, float]
    tolerance: float
    policies: tuple[PolicyAdvice, ...]
    caveat: str = CAVEAT


def recommend(
    coordinates: Coordinates,
    *,
    policies: Sequence[str] = POLICIES,
    tolerance: float = 0.05,
    lowest: float = 0.01,
    report: Callable[[str], None] | None = None,
) -> Recommendation:
    """The policy and the fraction of least replica error at the coordinates of a data set.

    Args:
        coordinates: with an angle that is defined.
        policies: names of the policies to compare, without parameters of their own.
        tolerance: relative loss that is accepted, in [1e-6, 100].
        lowest: smallest fraction to consider, in [1e-6, 0.5].
        report: called with the name of each policy before its search.

    Raises:
        ValueError: an undefined angle, an unknown policy, an argument outside its range.
    """
    if not coordinates.defined:
        raise ValueError(
            f"theta is undefined: two probes trained on disjoint parts have the overlap "
            f"{coordinates.overlap:.3g}, which must be above 0"
        )
    if len(policies) == 0:
        raise ValueError("policies is empty; name one at least")
    low, high = coordinates.theta_interval
    # The first node is the estimate, the others span its interval.
    nodes = np.minimum([coordinates.theta, *np.linspace(low, high, NODES)], np.pi / 2)
    alpha = coordinates.alpha_total
    advice, fractions, errors, full = [], [], [], np.nan
    for name in policies:
        if report is not None:
            report(name)
        policy = policy_from_name(name)
        best = optimal_fraction(alpha, nodes, policy, lowest=lowest)
        enough = sufficient_fraction(alpha, tolerance, nodes[0], policy, lowest=lowest)
        found = np.asarray(best.status) != SearchStatus.FAILED
        fractions.append(np.where(found, np.asarray(best.keep_fraction), np.nan))
        errors.append(np.where(found, np.asarray(best.error), np.inf))
        full = float(np.asarray(best.full_error)[0])
        advice.append(
            PolicyAdvice(
                policy=name,
                keep_fraction=float(fractions[-1][0]),
                error=float(np.asarray(best.error)[0]),
                sufficient_fraction=float(np.asarray(enough.keep_fraction)),
            )
        )
    # Of policies that are equally good the one that keeps least.
    as_good = np.stack(errors) <= (1 + TIE) * np.min(errors, axis=0)
    winners = np.argmin(np.where(as_good, fractions, np.inf), axis=0)
    chosen = np.take_along_axis(np.stack(fractions), winners[None], axis=0)[0]
    winner = advice[int(winners[0])]
    if not np.isfinite(winner.error):
        raise ValueError(
            f"the theory has no certified answer at alpha_total = {alpha:.4g}, "
            f"theta = {coordinates.theta:.4g} rad"
        )
    return Recommendation(
        coordinates=coordinates,
        policy=winner.policy,
        keep_fraction=winner.keep_fraction,
        error=winner.error,
        full_error=full,
        band=_band(winner, alpha, float(nodes[0]), tolerance, lowest),
        fraction_interval=(float(np.nanmin(chosen)), float(np.nanmax(chosen))),
        tolerance=tolerance,
        policies=tuple(advice),
    )


def _band(
    winner: PolicyAdvice, alpha: float, theta: float, tolerance: float, lowest: float
) -> tuple[float, float]:
    """Fractions around the best one whose error stays within the tolerance."""
    grid: Floats = np.unique(np.append(np.geomspace(lowest, 1.0, FRACTIONS), winner.keep_fraction))
    problem = PerceptronProblem(
        alpha_total=alpha,
        keep_fraction=grid,
        probe=FixedAngle(theta),
        policy=policy_from_name(winner.policy),
    )
    within = np.asarray(solve(problem).error) <= (1 + tolerance) * winner.error
    best = int(np.searchsorted(grid, winner.keep_fraction))
    first = best - int(np.argmin(np.append(within[best::-1], False))) + 1
    last = best + int(np.argmin(np.append(within[best:], False))) - 1
    return float(grid[min(first, best)]), float(grid[max(last, best)])
