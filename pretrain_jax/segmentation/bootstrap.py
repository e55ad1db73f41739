"""Scores of a set of cases with bootstrap intervals over groups."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_integer, check_range
from pretrain_jax.segmentation.metrics import CaseScore, dice, iou

__all__ = ["Interval", "SetScore", "score_set"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A score and its bootstrap interval.

    Attributes:
        value: of the set.
        low: lower end.
        high: upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class SetScore:
    """The scores of a set of cases.

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
    """The scores with percentile intervals over groups that are drawn with replacement.

    Frames of one video are no independent cases: whole groups are drawn. With a single group the
    interval is the value itself.

    Args:
        cases: at least one.
        groups: group of each case.
        draws: bootstrap samples.
        level: probability content of the intervals, in (0, 1).
        seed: of the draws.

    Raises:
        ValueError: an argument out of range, no cases.

    Source: Efron and Tibshirani 1993, chapter 13.
    """
    check_integer("draws", draws, 1, 10**7)
    check_range("level", level, 0.0, 1.0, open_low=True, open_high=True)
    if not cases or len(cases) != len(groups):
        raise ValueError(f"{len(cases)} case(s) with {len(groups)} group(s) cannot be scored")
    member = np.unique(np.array(groups), return_inverse=True)[1]
    count = int(member.max()) + 1
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
    """Sums over the cases of each group."""
    total = np.zeros((count, *values.shape[1:]))
    np.add.at(total, member, values)
    return total


def _mean(values: Floats) -> Floats:
    """Mean over the last axis without NaN; NaN where nothing else is there."""
    known = ~np.isnan(values)
    total = np.where(known, values, 0).sum(axis=-1)
    return np.divide(
        total, known.sum(axis=-1), out=np.full_like(total, np.nan), where=known.any(axis=-1)
    )


def _intervals(values: Floats, level: float) -> tuple[Interval, ...]:
    return tuple(_interval(column, level) for column in values.T)


def _interval(values: Floats, level: float) -> Interval:
    """The first value with the percentiles of the others."""
    drawn = values[1:][~np.isnan(values[1:])]
    tails = (0.5 - level / 2, 0.5 + level / 2)
    low, high = np.quantile(drawn, tails) if drawn.size else (np.nan, np.nan)
    return Interval(float(values[0]), float(low), float(high))
