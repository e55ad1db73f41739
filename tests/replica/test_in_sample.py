"""The probe trained on the pruned data: published table, limits, identities, derivatives."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import norm, skewnorm

import replica.__main__
from hardset.cli import run
from replica import Status, solve
from replica.in_sample.solver import lossless_fraction, solve_in_sample
from theory.policies import (
    Custom,
    Easy,
    EasySigned,
    Hard,
    HardSigned,
    Mixture,
    Moderate,
    Policy,
    Random,
    Window,
)
from theory.problem import DownstreamShift, InSample, PerceptronProblem


def problem(
    alpha_total: object, keep_fraction: object, policy: Policy | None = None, **more: object
) -> PerceptronProblem:
    return PerceptronProblem(
        alpha_total, keep_fraction, InSample(), Hard() if policy is None else policy, **more
    )


def assert_certified(solution: replica.ReplicaSolution) -> None:
    assert np.all(solution.status == Status.CONVERGED)
    assert np.max(solution.residual) < 1e-8


def test_lossless_fraction_is_the_support_of_the_unpruned_student() -> None:
    """P(h1 < kappa1), h1 of SciPy's skew normal law, at the general solver's R1 and kappa1."""
    # Printed to four or five digits.
    printed = {1: 0.6237, 2: 0.4086, 5: 0.19122, 10: 0.098803}
    found = lossless_fraction(list(printed))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, list(printed.values()), rtol=1e-4)
    alpha = np.array([0.1, 1.0, 7.0, 300.0])
    whole = solve(PerceptronProblem(alpha, policy=Random()))
    shape = whole.overlap / whole.orthogonal
    np.testing.assert_allclose(
        lossless_fraction(alpha), skewnorm.cdf(whole.margin, shape), rtol=1e-9
    )
    np.testing.assert_allclose(lossless_fraction(alpha), whole.support_fraction, rtol=1e-9)
    assert lossless_fraction(np.ones((2, 3))).shape == (2, 3)
    # At most N support vectors, and almost N of them once examples abound.
    many = np.array([1e2, 1e4, 1e6])
    assert np.all(many * lossless_fraction(many) < 1)
    np.testing.assert_allclose(many * lossless_fraction(many), 1, rtol=2e-4)


def test_lossless_fraction_has_derivatives() -> None:
    step, points = 1e-4, np.array([0.5, 5.0, 50.0])
    with jax.enable_x64(True):
        slopes = jax.jit(jax.vmap(jax.grad(lossless_fraction)))(points)
    for alpha, slope in zip(points, slopes, strict=True):
        high, low = lossless_fraction([alpha * (1 + step), alpha * (1 - step)])
        # The difference's error is step^2 of the value, divided by the slope's size.
        assert float(slope) == pytest.approx((high - low) / (2 * step * alpha), rel=1e-6)


# alpha_total, f, R, rho, kappa, active/N: another implementation of the cavity equations, and its
# simulation at N = 150 with 10 draws: (R, its error in the last digits).
TABLE = np.array(
    [
        (5, 0.15, 0.92394, 0.97432, 0.20189, 0.74914),
        (5, 0.10, 0.54742, 0.60954, 0.32272, 0.49877),
        (5, 0.05, 0.17130, 0.21613, 0.91013, 0.24970),
        (2, 0.30, 0.79895, 0.97988, 0.46391, 0.59981),
        (2, 0.15, 0.43099, 0.58687, 0.77457, 0.29972),
    ]
)


def test_reference_table() -> None:
    alpha, f, overlap, probe_overlap, margin, active = TABLE.T
    found = solve(problem(alpha, f))
    assert_certified(found)
    half = 5.1e-6  # of the last printed digit
    np.testing.assert_allclose(found.overlap, overlap, atol=half)
    np.testing.assert_allclose(found.probe_overlap, probe_overlap, atol=half)
    np.testing.assert_allclose(found.margin, margin, atol=half)
    np.testing.assert_allclose(found.support_fraction * found.alpha_kept, active, atol=half)
    # All kept examples are support vectors of the probe: J1 alone has their margin kappa1.
    whole = solve(problem(alpha, 1.0))
    np.testing.assert_allclose(found.probe_overlap, whole.margin / found.margin, rtol=1e-10)
    np.testing.assert_allclose(np.cos(found.theta), whole.overlap, rtol=1e-12)


def test_above_the_lossless_fraction_the_student_is_the_probe() -> None:
    alpha = np.array([0.2, 2.0, 20.0])
    whole = solve(PerceptronProblem(alpha, policy=Random()))
    for policy in (Hard(), HardSigned(), Window(0.0), Mixture(1.0)):
        for excess in (1.000001, 1.001):
            found = solve(problem(alpha, np.minimum(excess * lossless_fraction(alpha), 1), policy))
            assert_certified(found)
            np.testing.assert_allclose(found.error, whole.error, rtol=1e-11)
            np.testing.assert_allclose(found.margin, whole.margin, rtol=1e-11)
            assert np.all(found.probe_overlap == 1) and np.all(found.orthogonal == 0)
            # The same support vectors among fewer examples.
            count = found.support_fraction * found.alpha_kept
            np.testing.assert_allclose(count, whole.support_fraction * alpha, rtol=1e-9)
    for policy in (Easy(), Moderate(), Mixture(0.3), Window(0.0), Random()):
        np.testing.assert_allclose(
            solve(problem(alpha, 1.0, policy)).error, whole.error, rtol=1e-11
        )


def test_the_branches_join_smoothly() -> None:
    """e - e_1 grows with the square of the lacking fraction: neither a jump nor a kink."""
    alpha = np.array([[0.5], [5.0]])
    lacking = 10.0 ** np.array([-2.5, -3.0, -3.5, -4.0, -5.0])
    found = solve(problem(alpha, lossless_fraction(alpha) * (1 - lacking)))
    assert_certified(found)
    whole = solve(problem(alpha, 1.0))
    loss = found.error / whole.error - 1
    exponent = np.diff(np.log(loss)) / np.diff(np.log(lacking))
    # The next order is the square root of the lacking fraction over 1 - alpha f_sv, 6 percent.
    np.testing.assert_allclose(exponent, 2, atol=0.1)
    np.testing.assert_allclose(exponent[:, -1], 2, atol=0.005)
    assert np.all(np.diff(found.probe_overlap, axis=1) >= 0)


def test_a_vanishing_fraction_is_learned_by_adding_up() -> None:
    """Few examples are almost orthogonal: J ~ sum of them, R = sqrt(alpha f) E[u], kept ones.

    The kept are the lowest in h1: by SciPy's skew normal law, u given h1 a truncated normal one.
    """
    alpha = 5.0
    whole = solve(problem(alpha, 1.0))
    overlap = float(whole.overlap)
    q = np.sqrt(1 - overlap**2)
    for f in (1e-4, 1e-6):
        edge = brentq(lambda h: np.log(skewnorm.cdf(h, overlap / q) / f), -8 * q, 0.0)  # noqa: B023

        def field(h: float) -> float:
            mean = overlap * h
            return 2 * norm.pdf(h) * (mean * norm.cdf(mean / q) + q * norm.pdf(mean / q))

        mean = quad(field, edge - 12 * q, edge, epsabs=0, epsrel=1e-9, points=[edge - q])[0] / f
        found = solve(problem(alpha, f))
        assert_certified(found)
        scale = np.sqrt(alpha * f)
        # The kept ones share the field edge/q along J1's part orthogonal to T.
        tolerance = alpha * f * (edge / q) ** 2
        assert float(found.overlap) == pytest.approx(scale * mean, rel=tolerance)
        assert float(found.margin) == pytest.approx(1 / scale, rel=tolerance)
        expected = scale * float(whole.margin)
        assert float(found.probe_overlap) == pytest.approx(expected, rel=tolerance)


def test_random_selection_does_not_care_for_the_probe() -> None:
    """A random subset trains the unpruned student of fewer examples; its overlap with J1 is new."""
    alpha, f = np.array([[1.0], [5.0], [50.0]]), np.array([0.05, 0.5, 0.95])
    found = solve(problem(alpha, f, Random()))
    assert_certified(found)
    fewer = solve(PerceptronProblem(alpha * f, policy=Random()))
    for name in ("overlap", "margin", "error", "support_fraction"):
        np.testing.assert_allclose(getattr(found, name), getattr(fewer, name), rtol=1e-8)
    # Two students of nested data: closer to each other than to the teacher's part alone.
    whole = solve(PerceptronProblem(alpha, policy=Random()))
    assert np.all(found.probe_overlap > fewer.overlap * whole.overlap)
    assert np.all(np.diff(found.probe_overlap, axis=1) > 0)


def test_policies_meet_at_their_ends() -> None:
    alpha, f = np.array([[2.0], [20.0]]), np.array([0.02, 0.2])

    def error(policy: Policy) -> np.ndarray:
        found = solve(problem(alpha, f, policy))
        assert_certified(found)
        return found.error

    pairs = (
        (Hard(), HardSigned()),
        (Hard(), Mixture(1.0)),
        (Hard(), Window(0.0)),
        (Easy(), EasySigned()),
        (Easy(), Window(1 - f)),
        (Moderate(), Window((1 - f) / 2)),
        (Random(), Mixture(0.0)),
    )
    for one, other in pairs:
        np.testing.assert_allclose(error(one), error(other), rtol=1e-9)


def test_copies_are_fewer_examples() -> None:
    base = problem(5.0, 0.1)
    copied = dataclasses.replace(base, alpha_total=15.0, redundancy=3.0)
    assert solve(copied).error == pytest.approx(float(solve(base).error), rel=1e-12)
    random = problem(20.0, 0.1, Random(), redundancy=10.0)
    # One of ten copies survives with probability 1 - .9^10.
    fewer = PerceptronProblem(2.0 * (1 - 0.9**10), policy=Random())
    assert solve(random).error == pytest.approx(float(solve(fewer).error), rel=1e-9)


def test_downstream_shift_is_a_rotation_of_the_judge() -> None:
    """R' by vectors: the student's coordinates along T, in the plane and outside."""
    shift = DownstreamShift(0.7, 0.2, -0.5)
    for f in (0.1, 0.5):
        found = solve(problem(5.0, f, downstream=shift))
        across = (found.probe_overlap - found.overlap * np.cos(found.theta)) / np.sin(found.theta)
        expected = (found.overlap * (1 + 0.7 * 0.2) - 0.7 * 0.5 * across) / np.sqrt(
            1 + 2 * 0.7 * 0.2 + 0.7**2
        )
        # The division by sin(theta) = .29 costs a digit.
        assert found.downstream_overlap == pytest.approx(float(expected), rel=1e-12)
        assert found.error == pytest.approx(float(np.arccos(expected) / np.pi), rel=1e-12)


def test_derivatives_are_those_of_the_solution() -> None:
    """jax.grad under jit of all results in one sum against central differences."""

    def total(point: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = solve_in_sample(problem(point[0], point[1]))
        rest = found.probe_overlap / 2 + found.margin / 3 + found.support_fraction / 5
        return found.error + rest, found.status

    points = np.array([[5.0, 0.1], [5.0, 0.19], [2.0, 0.5], [5.0, 1.5], [5.0, 0.0]])
    with jax.enable_x64(True):
        rates = jax.grad(total, has_aux=True)
        found, status = jax.jit(lambda points: jax.lax.map(rates, points))(points)
    assert np.asarray(status).tolist() == [Status.CONVERGED] * 3 + [Status.INVALID] * 2
    step = 1e-4
    for k in range(2):
        ends = []
        for sign in (1, -1):
            moved = points[:3].copy()
            moved[:, k] *= 1 + sign * step
            end = solve(problem(*moved.T))
            rest = end.probe_overlap / 2 + end.margin / 3 + end.support_fraction / 5
            ends.append(end.error + rest)
        difference = np.subtract(*ends) / (2 * step * points[:3, k])
        # At f = .994 f_sv the second step's relative size is step/.006: 3e-4 in its square.
        np.testing.assert_allclose(np.asarray(found)[:3, k], difference, rtol=1e-3)


def test_shapes_and_transformations() -> None:
    grid = PerceptronProblem.grid(alpha_total=[2.0, 5.0], keep_fraction=[0.1, 0.3, 1.0])
    grid = dataclasses.replace(grid, probe=InSample())
    found = solve(grid)
    assert found.error.shape == (2, 3)
    assert solve(problem([], 0.5)).error.shape == (0,)
    table = found.to_dataset(grid)
    assert table["error"].dims == ("alpha_total", "keep_fraction")
    assert np.all(np.diff(found.error, axis=1) <= 0) and np.all(np.isfinite(table["v_information"]))


def test_weights_of_the_field_are_refused() -> None:
    custom = Custom(lambda z: jnp.full_like(z, 0.5))
    with pytest.raises(ValueError, match=r"'custom' is a function of the probe's field.* hard,"):
        solve(problem(5.0, 0.5, custom))


def test_bad_alpha_is_named() -> None:
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="alpha_total = "):
            lossless_fraction(bad)


def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(replica.__main__.main, ["lossless", "--alpha-total", "5", "50", "--json"]) == 0
    assert '"lossless_fraction": 0.1912' in capsys.readouterr().out
    for arguments, part in (
        (["--alpha-total", "0"], "alpha_total = 0"),
        (["--alpha-total", "5", "--redundancy", "0.5"], "redundancy = 0.5"),
        ([], "--alpha-total"),
    ):
        assert run(replica.__main__.main, ["lossless", *arguments]) == 2
        assert part in capsys.readouterr().err
