"""Information gain per kept example: reference values, random limit, profile."""

import jax
import numpy as np
import pytest
from scipy import stats

from theory import (
    FixedAngle,
    GainStatus,
    Independent,
    InSample,
    PerceptronProblem,
    Window,
    expected_gain,
    gibbs_error,
    gibbs_overlap,
    information_gain,
)

THETA = np.deg2rad(20)
# One policy holds all points: window(0) is hard, window(1 - f) easy, f = 1 random.
ALPHA = np.array([1, 2, 5, 10, 2 / 0.3, 2 / 0.3])
KEEP = np.array([1, 1, 1, 1, 0.3, 0.3])
LO = np.array([0, 0, 0, 0, 0, 0.7])


@pytest.fixture(scope="module")
def solution():
    return information_gain(PerceptronProblem(ALPHA, KEEP, FixedAngle(THETA), Window(LO)))


def test_all_points_are_solved(solution):
    np.testing.assert_array_equal(solution.status, GainStatus.CONVERGED)
    np.testing.assert_allclose(solution.alpha_kept, ALPHA * KEEP, rtol=1e-10)
    assert np.all(np.asarray(solution.residual) < 1e-9)


def test_reference_gains(solution):
    # The cases f = 1 solve Gyorgyi and Tishby (1990); the pruned ones were found independently
    # with several starts and agree with Monte Carlo at N = 60: .652(16) and .0997(10).
    expected = [0.506551, 0.371831, 0.187360, 0.0982733]
    np.testing.assert_allclose(solution.gain[:4], expected, atol=5e-7)
    assert float(solution.gain[4]) == pytest.approx(0.6280, abs=5e-5)
    assert float(solution.gain[5]) == pytest.approx(0.10121, abs=5e-6)


def test_random_examples_have_one_overlap(solution):
    for overlap in (solution.overlap, solution.replica_overlap):
        np.testing.assert_allclose(overlap[:4], gibbs_overlap(ALPHA[:4]), rtol=1e-10)
    np.testing.assert_allclose(solution.error[:4], gibbs_error(ALPHA[:4]), rtol=1e-10)


def test_profile_averages_to_the_gain(solution):
    problem = PerceptronProblem(2 / 0.3, 0.3, FixedAngle(THETA), Window(0.0))
    point = jax.tree.map(lambda column: column[4], solution)
    edge = stats.norm.ppf(0.65)
    nodes, weights = np.polynomial.legendre.leggauss(40)
    z, dz = edge * (1 + nodes) / 2, edge * weights / 2
    profile = np.asarray(expected_gain(z, problem, point))
    assert 2 * np.sum(dz * stats.norm.pdf(z) * profile) / 0.3 == pytest.approx(
        float(point.gain), rel=1e-9
    )
    with pytest.raises(ValueError, match=r"problem has the shape \(1,\)"):
        expected_gain(0.0, PerceptronProblem(np.ones(1)), point)


def test_probe_without_an_angle():
    independent = PerceptronProblem(1.0, probe=Independent(2.0))
    with pytest.raises(ValueError, match=r"not a FixedAngle; .* FixedAngle\(replica.solve\("):
        information_gain(independent)
    with pytest.raises(ValueError, match=r"InSample\(\) is not a FixedAngle; .* independent of"):
        information_gain(PerceptronProblem(1.0, probe=InSample()))


def test_status_sentences():
    assert all(status.sentence.endswith(".") for status in GainStatus)


def test_a_grid_of_another_shape_has_the_same_numbers(solution):
    shape = (2, 3)
    problem = PerceptronProblem(
        ALPHA.reshape(shape), KEEP.reshape(shape), FixedAngle(THETA), Window(LO.reshape(shape))
    )
    found = information_gain(problem)
    assert found.gain.shape == shape
    np.testing.assert_array_equal(found.gain.ravel(), solution.gain)
    few = information_gain(
        PerceptronProblem(ALPHA[:5], KEEP[:5], FixedAngle(THETA), Window(LO[:5]))
    )
    np.testing.assert_array_equal(few.gain, solution.gain[:5])
    none = information_gain(PerceptronProblem(ALPHA[:0], KEEP[:0], FixedAngle(THETA)))
    assert none.gain.shape == (0,)
