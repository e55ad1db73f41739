"""How much of a data set to keep, and by which policy, if it were the toy model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from replica import SearchStatus, optimal_fraction, solve, sufficient_fraction
from selection._arrays import Floats, real_rows, whole_numbers
from selection.coordinates import (
    EffectiveDimension,
    LearningCurve,
    angle_of_overlap,
    effective_dimension,
)
from selection.probes import (
    Fit,
    Metric,
    max_margin_probe,
    part_size,
    probe_overlaps,
    simulated_overlaps,
)
from theory import FixedAngle, PerceptronProblem, policy_from_name
from theory.checks import check_integer, check_range

__all__ = [
    "CAVEAT",
    "Coordinates",
    "PolicyAdvice",
    "Recommendation",
    "coordinates_of_overlap",
    "estimate_coordinates",
    "recommend",
]

CAVEAT = (
    "The fraction is exact for normal features, a linear teacher without label noise and a "
    "max-margin student. On other data it is a heuristic: compare it with a measured curve."
)
POLICIES = ("hard", "easy", "moderate", "random")

SIMULATED_DIM = 64
SIMULATED_ALPHA = 20.0  # the spread at more data a dimension is smaller, and rows cost time
NODES = 7
FRACTIONS = 61
TIE = 1e-5  # relative; each policy's fraction is within 1e-6 of its least error


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Where a data set lies in the toy model. Angles are in radians.

    Attributes:
        examples: n.
        dimension: effective dimension of the features.
        alpha_total: n over the effective dimension.
        alpha_interval: interval of `alpha_total`.
        overlap: cosine c of two probes that were trained on disjoint parts.
        trained_on: examples in each part.
        theta_part: angle arccos(sqrt(c)) of such a probe to the target; NaN where c <= 0.
        theta: angle of a probe trained on all n, by the learning curve of max-margin probes.
        theta_interval: interval of `theta`.
        level: coverage that the intervals aim at.
    """

    examples: int
    dimension: EffectiveDimension
    alpha_total: float
    alpha_interval: tuple[float, float]
    overlap: float
    trained_on: int
    theta_part: float
    theta: float
    theta_interval: tuple[float, float]
    level: float

    @property
    def defined(self) -> bool:
        """Whether the two probes agree at all, so that there is an angle."""
        return bool(np.isfinite(self.theta))


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


def estimate_coordinates(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    splits: int = 4,
    holdout: float = 0.2,
    metric: Metric = "covariance",
    fit: Fit = max_margin_probe,
    replicates: int = 100,
    level: float = 0.9,
    seed: int = 0,
) -> Coordinates:
    """Coordinates from features and two classes: two probes are trained on disjoint parts.

    Args:
        features: shape (n, d).
        labels: two different values, shape (n,).
        splits: random splits whose overlaps are averaged.
        holdout: share of the examples on which "covariance" compares the probes.
        metric: "covariance" for any features; "isotropic" compares the weights, which is sharper
            where the covariance is a multiple of the identity.
        fit: trains a probe, (features, signs) -> weights; default nearly max-margin.
        replicates: draws of the parametric bootstrap.
        level: coverage that the intervals aim at.
        seed: of splits and bootstrap.

    Raises:
        ValueError: arrays that do not fit, other than two classes, too few examples, an argument
            outside its range.
    """
    matrix = real_rows("features", features, ndim=(2,))
    classes = whole_numbers("labels", labels)
    if len(classes) != len(matrix):
        raise ValueError(
            f"the arrays have different lengths: features {len(matrix)}, labels {len(classes)}"
        )
    names = np.unique(classes)
    if len(names) != 2:
        raise ValueError(f"labels has {len(names)} classes; the theory is of two, choose a pair")
    signs = np.where(classes == names[1], 1.0, -1.0)
    centred = matrix - np.mean(matrix, axis=0, dtype=np.float64)
    size = part_size(len(matrix), holdout, metric)
    overlaps = probe_overlaps(
        centred, signs, splits=splits, holdout=holdout, metric=metric, fit=fit, seed=seed
    )
    return coordinates_of_overlap(
        matrix,
        float(np.mean(overlaps)),
        size,
        held_out=len(matrix) - 2 * size if metric == "covariance" else None,
        splits=splits,
        fit=fit,
        replicates=replicates,
        level=level,
        seed=seed,
    )


def coordinates_of_overlap(
    features: ArrayLike,
    overlap: float,
    trained_on: int,
    *,
    held_out: int | None = None,
    splits: int = 1,
    fit: Fit = max_margin_probe,
    replicates: int = 100,
    level: float = 0.9,
    seed: int = 0,
) -> Coordinates:
    """Coordinates from the overlap of two probes that were trained elsewhere.

    The interval of theta is a parametric bootstrap: two probes are trained on data of the toy
    model at the same theta, in at most 64 dimensions, and the spread of their overlap is scaled by
    the root of the dimensions' ratio. That of alpha_total is the jackknife's, taken as normal.

    Args:
        features: shape (n, d).
        overlap: `weight_overlap` or `margin_overlap` of the two, in [-1, 1].
        trained_on: examples that each of them saw, disjoint from the other's.
        held_out: examples on which margins were compared; None where weights were.
        splits: how many such pairs the overlap is the mean of.
        fit: how the bootstrap trains its probes.
        replicates: draws of the bootstrap, at least 10.
        level: coverage that the intervals aim at.
        seed: of the bootstrap.

    Raises:
        ValueError: an argument outside its range; see `effective_dimension`.
    """
    check_range("overlap", overlap, -1.0, 1.0)
    check_integer("replicates", replicates, 10, 10**6)
    check_range("level", level, 0.0, 1.0, open_low=True, open_high=True)
    check_integer("trained_on", trained_on, 1, 2**62)
    count = len(np.asanyarray(features))
    dimension = effective_dimension(features, seed=seed)
    curve = LearningCurve.of_theory()
    part = float(angle_of_overlap(overlap))
    ends = np.array([(1 - level) / 2, (1 + level) / 2])
    theta_interval = (np.nan, np.nan)
    if np.isfinite(part):
        alpha_part = float(curve.alpha(part))
        dim = int(min(SIMULATED_DIM, max(2, round(dimension.value))))
        drawn = simulated_overlaps(
            min(alpha_part, SIMULATED_ALPHA),
            0.0 if held_out is None else held_out / dimension.value,
            dim,
            replicates,
            splits=splits,
            metric="isotropic" if held_out is None else "covariance",
            fit=fit,
            seed=seed,
        )
        spread = (drawn - drawn.mean()) * np.sqrt(dim / dimension.value)
        angles = np.nan_to_num(angle_of_overlap(np.minimum(overlap + spread, 1.0)), nan=np.pi / 2)
        # Quantiles of which a further draw is within with the probability `level`.
        low, high = np.quantile(
            curve.trained_on(angles, count / trained_on), ends, method="weibull"
        )
        theta_interval = (float(low), float(high))
    normal = np.random.default_rng(seed).standard_normal(10_000)
    dims = np.quantile(dimension.value + dimension.stderr * normal, ends)
    return Coordinates(
        examples=count,
        dimension=dimension,
        alpha_total=count / dimension.value,
        alpha_interval=(float(count / dims[1]), float(count / dims[0])),
        overlap=float(overlap),
        trained_on=int(trained_on),
        theta_part=part,
        theta=float(curve.trained_on(part, count / trained_on)),
        theta_interval=theta_interval,
        level=level,
    )


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
