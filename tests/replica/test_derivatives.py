"""Implicit derivatives against finite differences of the solver."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from replica import sensitivities, solve
from theory.policies import (
    Custom,
    Easy,
    EasySigned,
    Hard,
    HardSigned,
    Mixture,
    Policy,
    Random,
    Steps,
)
from theory.problem import DownstreamShift, FixedAngle, Independent, PerceptronProblem

# alpha_total, f, theta: generic, large, near f = 1, tiny and right angles.
POINTS = np.array(
    [
        [5.0, 0.3, 0.3],
        [20.0, 0.2, 0.35],
        [2.0, 0.7, 1.2],
        [0.3, 0.05, 0.8],
        [1500.0, 0.01, 0.02],
        [5.0, 1 - 1e-6, 0.3],
        [5.0, 0.4, 1e-7],
        [50.0, 0.1, 1e-4],
        [5.0, 0.4, np.pi / 2 - 1e-3],
    ]
)
NAMES = ("alpha_total", "keep_fraction", "theta")
FIELDS = ("error", "overlap", "margin")


def values(policy: Policy, points: np.ndarray) -> np.ndarray:
    alpha, fraction, theta = points.T
    solved = solve(PerceptronProblem(alpha, fraction, FixedAngle(theta), policy), throw=True)
    return np.stack([getattr(solved, name) for name in FIELDS])


@pytest.mark.parametrize("policy", [Hard(), EasySigned(), Easy()])
def test_sensitivities_are_finite_differences(policy):
    alpha, fraction, theta = POINTS.T
    found = sensitivities(PerceptronProblem(alpha, fraction, FixedAngle(theta), policy))
    assert found.solution.failed == 0
    room = np.stack([alpha, np.minimum(fraction, 1 - fraction), np.minimum(theta, np.pi / 2)])
    centre = values(policy, POINTS)
    for axis, name in enumerate(NAMES):
        step = 1e-3 * room[axis]
        if name == "theta":
            step[-1] = 2e-4  # pi/2 is 1e-3 away

        def moved(times: int, axis: int = axis, step: np.ndarray = step) -> np.ndarray:
            points = POINTS.copy()
            points[:, axis] += times * step
            return values(policy, points)

        near, far = moved(1) - moved(-1), moved(2) - moved(-2)
        difference = (8 * near - far) / (12 * step)
        # What the fourth-order formula leaves shows in how far it is from the second-order one;
        # the solver and the quantiles of signed margins are exact to 1e-11 or so of the values.
        truncation = np.abs(difference - near / (2 * step)) * 1e-2
        rounding = 1e-10 * np.abs(centre) / step
        ours = np.stack([getattr(found, f"{field}_{name}") for field in FIELDS])
        excess = np.abs(ours - difference) - (1e-8 * np.abs(difference) + truncation + rounding)
        assert np.all(excess <= 0), (name, POINTS[np.argmax(excess.max(axis=0))])


def test_at_full_data_nothing_depends_on_the_probe():
    """One-sided at f = 1: hard pruning then drops examples that hold nothing; random pruning is
    a smaller alpha_total, d e/d f = alpha_total d e/d alpha_total."""
    theta = np.array([0.0, 0.4])
    for policy in (Hard(), HardSigned(), Random()):
        found = sensitivities(PerceptronProblem(5.0, 1.0, FixedAngle(theta), policy))
        volume = np.asarray(found.error_alpha_total)
        expected = 5 * volume if policy.name == "random" else 0 * volume
        np.testing.assert_allclose(found.error_keep_fraction, expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found.error_theta, 0.0, atol=1e-12)
        # A second-order one-sided difference; its error is that of the third derivative, ~h^2.
        step = 1e-4
        one, two = (solve(PerceptronProblem(5.0 - k * step)).error for k in (1, 2))
        slope = (3 * solve(PerceptronProblem(5.0)).error - 4 * one + two) / (2 * step)
        np.testing.assert_allclose(volume, slope, rtol=1e-6)


def build(values):
    """A problem in which every parameter that is not on the grid's axes takes part."""
    w, redundancy, alpha_probe, delta = values
    return PerceptronProblem(
        20.0,
        0.2,
        Independent(alpha_probe),
        Mixture(w),
        redundancy,
        DownstreamShift(delta, 0.3, 0.2),
    )


def test_every_parameter_has_a_derivative_under_jit_vmap_and_grad():
    """In the caller's single precision, to which the reverse pass rounds its result."""

    def error(values):
        return solve(build(values)).error

    points = np.array([[0.4, 3.0, 3.0, 0.4], [0.7, 1.5, 8.0, 0.1], [1.4, 1.0, 3.0, 0.1]])
    gradient = np.asarray(jax.jit(jax.vmap(jax.grad(error)))(jnp.asarray(points)))
    step = 1e-4
    for point, row in zip(points[:2], gradient[:2], strict=True):
        moves = step * np.eye(4)
        expected = [(error(point + h) - error(point - h)) / (2 * step) for h in moves]
        np.testing.assert_allclose(row, np.array(expected, float), rtol=1e-5)
    assert np.all(np.isnan(gradient[2]))  # w = 1.4 is out of its range


def test_second_derivatives_are_refused():
    def error(theta):
        return solve(PerceptronProblem(5.0, 0.3, FixedAngle(theta))).error

    with pytest.raises(NotImplementedError, match="first derivatives only"):
        jax.make_jaxpr(jax.grad(jax.grad(error)))(0.3)


def test_weights_have_a_derivative():
    """Levels and edges of a step function, along directions that keep its mass."""
    edges, levels = np.array([0.0, 0.5, 1.5]), np.array([0.2, 0.4])
    mass = float(Steps(edges, levels).mass())
    bins = np.array([float(Steps(edges, row).mass()) for row in np.eye(2)])
    densities = levels[1] * 2 * norm.pdf(edges[2]), (levels[0] - levels[1]) * 2 * norm.pdf(edges[1])

    def error(t):
        turned = edges + jnp.stack([0 * t[0], t[1], -t[1] * densities[1] / densities[0]])
        lifted = levels + t[0] * np.array([1.0, -bins[0] / bins[1]])
        policy = Steps(turned, lifted)
        return solve(PerceptronProblem(20.0, mass, FixedAngle(0.35), policy)).error

    step = 1e-4
    with jax.enable_x64(True):
        slope = np.asarray(jax.jacfwd(error)(jnp.zeros(2)))
        expected = [
            float(error(move) - error(-move)) / (2 * step) for move in jnp.asarray(step * np.eye(2))
        ]
    np.testing.assert_allclose(slope, expected, rtol=1e-5)


def test_custom_weight():
    policy = Custom(lambda z: jnp.exp(-(z**2) / 2))
    mass, step = float(policy.mass()), 1e-4

    def problem(alpha, theta, redundancy):
        return PerceptronProblem(alpha, mass, FixedAngle(theta), policy, redundancy)

    found = sensitivities(problem(20.0, 0.3, 2.0))
    point = np.array([20.0, 0.3, 2.0])
    moved = point + step * np.concatenate([np.eye(3), -np.eye(3)])
    errors = solve(problem(*moved.T)).error
    slopes = (errors[:3] - errors[3:]) / (2 * step)
    ours = [found.error_alpha_total, found.error_theta, found.error_redundancy]
    np.testing.assert_allclose(np.array(ours, float), slopes, rtol=1e-5)


def bell(z, width, shift):
    return jnp.exp(-(((z - shift) / width) ** 2) / 2)


def test_parameters_of_a_custom_weight():
    """Implicit derivatives of e, kappa and the kept number against central differences."""
    point, step = np.array([0.9, 0.2]), 1e-4

    def found(parameters):
        policy = Custom(bell, "yz", parameters=tuple(parameters))
        solution = solve(PerceptronProblem(20.0, 0.5, FixedAngle(0.3), policy, 2.0))
        return jnp.stack([solution.error, solution.margin, solution.alpha_kept])

    with jax.enable_x64(True):
        slopes = jax.jacrev(found)(jnp.asarray(point))
    moved = point + step * np.concatenate([np.eye(2), -np.eye(2)])
    policy = Custom(bell, "yz", parameters=tuple(moved.T))
    grid = solve(
        PerceptronProblem(20.0, policy.mass(0.3), FixedAngle(0.3), policy, 2.0), throw=True
    )
    values = np.stack([grid.error, grid.margin, grid.alpha_kept])
    expected = (values[:, :2] - values[:, 2:]) / (2 * step)
    np.testing.assert_allclose(slopes, expected, rtol=1e-5)


def test_new_parameters_compile_nothing():
    def at(width):
        policy = Custom(bell, parameters=(width, 0.0))
        return solve(PerceptronProblem(20.0, policy.mass(), FixedAngle(0.3), policy), throw=True)

    wide = at(1.0)
    compiled = []

    def listener(name, seconds, **_):
        if "backend_compile" in name:
            compiled.append(name)

    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        narrow = at(0.5)
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)
    assert not compiled and narrow.alpha_kept < wide.alpha_kept
