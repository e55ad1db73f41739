"""Predictions without a model: thresholds of the intensity, and background everywhere."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pretrain_jax.segmentation.masks import IGNORE
from pretrain_jax.segmentation.metrics import iou

__all__ = ["Thresholds", "fit_thresholds", "grey_levels"]

LEVELS = 256


@dataclass(frozen=True)
class Thresholds:
    """Intervals of grey levels, a class each.

    Attributes:
        cuts: ascending; level g belongs to interval k if cuts[k - 1] <= g < cuts[k].
        order: the class of each interval, from dark to bright.
    """

    cuts: tuple[int, ...]
    order: tuple[int, ...]

    def __call__(self, grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Labels of grey levels, of the same shape."""
        return np.array(self.order, np.uint8)[np.searchsorted(self.cuts, grey, side="right")]


def grey_levels(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Rounded mean over the channels, (H, W) of (H, W, C)."""
    return np.rint(pixels.mean(axis=2)).astype(np.uint8)


def fit_thresholds(
    cases: Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8]]], classes: int
) -> Thresholds:
    """The thresholds with the greatest mean IoU on training cases.

    Classes are ordered by their mean grey level; each cut in turn takes the level that is best
    for the others as they are, until none changes.

    Args:
        cases: grey levels and labels of each case, of one shape; taken one at a time.
        classes: number of classes.
    """
    histogram = np.zeros((classes, LEVELS), np.int64)
    for grey, truth in cases:
        kept = truth != IGNORE
        flat = truth[kept].astype(np.int64) * LEVELS + grey[kept]
        histogram += np.bincount(flat, minlength=classes * LEVELS).reshape(classes, LEVELS)
    below = np.concatenate([np.zeros((classes, 1), np.int64), histogram.cumsum(axis=1)], axis=1)
    total = np.maximum(histogram.sum(axis=1), 1)
    means = histogram @ np.arange(LEVELS) / total
    order = np.argsort(means, kind="stable")
    cuts = np.ceil((means[order][1:] + means[order][:-1]) / 2).astype(np.int64)
    changed = True
    while changed:
        before = cuts.copy()
        for place in range(classes - 1):
            low = cuts[place - 1] if place else 0
            high = cuts[place + 1] if place + 1 < classes - 1 else LEVELS
            tried = np.arange(low, high + 1)
            scores = [
                _mean_iou(below, order, np.r_[cuts[:place], cut, cuts[place + 1 :]])
                for cut in tried
            ]
            cuts[place] = tried[int(np.argmax(scores))]
        changed = bool(np.any(cuts != before))
    return Thresholds(tuple(int(cut) for cut in cuts), tuple(int(c) for c in order))


def _mean_iou(below: NDArray[np.int64], order: NDArray[np.int64], cuts: NDArray[np.int64]) -> float:
    """Mean IoU of cuts from the cumulated histograms of the classes."""
    edges = np.concatenate([[0], cuts, [LEVELS]])
    counts = np.empty((len(order), len(order)), np.int64)
    counts[:, order] = np.diff(below[:, edges], axis=1)
    return float(np.nanmean(iou(counts)))
