"""Closed forms against adaptive quadrature and published constants."""

import jax
import mpmath
import numpy as np
import pytest
from scipy import integrate, optimize, stats

from theory import (
    bayes_constant,
    bayes_error,
    gardner_capacity,
    gibbs_constant,
    gibbs_error,
    gibbs_overlap,
    max_margin_constant,
)


def mp_integral(overlap):
    """int Dt exp(-R t^2/2)/H(sqrt(R) t) by mpmath."""
    root = mpmath.sqrt(overlap)

    def integrand(t):
        return mpmath.npdf(t) * mpmath.exp(-overlap * t**2 / 2) / mpmath.ncdf(-root * t)

    return mpmath.quad(integrand, [-12, -4, 0, 4, 12])


def test_large_alpha_constants_published():
    # Published digits: Opper and Haussler 1991 (0.442, 0.625), Opper et al. 1990 (0.5005).
    assert bayes_constant() == pytest.approx(0.44170, abs=5e-6)
    assert gibbs_constant() == pytest.approx(0.62466, abs=5e-6)
    assert max_margin_constant() == pytest.approx(0.500489, abs=5e-7)


def test_bayes_constant_against_mpmath():
    assert bayes_constant() == pytest.approx(float(1 / mp_integral(mpmath.mpf(1))), rel=1e-13)


def test_max_margin_constant_is_the_optimum_of_the_scaled_feasibility_condition():
    # e -> q/pi with alpha q sqrt(2/pi) G(k) = 1, where stationarity in the in-plane norm
    # is G(k) = k G'(k): here both are integrated and solved numerically.
    def power(k, n):
        return integrate.quad(lambda x: (k - x) ** n * stats.norm.pdf(x), -12, k, epsabs=1e-13)[0]

    k = optimize.brentq(lambda k: power(k, 3) / 3 - k * power(k, 2), 0.1, 1.5)
    assert max_margin_constant() == pytest.approx(
        1 / (np.sqrt(2 * np.pi) * power(k, 3) / 3), rel=1e-9
    )


def test_gibbs_point_of_reference():
    assert float(gibbs_overlap(1.0)) == pytest.approx(0.486264, abs=5e-7)
    assert float(gibbs_error(1.0)) == pytest.approx(0.338359, abs=5e-7)
    assert float(bayes_error(1.0)) == pytest.approx(0.254373, abs=5e-7)


@pytest.mark.parametrize("alpha", [0.05, 7.0, 500.0])
def test_gibbs_equation_by_mpmath(alpha):
    # R and 1 - R from the error, which keeps its relative digits near R = 1.
    root = mpmath.sqrt(2) * mpmath.sin(mpmath.pi * float(gibbs_error(alpha)) / 2)
    overlap = 1 - root**2
    right = alpha / mpmath.pi * mp_integral(overlap)
    assert float(overlap / root) == pytest.approx(float(right), rel=1e-12)
    bayes = mpmath.asin(root) / mpmath.pi
    assert float(bayes_error(alpha)) == pytest.approx(float(bayes), rel=1e-12)


def test_limits_of_the_gibbs_student():
    assert float(gibbs_overlap(0.0)) == 0.0
    assert float(gibbs_error(0.0)) == pytest.approx(0.5, rel=1e-15)
    # Corrections are O(1/alpha).
    assert 1e6 * float(bayes_error(1e6)) == pytest.approx(bayes_constant(), rel=1e-5)
    assert 1e6 * float(gibbs_error(1e6)) == pytest.approx(gibbs_constant(), rel=1e-5)


def test_gibbs_overlap_has_the_derivative_of_a_difference_quotient():
    with jax.enable_x64(True):
        slope = float(jax.grad(gibbs_overlap)(2.0))
    step = 1e-4  # truncation step^2 = 1e-8, rounding 1e-12
    quotient = (float(gibbs_overlap(2 + step)) - float(gibbs_overlap(2 - step))) / (2 * step)
    assert slope == pytest.approx(quotient, rel=1e-7)


def test_gardner_capacity():
    np.testing.assert_allclose(
        gardner_capacity(np.array([0.0, 0.5, 1.0])), [2, 0.96121, 0.51957], atol=5e-6
    )
    moment = integrate.quad(lambda t: stats.norm.pdf(t) * (t + 0.7) ** 2, -0.7, 12)[0]
    assert float(gardner_capacity(0.7)) == pytest.approx(1 / moment, rel=1e-10)


@pytest.mark.parametrize("function", [gibbs_overlap, gibbs_error, bayes_error])
@pytest.mark.parametrize("alpha", [-1.0, np.inf, np.nan])
def test_alpha_outside_its_range(function, alpha):
    with pytest.raises(ValueError, match=r"alpha = .* the valid range \[0, inf\)"):
        function(alpha)


def test_margin_outside_its_range():
    with pytest.raises(ValueError, match=r"margin = -0.1 is outside the valid range \[0, inf\)"):
        gardner_capacity(-0.1)
