"""The data that a target takes: round trips, published constants, where no data suffice."""

import numpy as np
import pytest

from replica import SearchStatus, required_data, solve
from theory.policies import HardSigned, Random
from theory.problem import DownstreamShift, FixedAngle, PerceptronProblem


def test_known_errors_give_back_their_volumes():
    """R of the unpruned student at alpha = 1, 2, 5, to the six digits printed; e = .0938 is
    published for alpha = 5."""
    overlap = np.array([0.671358, 0.829758, 0.956870])
    found = required_data(np.arccos(overlap) / np.pi)
    # d log alpha/d log e is about -1, and e has as many digits as 1 - R.
    np.testing.assert_allclose(found.alpha_total, [1, 2, 5], rtol=3e-5)


def test_round_trip_with_a_verified_bracket():
    fraction, theta = np.array([0.1, 0.5, 1.0]), np.deg2rad(np.array([[0.0], [20.0]]))
    target = np.array([0.3, 0.05, 0.002])[:, None, None]
    found = required_data(target, fraction, theta)
    assert np.all(found.status == SearchStatus.FOUND)
    assert found.alpha_total.shape == (3, 2, 3)
    np.testing.assert_allclose(found.alpha_kept, found.alpha_total * fraction, rtol=1e-9)

    def errors(alpha):
        problem = PerceptronProblem(alpha, fraction, FixedAngle(theta))
        return np.asarray(solve(problem, throw=True).error)

    np.testing.assert_allclose(errors(found.alpha_total), np.broadcast_to(target, (3, 2, 3)), 1e-10)
    assert np.all(found.low <= found.alpha_total) and np.all(found.alpha_total <= found.high)
    # The bracket is as narrow as the page says, and its ends are on either side by themselves.
    assert np.all(found.high / found.low - 1 < 1e-9)
    assert np.all(errors(found.low) >= target) and np.all(errors(found.high) <= target)


def test_random_selection_takes_as_many_kept_examples():
    found = required_data(0.05, [0.1, 0.5, 1.0], policy=Random())
    np.testing.assert_allclose(found.alpha_kept, found.alpha_kept[-1], rtol=1e-9)


def test_no_volume_reaches_below_a_shift():
    floor = np.arctan(0.4) / np.pi
    shift = DownstreamShift(delta=0.4)
    found = required_data([0.999 * floor, 1.05 * floor], downstream=shift)
    assert found.status.tolist() == [SearchStatus.UNREACHABLE, SearchStatus.FOUND]
    assert np.isnan(found.alpha_total[0]) and found.crossings[0] == 0


def test_an_error_that_rises_first_is_said_to():
    """Signed hard selection at 80 degrees and f = .3: the error rises in places, so that a volume
    can meet the target and larger ones miss it."""
    alpha = np.geomspace(0.05, 200, 60)
    problem = PerceptronProblem(alpha, 0.3, FixedAngle.degrees(80), HardSigned())
    errors = np.asarray(solve(problem, throw=True).error)
    bottom = next(k for k in range(1, 59) if errors[k] < min(errors[k - 1], errors[k + 1]))
    top = bottom + int(np.argmax(errors[bottom:]))
    target = (errors[bottom] + errors[top]) / 2
    found = required_data(target, 0.3, np.deg2rad(80), HardSigned())
    assert found.crossings > 1
    first = alpha[errors <= target][0]
    assert alpha[alpha < first][-1] <= found.alpha_total <= first


def test_a_target_met_everywhere_is_at_the_end_of_the_range():
    found = required_data(0.4, alpha_range=(10.0, 100.0))
    assert found.status == SearchStatus.AT_RANGE_END and found.alpha_total == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"target_error": 0.5}, "target_error = 0.5"),
        ({"target_error": 0.0}, "target_error = 0"),
        ({"target_error": 0.1, "alpha_range": (10.0, 1.0)}, "increasing"),
        ({"target_error": 0.1, "keep_fraction": 0.0}, "keep_fraction = 0"),
    ],
)
def test_bad_arguments_are_named(arguments, part):
    with pytest.raises(ValueError, match=r"outside|increasing") as caught:
        required_data(**arguments)
    assert part in str(caught.value)
