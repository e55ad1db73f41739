"""Whether a data set is the toy model: the error that was measured beside the one predicted."""

from dataclasses import dataclass

import numpy as np

from selection.advice.estimates import SEPARABLE, Coordinates, LearningCurve, error_interval

FACTOR = 1.5  # between the two errors, beyond which the data are not the toy model
CHANCE = 2.0  # up to which chance may explain a larger error than the predicted one


@dataclass(frozen=True)
class Verdict:
    """The error of cross-validated probes beside the theory's at the same volume of data.

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
        """Whether an error was measured."""
        return bool(np.isfinite(self.measured))

    @property
    def factor(self) -> float:
        """The larger error over the smaller; where none was measured of the interval's end."""
        measured = self.measured or self.interval[1]
        return float(max(measured / self.predicted, self.predicted / measured))

    @property
    def toy_model(self) -> bool:
        """Whether the data may be the toy model: the errors agree, or one is not known.

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
        """Whether a probe separates the classes, but for what a nearly hard margin leaves."""
        return self.training <= SEPARABLE

    def sentence(self) -> str:
        """What was found."""
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


def verdict(coordinates: Coordinates) -> Verdict:
    """The error that was measured at some coordinates, and what the theory predicts there."""
    curve, errors = LearningCurve.of_theory(), coordinates.errors
    share = 1.0 if errors is None else (errors.folds - 1) / errors.folds
    alpha = share * coordinates.alpha_total
    # Beyond the curve's end the error falls as 1 / alpha.
    beyond = min(1.0, float(curve.alphas[-1]) / alpha)
    predicted = float(curve.angle(alpha)) / np.pi * beyond
    if errors is None:
        return Verdict(np.nan, (np.nan, np.nan), predicted, coordinates.level)
    interval = error_interval(errors, coordinates.examples, coordinates.level)
    return Verdict(errors.held_out, interval, predicted, coordinates.level, errors.training)
