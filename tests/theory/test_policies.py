"""Selection weights: kept mass by adaptive quadrature, and the relations between policies."""

import math
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special, stats

from theory import (
    POLICY_NAMES,
    Custom,
    Easy,
    EasySigned,
    Hard,
    HardSigned,
    Mixture,
    Moderate,
    PerceptronProblem,
    Random,
    Window,
    policy_from_name,
)
from theory.policy_names import POLICIES


@jax.jit
def compiled_weight(policy, keep_fraction, theta, redundancy):
    return policy.kept_weight(keep_fraction, theta, redundancy)


def weight_of(policy, keep_fraction, theta=0.3, redundancy=1.0):
    with jax.enable_x64(True):
        values = (jnp.asarray(v, jnp.float64) for v in (keep_fraction, theta, redundancy))
        return compiled_weight(policy, *values)


def mass_by_quad(weight, theta):
    """2 int phi(z) Phi(z cot theta) wt(z) dz of a step weight, interval by interval."""

    def density(z):
        # theta = 0 leaves the step function of z itself, broken at z = 0 below.
        below = special.ndtr(z / np.tan(theta)) if theta > 0 else float(z > 0)
        return 2 * stats.norm.pdf(z) * below

    mass = 0.0
    for low, high, level in zip(*map(np.asarray, _columns(weight)), strict=True):
        low, high = np.clip([low, high], -12, 12)
        scale = np.tan(min(theta, 1.5))
        inner = [p for p in (-8, -4, -1, 0, 1, 4, 8) if low < p < high]
        inner += [p * scale for p in (-8, -2, 2, 8) if low < p * scale < high]
        ends = sorted({low, high, *inner})
        pieces = pairwise(ends)
        mass += level * sum(integrate.quad(density, *p, epsabs=1e-13)[0] for p in pieces)
    return mass


def _columns(weight):
    return weight.low, weight.high, weight.level


EVERY = [
    Hard(),
    Easy(),
    Moderate(),
    Random(),
    HardSigned(),
    EasySigned(),
    Window(0.05),
    Mixture(0.4),
]


@pytest.mark.parametrize("policy", EVERY, ids=lambda p: p.name)
@pytest.mark.parametrize("theta", [0.0, 0.02, 0.35, np.pi / 2])
@pytest.mark.parametrize("keep_fraction", [1e-3, 0.2, 0.7])
def test_mass_is_the_kept_fraction(policy, theta, keep_fraction):
    mass = mass_by_quad(weight_of(policy, keep_fraction, theta), theta)
    assert mass == pytest.approx(keep_fraction, rel=1e-9)


@given(
    keep_fraction=st.floats(1e-3, 1.0),
    theta=st.floats(0.01, np.pi / 2),
    position=st.floats(0.0, 1.0),
    unsigned=st.booleans(),
)
def test_mass_anywhere(keep_fraction, theta, position, unsigned):
    policy = Window(position * (1 - keep_fraction)) if unsigned else Mixture(position)
    mass = mass_by_quad(weight_of(policy, keep_fraction, theta), theta)
    assert mass == pytest.approx(keep_fraction, rel=1e-8)


@pytest.mark.parametrize("keep_fraction", [0.01, 0.3, 0.9, 1.0])
def test_window_ends_and_middle(keep_fraction):
    fields = np.linspace(-4, 4, 801) + 1e-4
    for lo, policy in [
        (0.0, Hard()),
        ((1 - keep_fraction) / 2, Moderate()),
        (1 - keep_fraction, Easy()),
    ]:
        with jax.enable_x64(True):
            left = weight_of(Window(lo), keep_fraction)(jnp.asarray(fields))
            right = weight_of(policy, keep_fraction)(jnp.asarray(fields))
        np.testing.assert_array_equal(left, right)


def test_mixture_ends():
    fields = np.linspace(-4, 4, 801) + 1e-4
    with jax.enable_x64(True):
        z = jnp.asarray(fields)
        for w, policy in [(0.0, Random()), (1.0, Hard())]:
            np.testing.assert_allclose(
                weight_of(Mixture(w), 0.3)(z), weight_of(policy, 0.3)(z), atol=1e-15
            )
        inside, outside = weight_of(Mixture(0.5), 0.2)(jnp.asarray([0.0, 3.0]))
    assert float(inside) == pytest.approx(1.0)
    assert float(outside) == pytest.approx(0.1 / 0.9)  # (1 - w) f/(1 - w f)


def test_thresholds_against_the_normal_law():
    hard, easy = weight_of(Hard(), 0.2), weight_of(Easy(), 0.2)
    assert float(hard.high[0]) == pytest.approx(stats.norm.ppf(0.6), rel=1e-13)
    assert float(easy.low[1]) == pytest.approx(stats.norm.ppf(0.9), rel=1e-13)


def test_signed_and_unsigned_differ_and_meet_with_a_perfect_probe():
    theta = np.deg2rad(40)
    signed, unsigned = weight_of(HardSigned(), 0.3, theta), weight_of(Hard(), 0.3, theta)
    assert np.isneginf(float(signed.low[0]))
    assert float(signed.high[0]) < 0.9 * float(unsigned.high[0])
    # At theta = 0 the label is the probe's sign: y z = abs(z).
    assert float(weight_of(HardSigned(), 0.3, 0.0).high[0]) == pytest.approx(
        float(weight_of(Hard(), 0.3, 0.0).high[0]), rel=1e-12
    )


def test_signed_threshold_against_sampling():
    rng = np.random.default_rng(0)
    theta, count = np.deg2rad(40), 200_000
    z, other = rng.standard_normal((2, count))
    margin = z * np.sign(z * np.cos(theta) + other * np.sin(theta))
    kept = np.mean(margin < float(weight_of(HardSigned(), 0.3, theta).high[0]))
    assert abs(kept - 0.3) < 4 * np.sqrt(0.3 * 0.7 / count)


def test_redundancy_keeps_an_example_if_any_copy_is_kept():
    with jax.enable_x64(True):
        z = jnp.asarray([0.0, 3.0])
        random = weight_of(Random(), 0.1, redundancy=10.0)(z)
        mixture = weight_of(Mixture(0.5), 0.2, redundancy=3.0)(z)
        hard = weight_of(Hard(), 0.2, redundancy=5.0)(z)
        custom = weight_of(Custom(lambda z: 0.25 + 0 * z), 0.25, redundancy=2.0)(z)
    np.testing.assert_allclose(random, 1 - 0.9**10, rtol=1e-14)
    np.testing.assert_allclose(mixture, [1, 1 - (1 - 0.1 / 0.9) ** 3], rtol=1e-14)
    np.testing.assert_array_equal(hard, [1, 0])  # 0/1 functions of x do not change
    np.testing.assert_allclose(custom, 1 - 0.75**2, rtol=1e-14)


def test_custom_weight_is_gauged():
    def one_sided(z):
        return jnp.where(z > 0, 1.0, 0.0)

    with jax.enable_x64(True):
        z = jnp.asarray([-1.0, 1.0])
        unsigned = weight_of(Custom(one_sided, breakpoints=(0.0,)), 0.5)(z)
        signed = weight_of(Custom(one_sided, "yz", (0.0,)), 0.5)(z)
    np.testing.assert_array_equal(unsigned, [0.5, 0.5])
    np.testing.assert_array_equal(signed, [0, 1])


def test_names():
    for name in POLICY_NAMES:
        own = dict.fromkeys(POLICIES[name][1], 0.1)
        policy = policy_from_name(name, **own)
        assert policy.name == name
        assert policy.parameters() == own


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("harder", {}, r"policy = 'harder' is not one of hard, easy"),
        ("hard", {"lo": 0.1}, r"policy 'hard' takes no parameter, got \['lo'\]"),
        ("window", {}, r"policy 'window' takes the parameter 'lo', got none"),
    ],
)
def test_bad_names(name, parameters, message):
    with pytest.raises(ValueError, match=message):
        policy_from_name(name, **parameters)


def test_custom_variable_is_checked():
    with pytest.raises(ValueError, match=r"is not one of 'z', 'yz': .* never the teacher's field"):
        Custom(lambda z: z, "margin")


def test_a_jump_that_no_breakpoint_names_is_refused():
    def step(z, edge):
        return jnp.where(jnp.abs(z) < edge, 1.0, 0.0)

    kept = stats.norm.cdf(0.5) - stats.norm.cdf(-0.5)
    with pytest.raises(ValueError, match=r"from 1 to 0 at field 0.49, .* \(\) has none"):
        PerceptronProblem(5.0, kept, policy=Custom(step, parameters=0.5))
    with pytest.raises(ValueError, match=r"from 0 to 1 at field -0.49, .* \(0.5,\) has none"):
        PerceptronProblem(5.0, 0.5, policy=Custom(step, "yz", (0.5,), parameters=0.5))
    named = Custom(step, breakpoints=(0.5,), parameters=0.5)
    assert PerceptronProblem(5.0, kept, policy=named).policy is named


def test_custom_weight_states_its_mass():
    """E exp(-z^2) = 1/sqrt(3); the gauge leaves it when w is even, at any angle."""
    policy = Custom(lambda m: jnp.exp(-m * m), "yz")
    np.testing.assert_allclose(policy.mass([0.0, 0.3, 1.5]), 1 / np.sqrt(3), rtol=1e-13)
    PerceptronProblem(5.0, 1 / np.sqrt(3), policy=policy)
    with pytest.raises(ValueError, match=r"keep_fraction = 0.5 is not .* mass, 0.57735"):
        PerceptronProblem(5.0, 0.5, policy=policy)
    # P(m > 0) = 1 - theta/pi: the probe gets the rest wrong.
    right = Custom(lambda m: jnp.where(m > 0, 1.0, 0.0), "yz", (0.0,))
    np.testing.assert_allclose(right.mass(0.3), 1 - 0.3 / np.pi, rtol=1e-13)


def test_custom_weight_is_a_probability():
    with pytest.raises(ValueError, match=r"weight = 8 at field -8 .* \[0, 1\]"):
        PerceptronProblem(5.0, 0.5, policy=Custom(jnp.abs))


def two_humps(z, height, place):
    return height * jnp.exp(-((jnp.abs(z) - place) ** 2))


def test_custom_weight_takes_parameters():
    """A tuple is passed one by one, a dict as one argument; arrays make a grid of weights."""
    from_dict = Custom(lambda z, p: two_humps(z, p["h"], p["at"]), parameters={"h": 0.5, "at": 1.0})
    expected = (
        2 * integrate.quad(lambda z: 0.5 * np.exp(-((z - 1) ** 2)) * stats.norm.pdf(z), 0, 9)[0]
    )
    assert float(from_dict.mass()) == pytest.approx(expected, rel=1e-6)
    humps = Custom(two_humps, breakpoints=(0.0,), parameters=(0.5, [0.0, 1.0]))
    np.testing.assert_allclose(humps.mass(), [0.5 / np.sqrt(3), expected], rtol=1e-12)
    assert PerceptronProblem(5.0, humps.mass(), policy=humps).shape == (2,)
    assert humps.parameters().keys() == {"parameter_0", "parameter_1"}
    np.testing.assert_allclose(Custom(two_humps, parameters=(0.5, 1.0)).weight([1.0, -1.0]), 0.5)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda z: np.exp(-z * z), r"write it with jax.numpy in place of numpy"),
        (lambda z: 1 + 0 * z if z[0] > 0 else 0 * z, r"jnp.where in place of if"),
        (lambda z: 0.5, r"returns the shape \(\) for fields of shape \(\d+,\)"),
        (lambda z: math.exp(-z), r"cannot be called with an array of fields and 0 parameters"),
        (two_humps, r"two_humps cannot be called .* missing 2 required positional arguments"),
        (lambda z: None, r"<lambda> cannot be called with an array"),
        (lambda z: jnp.exp(1j * z), r"returns complex numbers; it must be real"),
    ],
)
def test_custom_weights_that_jax_cannot_trace(function, message):
    with pytest.raises(ValueError, match=message):
        PerceptronProblem(5.0, 0.5, policy=Custom(function))


def test_the_mass_of_a_signed_weight_has_a_derivative_in_theta():
    """Against differences of the adaptive quadrature: P(y z = m) = 2 phi(m) Phi(m cot theta)."""
    policy = Custom(lambda m, a: 1 / (1 + jnp.exp(a * m)), "yz", parameters=(1.5,))

    def mass(theta):
        def weighted(m):
            return stats.norm.pdf(m) * stats.norm.cdf(m / np.tan(theta)) / (1 + np.exp(1.5 * m))

        return 2 * integrate.quad(weighted, -9, 9, points=[0], epsabs=1e-13)[0]

    expected = (mass(0.3 + 1e-4) - mass(0.3 - 1e-4)) / 2e-4
    assert float(jax.grad(policy.mass)(0.3)) == pytest.approx(expected, rel=1e-5)
    assert float(jax.jacfwd(policy.mass)(0.3)) == pytest.approx(expected, rel=1e-5)


def test_custom_arguments_are_checked():
    with pytest.raises(ValueError, match=r"weight = 0\.5 is not a function"):
        Custom(0.5)
    with pytest.raises(ValueError, match="parameters = None is not a number"):
        Custom(two_humps, parameters=(1.0, None))
    with pytest.raises(ValueError, match=r"breakpoints = nan .*is not a number"):
        Custom(two_humps, breakpoints=[np.nan])
    with pytest.raises(ValueError, match="parameters = nan is not a number"):
        Custom(two_humps, parameters=(1.0, np.nan))
    with pytest.raises(ValueError, match=r"weight = 1\.\d+ at field -1\.\d+ is outside"):
        PerceptronProblem(5.0, 0.5, policy=Custom(two_humps, parameters=(2.0, 1.0)))
