"""Advises how much to keep, and judges whether the theory applies.

The theory applies where the data may be its toy model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from replica import SearchStatus, optimal_fraction, solve, sufficient_fraction
from selection.advice import CAVEAT, HARD, POLICIES
from selection.advice.estimates import (
    SEPARABLE,
    Coordinates,
    LearningCurve,
    coordinates_of_overlap,
    error_interval,
    estimate_coordinates,
)
from selection.advice.probes import margin_overlap
from selection.arrays import Floats, real_rows
from theory import FixedAngle, PerceptronProblem, policy_from_name

FACTOR = 1.5  # between the two errors, beyond which the data are not the toy model
CHANCE = 2.0  # up to which chance may explain a larger error than the predicted one
NODES = 7
FRACTIONS = 61
TIE = 1e-5  # relative; each policy's fraction is within 1e-6 of its least error


@dataclass(frozen=True)
class ToyModelVerdict:
    """Compares the error of cross-validated probes with that of the theory.

    Both errors are those at the same volume of data.

    Attributes:
        measured: share of examples on the wrong side of a probe that was not trained on them; NaN
            where it was not measured.
        interval: of `measured`, in which the folds' common examples are counted.
        predicted: the theory's error of a probe that is trained on as much data as those were.
        level: coverage that the interval aims at.
        training: share of all examples on the wrong side of a probe that was trained on all.
    """

    measured: float
    interval: tuple[float, float]
    predicted: float
    level: float
    training: float = 0.0

    @property
    def known(self) -> bool:
        """Say whether an error was measured."""
        return bool(np.isfinite(self.measured))

    @property
    def factor(self) -> float:
        """Return the ratio of the larger error to the smaller.

        The two are the measured and the predicted error. Where the measured error is 0, the upper
        end of its interval stands for it.
        """
        measured = self.measured or self.interval[1]
        return float(max(measured / self.predicted, self.predicted / measured))

    @property
    def toy_model(self) -> bool:
        """Say whether the data may be the toy model.

        They may be where the errors agree, or where no error was measured.

        They agree within a factor of 1.5, or where the prediction is in the interval and the
        measured error at most twice as large: an interval of few examples excuses no more, for a
        pruned set costs most where learning is harder than the theory's. Classes that no probe
        separates are not those of the toy model, whatever the errors.
        """
        if not self.known:
            return True
        within = self.interval[0] <= self.predicted <= self.interval[1]
        chance = within and self.measured <= CHANCE * self.predicted
        return self.separable and (chance or self.factor <= FACTOR)

    @property
    def separable(self) -> bool:
        """Say whether a probe separates the classes.

        A few examples may be on the wrong side, for the margin of the probes is only nearly hard.
        """
        return self.training <= SEPARABLE

    def sentence(self) -> str:
        """Say in a sentence whether the data may be the toy model."""
        if not self.known:
            return (
                "whether the data are the toy model is not known: no error of cross-validated "
                "probes was measured"
            )
        found = (
            f"cross validation measures an error of {self.measured:.3g} ({100 * self.level:g} % "
            f"interval {self.interval[0]:.3g} to {self.interval[1]:.3g}), the toy model predicts "
            f"{self.predicted:.3g}"
        )
        if self.toy_model:
            return f"the data may be the toy model: {found}"
        if not self.separable:
            found = (
                "no probe through the mean separates the classes "
                f"({100 * self.training:.2g} % of the training examples are on the wrong side), "
                f"{found}"
            )
        return f"the data are not the toy model: {found}; keep all"


def toy_model_verdict(coordinates: Coordinates) -> ToyModelVerdict:
    """Compare the error that was measured at some coordinates with the theory's."""
    curve, errors = LearningCurve.of_theory(), coordinates.errors
    share = 1.0 if errors is None else (errors.folds - 1) / errors.folds
    alpha = share * coordinates.alpha_total
    # Beyond the curve's end the error falls as 1 / alpha.
    beyond = min(1.0, float(curve.alphas[-1]) / alpha)
    predicted = float(curve.angle(alpha)) / np.pi * beyond
    if errors is None:
        return ToyModelVerdict(np.nan, (np.nan, np.nan), predicted, coordinates.level)
    interval = error_interval(errors, coordinates.examples, coordinates.level)
    return ToyModelVerdict(errors.held_out, interval, predicted, coordinates.level, errors.training)


@dataclass(frozen=True)
class PolicyAdvice:
    """Says what the theory finds of one policy at the coordinates.

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
class ToyModelAdvice:
    """Says what to keep.

    It is the theory's best fraction, or all of the data where these are not the toy model.

    Attributes:
        coordinates: what was estimated of the data.
        policy: name of the best policy, of equally good ones that which keeps least; "all" where
            the data are not the toy model.
        keep_fraction: its best fraction; 1 where the data are not the toy model.
        error: the theory's error there.
        full_error: the theory's error of all data.
        verdict: the error that was measured beside the one that the theory predicts.
        toy_model_policy: the policy that the theory calls best, whatever the verdict.
        toy_model_fraction: its best fraction; NaN where theta is undefined.
        toy_model_error: the theory's error there.
        band: fractions around `toy_model_fraction` whose error is at most (1 + tolerance) times
            the least one.
        fraction_interval: best fractions over the interval of theta, under any policy.
        tolerance: relative loss that is accepted.
        policies: what the theory says of each policy.
        score: name of the score by which "hard" is meant, see `hard`.
        hard: what "hard" means.
        caveat: what the numbers hold for.
    """

    coordinates: Coordinates
    policy: str
    keep_fraction: float
    error: float
    full_error: float
    verdict: ToyModelVerdict
    toy_model_policy: str
    toy_model_fraction: float
    toy_model_error: float
    band: tuple[float, float]
    fraction_interval: tuple[float, float]
    tolerance: float
    policies: tuple[PolicyAdvice, ...]
    score: str = "margin"
    hard: str = HARD
    caveat: str = CAVEAT

    @property
    def toy_model(self) -> bool:
        """Say whether the data may be the toy model."""
        return self.verdict.toy_model

    @property
    def measured_error(self) -> float:
        """Return the cross-validated error of a probe.

        It is NaN where it was not measured.
        """
        return self.verdict.measured

    @property
    def predicted_error(self) -> float:
        """Return the theory's error of a probe that is trained on as much data."""
        return self.verdict.predicted

    @property
    def advice(self) -> str:
        """Return the advice in a few words."""
        if not self.toy_model:
            return "keep all"
        return f"keep {100 * self.keep_fraction:.3g} % by {self.policy} selection"


def toy_model_advice(
    data: Coordinates | ArrayLike,
    labels: ArrayLike | None = None,
    *,
    scores: ArrayLike | None = None,
    probes: ArrayLike | None = None,
    trained_on: int | None = None,
    policies: Sequence[str] = POLICIES,
    tolerance: float = 0.05,
    lowest: float = 0.01,
    report: Callable[[str], None] | None = None,
) -> ToyModelAdvice:
    """Search the policy and the fraction of least error in the theory.

    Where the measured error and the theory's differ by more than a factor of 1.5, and chance does
    not explain it, or no probe separates the classes, the data are not the toy model: the advice is
    to keep all, and what the theory says are the fields `toy_model_...`. The rule is that of
    `ToyModelVerdict.toy_model`.

    Args:
        data: coordinates with an angle that is defined; or features, shape (n, d), with one of
            `labels`, `scores` and `probes`, for the defaults of `estimate_coordinates` and
            `coordinates_of_overlap`.
        labels: two classes, shape (n,); probes are trained on disjoint parts.
        scores: signed margins of two probes on examples that neither was trained on, shape (2, m).
        probes: their weights, shape (2, d), compared in the metric of the features' covariance.
        trained_on: examples that each of the two was trained on, disjoint; default n // 2.
        policies: names of the policies to compare, without parameters of their own.
        tolerance: relative loss that is accepted, in [1e-6, 100].
        lowest: smallest fraction to consider, in [1e-6, 0.5].
        report: called with the name of each policy before its search.

    Raises:
        ValueError: an undefined angle of data that may be the toy model, an unknown policy, an
            argument outside its range; features with none or several of labels, scores and probes.
    """
    coordinates = _coordinates(data, labels, scores, probes, trained_on)
    found_errors = toy_model_verdict(coordinates)
    if not coordinates.defined and not found_errors.toy_model:
        return _keep_all(coordinates, found_errors, tolerance)
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
    # Among equally good policies the one that keeps least wins.
    as_good = np.stack(errors) <= (1 + TIE) * np.min(errors, axis=0)
    winners = np.argmin(np.where(as_good, fractions, np.inf), axis=0)
    chosen = np.take_along_axis(np.stack(fractions), winners[None], axis=0)[0]
    winner = advice[int(winners[0])]
    if not np.isfinite(winner.error):
        raise ValueError(
            f"the theory has no certified answer at alpha_total = {alpha:.4g}, "
            f"theta = {coordinates.theta:.4g} rad"
        )
    toy_model = found_errors.toy_model
    return ToyModelAdvice(
        coordinates=coordinates,
        policy=winner.policy if toy_model else "all",
        keep_fraction=winner.keep_fraction if toy_model else 1.0,
        error=winner.error if toy_model else full,
        full_error=full,
        verdict=found_errors,
        toy_model_policy=winner.policy,
        toy_model_fraction=winner.keep_fraction,
        toy_model_error=winner.error,
        band=_band(winner, alpha, float(nodes[0]), tolerance, lowest),
        fraction_interval=(float(np.nanmin(chosen)), float(np.nanmax(chosen))),
        tolerance=tolerance,
        policies=tuple(advice),
    )


def _keep_all(coordinates: Coordinates, found: ToyModelVerdict, tolerance: float) -> ToyModelAdvice:
    """Advise to keep all data.

    This is the advice where the data are not the toy model and have no angle in it.
    """
    full = float(np.asarray(solve(PerceptronProblem(alpha_total=coordinates.alpha_total)).error))
    nothing = (np.nan, np.nan)
    return ToyModelAdvice(
        coordinates=coordinates,
        policy="all",
        keep_fraction=1.0,
        error=full,
        full_error=full,
        verdict=found,
        toy_model_policy="",
        toy_model_fraction=np.nan,
        toy_model_error=np.nan,
        band=nothing,
        fraction_interval=nothing,
        tolerance=tolerance,
        policies=(),
    )


def _coordinates(
    data: Coordinates | ArrayLike,
    labels: ArrayLike | None,
    scores: ArrayLike | None,
    probes: ArrayLike | None,
    trained_on: int | None,
) -> Coordinates:
    """Return the coordinates of the data, from whichever argument is given."""
    given = {"labels": labels, "scores": scores, "probes": probes, "trained_on": trained_on}
    named = [name for name, value in given.items() if value is not None]
    if isinstance(data, Coordinates):
        if named:
            raise ValueError(f"coordinates need no {named[0]}; give it with features")
        return data
    if sum(name != "trained_on" for name in named) != 1:
        raise ValueError("features need one of labels, scores and probes")
    features = real_rows("features", data, ndim=(2,))
    if labels is not None:
        if trained_on is not None:
            raise ValueError("trained_on belongs to scores or probes; labels train their own")
        return estimate_coordinates(features, labels)
    name, values = ("scores", scores) if probes is None else ("probes", probes)
    pair = real_rows(name, np.asarray(values), ndim=(2,))
    width = features.shape[1] if probes is not None else pair.shape[1]
    if pair.shape != (2, width):
        raise ValueError(f"{name} has shape {pair.shape}; it must be {(2, width)}, one row a probe")
    margins = pair if probes is None else pair @ (features - features.mean(axis=0)).T
    count = len(features) // 2 if trained_on is None else trained_on
    # With known weights the margins are those on all features: no examples were held out.
    held_out = margins.shape[1] if probes is None else None
    overlap = margin_overlap(margins[0], margins[1])
    return coordinates_of_overlap(features, overlap, count, held_out=held_out)


def _band(
    winner: PolicyAdvice, alpha: float, theta: float, tolerance: float, lowest: float
) -> tuple[float, float]:
    """Find fractions around the best one whose error stays within the tolerance."""
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
