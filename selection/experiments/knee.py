"""Compares the fraction that the theory recommends with the measured curve.

The tasks are binary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_integer, check_range
from selection.advice.estimates import estimate_coordinates
from selection.advice.probes import max_margin_probe
from selection.advice.toy_model import ToyModelAdvice, toy_model_advice
from selection.experiments.datasets import Dataset, Pair
from selection.methods.ranking import EasiestFirst, HardestFirst, ModerateCoreset, RandomSample
from selection.pool import Pool, Scores
from selection.selector import Selector, generator

Floats = NDArray[np.float64]
FRACTIONS = (0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
METHODS: dict[str, type[Selector]] = {
    "hard": HardestFirst,
    "easy": EasiestFirst,
    "moderate": ModerateCoreset,
    "random": RandomSample,
}
TRAINING = 0.8  # share of the examples; the others test
FEWEST = 10  # kept examples


@dataclass(frozen=True, eq=False)
class Knee:
    """Compares advice and measurement on one binary task.

    Attributes:
        task: its name.
        advice: what the theory recommends; measured is what it says of the toy model, also where
            the data are not.
        keep_fraction: kept fractions, ascending, the last one 1.
        error: measured test error of a max-margin student trained on the examples that the
            recommended policy keeps, shape (splits, fractions).
        tolerance: accepted relative loss.
    """

    task: str
    advice: ToyModelAdvice
    keep_fraction: Floats
    error: Floats
    tolerance: float

    def best(self) -> float:
        """Find the fraction of least measured error."""
        return float(self.keep_fraction[np.argmin(self.error.mean(axis=0))])

    def knee(self) -> float:
        """Find the smallest fraction from which on the error stays within the tolerance."""
        mean = self.error.mean(axis=0)
        above = np.flatnonzero(mean > (1 + self.tolerance) * mean[-1])
        return float(self.keep_fraction[above[-1] + 1 if len(above) else 0])

    def predicted_knee(self) -> float:
        """Return the fraction that the theory calls sufficient under the recommended policy."""
        (own,) = (one for one in self.advice.policies if one.policy == self.advice.toy_model_policy)
        return own.sufficient_fraction

    def loss(self) -> tuple[float, float]:
        """Compare the recommended fraction's error with that of all data.

        The difference comes with its standard error.
        """
        place = np.log(self.advice.toy_model_fraction)
        logs = np.log(self.keep_fraction)
        found = [np.interp(place, logs, row) - row[-1] for row in self.error]
        return float(np.mean(found)), float(np.std(found, ddof=1) / np.sqrt(len(found)))


def measure_knee(
    dataset: Dataset,
    task: str,
    pair: Pair,
    *,
    splits: int = 10,
    tolerance: float = 0.1,
    seed: int = 0,
    advance: Callable[[], object] = lambda: None,
) -> Knee:
    """Ask the theory for a fraction, then measure the errors of all fractions.

    Scores are margins to a max-margin probe that was trained on the training examples; the student
    is trained in the same way on those that are kept.

    Args:
        dataset: with the classes.
        task: its name.
        pair: classes on either side.
        splits: random splits into training and test examples, at least 2.
        tolerance: accepted relative loss.
        seed: of the splits.
        advance: called after each split.

    Raises:
        ValueError: an argument outside its range; classes with too few examples.
    """
    check_integer("splits", splits, 2, 10**4)
    check_range("tolerance", tolerance, 0.0, 10.0)
    left, right = (np.isin(dataset.labels, side) for side in pair)
    rows = np.flatnonzero(left | right)
    inputs = dataset.inputs[rows].astype(np.float64)
    inputs -= inputs.mean(axis=0)
    signs = np.where(right[rows], 1.0, -1.0)
    count = int(TRAINING * len(rows))
    fractions = np.array([f for f in FRACTIONS if f * count >= FEWEST])
    first = generator(seed, 0).permutation(len(rows))[:count]
    coordinates = estimate_coordinates(inputs[first], signs[first] > 0, seed=seed)
    if not coordinates.defined:
        raise ValueError(f"task {task!r}: theta is undefined, the probes do not agree")
    advice = toy_model_advice(coordinates, tolerance=tolerance)
    method = METHODS[advice.toy_model_policy]()
    errors = np.empty((splits, len(fractions)))
    for split in range(splits):
        order = generator(seed, split).permutation(len(rows))
        train, test = order[:count], order[count:]
        errors[split] = _errors(inputs, signs, train, test, fractions, method, split)
        advance()
    return Knee(task, advice, fractions, errors, tolerance)


def _errors(
    inputs: Floats,
    signs: Floats,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    fractions: Floats,
    method: Selector,
    seed: int,
) -> list[float]:
    x, y = inputs[train], signs[train]
    probe = max_margin_probe(x, y)
    pool = Pool.of(scores=Scores.of(-np.abs(x @ probe), name="margin"))
    found = []
    for fraction in fractions:
        kept = method.select(pool, round(fraction * len(x)), seed).indices
        if len(np.unique(y[kept])) < 2:
            found.append(0.5)  # nothing was learned
            continue
        everything = len(kept) == len(x)
        student = probe if everything else max_margin_probe(x[kept], y[kept])
        found.append(float(np.mean((inputs[test] @ student) * signs[test] <= 0)))
    return found


def knee_table(knees: Sequence[Knee]) -> str:
    """Write what was recommended and what was measured, a line for each task."""
    lines = [
        "| task | n | d_eff | alpha_total | theta | advice | measured best | predicted knee | "
        "measured knee | advice / knee | error, all data | change at the advised fraction |",
        "|---" * 12 + "|",
    ]
    for one in knees:
        found, advice = one.advice.coordinates, one.advice
        change, bar = one.loss()
        lines.append(
            f"| {one.task} | {found.examples} | {found.dimension.value:.1f} | "
            f"{found.alpha_total:.1f} | {np.rad2deg(found.theta):.1f}° ({found.theta_from}) | "
            f"{advice.toy_model_policy} {advice.toy_model_fraction:.2g} | {one.best():.2g} | "
            f"{one.predicted_knee():.2g} | {one.knee():.2g} | "
            f"{advice.toy_model_fraction / one.knee():.1f} | "
            f"{100 * one.error[:, -1].mean():.2f} % | {100 * change:+.2f} ± {100 * bar:.2f} % |"
        )
    return "\n".join(lines) + "\n"
