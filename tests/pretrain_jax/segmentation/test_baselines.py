"""Thresholds against an exhaustive search."""

import itertools

import numpy as np
import pytest

from pretrain_jax.segmentation import confusion, iou
from pretrain_jax.segmentation.masks import IGNORE
from pretrain_jax.segmentation.result import Thresholds, fit_thresholds, grey_levels


def best(grey: np.ndarray, truth: np.ndarray, order: tuple[int, ...]) -> float:
    """The greatest mean IoU over all pairs of cuts at a coarse grid of levels."""
    cuts = itertools.combinations(range(0, 257, 8), len(order) - 1)
    return max(
        float(np.nanmean(iou(confusion(Thresholds(cut, order)(grey), truth, len(order)))))
        for cut in cuts
    )


@pytest.mark.parametrize("means", [(40, 120, 200), (60, 200, 110)])
def test_the_cuts_are_at_least_as_good_as_a_search(means: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    truth = rng.choice(3, (60, 50), p=(0.6, 0.3, 0.1)).astype(np.uint8)
    noisy = np.array(means)[truth] + rng.normal(0, 25, truth.shape)
    grey = np.clip(noisy, 0, 255).astype(np.uint8)
    found = fit_thresholds([(grey, truth)], 3)
    assert found.order == tuple(np.argsort(means))
    score = float(np.nanmean(iou(confusion(found(grey), truth, 3))))
    assert score >= best(grey, truth, found.order)


def test_ignored_pixels_do_not_count() -> None:
    truth = np.array([[0, 0, 1, IGNORE]], np.uint8)
    found = fit_thresholds([(np.array([[10, 20, 200, 15]], np.uint8), truth)], 2)
    assert found(np.array([[10, 20, 200]], np.uint8)).tolist() == [[0, 0, 1]]


def test_grey_levels_are_means() -> None:
    assert grey_levels(np.array([[[10, 20, 31]]], np.uint8)).tolist() == [[20]]
