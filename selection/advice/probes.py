"""Trains linear probes on disjoint parts of labelled data, and compares them."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike

from hardset.checks import check_choice, check_integer, check_range, require
from selection.advice import Metric
from selection.arrays import Array, Floats, Integers
from selection.selector import generator

Fit = Callable[[Floats, Floats], ArrayLike]

# At 200 to 1,000 dimensions and up to five examples a dimension these give the direction of the
# exact separator within .3 degrees of its angle to the teacher.
PENALTY = 100.0
TOLERANCE = 1e-3
SWEEPS = 300
FEWEST = 16  # simulated examples in a part: a random half of 32 has both classes


def max_margin_probe(features: Floats, signs: Floats) -> Floats:
    """Train a separator through the origin with a nearly hard margin.

    It minimises norm(w)^2 / 2 + C sum max(0, 1 - y w x)^2 with C = 100 for rows of unit mean
    square norm, by coordinate descent in the dual (liblinear).

    Args:
        features: shape (m, d).
        signs: -1 or +1, shape (m,).

    Raises:
        ValueError: one class alone, scikit-learn missing.
    """
    svm = require("sklearn.svm")
    convergence = require("sklearn.exceptions").ConvergenceWarning
    scale = np.sqrt(np.mean(np.einsum("ij,ij->i", features, features)))
    model = svm.LinearSVC(
        C=PENALTY, fit_intercept=False, tol=TOLERANCE, max_iter=SWEEPS, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", convergence)
        model.fit(features / scale, signs)
    weights: Floats = model.coef_[0]
    return weights


def weight_overlap(one: ArrayLike, other: ArrayLike, covariance: ArrayLike | None = None) -> float:
    """Compute the cosine of two probes in a metric.

    In the metric C it is w1 C w2 / sqrt(w1 C w1 w2 C w2).

    Args:
        one: weights, shape (d,).
        other: weights, shape (d,).
        covariance: of the features, shape (d, d), from examples that neither probe was trained
            on; default the identity.
    """
    pair = np.stack([np.asarray(one, np.float64), np.asarray(other, np.float64)])
    metric = pair @ pair.T if covariance is None else pair @ np.asarray(covariance) @ pair.T
    return float(metric[0, 1] / np.sqrt(metric[0, 0] * metric[1, 1]))


def margin_overlap(one: ArrayLike, other: ArrayLike) -> float:
    """Compute the cosine of two probes' signed margins on examples new to both.

    It estimates `weight_overlap` in the metric of the features' second moments.

    Args:
        one: y w1 x or w1 x, shape (m,).
        other: the same of the other probe.
    """
    left, right = np.asarray(one, np.float64), np.asarray(other, np.float64)
    return float(left @ right / np.sqrt((left @ left) * (right @ right)))


def probe_overlaps(
    features: Array,
    signs: Floats,
    *,
    splits: int = 4,
    holdout: float = 0.2,
    metric: Metric = "covariance",
    fit: Fit = max_margin_probe,
    seed: int = 0,
) -> Floats:
    """Measure the overlap of two probes for each random split into disjoint parts.

    Args:
        features: centred, shape (n, d).
        signs: -1 or +1, shape (n,).
        splits: number of splits.
        holdout: share of the examples that neither probe sees and whose margins are compared, in
            (0, 1); not used by "isotropic".
        metric: "covariance" compares the margins of held-out examples; "isotropic" compares the
            weights themselves, and each probe is trained on half of the examples.
        fit: trains a probe, (features, signs) -> weights.
        seed: of the splits.

    Returns:
        Shape (splits,), in [-1, 1].

    Raises:
        ValueError: an argument outside its range, a part with one class.
    """
    check_integer("splits", splits, 1, 10**4)
    size = part_size(len(features), holdout, metric)
    overlaps = np.empty(splits)
    for split in range(splits):
        order = generator(seed, split).permutation(len(features))
        parts = (np.sort(order[:size]), np.sort(order[size : 2 * size]))
        for part in parts:
            _two_classes(signs[part])
        one, other = (np.asarray(fit(features[p], signs[p]), np.float64).ravel() for p in parts)
        if metric == "isotropic":
            overlaps[split] = weight_overlap(one, other)
        else:
            rest = features[np.sort(order[2 * size :])]
            overlaps[split] = margin_overlap(rest @ one, rest @ other)
    return overlaps


@dataclass(frozen=True)
class ProbeErrors:
    """Holds the shares of examples on the wrong side of a probe.

    Attributes:
        held_out: of examples that it was not trained on, in `folds`-fold cross validation.
        training: of all examples by a probe that was trained on all.
        folds: number of folds.
    """

    held_out: float
    training: float
    folds: int


def cross_validation(
    features: Array,
    signs: Floats,
    *,
    folds: int = 10,
    fit: Fit = max_margin_probe,
    seed: int = 0,
) -> ProbeErrors:
    """Measure the errors of probes on examples that they were not trained on.

    Each probe is tested on the one fold that its training leaves out.

    Args:
        features: centred, shape (n, d), n at least twice `folds`.
        signs: -1 or +1, shape (n,).
        folds: number of parts, at least 2.
        fit: trains a probe, (features, signs) -> weights.
        seed: of the folds.

    Raises:
        ValueError: an argument outside its range, a training part with one class.
    """
    check_integer("folds", folds, 2, len(features) // 2)
    order = generator(seed).permutation(len(features))

    def wrong(train: Integers, test: Integers) -> int:
        _two_classes(signs[train])
        weights = np.asarray(fit(features[train], signs[train]), np.float64).ravel()
        return int(np.sum((features[test] @ weights) * signs[test] <= 0))

    everything = np.arange(len(features))
    total = sum(
        wrong(np.setdiff1d(everything, part), part) for part in np.array_split(order, folds)
    )
    return ProbeErrors(
        held_out=total / len(features),
        training=wrong(everything, everything) / len(features),
        folds=folds,
    )


def _two_classes(signs: Floats) -> None:
    if len(np.unique(signs)) < 2:
        raise ValueError(
            f"one random part of {len(signs)} examples has one class alone; "
            "the probes need examples of both classes, and the rarer one has too few"
        )


def part_size(n: int, holdout: float, metric: Metric) -> int:
    """Count the examples that each of the two probes is trained on.

    Raises:
        ValueError: fewer than 2, or none held out; an argument outside its range.
    """
    check_range("holdout", holdout, 0.0, 1.0, open_low=True, open_high=True)
    check_choice("metric", metric, get_args(Metric))
    size = n // 2 if metric == "isotropic" else int((1 - holdout) * n / 2)
    if size < 2 or (metric == "covariance" and n - 2 * size < 2):
        raise ValueError(f"{n} examples are too few for two probes and a holdout of {holdout:g}")
    return size


def simulated_overlaps(
    alpha_part: float,
    alpha_rest: float,
    dim: int,
    draws: int,
    *,
    splits: int,
    metric: Metric,
    fit: Fit = max_margin_probe,
    seed: int = 0,
) -> Floats:
    """Simulate overlaps of two probes on data sets of the toy model.

    Of each data set the mean over its splits is returned.

    Rows are normal, labels the signs of a teacher, and probes are trained and compared as in
    `probe_overlaps`.

    Args:
        alpha_part: examples that each probe is trained on, over the dimension; at least 16 are.
        alpha_rest: examples held out, over the dimension; not used by "isotropic".
        dim: dimension.
        draws: number of data sets.
        splits: splits of each data set.
        metric: "covariance" or "isotropic".
        fit: trains a probe.
        seed: of the data sets.

    Returns:
        Shape (draws,).
    """
    size = max(FEWEST, int(np.floor(alpha_part * dim + 0.5)))
    rest = 0 if metric == "isotropic" else max(2, int(np.floor(alpha_rest * dim + 0.5)))
    overlaps = np.empty(draws)
    signs = np.where(np.arange(2 * size + rest) % 2, -1.0, 1.0)
    for draw in range(draws):
        x = generator(seed, draw).standard_normal((len(signs), dim))
        # (x, y) and (-x, -y) are the same to a probe through the origin. So rows can be turned
        # until half of them are of each class.
        x *= (np.where(x[:, 0] < 0, -1.0, 1.0) * signs)[:, None]
        overlaps[draw] = np.mean(
            probe_overlaps(
                x,
                signs,
                splits=splits,
                holdout=max(rest, 1) / len(x),
                metric=metric,
                fit=fit,
                seed=draw,
            )
        )
    return overlaps
