"""Scores predicted masks by IoU, Dice and boundary F.

Bootstrap intervals are over groups.

All overlap scores follow from confusion matrices, which add over cases: the score of a set is that
of the summed matrix, so that a large region counts as much as its pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from hardset.checks import check_integer, check_range
from pretrain_jax.segmentation.masks import IGNORE

Labels = NDArray[np.uint8]
Floats = NDArray[np.float64]
# Share of the diagonal. Source: Csurka et al. 2013, "What is a good evaluation measure for semantic
# segmentation?", section 3.
BOUNDARY_SHARE = 0.0075
# Bootstrap samples: with fewer the ends of an interval depend on the seed.
LEAST_DRAWS, MOST_DRAWS = 2_000, 10**7
# With fewer groups the intervals are not to be trusted.
ENOUGH_GROUPS = 10


@dataclass(frozen=True)
class CaseScore:
    """Holds what the scores of a set follow from.

    Attributes:
        confusion: (C, C), see `confusion`.
        boundary: (C,) boundary F of each class, NaN where neither mask has a boundary of it.
    """

    confusion: NDArray[np.int64]
    boundary: Floats


def score_case(predicted: Labels, truth: Labels, classes: int) -> CaseScore:
    """Score one case.

    Both masks have the shape (H, W).

    Raises:
        ValueError: different shapes, or a label that is none of the classes.
    """
    counts = confusion(predicted, truth, classes)
    tolerance = boundary_tolerance(truth.shape)
    known = truth != IGNORE
    boundary = [
        boundary_f((predicted == c) & known, truth == c, tolerance=tolerance)
        for c in range(classes)
    ]
    return CaseScore(counts, np.array(boundary))


def confusion(predicted: Labels, truth: Labels, classes: int) -> NDArray[np.int64]:
    """Count pixels by true (row) and predicted (column) class.

    `IGNORE` in `truth` is left out.

    Args:
        predicted: labels in [0, classes).
        truth: labels in [0, classes) or `IGNORE`, of the same shape.
        classes: number of classes C.

    Returns:
        Shape (C, C).

    Raises:
        ValueError: different shapes, or a label that is none of the classes.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"predicted has the shape {predicted.shape}, truth {truth.shape}")
    kept = truth != IGNORE
    first, second = truth[kept].astype(np.int64), predicted[kept].astype(np.int64)
    for name, labels in (("truth", first), ("predicted", second)):
        if labels.size:
            check_range(name, labels, 0, classes - 1)
    counts = np.bincount(first * classes + second, minlength=classes * classes)
    return counts.reshape(classes, classes)


def iou(counts: NDArray[np.integer | np.floating]) -> Floats:
    """Compute the IoU of each class.

    It is TP / (TP + FP + FN). It is NaN for a class that is neither there nor predicted.

    Args:
        counts: (..., C, C), see `confusion`.

    Returns:
        Shape (..., C). The mean IoU is its `nanmean`.
    """
    hit, missed_or_false = _hits(counts)
    return _share(hit, hit + missed_or_false)


def dice(counts: NDArray[np.integer | np.floating]) -> Floats:
    """Compute the Dice score of each class.

    It is 2 TP / (2 TP + FP + FN). It is NaN for a class that is neither there nor predicted.

    Args:
        counts: (..., C, C), see `confusion`.

    Returns:
        Shape (..., C).
    """
    hit, missed_or_false = _hits(counts)
    return _share(2 * hit, 2 * hit + missed_or_false)


def boundary_tolerance(shape: tuple[int, ...]) -> float:
    """Return the distance up to which boundaries agree.

    It is 0.75 % of the diagonal, at least 1 pixel.
    """
    return max(1.0, BOUNDARY_SHARE * math.hypot(shape[0], shape[1]))


def boundary_f(
    predicted: NDArray[np.bool_], truth: NDArray[np.bool_], *, tolerance: float
) -> float:
    """Score how well two boundaries agree.

    It is the harmonic mean of the shares of boundary pixels that lie near the other boundary.

    Precision is the share of the predicted boundary within `tolerance` (Euclidean) of the true
    one, recall the share of the true one within it of the predicted one. A boundary pixel belongs
    to the region and has one of its four neighbours outside; the image's border is no boundary.

    Args:
        predicted: region, (H, W).
        truth: region, (H, W).
        tolerance: pixels.

    Returns:
        In [0, 1]; 0 where only one mask has a boundary, NaN where none has.

    Source: Csurka et al. 2013 (BMVC).
    """
    ours, theirs = _boundary(predicted), _boundary(truth)
    if not ours.any() and not theirs.any():
        return math.nan
    if not ours.any() or not theirs.any():
        return 0.0
    from scipy.ndimage import distance_transform_edt

    precision = float(np.mean(distance_transform_edt(~theirs)[ours] <= tolerance))
    recall = float(np.mean(distance_transform_edt(~ours)[theirs] <= tolerance))
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def normdel(miou: float, ratio: float, *, a: float = 1.0) -> float:
    """Compute the accuracy discounted by the share of data that was kept.

    It is sigmoid(mIoU exp(-a R)), R the share.

    Args:
        miou: mean IoU as a fraction, in [0, 1].
        ratio: R in [0, 1].
        a: weight of the ratio, >= 0.

    Raises:
        ValueError: an argument out of range.

    Source: arXiv:2401.17542.
    """
    check_range("miou", miou, 0.0, 1.0)
    check_range("ratio", ratio, 0.0, 1.0)
    check_range("a", a, 0.0, math.inf)
    return 1 / (1 + math.exp(-miou * math.exp(-a * ratio)))


def _hits(counts: NDArray[np.integer | np.floating]) -> tuple[Floats, Floats]:
    """Return true positives, and false positives plus false negatives."""
    hit = np.diagonal(counts, axis1=-2, axis2=-1).astype(np.float64)
    return hit, counts.sum(axis=-1) + counts.sum(axis=-2) - 2 * hit


def _share(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def _boundary(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    from scipy.ndimage import binary_erosion

    return region & ~binary_erosion(region, border_value=1)


def expanded_level(level: float, groups: int) -> float:
    """Return the level at which percentiles of few groups cover `level`.

    The bootstrap's standard error of a mean of g values is that with the divisor g instead of
    g - 1, and percentiles are those of the normal distribution rather than of Student's t. So the
    interval of plain percentiles is too narrow by sqrt((g - 1) / g) z / t, z and t being the
    quantiles of both distributions. The tail a is therefore replaced by Phi(-sqrt(g / (g - 1)) t),
    t of g - 1 degrees of freedom. For many groups nothing changes.

    Args:
        level: wanted probability content, in (0, 1).
        groups: their number g, at least 1.

    Returns:
        In (level, 1]; NaN for one group, which tells nothing of how groups differ.

    Source: Hesterberg 2015 (The American Statistician 69:371, "expanded percentile interval").
    """
    if groups < 2:
        return math.nan
    reach = float(stdtrit(groups - 1, 0.5 + level / 2)) * math.sqrt(groups / (groups - 1))
    return 1 - 2 * float(ndtr(-reach))


def interval_note(groups: int) -> str | None:
    """Say in a sentence that few groups tell little; return None where there are enough."""
    if groups >= ENOUGH_GROUPS:
        return None
    if groups == 1:
        return "There is a single group of test cases, so that no interval can be given."
    return (
        f"The intervals are not to be trusted: there are {groups} groups of test cases, and fewer "
        f"than {ENOUGH_GROUPS} do not tell how far groups differ."
    )


@dataclass(frozen=True)
class Interval:
    """Holds a score and its bootstrap interval.

    Attributes:
        value: of the set.
        low: lower end; NaN without an interval.
        high: upper end, likewise.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class SetScore:
    """Holds the scores of a set of cases.

    Attributes:
        miou: mean over the classes of the IoU of all pixels together.
        dice: the same of Dice.
        boundary_f: mean over the classes but the first of the mean over the cases.
        iou: of each class.
        dice_by_class: of each class.
        boundary_by_class: of each class.
    """

    miou: Interval
    dice: Interval
    boundary_f: Interval
    iou: tuple[Interval, ...]
    dice_by_class: tuple[Interval, ...]
    boundary_by_class: tuple[Interval, ...]


def score_set(
    cases: Sequence[CaseScore],
    groups: Sequence[str],
    *,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> SetScore:
    """Score a set, with bootstrap intervals over groups.

    Groups are drawn with replacement: frames of one video are no independent cases. The intervals
    are expanded percentiles, see `expanded_level`; with a single group there are none (NaN).

    Args:
        cases: at least one.
        groups: group of each case.
        draws: bootstrap samples, at least 2,000.
        level: probability content of the intervals, in (0, 1).
        seed: of the draws.

    Raises:
        ValueError: an argument out of range, no cases.

    Sources: Efron and Tibshirani 1993, chapter 13; Hesterberg 2015 (see `expanded_level`).
    """
    check_integer("draws", draws, LEAST_DRAWS, MOST_DRAWS)
    check_range("level", level, 0.0, 1.0, open_low=True, open_high=True)
    if not cases or len(cases) != len(groups):
        raise ValueError(f"{len(cases)} case(s) with {len(groups)} group(s) cannot be scored")
    member = np.unique(np.array(groups), return_inverse=True)[1]
    count = int(member.max()) + 1
    level = expanded_level(level, count)
    sums = _sum_by(np.stack([case.confusion.astype(np.float64) for case in cases]), member, count)
    boundary = np.stack([case.boundary for case in cases])
    found = _sum_by(np.nan_to_num(boundary), member, count)
    counted = _sum_by((~np.isnan(boundary)).astype(np.float64), member, count)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=draws).astype(np.float64)
    # The set itself is the draw in which every group comes once.
    weights = np.concatenate([np.ones((1, count)), drawn])
    pooled = np.tensordot(weights, sums, axes=1)
    weighted = weights @ counted
    by_boundary = np.divide(
        weights @ found, weighted, out=np.full_like(weighted, np.nan), where=weighted > 0
    )
    by_iou, by_dice = iou(pooled), dice(pooled)
    return SetScore(
        miou=_interval(_mean(by_iou), level),
        dice=_interval(_mean(by_dice), level),
        boundary_f=_interval(_mean(by_boundary[:, 1:]), level),
        iou=_intervals(by_iou, level),
        dice_by_class=_intervals(by_dice, level),
        boundary_by_class=_intervals(by_boundary, level),
    )


def _sum_by(values: Floats, member: NDArray[np.int64], count: int) -> Floats:
    """Return sums over the cases of each group."""
    total = np.zeros((count, *values.shape[1:]))
    np.add.at(total, member, values)
    return total


def _mean(values: Floats) -> Floats:
    """Return the mean over the last axis without NaN.

    It is NaN where nothing else is there.
    """
    known = ~np.isnan(values)
    total = np.where(known, values, 0).sum(axis=-1)
    return np.divide(
        total, known.sum(axis=-1), out=np.full_like(total, np.nan), where=known.any(axis=-1)
    )


def _intervals(values: Floats, level: float) -> tuple[Interval, ...]:
    return tuple(_interval(column, level) for column in values.T)


def _interval(values: Floats, level: float) -> Interval:
    """Return the first value with the percentiles of the others.

    There are none where the level is NaN.
    """
    if math.isnan(level):
        return Interval(float(values[0]), math.nan, math.nan)
    drawn = values[1:][~np.isnan(values[1:])]
    tails = (0.5 - level / 2, 0.5 + level / 2)
    low, high = np.quantile(drawn, tails) if drawn.size else (np.nan, np.nan)
    return Interval(float(values[0]), float(low), float(high))
