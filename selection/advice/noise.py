"""Fits how labels go wrong, from how often margins have the right sign.

At the margin z, over its root mean square, the sign is right with the probability flip + (1 - 2
flip) Phi(slope abs(z)). A probe at the angle theta to a teacher whose field has the noise sigma
before its sign is taken has the slope cos(theta)/sqrt(sin(theta)^2 + sigma^2).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq, minimize_scalar
from scipy.special import log_ndtr, ndtr

from hardset.checks import check_range
from selection.arrays import Floats

GROUPS = 256  # of margins of about one size
STEPS = 41  # of each parameter's grid
ROUNDS = 5  # of grids, each about the best point of the last one
STEEPEST = 1e3
FLATTEST = 1e-3
LOOKS = 13  # at a profile, from the end of the range to the best point
DROP = 1.3528  # of the log-likelihood, to the ends of a 90 % interval: chi-square(1) / 2

Interval = tuple[float, float]


@dataclass(frozen=True)
class SignFit:
    """A fit of the probability that a margin has the right sign.

    Attributes:
        flip: share of labels that are wrong however large the margin, in [0, 1/2].
        slope: of the probit in the margin, > 0.
        flip_interval: 90 % interval by the profile likelihood.
        slope_interval: the same for the slope.
    """

    flip: float
    slope: float
    flip_interval: Interval
    slope_interval: Interval


def fit_signs(sizes: ArrayLike, right: ArrayLike, *, steepest: float = STEEPEST) -> SignFit:
    """Fit flip and slope by maximum likelihood.

    Args:
        sizes: abs(z) of every example, shape (n,), >= 0.
        right: whether the margin has the sign of the label, shape (n,).
        steepest: largest slope that is allowed, that of labels without noise of the field.

    Raises:
        ValueError: sizes that are negative or not finite; no example.
    """
    size = np.asarray(sizes, np.float64).ravel()
    won = np.asarray(right, np.float64).ravel()
    check_range("sizes", size, 0.0, np.inf)
    check_range("steepest", steepest, 0.0, np.inf, open_low=True)
    if not size.size or won.size != size.size:
        raise ValueError(
            f"sizes and right have {size.size} and {won.size} entries; they need equally many, >= 1"
        )
    order = np.argsort(size, kind="stable")
    parts = np.array_split(order, min(GROUPS, size.size))
    at = np.array([size[part].mean() for part in parts])
    good = np.array([won[part].sum() for part in parts])
    bad = np.array([part.size for part in parts]) - good

    def likelihood(flips: Floats, slopes: Floats) -> Floats:
        """Return the log-likelihood, shape (flips, slopes)."""
        arms = np.outer(slopes, at)
        sure, lost = ndtr(arms), ndtr(-arms)
        span = (1 - 2 * flips)[:, None, None]
        hits = np.log(np.maximum(flips[:, None, None] + span * sure, 1e-300))
        misses = np.log(np.maximum(flips[:, None, None] + span * lost, 1e-300))
        # Without flips the small probabilities are logarithms of themselves.
        exact = flips == 0
        hits[exact], misses[exact] = log_ndtr(arms), log_ndtr(-arms)
        return hits @ good + misses @ bad

    flat = np.log(min(FLATTEST, steepest / 10))
    flips = np.linspace(0.0, 0.5, STEPS)
    logs = np.linspace(flat, np.log(steepest), STEPS)
    for _ in range(ROUNDS):
        values = likelihood(flips, np.exp(logs))
        best = np.unravel_index(np.argmax(values), values.shape)
        flip, log, top = flips[best[0]], logs[best[1]], values[best]
        flips, logs = _around(flips, int(best[0])), _around(logs, int(best[1]))

    def of_flip(value: float) -> float:
        return _highest(lambda x: likelihood(np.array([value]), np.exp([x])).item(), flat, steep)

    def of_log(value: float) -> float:
        return _highest(lambda x: likelihood(np.array([x]), np.exp([value])).item(), 0.0, 0.5)

    steep = float(np.log(steepest))
    low, high = _interval(of_log, float(log), top - DROP, flat, steep)
    return SignFit(
        flip=float(flip),
        slope=float(np.exp(log)),
        flip_interval=_interval(of_flip, float(flip), top - DROP, 0.0, 0.5),
        slope_interval=(float(np.exp(low)), float(np.exp(high))),
    )


def _around(values: Floats, place: int) -> Floats:
    """Return a finer grid about a point of a grid, within its ends."""
    low, high = max(place - 2, 0), min(place + 2, len(values) - 1)
    return np.linspace(values[low], values[high], STEPS)


def _highest(value: Callable[[float], float], low: float, high: float) -> float:
    found = minimize_scalar(lambda x: -value(x), bounds=(low, high), method="bounded")
    # A bounded search never tries the ends themselves.
    return float(max(-found.fun, value(low), value(high)))


def _interval(
    profile: Callable[[float], float], best: float, level: float, low: float, high: float
) -> Interval:
    """Return the outermost points at which a profile is at a level.

    A likelihood may have two tops, few flips with a flat slope and more with a steep one, so that
    the search comes from outside.
    """
    ends = []
    for end in (low, high):
        outside = end
        for inside in np.linspace(end, best, LOOKS):
            if profile(float(inside)) >= level:
                break
            outside = float(inside)
        if inside == end:
            ends.append(end)
        else:
            ends.append(brentq(lambda x: profile(x) - level, outside, float(inside), xtol=1e-5))
    return ends[0], ends[1]
