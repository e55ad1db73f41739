"""Solutions against independent numbers: the reference points, corners, and exact identities."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import norm

from replica import Status, solve
from replica.points import solve_points
from theory.policies import Custom, Easy, Hard, Mixture, Moderate, Random, Window
from theory.problem import DownstreamShift, FixedAngle, Independent, InSample, PerceptronProblem

REFERENCE = json.loads((Path(__file__).parents[1] / "reference/replica_points.json").read_text())

# (theta in degrees, alpha_total, f, policy, error): an independent solver's corners, 12 digits.
CORNERS = [
    (0, 0.1, 1e-3, "hard", 0.499998005189),
    (0, 0.1, 1e-3, "easy", 0.488690321058),
    (0, 1e4, 1e-3, "hard", 5.00488922801e-5),
    (0, 1e4, 1e-2, "hard", 5.00488922801e-5),
    (0, 1e4, 1.0, "hard", 5.00488922801e-5),
    (0, 1e4, 1e-3, "easy", 0.0103275893939),
    (0, 1e4, 1e-3, "moderate", 6.27922828659e-5),
    (0, 1e4, 0.1, "easy", 1.93441112309e-4),
    (20, 1e4, 1e-3, "hard", 0.390230757362),
    (20, 1e4, 0.1, "hard", 1.74606774263e-4),
    (90, 1e4, 1e-3, "hard", 0.0491833962961),
    (0, 20, 0.2, "hard", 0.0250180572962),
]


def test_reference_points():
    """The independent solver's points carry 12 digits or more."""
    for point, solved in zip(REFERENCE, solve_points(REFERENCE), strict=True):
        assert solved["status"] == "converged"
        for key in ("overlap", "probe_overlap", "margin", "error"):
            assert solved[key] == pytest.approx(point[key], rel=1e-11), (key, point)


def test_corners():
    points = [
        {"theta_deg": theta, "alpha_total": alpha, "keep_fraction": f, "policy": policy}
        for theta, alpha, f, policy, _ in CORNERS
    ]
    solved = solve_points(points)
    found = np.array([point["error"] for point in solved])
    np.testing.assert_allclose(found, [corner[-1] for corner in CORNERS], rtol=1e-11)
    assert {point["status"] for point in solved} == {"converged"}


def test_published_values_without_pruning():
    """R and kappa of max-stability learning: Opper, Kinzel, Kleinz, Nehl 1990, six digits."""
    alpha = np.array([0.5, 1.0, 2.0, 5.0, 10.0])
    solution = solve(PerceptronProblem(alpha, policy=Random()))
    np.testing.assert_allclose(
        solution.overlap, [0.512148, 0.671358, 0.829758, 0.956870, 0.988086], atol=6e-7
    )
    np.testing.assert_allclose(
        solution.margin, [1.256380, 0.786550, 0.454578, 0.196710, 0.099889], atol=6e-7
    )
    np.testing.assert_allclose(
        alpha * solution.support_fraction,
        [0.411977, 0.623723, 0.817126, 0.956082, 0.988027],
        atol=6e-7,
    )


def test_gordon_form_by_scipy_at_theta_zero():
    """At theta = 0 the margin is max over R of the root of one integral; done here with SciPy."""
    alpha, f = 3.0, 0.4
    edge = norm.isf((1 - f) / 2)

    def excess(kappa: float, overlap: float) -> float:
        q = np.sqrt(1 - overlap**2)

        def integrand(z: float) -> float:
            a = kappa - overlap * z
            return norm.pdf(z) * ((a * a + q * q) * norm.cdf(a / q) + a * q * norm.pdf(a / q))

        value = quad(integrand, 0, edge, epsabs=1e-14, epsrel=1e-13)[0]
        return 2 * alpha * value - q * q

    def margin(overlap: float) -> float:
        return brentq(excess, 0, 5, args=(overlap,), xtol=1e-13)

    solution = solve(PerceptronProblem(alpha, f))
    best = float(solution.overlap)
    assert margin(best) == pytest.approx(float(solution.margin), rel=1e-10)
    # A maximum: the margin falls on both sides, at second order.
    for change in (-1e-3, 1e-3):
        assert margin(best + change) < margin(best) * (1 - 1e-7)


def test_the_two_forms_join_at_small_angles():
    """e(theta) - e(0) = 0.0784 theta^2, hard, alpha_total = 20, f = 0.2; no step anywhere."""
    degrees = np.array([0.0, 1e-9, 1e-6, 1e-4, 0.01, 0.1])
    solution = solve(PerceptronProblem(20.0, 0.2, probe=FixedAngle.degrees(degrees)))
    theta = np.deg2rad(degrees)
    # Two digits of the coefficient, and the next order theta^4.
    expected = solution.error[0] + 0.0784 * theta**2
    np.testing.assert_allclose(solution.error, expected, atol=1e-4 * theta[-1] ** 2 + 1e-13)
    assert np.all(solution.status == Status.CONVERGED)


def test_no_wrong_branch():
    """Three roots of the saddle equations have residuals below 1e-12 here; one has kappa > 0."""
    solution = solve(PerceptronProblem(100.0, 0.1233, probe=FixedAngle.degrees(10)))
    assert solution.margin > 0
    assert solution.status == Status.CONVERGED


@pytest.mark.parametrize("policy", [Hard(), Easy(), Moderate(), Window(0.0), Mixture(0.3)])
def test_full_data_does_not_depend_on_the_probe(policy):
    degrees = np.array([0.0, 10.0, 45.0, 90.0])
    found = solve(PerceptronProblem(4.0, 1.0, probe=FixedAngle.degrees(degrees), policy=policy))
    plain = solve(PerceptronProblem(4.0, policy=Random()))
    np.testing.assert_allclose(found.error, plain.error, rtol=1e-11)


def test_every_even_policy_is_random_at_ninety_degrees():
    right = FixedAngle(np.pi / 2)
    random = solve(PerceptronProblem(12.0, 0.25, policy=Random()))
    for policy in (Hard(), Easy(), Window(0.2), Mixture(0.5)):
        even = solve(PerceptronProblem(12.0, 0.25, probe=right, policy=policy))
        assert float(even.error) == pytest.approx(float(random.error), rel=1e-11)


def test_half_space_of_the_probe_is_the_random_answer():
    """w = 1[z > 0] keeps a random half whatever the angle; the wrong gauge gives .12952."""
    policy = Custom(lambda z: jnp.where(z > 0, 1.0, 0.0), breakpoints=(0.0,))
    probe = FixedAngle.degrees(20)
    half = solve(PerceptronProblem(4.0, 0.5, probe=probe, policy=policy))
    random = solve(PerceptronProblem(4.0, 0.5, policy=Random()))
    assert float(half.error) == pytest.approx(0.18848, abs=5e-6)
    assert float(half.error) == pytest.approx(float(random.error), rel=1e-10)


def test_custom_weight_equals_the_named_policy():
    """The two-dimensional quadrature of a function weight against the closed form of a step."""
    edge = float(norm.isf(0.35))
    policy = Custom(lambda z: jnp.where(jnp.abs(z) < edge, 1.0, 0.0), breakpoints=(-edge, edge))
    probe = FixedAngle.degrees(15.0)
    custom = solve(PerceptronProblem(6.0, 0.3, probe=probe, policy=policy))
    named = solve(PerceptronProblem(6.0, 0.3, probe=probe))
    np.testing.assert_allclose(custom.error, named.error, rtol=1e-10)


def test_redundancy_identities():
    probe = FixedAngle.degrees(20)
    thinned = solve(PerceptronProblem(20.0, 0.5, probe=probe, redundancy=10.0))
    distinct = solve(PerceptronProblem(2.0, 0.5, probe=probe))
    assert float(thinned.error) == pytest.approx(float(distinct.error), rel=1e-12)
    # A random copy survives if any does: alpha_kept = (alpha/r)(1 - (1-f)^r).
    random = solve(PerceptronProblem(20.0, 0.1, policy=Random(), redundancy=10.0))
    plain = solve(PerceptronProblem(2 * (1 - 0.9**10), policy=Random()))
    assert float(random.error) == pytest.approx(float(plain.error), rel=1e-12)
    assert float(random.error) == pytest.approx(0.2374, abs=5e-5)


def test_downstream_shift():
    probe = FixedAngle.degrees(20)
    turned = solve(
        PerceptronProblem(5.0, 0.3, probe=probe, downstream=DownstreamShift.degrees(30.0))
    )
    cosine = np.cos(np.pi / 6) * float(turned.overlap)
    assert float(turned.downstream_overlap) == pytest.approx(cosine, rel=1e-12)
    assert float(turned.error) == pytest.approx(np.arccos(cosine) / np.pi, rel=1e-12)
    # v in the plane, orthogonal to T, delta = 1: R' = 0.0306 (simulation .031(14)).
    plane = solve(
        PerceptronProblem(
            5.0, 0.3, probe=probe, downstream=DownstreamShift(delta=1.0, along_plane=1.0)
        )
    )
    assert float(plane.downstream_overlap) == pytest.approx(0.0306, abs=5e-5)


def test_independent_probe_has_the_angle_of_its_own_training():
    probe = solve(PerceptronProblem(3.0, policy=Random()))
    trained = solve(PerceptronProblem(20.0, 0.3, probe=Independent(3.0)))
    fixed = solve(PerceptronProblem(20.0, 0.3, probe=FixedAngle(np.pi * float(probe.error))))
    assert float(trained.error) == pytest.approx(float(fixed.error), rel=1e-12)


def test_in_sample_probe_has_a_theory_of_its_own():
    """alpha_t = 5, f = .15: the cavity equations solved apart from the package, five digits."""
    solved = solve(PerceptronProblem(5.0, 0.15, probe=InSample()))
    assert float(solved.overlap) == pytest.approx(0.92394, abs=5e-6)


def test_jit_and_vmap_agree_with_the_eager_call():
    alpha = np.array([2.0, 20.0])
    eager = solve(PerceptronProblem(alpha, 0.2, probe=FixedAngle(0.3)))

    def error(alpha):
        return solve(PerceptronProblem(alpha, 0.2, probe=FixedAngle(0.3))).error

    with jax.enable_x64(True):
        np.testing.assert_allclose(jax.jit(error)(jnp.asarray(alpha)), eager.error, rtol=1e-12)
        np.testing.assert_allclose(jax.vmap(error)(jnp.asarray(alpha)), eager.error, rtol=1e-12)


def test_a_bad_lane_is_marked_and_spoils_no_other():
    def status(alpha):
        solution = solve(PerceptronProblem(alpha, 0.5))
        return solution.status, solution.error

    with jax.enable_x64(True):
        found, error = map(np.asarray, jax.jit(status)(jnp.array([-1.0, 2.0])))
    assert list(found) == [Status.INVALID, Status.CONVERGED]
    assert np.isnan(error[0]) and np.isfinite(error[1])


def test_labelled_results():
    problem = PerceptronProblem.grid(alpha_total=[2.0, 5.0], keep_fraction=[0.1, 0.5, 1.0])
    dataset = solve(problem, throw=True).to_dataset(problem)
    assert dataset["error"].dims == ("alpha_total", "keep_fraction")
    point = dataset.sel(alpha_total=5.0, keep_fraction=1.0)
    assert float(point["overlap"]) == pytest.approx(0.956870, abs=6e-7)


def test_a_data_set_says_what_was_solved():
    """Files of different problems differ in more than their numbers."""
    shifted = PerceptronProblem(5.0, 0.5, downstream=DownstreamShift([0.0, 0.5]))
    dataset = solve(shifted).to_dataset(shifted)
    np.testing.assert_array_equal(dataset["delta"], [0.0, 0.5])
    assert dataset["delta"].dims == ("dim_0",) and float(dataset["along_teacher"]) == 0
    # The teacher that judges is away from that of the labels, and so is what a readout learns.
    assert dataset["v_information"][1] < dataset["v_information"][0]
    rest = {
        "student": '{"name": "max-margin"}',
        "labels": '{"name": "clean"}',
        "inputs": '{"name": "isotropic"}',
        "probe_field": '{"name": "normal"}',
    }
    said = {"policy": '{"name": "hard"}', "probe": '{"name": "fixed"}'}
    assert dataset.attrs == said | rest
    window = PerceptronProblem(5.0, 0.5, Independent(3.0), Window(0.1))
    dataset = solve(window).to_dataset(window)
    assert float(dataset["lo"]) == 0.1 and float(dataset["alpha_probe"]) == 3
    said = {"policy": '{"name": "window"}', "probe": '{"name": "independent"}'}
    assert dataset.attrs == said | rest
    flat = Custom(lambda z, level: level + 0 * z, "yz", parameters=0.5)
    custom = PerceptronProblem(5.0, 0.5, policy=flat)
    dataset = solve(custom).to_dataset(custom)
    assert dataset.attrs["policy"] == '{"name": "custom", "variable": "yz"}'
    assert float(dataset["parameter_0"]) == 0.5


def test_strict_promotion_of_types_changes_nothing():
    """.0938 is the published error at alpha = 5."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        found = solve(
            PerceptronProblem(5, 1, FixedAngle(np.float32(0.25)), Random(), 1), throw=True
        )
    assert float(found.error) == pytest.approx(0.0938, abs=5e-5)


def test_parameters_out_of_range_are_marked_under_jit():
    problems = {
        "window": lambda lo: PerceptronProblem(5.0, 0.3, policy=Window(lo)),
        "mixture": lambda w: PerceptronProblem(5.0, 0.3, policy=Mixture(w)),
        "shift": lambda delta: PerceptronProblem(5.0, 0.3, downstream=DownstreamShift(delta)),
    }
    for (name, make), bad in zip(problems.items(), (0.8, 1.5, np.nan), strict=True):
        with jax.enable_x64(True):
            found = jax.jit(lambda value, make=make: solve(make(value)).status)(
                jnp.array([0.1, bad, -1.0])
            )
        expected = [Status.CONVERGED, Status.INVALID, Status.INVALID]
        assert list(np.asarray(found)) == expected, name


def test_a_grid_may_be_empty():
    solution = solve(PerceptronProblem(np.zeros((0, 3)), 0.5))
    assert solution.error.shape == (0, 3) and solution.failed == 0


def test_a_failed_point_spoils_no_derived_quantity():
    solution = solve(PerceptronProblem([5.0, 1e300]))
    assert solution.status[0] == Status.CONVERGED != solution.status[1]
    assert np.isfinite(solution.v_information[0]) and np.isnan(solution.v_information[1])
