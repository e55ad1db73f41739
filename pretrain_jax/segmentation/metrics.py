"""How well predicted masks agree with the true ones: IoU, Dice, boundary F.

All overlap scores follow from confusion matrices, which add over cases: the score of a set is that
of the summed matrix, so that a large region counts as much as its pixels.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_range
from pretrain_jax.segmentation.masks import IGNORE

__all__ = [
    "BOUNDARY_SHARE",
    "CaseScore",
    "boundary_f",
    "boundary_tolerance",
    "confusion",
    "dice",
    "iou",
    "normdel",
    "score_case",
]

Labels = NDArray[np.uint8]
Floats = NDArray[np.float64]
# Of the diagonal: Csurka et al. 2013, "What is a good evaluation measure for semantic
# segmentation?", section 3.
BOUNDARY_SHARE = 0.0075


@dataclass(frozen=True)
class CaseScore:
    """What the scores of a set follow from.

    Attributes:
        confusion: (C, C), see `confusion`.
        boundary: (C,) boundary F of each class, NaN where neither mask has a boundary of it.
    """

    confusion: NDArray[np.int64]
    boundary: Floats


def score_case(predicted: Labels, truth: Labels, classes: int) -> CaseScore:
    """The score of one case; both masks have the shape (H, W).

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
    """Number of pixels by true (row) and predicted (column) class; `IGNORE` in `truth` is left out.

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
    """TP / (TP + FP + FN) of each class; NaN for one that is neither there nor predicted.

    Args:
        counts: (..., C, C), see `confusion`.

    Returns:
        Shape (..., C). The mean IoU is its `nanmean`.
    """
    hit, missed_or_false = _hits(counts)
    return _share(hit, hit + missed_or_false)


def dice(counts: NDArray[np.integer | np.floating]) -> Floats:
    """2 TP / (2 TP + FP + FN) of each class; NaN for one that is neither there nor predicted.

    Args:
        counts: (..., C, C), see `confusion`.

    Returns:
        Shape (..., C).
    """
    hit, missed_or_false = _hits(counts)
    return _share(2 * hit, 2 * hit + missed_or_false)


def boundary_tolerance(shape: tuple[int, ...]) -> float:
    """Distance in pixels up to which boundaries agree: 0.75 % of the diagonal, at least 1."""
    return max(1.0, BOUNDARY_SHARE * math.hypot(shape[0], shape[1]))


def boundary_f(
    predicted: NDArray[np.bool_], truth: NDArray[np.bool_], *, tolerance: float
) -> float:
    """Harmonic mean of the shares of boundary pixels that lie near the other boundary.

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
    """sigmoid(mIoU exp(-a R)): accuracy discounted by the share R of the data that was kept.

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
    """True positives, and false positives plus false negatives."""
    hit = np.diagonal(counts, axis1=-2, axis2=-1).astype(np.float64)
    return hit, counts.sum(axis=-1) + counts.sum(axis=-2) - 2 * hit


def _share(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def _boundary(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    from scipy.ndimage import binary_erosion

    return region & ~binary_erosion(region, border_value=1)
