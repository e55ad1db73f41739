"""Properties over the whole parameter range: what must hold at any point, whatever its value."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replica import ReplicaSolution, Status, solve
from theory.policies import (
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
from theory.problem import FixedAngle, PerceptronProblem

alphas = st.floats(-1, 4).map(lambda exponent: 10.0**exponent)
fractions = st.floats(-3, 0).map(lambda exponent: min(10.0**exponent, 1.0))
angles = st.one_of(
    st.floats(0, np.pi / 2), st.floats(-12, -1).map(lambda exponent: 10.0**exponent), st.just(0.0)
)
shares = st.floats(0, 1)


@st.composite
def policies(draw: st.DrawFn, fraction: float) -> Policy:
    """Any named policy that fits the fraction."""
    kind = draw(st.sampled_from([Hard, Easy, Moderate, Random, HardSigned, EasySigned, 6, 7]))
    if kind == 6:
        return Window(draw(shares) * (1 - fraction))
    return Mixture(draw(shares)) if kind == 7 else kind()


def one(alpha: float, fraction: float, theta: float, policy: Policy, **more: float):
    return solve(PerceptronProblem(alpha, fraction, FixedAngle(theta), policy, **more))


def assert_sound(solution: ReplicaSolution) -> None:
    assert solution.status == Status.CONVERGED
    overlap, probe_overlap = float(solution.overlap), float(solution.probe_overlap)
    assert abs(overlap) <= 1 and abs(probe_overlap) <= 1
    assert solution.margin > 0
    assert 0 < solution.support_fraction <= 1
    # Three unit vectors with these overlaps exist: the Gram determinant is not negative.
    cosine = np.cos(float(solution.theta))
    gram = 1 - cosine**2 - overlap**2 - probe_overlap**2 + 2 * cosine * overlap * probe_overlap
    assert gram >= -1e-14
    # At most N support vectors.
    assert solution.support_fraction * solution.alpha_kept <= 1 + 1e-12


@given(data=st.data(), alpha=alphas, fraction=fractions, theta=angles)
def test_order_parameters_are_those_of_vectors(data, alpha, fraction, theta):
    assert_sound(one(alpha, fraction, theta, data.draw(policies(fraction))))


@given(alpha=alphas, growth=st.floats(1.001, 10), fraction=fractions)
def test_more_random_data_never_hurt(alpha, growth, fraction):
    less = one(alpha, fraction, 0.0, Random())
    more = one(alpha * growth, fraction, 0.0, Random())
    assert more.error < less.error


@given(data=st.data(), alpha=alphas, theta=angles)
def test_without_selection_the_probe_does_not_matter(data, alpha, theta):
    policy = data.draw(policies(1.0))
    plain = float(one(alpha, 1.0, 0.0, Random()).error)
    assert float(one(alpha, 1.0, theta, policy).error) == pytest.approx(plain, rel=1e-10)


@given(alpha=alphas, fraction=fractions, theta=angles, share=shares, copies=st.floats(1, 20))
def test_copies_are_fewer_examples(alpha, fraction, theta, share, copies):
    policy = Window(share * (1 - fraction))
    copied = one(alpha, fraction, theta, policy, redundancy=copies)
    fewer = one(alpha / copies, fraction, theta, policy)
    assert float(copied.error) == pytest.approx(float(fewer.error), rel=1e-10)


@given(alpha=alphas, fraction=fractions, theta=angles)
def test_windows_and_mixtures_end_at_the_named_policies(alpha, fraction, theta):
    pairs = (
        (Window(0.0), Hard()),
        (Window((1 - fraction) / 2), Moderate()),
        (Window(1 - fraction), Easy()),
        (Mixture(0.0), Random()),
        (Mixture(1.0), Hard()),
    )
    for general, named in pairs:
        found = float(one(alpha, fraction, theta, general).error)
        # The window's edges carry rounding errors of 1 - f, which f = 1e-3 divides by.
        expected = float(one(alpha, fraction, theta, named).error)
        assert found == pytest.approx(expected, rel=1e-9), general


@given(data=st.data(), alpha=alphas, fraction=fractions)
def test_the_error_is_even_in_small_angles(data, alpha, fraction):
    """e(theta) - e(0) is O(theta^2): no step where the equations change their form."""
    policy = data.draw(policies(fraction))
    straight, near = (float(one(alpha, fraction, t, policy).error) for t in (0.0, 1e-9))
    # The coefficient of theta^2 stays below alpha^2 in this range; 1e8 * 1e-18 is rounding.
    assert near == pytest.approx(straight, rel=1e-9)
