"""Searches over the fraction against brute force: dense grids that share none of their steps."""

import numpy as np
import pytest

from replica import SearchStatus, optimal_fraction, solve, sufficient_fraction
from theory.policies import Custom, Easy, Hard, Policy, Window
from theory.problem import DownstreamShift, FixedAngle, PerceptronProblem

DENSE = np.concatenate([np.geomspace(1e-3, 0.5, 60), 1 - np.geomspace(0.49, 1e-5, 60), [1.0]])
HARD = [(0.3, 0.0), (100.0, 0.0), (10.0, 20.0), (10.0, 45.0)]
# One interior minimum; an interior minimum that the end f = 1 beats.
EASY = [(1.0, 0.0), (10.0, 5.0)]


def curves(points: list[tuple[float, float]], policy: Policy) -> np.ndarray:
    alpha, theta = np.array(points).T
    problem = PerceptronProblem(alpha[:, None], DENSE, FixedAngle.degrees(theta[:, None]), policy)
    return np.asarray(solve(problem, throw=True).error)


@pytest.mark.parametrize(("points", "policy"), [(HARD, Hard()), (EASY, Easy())])
def test_no_smaller_fraction_is_as_good(points, policy):
    alpha, theta = np.array(points).T
    errors = curves(points, policy)
    found = optimal_fraction(alpha, np.deg2rad(theta), policy)
    enough = sufficient_fraction(alpha[:, None], [0.02, 0.3], np.deg2rad(theta)[:, None], policy)
    assert np.all(found.status == SearchStatus.FOUND)
    np.testing.assert_allclose(found.full_error, errors[:, -1], rtol=1e-9)
    np.testing.assert_allclose(found.alpha_kept, alpha * found.keep_fraction, rtol=1e-9)
    # The grid's least point is above the true one, by the square of its step.
    assert np.all(found.least_error <= errors.min(axis=1) * (1 + 1e-9))
    assert np.all(found.least_error >= errors.min(axis=1) * (1 - 1e-3))
    np.testing.assert_allclose(found.error, found.least_error * (1 + 1e-6), rtol=1e-10)
    dense = DENSE
    for k in range(len(points)):
        level = found.least_error[k] * (1 + 1e-6)
        assert np.all(errors[k][dense < found.keep_fraction[k]] > level)
        inside = (dense >= found.keep_fraction[k]) & (dense <= found.plateau_end[k])
        assert np.all(errors[k][inside] <= level * (1 + 1e-10))
        for column, tolerance in enumerate((0.02, 0.3)):
            first = enough.keep_fraction[k, column]
            reached = dense[errors[k] <= errors[k, -1] * (1 + tolerance)].min()
            below = dense[dense < reached].max()
            assert below <= first <= reached * (1 + 1e-12)


def test_the_plateau_of_a_perfect_probe_is_one():
    """All fractions beyond its start are as good, to rounding; at 45 degrees nothing is."""
    found = optimal_fraction(100.0, np.deg2rad([0.0, 45.0]))
    assert found.plateau.tolist() == [True, False]
    np.testing.assert_array_equal(found.plateau_end, 1.0)
    assert found.keep_fraction[0] < 0.1 and found.keep_fraction[1] > 0.999


def test_where_pruning_hurts_all_data_are_best():
    # e(f) falls with a slope of order one up to f = 1: 1e-6 of it is 1e-5 away at most.
    found = optimal_fraction(0.5)
    assert found.least_fraction == 1.0
    assert 1 - 1e-4 < found.keep_fraction < 1


def test_a_window_that_misleads_is_never_sufficient():
    found = sufficient_fraction(100.0, [0.01, 99.0], np.deg2rad(20), Window(0.5))
    assert found.status.tolist() == [SearchStatus.UNREACHABLE, SearchStatus.AT_RANGE_END]
    assert np.isnan(found.keep_fraction[0]) and found.keep_fraction[1] == pytest.approx(1e-3)


def test_shift_and_copies_reach_the_solver():
    # An independent shift raises all errors by nearly the same: far more is sufficient.
    plain = sufficient_fraction(20.0, 0.1)
    shifted = sufficient_fraction(20.0, 0.1, downstream=DownstreamShift(delta=0.4))
    copied = sufficient_fraction(100.0, 0.1, redundancy=5.0)
    assert shifted.keep_fraction < plain.keep_fraction
    assert copied.keep_fraction == pytest.approx(float(plain.keep_fraction), rel=1e-9)
    assert copied.alpha_kept == pytest.approx(float(plain.alpha_kept), rel=1e-9)


@pytest.mark.parametrize(
    ("call", "part"),
    [
        (lambda: optimal_fraction(-1.0), "alpha_total = -1"),
        (lambda: optimal_fraction(1.0, 2.0), "theta = 2"),
        (lambda: optimal_fraction(1.0, lowest=0.7), "lowest = 0.7"),
        (lambda: optimal_fraction(1.0, policy=Custom(lambda z: 0.5 + 0 * z)), "one fraction only"),
        (lambda: optimal_fraction(1.0, policy=Window(0.9999)), "lo = 0.9999"),
        (lambda: sufficient_fraction(1.0, 0.0), "tolerance = 0"),
    ],
)
def test_bad_arguments_are_named(call, part):
    with pytest.raises(ValueError, match=r"outside|only") as caught:
        call()
    assert part in str(caught.value)
