"""V-information against adaptive quadrature over the student's field."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate, special, stats

from theory import bayes_constant, conditional_entropy, v_information


def entropy_by_quad(error):
    """E_h h_b(Phi(h cot(pi e))), with breakpoints at the scale of the transition."""
    slope = 1 / np.tan(np.pi * error)

    def integrand(h):
        p, rest = special.ndtr(slope * h), special.ndtr(-slope * h)
        return stats.norm.pdf(h) * (special.entr(p) + special.entr(rest))

    ends = [0.0, *sorted({min(k / abs(slope), 12.0) for k in (1, 3, 6, 12, 40)} | {12.0})]
    pieces = pairwise(ends)
    return 2 * sum(integrate.quad(integrand, *piece, epsrel=1e-12)[0] for piece in pieces)


@pytest.mark.parametrize("error", [1e-4, 0.01, 0.1, 0.3, 0.45, 0.8])
def test_entropy_and_information(error):
    entropy = entropy_by_quad(error)
    assert float(conditional_entropy(error)) == pytest.approx(entropy, rel=1e-10)
    assert float(v_information(error)) == pytest.approx(np.log(2) - entropy, rel=1e-9, abs=1e-11)


def test_ends():
    assert float(conditional_entropy(0.0)) == 0.0
    assert float(v_information(0.0)) == pytest.approx(np.log(2), rel=1e-15)
    assert float(v_information(0.5)) == pytest.approx(0.0, abs=1e-30)
    # H_V -> 2.264 e, published as the inverse of the Bayes constant.
    assert float(conditional_entropy(1e-9)) / 1e-9 == pytest.approx(2.264, abs=5e-4)
    assert float(conditional_entropy(1e-9)) / 1e-9 == pytest.approx(1 / bayes_constant(), rel=1e-9)


def test_information_near_chance_keeps_its_digits():
    # log 2 - h_b(Phi(u)) = u^2/pi + O(u^4), averaged over u = h cot(pi e), cot -> pi (1/2 - e).
    gap = 1e-6
    assert float(v_information(0.5 - gap)) == pytest.approx(np.pi * gap**2, rel=1e-9)


def test_information_decreases_with_the_error():
    assert np.all(np.diff(np.asarray(v_information(np.linspace(0, 0.5, 101)))) < 0)


@pytest.mark.parametrize("function", [conditional_entropy, v_information])
@pytest.mark.parametrize("error", [-0.1, 1.1, np.nan])
def test_error_outside_its_range(function, error):
    with pytest.raises(ValueError, match=r"error = .* the valid range \[0, 1\]"):
        function(error)
