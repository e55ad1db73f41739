"""Bounds how much the error rises when a student is trained on fewer rows.

The rows are compared in pairs: each is tried by a student of all data and by one of the kept.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from hardset.checks import check_range
from selection.arrays import Floats

BISECTIONS = 60  # of an interval of length 1: below the rounding of the bound itself


def increase_bound(
    only_all: ArrayLike, only_kept: ArrayLike, rows: ArrayLike, failure: ArrayLike
) -> Floats:
    """Bound the increase of the error from above, at an approximate level.

    The bound is the smallest increase D above max(xbar, 0) that a score test rejects at the level
    `failure`. With b and c the sums of `only_all` and `only_kept` over the K folds, m that of
    `rows`, x_k the increase in fold k, xbar = (b - c)/m and s^2 = (b + c)/m - xbar^2,

        xbar - D < -z sqrt(v/m + g),  v = 2 q + D (1 - D),

    where q is the maximum likelihood of the share of `only_kept` under the increase D (Tango,
    Statistics in Medicine 17, 891, 1998), z the normal quantile of 1 - `failure`, and

        g = max(0, S^2 - K s^2/m) (1/K + 1/(K - 1))

    adds the spread of students beyond that of the rows: S^2 is the variance of the x_k over folds,
    the factor is that of overlapping training parts (Nadeau and Bengio, Machine Learning 52, 239,
    2003). The level is approximate: docs/advice.md has measured rates.

    Args:
        only_all: rows of a fold that the student of all data alone gets right, shape (..., K),
            K >= 2.
        only_kept: those that the student of the kept rows alone gets right, shape (..., K).
        rows: rows that were tried, shape (..., K), each at least 1.
        failure: level in (0, 1/2), shape (...).

    Returns:
        Shape (...), in [0, 1]; 0 where every increase is rejected.

    Raises:
        ValueError: a level outside its range, shapes that do not fit, counts beyond the rows.
    """
    check_range("failure", failure, 0.0, 0.5, open_low=True, open_high=True)
    lost, won, tried = _counts(only_all, only_kept, rows)
    quantile = -ndtri(np.asarray(failure, np.float64))
    low = np.maximum(_mean(lost, won, tried), 0.0)
    low, high = np.broadcast_arrays(low, np.ones(np.broadcast_shapes(low.shape, quantile.shape)))
    low, high = low.copy(), high.copy()
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        rejected = _rejected(lost, won, tried, middle, quantile)
        low, high = np.where(rejected, low, middle), np.where(rejected, middle, high)
    return np.where(low > 0, high, 0.0)


def mean_bound(values: ArrayLike, bounds: ArrayLike) -> Floats:
    """Bound the mean of independent increases from bounds of each.

    It is the mean of the values plus the root of the sum of the squared distances of each to its
    bound, over their number (Zou and Donner, Statistics in Medicine 27, 1693, 2008).

    Args:
        values: measured increases, shape (..., C).
        bounds: upper bounds of each, at the level of the result, shape (..., C).
    """
    found, above = np.asarray(values, np.float64), np.asarray(bounds, np.float64)
    distance = np.sqrt(np.sum((above - found) ** 2, axis=-1)) / found.shape[-1]
    return np.asarray(np.mean(found, axis=-1) + distance)


def rows_for_certificate(
    only_all: ArrayLike, only_kept: ArrayLike, rows: ArrayLike, tolerance: float, failure: float
) -> float:
    """Estimate how many rows would bring the bound below a tolerance.

    It is z^2 v / (tolerance - xbar)^2 with the variance v of `increase_bound` at the tolerance: the
    measured increase is taken for the true one, and students do not spread.

    Args:
        only_all: as in `increase_bound`, shape (K,).
        only_kept: as in `increase_bound`, shape (K,).
        rows: as in `increase_bound`, shape (K,).
        tolerance: in (0, 1).
        failure: level in (0, 1/2).

    Returns:
        Rows; infinity where the measured increase is at the tolerance or above.
    """
    lost, won, tried = _counts(only_all, only_kept, rows)
    increase = float(_mean(lost, won, tried))
    if increase >= tolerance:
        return float(np.inf)
    variance = float(_variance(lost, won, tried, np.asarray(tolerance)))
    return float(ndtri(failure) ** 2 * variance / (tolerance - increase) ** 2)


def _counts(
    only_all: ArrayLike, only_kept: ArrayLike, rows: ArrayLike
) -> tuple[Floats, Floats, Floats]:
    lost, won, tried = (np.asarray(one, np.float64) for one in (only_all, only_kept, rows))
    if not (lost.shape == won.shape == tried.shape) or lost.ndim < 1 or lost.shape[-1] < 2:
        raise ValueError(
            f"only_all, only_kept and rows have shapes {lost.shape}, {won.shape} and "
            f"{tried.shape}; they must be one shape (..., K) with K at least 2 folds"
        )
    if not np.all((lost >= 0) & (won >= 0) & (tried >= 1) & (lost + won <= tried)):
        raise ValueError(
            "only_all, only_kept and rows must be counts with only_all + only_kept <= rows, and at "
            "least one row in each fold"
        )
    return lost, won, tried


def _mean(lost: Floats, won: Floats, tried: Floats) -> Floats:
    return np.asarray(np.sum(lost - won, axis=-1) / np.sum(tried, axis=-1))


def _variance(lost: Floats, won: Floats, tried: Floats, increase: Floats) -> Floats:
    """Compute the score variance of a row's difference under a given increase."""
    b, c, m = (np.sum(one, axis=-1) for one in (lost, won, tried))
    linear = (b + c) * (1 - increase) - 2 * (m - b) * increase
    root = np.sqrt(linear**2 + 8 * m * c * increase * (1 - increase))
    share = np.clip((linear + root) / (4 * m), 0.0, (1 - increase) / 2)
    return np.asarray(2 * share + increase * (1 - increase))


def _rejected(
    lost: Floats, won: Floats, tried: Floats, increase: Floats, quantile: Floats
) -> Floats:
    folds = tried.shape[-1]
    mean, m = _mean(lost, won, tried), np.sum(tried, axis=-1)
    rowwise = np.sum(lost + won, axis=-1) / m - mean**2
    among = np.var((lost - won) / tried, axis=-1, ddof=1)
    spread = np.maximum(0.0, among - folds * rowwise / m) * (1 / folds + 1 / (folds - 1))
    variance = _variance(lost, won, tried, increase) / m + spread
    return np.asarray(mean - increase < -quantile * np.sqrt(variance))
