"""The separability threshold against a table of another solver, Cover, and differences."""

import jax
import numpy as np
import pytest

from replica import separability_threshold, solve
from theory.labels import Clean, Flip, Labels
from theory.policies import Easy, EasySigned, Hard, Policy, Random, Window
from theory.problem import FixedAngle, InSample, PerceptronProblem

# Kept examples over N at the threshold, made with a reference solver in NumPy that minimises the
# same average over nodes in two dimensions, to the four decimals that it printed.
FLIPS, ANGLES = np.array([0.05, 0.1, 0.2]), np.array([0.0, 20.0])
TABLE: dict[tuple[float, str], tuple[Policy, list[list[float]]]] = {
    (1.0, "all"): (Hard(), [[3.8097, 3.8097], [2.9923, 2.9923], [2.3913, 2.3913]]),
    (0.5, "hard"): (Hard(), [[4.2026, 3.8971], [3.1900, 3.0381], [2.4612, 2.4083]]),
    (0.2, "hard"): (Hard(), [[4.2482, 3.8142], [3.2111, 2.9947], [2.4681, 2.3922]]),
    (0.2, "window"): (Window(0.1), [[5.4630, 3.8678], [3.6827, 3.0231], [2.6035, 2.4028]]),
    (0.2, "easy"): (Easy(), [[5.7188, 5.7174], [3.7721, 3.7718], [2.6269, 2.6269]]),
}


def asked(fraction: float, policy: Policy, flip: object, theta_deg: object) -> PerceptronProblem:
    labels: Labels = Flip(flip)
    return PerceptronProblem(1.0, fraction, FixedAngle.degrees(theta_deg), policy, labels=labels)


@pytest.mark.parametrize("case", list(TABLE))
def test_the_table(case):
    policy, expected = TABLE[case]
    found = separability_threshold(asked(case[0], policy, FLIPS[:, None], ANGLES))
    np.testing.assert_allclose(found.alpha_kept, expected, atol=5.1e-5)
    np.testing.assert_allclose(found.alpha_total, np.divide(found.alpha_kept, case[0]), rtol=1e-9)


def test_two_examples_for_each_dimension_with_labels_by_chance():
    """Cover 1965: 2 N random labels are separable; copies of one example change nothing."""
    found = separability_threshold(
        PerceptronProblem(7.0, 1.0, redundancy=[1.0, 3.0], labels=Flip(0.5))
    )
    np.testing.assert_allclose(found.alpha_total, [2.0, 6.0], rtol=1e-9)
    np.testing.assert_allclose(found.alpha_kept, 2.0, rtol=1e-9)


def test_nothing_but_noise_ends_separability():
    clean = PerceptronProblem(1.0, 0.3, FixedAngle(0.2), labels=Clean())
    assert separability_threshold(clean).alpha_total == np.inf
    # Every observed label agrees with the probe, whose own direction separates them.
    agreeing = asked(0.2, EasySigned(), 0.1, 0.0)
    assert separability_threshold(agreeing).alpha_total == np.inf


def test_students_of_largest_margin_end_there():
    problem = asked(0.2, Hard(), 0.1, 20.0)
    edge = float(separability_threshold(problem).alpha_total)
    around = PerceptronProblem(
        edge * np.array([0.9, 1.001]), 0.2, problem.probe, problem.policy, labels=problem.labels
    )
    assert np.asarray(solve(around).status).tolist() == [0, 4]


def test_the_threshold_can_be_differentiated():
    def threshold(flip, theta, fraction):
        problem = PerceptronProblem(1.0, fraction, FixedAngle(theta), Hard(), labels=Flip(flip))
        return separability_threshold(problem).alpha_kept

    point, step = np.array([0.1, 0.3, 0.3]), 1e-4
    slopes = jax.grad(threshold, argnums=(0, 1, 2))(*point)
    moved = point + step * np.concatenate([np.eye(3), -np.eye(3)])
    up, down = np.split(np.asarray(threshold(*moved.T)), 2)
    # Truncation step^2 times third derivatives of order 100, and rounding 1e-13/step.
    np.testing.assert_allclose(slopes, (up - down) / (2 * step), rtol=1e-5)


def test_probes_without_a_theory_are_refused():
    problem = PerceptronProblem(1.0, 0.5, InSample(), Random(), labels=Flip(0.1))
    with pytest.raises(ValueError, match="InSample"):
        separability_threshold(problem)
