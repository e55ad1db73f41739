"""The Pareto frontier against brute force and against its own finite differences."""

import numpy as np
import pytest

from replica import SearchStatus, frontier, solve
from theory.policies import Window
from theory.problem import FixedAngle, PerceptronProblem

KEPT = np.array([0.3, 5.0, 60.0])
THETA = np.deg2rad(20.0)


def test_no_fraction_is_better():
    found = frontier(KEPT, THETA)
    assert np.all(found.status == SearchStatus.FOUND)
    fraction = np.geomspace(1e-3, 1, 150)
    errors = np.asarray(
        solve(
            PerceptronProblem(KEPT[:, None] / fraction, fraction, FixedAngle(THETA)), throw=True
        ).error
    )
    assert np.all(found.error <= errors.min(axis=1) * (1 + 1e-9))
    assert np.all(found.error >= errors.min(axis=1) * (1 - 1e-3))
    np.testing.assert_allclose(found.alpha_total * found.keep_fraction, KEPT)
    np.testing.assert_allclose(found.random_error, errors[:, -1], rtol=1e-9)
    assert found.keep_fraction[0] == 1.0


def test_the_exponent_is_that_of_the_frontier():
    """The envelope theorem, and the end f = 1 (first entry), against finite differences."""
    step = 1e-3
    one = frontier(KEPT, THETA)
    up, down = (np.log(frontier(KEPT * np.exp(s), THETA).error) for s in (step, -step))
    # Truncation step^2, and 1e-11 in the error over the step.
    np.testing.assert_allclose(one.exponent, (up - down) / (2 * step), rtol=1e-5)


def test_a_set_of_volumes_is_searched_exhaustively():
    volumes = [5.0, 20.0, 8.0]
    found = frontier([1.0, 5.0], THETA, volumes=volumes)
    for k, kept in enumerate((1.0, 5.0)):
        alpha = np.array(volumes)
        error = solve(PerceptronProblem(alpha, kept / alpha, FixedAngle(THETA))).error
        assert found.error[k] == pytest.approx(error.min(), rel=1e-12)
        assert found.alpha_total[k] == alpha[np.argmin(error)]
    step = 1e-5
    around = solve(
        PerceptronProblem(
            found.alpha_total[0],
            found.keep_fraction[0] * np.exp([-step, step]),
            FixedAngle(THETA),
        )
    ).error
    slope = np.diff(np.log(around))[0] / (2 * step)
    assert found.exponent[0] == pytest.approx(slope, rel=1e-6)


def test_a_volume_that_a_window_cannot_keep_enough_of_is_left_out():
    # 4.8 of 5 is the fraction 0.96, more than a window from 0.1 on can keep.
    found = frontier(4.8, THETA, Window(0.1), volumes=[5.0, 10.0])
    assert found.alpha_total == 10.0
    alone = PerceptronProblem(10.0, 0.48, FixedAngle(THETA), Window(0.1))
    np.testing.assert_allclose(found.error, solve(alone).error, rtol=1e-12)


def test_a_perfect_probe_leads_to_the_end_of_the_range():
    found = frontier(10.0, lowest=0.01)
    assert found.status == SearchStatus.AT_RANGE_END and found.keep_fraction == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"alpha_kept": 0.0}, "alpha_kept = 0"),
        ({"alpha_kept": 5.0, "volumes": [1.0, 4.0]}, "the largest must be at least"),
        ({"alpha_kept": 5.0, "volumes": [-1.0, 8.0]}, "volumes = -1"),
        ({"alpha_kept": 5.0, "policy": Window(0.9995)}, "lo + keep_fraction"),
    ],
)
def test_bad_arguments_are_named(arguments, part):
    with pytest.raises(ValueError, match=r"outside|largest") as caught:
        frontier(**arguments)
    assert part in str(caught.value)
