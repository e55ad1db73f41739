"""Searches for students with a loss on noisy labels, against dense grids of the solver."""

import numpy as np
import pytest

from replica import (
    Phase,
    SearchStatus,
    frontier,
    optimal_fraction,
    optimal_window,
    phase_diagram,
    required_data,
    sensitivities,
    solve,
    sufficient_fraction,
)
from replica.optimal.search import Family, least
from theory.inputs import Spectrum
from theory.labels import Flip, LabelSteps
from theory.policies import Hard, Policy, Window, WindowSigned
from theory.problem import CrossFitted, FixedAngle, InSample, PerceptronProblem
from theory.students import ERM, MaxMargin

THETA = np.deg2rad(20.0)
RANGE = (1e-3, 16.0)
NOISY = {"student": ERM("squared-hinge", 0.1), "labels": Flip(0.1)}


def errors(alpha_total: object, fraction: object, policy: Policy, lam: object = 0.1) -> np.ndarray:
    problem = PerceptronProblem(
        alpha_total,
        fraction,
        FixedAngle(THETA),
        policy,
        student=ERM("squared-hinge", lam),
        labels=Flip(0.1),
    )
    return np.asarray(solve(problem, throw=True).error)


def test_no_fraction_is_better():
    """Noise makes less data better: hard selection has its least error inside."""
    found = optimal_fraction(20.0, THETA, **NOISY)
    fraction = np.linspace(0.02, 1, 99)
    dense = errors(20.0, fraction, Hard())
    assert found.status == SearchStatus.FOUND and found.lam == 0.1
    assert dense.min() * (1 - 1e-4) < found.least_error < dense.min() * (1 + 1e-9)
    assert found.least_fraction == pytest.approx(fraction[np.argmin(dense)], abs=0.011)
    assert found.full_error == pytest.approx(dense[-1], rel=1e-9)
    # The same scan finds where 10 % more than all data's error is reached.
    enough = sufficient_fraction(20.0, 0.1, THETA, **NOISY)
    below = fraction[dense > 1.1 * dense[-1]]
    assert below[below < found.least_fraction].max() <= enough.keep_fraction
    assert enough.error == pytest.approx(1.1 * dense[-1], rel=1e-9)


def test_no_pair_of_fraction_and_lam_is_better():
    found = optimal_fraction(20.0, THETA, lam_bounds=RANGE, **NOISY)
    fraction = np.linspace(0.3, 1, 29)
    dense = errors(20.0, fraction[:, None], Hard(), np.geomspace(*RANGE, 29))
    assert found.status == SearchStatus.FOUND
    assert dense.min() * (1 - 1e-3) < found.least_error < dense.min() * (1 + 1e-9)
    assert RANGE[0] <= found.lam < 0.1
    # All data have a best lam of their own.
    assert dense[-1].min() * (1 - 1e-3) < found.full_error < dense[-1].min() * (1 + 1e-9)


@pytest.mark.parametrize("signed", [False, True])
def test_no_window_is_better(signed):
    found = optimal_window(20.0, 0.2, THETA, signed=signed, **NOISY)
    window = WindowSigned if signed else Window
    lo = np.linspace(0, 0.8, 81)
    dense = errors(20.0, 0.2, window(lo))
    assert found.status == SearchStatus.FOUND
    assert dense.min() * (1 - 5e-3) < found.error < dense.min() * (1 + 1e-9)
    assert found.lo == pytest.approx(lo[np.argmin(dense)], abs=0.011)
    assert found.hard_error == pytest.approx(dense[0], rel=1e-9)
    assert found.easy_error == pytest.approx(dense[-1], rel=1e-8)


def test_noise_moves_the_best_window_to_the_hardest_examples():
    """By a reference solver, lam at its best: at 2 % flips a start at .1 is better than 0 (.0788
    against .1154), at 10 % none is (.0902 at 0, .0932 at .05)."""
    found = optimal_window(
        20.0,
        0.2,
        THETA,
        student=ERM("squared-hinge"),
        labels=Flip([0.02, 0.1]),
        lam_bounds=(1e-3, 0.1),
    )
    assert found.error[0] < 0.0788 and 0.03 < found.lo[0] < 0.2
    assert found.lo[1] == 0 and found.error[1] == pytest.approx(0.0901, abs=5.1e-5)
    np.testing.assert_allclose(found.hard_error, [0.1154, 0.0901], atol=5.1e-5)


def test_the_phase_changes_with_the_volume():
    """At a tenth of flips and f = .3, each at about its best lam, easy selection wins at little
    data and hard at much: the reference solver has the crossing at 8.8."""
    found = phase_diagram(
        0.3,
        THETA,
        alpha_total=[5.0, 20.0],
        student=ERM("squared-hinge", [16.0, 1e-3]),
        labels=Flip(0.1),
    )
    assert found.named_phase.tolist() == [Phase.EASY, Phase.HARD]
    np.testing.assert_array_equal(found.lam, [16.0, 1e-3])


def test_the_data_that_a_target_takes():
    found = required_data([0.15, 0.1], 0.2, THETA, **NOISY)
    assert np.all(found.status == SearchStatus.FOUND)
    np.testing.assert_allclose(errors(found.alpha_total, 0.2, Hard()), [0.15, 0.1], rtol=1e-9)
    smaller = errors(found.alpha_total[:, None] * np.linspace(0.05, 0.999, 40), 0.2, Hard())
    assert np.all(smaller > np.array([[0.15], [0.1]]))


def test_the_frontier_and_its_exponent():
    step = 1e-3
    found = frontier(5.0 * np.exp([-step, 0.0, step]), THETA, **NOISY)
    fraction = np.geomspace(0.02, 1, 60)
    dense = errors(5.0 / fraction, fraction, Hard())
    assert dense.min() * (1 - 1e-3) < found.error[1] < dense.min() * (1 + 1e-9)
    assert found.random_error[1] == pytest.approx(dense[-1], rel=1e-9)
    # Truncation step^2, and 1e-11 in the error over the step.
    slope = (np.log(found.error[2]) - np.log(found.error[0])) / (2 * step)
    assert found.exponent[1] == pytest.approx(slope, rel=1e-5)


def test_sensitivities_are_derivatives_of_the_solver():
    step = 1e-4
    point = np.array([20.0, 0.3, THETA, 1.0, 0.1])
    moved = point + step * np.concatenate([np.eye(5), -np.eye(5)])
    moved[:, 3] = np.maximum(moved[:, 3], 1.0)
    alpha, fraction, theta, copies, lam = np.concatenate([point[None], moved]).T
    problem = PerceptronProblem(
        alpha,
        fraction,
        FixedAngle(theta),
        redundancy=copies,
        student=ERM("squared-hinge", lam),
        labels=Flip(0.1),
    )
    found = sensitivities(problem)
    names = ("alpha_total", "keep_fraction", "theta", "redundancy", "lam")
    for result in ("error", "overlap"):
        values = np.asarray(getattr(found.solution, result))
        slopes = (values[1:6] - values[6:]) / np.array([2, 2, 2, 1, 2]) / step
        rates = np.array([getattr(found, f"{result}_{name}")[0] for name in names])
        # Truncation step^2 times third derivatives; for the copies, 1 at least, step times second.
        np.testing.assert_allclose(rates, slopes, rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(np.delete(rates, 3), np.delete(slopes, 3), rtol=2e-6)
    assert np.all(np.isnan(found.margin_theta))


def test_cross_fitted_probes_reach_the_solver():
    """The error of the reference solver at alpha_total = 20, K = 5, hard selection, f = .1."""
    found = required_data(0.24337813, 0.1, probe=CrossFitted.degrees(20, 5), **NOISY)
    assert found.alpha_total == pytest.approx(20.0, rel=1e-6)


def test_a_minimum_beside_unsolved_points_is_none():
    """(x - .5)^2 + 1 is known below .3, which is no minimum, or above .2, which leaves it."""
    grid = np.tile(np.linspace(0.0, 1.0, 11), (2, 1))

    def objective(lane, x):
        known = np.where(lane == 0, x < 0.35, x > 0.15)
        return np.where(known, (x - 0.5) ** 2 + 1, np.nan)

    values = objective(np.arange(2)[:, None], grid)
    x, value, _ = least(objective, grid, values)
    assert np.isnan(value[0])
    assert x[1] == pytest.approx(0.5, abs=1e-4) and value[1] == pytest.approx(1.0)


def test_vectors_keep_their_own_axis():
    eigenvalues, teacher = np.array([0.5, 1.5]), np.array([1.0, 0.0])
    labels = LabelSteps([-0.1, 0.1], [[0.1, 0.5, 0.9], [0.2, 0.5, 0.8]])
    problem = PerceptronProblem(
        [[1.0], [2.0], [3.0]], inputs=Spectrum(eigenvalues, teacher, teacher[::-1]), labels=labels
    )
    family = Family.of(problem)
    assert family.shape == (3, 2) and family.size == 6
    chosen = family.problem(np.array([5, 0]))
    np.testing.assert_array_equal(chosen.alpha_total, [3.0, 1.0])
    np.testing.assert_array_equal(chosen.labels.probabilities, [[0.2, 0.5, 0.8], [0.1, 0.5, 0.9]])
    np.testing.assert_array_equal(chosen.inputs.eigenvalues, [eigenvalues, eigenvalues])
    assert chosen.shape == (2,)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"probe": InSample()}, "InSample"),
        ({"theta": 0.1, "probe": FixedAngle(0.2)}, "theta has no effect beside probe"),
        ({"student": MaxMargin(), "lam_bounds": (0.1, 1.0)}, "max-margin has no lam"),
        ({"student": ERM(), "lam_bounds": (1.0, 0.1)}, "increasing"),
    ],
)
def test_bad_arguments_are_named(arguments, part):
    with pytest.raises(ValueError, match=part):
        optimal_fraction(5.0, **arguments)
