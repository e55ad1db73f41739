"""The best weight: its gradient, its optimality, its rivals, and a simulation of it."""

import numpy as np
import pytest
from scipy.special import ndtri

import sims
from replica import SearchStatus, optimal_policy, solve
from replica.optimal.influence import LossRanks
from replica.optimal.policy import INTERVALS, RankProblem, influence, train
from theory.labels import Flip
from theory.policies import Easy, Hard, Mixture, Moderate, Random, Steps, Window
from theory.problem import CrossFitted, DownstreamShift, FixedAngle, PerceptronProblem
from theory.students import ERM

# (alpha_total, f, theta in degrees): windows with two minima, scarce data, a perfect probe.
POINTS = [(20.0, 0.2, 20.0), (100.0, 0.05, 20.0), (1.0, 0.3, 20.0), (5.0, 0.2, 0.0)]


@pytest.fixture(scope="module")
def found():
    alpha, fraction, theta = np.array(POINTS).T
    return optimal_policy(alpha, fraction, np.deg2rad(theta))


def test_influence_is_the_derivative_of_the_error():
    """A window that moves gains at its upper end and loses at its lower one: d e/d lo by the
    windows of `solve`, which knows nothing of influence."""
    problem = RankProblem(20.0, 0.3, DownstreamShift(0.2, 0.1, 0.3))
    lo, fraction, step = 0.13, 0.25, 1e-4
    ranks = np.ones((1, INTERVALS, 2))
    ranks[0, 0] = lo, lo + fraction
    below, above = influence(problem, train(problem, ranks), 0, ranks[0, 0])
    moved = solve(
        PerceptronProblem(
            20.0,
            fraction,
            FixedAngle(0.3),
            Window(lo + step * np.array([-2, -1, 1, 2])),
            downstream=problem.downstream,
        )
    ).error
    # Five-point rule: error step^4 and rounding 1e-13/step.
    slope = (8 * (moved[2] - moved[1]) - (moved[3] - moved[0])) / (12 * step)
    assert above - below == pytest.approx(slope, rel=1e-7)


NOISY = {"student": ERM("squared-hinge", 10.0), "labels": Flip(0.3)}


def test_influence_of_a_loss_is_the_derivative_of_the_error():
    """As above, for a student with a loss, noisy labels and five probes."""
    shift, probe = DownstreamShift(0.2, 0.1, 0.3), CrossFitted(0.3, 5.0)

    def problem(policy):
        return PerceptronProblem([20.0], 0.25, probe, policy, downstream=shift, **NOISY)

    lo, fraction, step = 0.13, 0.25, 1e-4
    ranks = np.ones((1, INTERVALS, 2))
    ranks[0, 0] = lo, lo + fraction
    (one,) = LossRanks.of(problem(Hard()))
    below, above = influence(one, train(one, ranks), 0, ranks[0, 0])
    moved = solve(problem(Window(lo + step * np.array([-2, -1, 1, 2])))).error
    slope = (8 * (moved[2] - moved[1]) - (moved[3] - moved[0])) / (12 * step)
    assert above - below == pytest.approx(slope, rel=1e-7)


def test_the_best_weight_of_a_loss_is_a_window():
    """At three tenths of flips and a strong ridge it leaves the very easiest examples out, which
    easy selection keeps: no window of a dense grid is better."""
    best = optimal_policy(20.0, 0.2, np.deg2rad(20.0), **NOISY)
    assert best.status == SearchStatus.FOUND and best.gap < 1e-6
    assert best.intervals == 1 and best.agreeing == best.starts
    policy = Window(np.linspace(0, 0.8, 81))
    problem = PerceptronProblem(20.0, 0.2, FixedAngle.degrees(20), policy, **NOISY)
    errors = np.asarray(solve(problem, throw=True).error)
    assert errors.min() * (1 - 1e-3) < best.error <= errors.min() * (1 + 1e-9)
    assert best.error < best.named_error


def test_first_order_conditions(found):
    """All that is kept has less influence than all that is not, on a grid of its own."""
    assert np.all(found.status == SearchStatus.FOUND)
    assert np.all(np.abs(found.gap) <= 1e-6)
    kept_mass = np.sum(np.diff(found.ranks, axis=-1), axis=(-2, -1))
    np.testing.assert_allclose(kept_mass, np.array(POINTS)[:, 1], rtol=1e-12)
    grid = (np.arange(500) + 0.5) / 500
    for k, (alpha, _, theta) in enumerate(POINTS):
        problem = RankProblem(alpha, np.deg2rad(theta), DownstreamShift())
        students = train(problem, found.ranks[k][None])
        values = np.asarray(influence(problem, students, 0, grid))
        low, high = found.ranks[k].T
        kept = np.any((grid[:, None] > low) & (grid[:, None] < high), axis=1)
        if kept.any():
            # Of the order of the slope times the distance by which the ends are off.
            slack = 1e-5 * found.error[k] / 0.01
            assert values[kept].max() <= values[~kept].min() + slack


def test_no_named_policy_and_no_window_is_better(found):
    alpha, fraction, theta = (column[:, None] for column in np.array(POINTS).T)
    share = np.linspace(0, 1, 41)
    probe = FixedAngle.degrees(theta)
    rivals = [Hard(), Easy(), Moderate(), Random(), Window((1 - fraction) * share), Mixture(share)]
    for policy in rivals:
        errors = solve(PerceptronProblem(alpha, fraction, probe, policy), throw=True).error
        assert np.all(found.error <= errors.min(axis=1) * (1 + 1e-9)), policy.name
    assert np.all(found.error <= found.window_error * (1 + 1e-12))
    assert np.all(found.error <= found.named_error * (1 + 1e-12))


def test_it_is_a_window(found):
    """Nothing in the search asks for one interval; as a window it has the same error."""
    assert found.intervals.tolist() == [1, 1, 1, 1]
    alpha, fraction, theta = np.array(POINTS).T
    policy = Window(np.minimum(found.ranks[:, 0, 0], 1 - fraction))
    problem = PerceptronProblem(alpha, fraction, FixedAngle.degrees(theta), policy)
    np.testing.assert_allclose(solve(problem, throw=True).error, found.error, rtol=1e-9)


def test_no_one_sided_window_is_better(found):
    """Windows z1 < z < z2, z1 > 0, of the field itself: weight 1/2 at abs(z), the other sign left
    out."""
    alpha, fraction, theta = POINTS[0]
    start = np.linspace(0.5, 1 - fraction - 1e-9, 31)
    policy = Steps(
        np.stack([ndtri(start), ndtri(start + fraction)], axis=-1), np.full((31, 1), 0.5)
    )
    problem = PerceptronProblem(alpha, fraction, FixedAngle.degrees(theta), policy)
    assert found.error[0] < solve(problem, throw=True).error.min()


def test_a_union_of_intervals_is_improved_to_the_window():
    """From a bad start that shares nothing with it the ascent ends at the best window."""
    from replica.optimal.policy import _improve, _tidy

    problem = RankProblem(20.0, np.deg2rad(20.0), DownstreamShift())
    start = _tidy(np.array([[0.0, 0.04], [0.5, 0.58], [0.92, 1.0]]), 0.2)
    end = _improve(problem, start, 0.2)
    # .06588 at .1227: the dense grid of test_window has the same minimum.
    assert end.error == pytest.approx(0.0658806, rel=1e-5)
    assert end.ranks[0] == pytest.approx([0.12266, 0.32266], abs=1e-4)


def test_simulation_confirms_the_best_weight(found):
    policy = found.policy()
    policy = Steps(policy.edges[0], policy.levels[0])
    probe = FixedAngle.degrees(20)
    problem = PerceptronProblem(20.0, 0.2, probe, policy)
    simulated = sims.run(problem, dim=24, draws=40, seed=3)
    hard = sims.run(PerceptronProblem(20.0, 0.2, probe, Hard()), dim=24, draws=40, seed=3)
    mean, stderr = float(simulated["error_mean"]), float(simulated["error_stderr"])
    # At N = 24 the bias is of the order of 1/N of the error.
    assert abs(mean - found.error[0]) < 4 * stderr + found.error[0] / 8
    spread = np.hypot(stderr, float(hard["error_stderr"]))
    assert float(hard["error_mean"]) - mean > 4 * spread


def test_all_data_leave_no_choice():
    everything = optimal_policy(3.0, 1.0, 0.2)
    plain = solve(PerceptronProblem(3.0, policy=Random())).error
    assert everything.error == pytest.approx(float(plain), rel=1e-10)
    assert everything.ranks.shape == (INTERVALS, 2) and everything.intervals == 1


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="keep_fraction = 2"):
        optimal_policy(1.0, 2.0)
