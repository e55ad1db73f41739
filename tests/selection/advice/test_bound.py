"""The bound of an increase: published vectors, a direct maximum likelihood, and simulation.

The vectors are those of the maintainers' derivation of the bound, to six decimals.
"""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from selection.advice.bound import increase_bound, mean_bound, rows_for_certificate

VECTORS = [
    ([0] * 5, [0] * 5, [80] * 5, 0.05, 0.006718),
    ([1, 0, 0, 0, 0], [0] * 5, [80] * 5, 0.05, 0.011136),
    ([3, 2, 4, 1, 2], [2, 3, 1, 2, 2], [100] * 5, 0.05, 0.020444),
    ([3, 2, 4, 1, 2], [2, 3, 1, 2, 2], [100] * 5, 0.04, 0.021624),
    ([9, 0, 1, 0, 0], [0] * 5, [100] * 5, 0.05, 0.064438),
    ([12, 15, 9, 14, 11], [10, 12, 13, 9, 12], [500] * 5, 0.01, 0.012310),
]


@pytest.mark.parametrize("only_all, only_kept, rows, failure, bound", VECTORS)
def test_vectors(only_all, only_kept, rows, failure, bound) -> None:
    found = increase_bound(only_all, only_kept, rows, failure)
    assert found == pytest.approx(bound, abs=1e-6)  # half of the last decimal, and room


def test_many_problems_at_once() -> None:
    lost, won, rows = (np.array([one[k] for one in VECTORS]) for k in range(3))
    levels, bounds = (np.array([one[k] for one in VECTORS]) for k in (3, 4))
    assert increase_bound(lost, won, rows, levels) == pytest.approx(bounds, abs=1e-6)


def direct(lost, won, rows, failure) -> float:
    """Scan for the smallest rejected increase, with a numerical maximum likelihood."""
    b, c, m, folds = sum(lost), sum(won), sum(rows), len(rows)
    mean = (b - c) / m
    each = [(x - y) / n for x, y, n in zip(lost, won, rows, strict=True)]
    spread = np.var(each, ddof=1) - folds * ((b + c) / m - mean**2) / m
    spread = max(0.0, spread) * (1 / folds + 1 / (folds - 1))
    z = norm.isf(failure)

    def rejected(increase: float) -> bool:
        def negative(share: float) -> float:
            chances = (share + increase, share, 1 - 2 * share - increase)
            counts = (b, c, m - b - c)
            return -sum(
                k * np.log(max(p, 1e-300)) for k, p in zip(counts, chances, strict=True) if k
            )

        top = (1 - increase) / 2
        options = {"xatol": 1e-13}
        share = minimize_scalar(negative, bounds=(0, top), method="bounded", options=options).x
        variance = 2 * share + increase - increase**2
        return mean - increase < -z * np.sqrt(variance / m + spread)

    grid = np.arange(max(mean, 0) + 1e-5, 0.5, 1e-5)
    return float(next(one for one in grid if rejected(one)))


@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_a_scan_over_increases(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = random.integers(30, 90, 4)
    lost, won = (random.binomial(rows, rate) for rate in (0.08, 0.05))
    failure = float(random.uniform(0.01, 0.2))
    found = increase_bound(lost, won, rows, failure)
    # The scan has steps of 1e-5.
    assert found == pytest.approx(direct(lost, won, rows, failure), abs=2e-5)


def test_many_more_gains_than_losses_leave_no_increase() -> None:
    assert increase_bound([0] * 5, [20] * 5, [100] * 5, 0.05) == 0.0


def test_level_on_rows_alone() -> None:
    """Where students do not spread, the true increase is beyond the bound at about the level."""
    random = np.random.default_rng(3)
    draws, folds, rows = 20_000, 5, 200
    lost, won = 0.05, 0.03
    counts = random.multinomial(rows, [lost, won, 1 - lost - won], size=(draws, folds))
    tried = np.full((draws, folds), rows)
    bounds = increase_bound(counts[..., 0], counts[..., 1], tried, 0.05)
    rate = np.mean(bounds <= lost - won)
    error = np.sqrt(0.05 * 0.95 / draws)
    # The score test is right to O(1/sqrt(m)); the spread, never negative, makes it a bit smaller.
    assert 0.02 < rate < 0.05 + 3 * error


def test_mean_of_classes() -> None:
    assert mean_bound([0.1], [0.3]) == pytest.approx(0.3)
    # Two equal classes: the distance to the bound shrinks by the root of two.
    assert mean_bound([0.1, 0.1], [0.3, 0.3]) == pytest.approx(0.1 + 0.2 / np.sqrt(2))


def test_rows_that_a_certificate_needs() -> None:
    """With that many rows, in the same proportions, the bound is about the tolerance."""
    lost, won, rows = np.array([6] * 5), np.array([4] * 5), np.array([100] * 5)
    tolerance = 0.03
    needed = rows_for_certificate(lost, won, rows, tolerance, 0.05)
    scale = needed / rows.sum()
    found = increase_bound(lost * scale, won * scale, rows * scale, 0.05)
    assert found == pytest.approx(tolerance, rel=1e-3)
    assert rows_for_certificate(lost, won, rows, 0.02, 0.05) == np.inf


@pytest.mark.parametrize(
    "arguments, message",
    [
        (([1, 2], [1, 2], [3, 3], 0.05), "only_all, only_kept and rows must be counts"),
        (([1, 1], [1, 1], [0, 3], 0.05), "at least one row in each fold"),
        (([1], [1], [5], 0.05), "K at least 2 folds"),
        (([1, 1], [1, 1], [5, 5, 5], 0.05), r"shapes \(2,\), \(2,\) and \(3,\)"),
        (([1, 1], [1, 1], [5, 5], 0.5), r"failure = 0.5 is outside the valid range \(0, 0.5\)"),
    ],
)
def test_bad_input(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        increase_bound(*arguments)
