"""Angles and errors near R = 1 against mpmath."""

import mpmath
import numpy as np
import pytest

import theory


@pytest.mark.parametrize("angle", [1e-12, 1e-7, 1e-3, 1.0, 3.0])
def test_conversions_keep_their_digits(angle):
    with mpmath.workdps(40):
        exact = mpmath.mpf(angle)
        error = float(exact / mpmath.pi)
        complement = float(1 - mpmath.cos(exact))
        parallel, orthogonal = float(mpmath.cos(exact)), float(mpmath.sin(exact))
    ulps = 1e-15  # a few ulp
    assert float(theory.angle_from_components(parallel, orthogonal)) == pytest.approx(
        angle, rel=ulps
    )
    assert float(theory.error_from_angle(angle)) == pytest.approx(error, rel=ulps)
    assert float(theory.angle_from_error(error)) == pytest.approx(angle, rel=ulps)
    assert float(theory.overlap_complement(error)) == pytest.approx(complement, rel=5e-15)
    assert float(theory.overlap_from_error(error)) == pytest.approx(parallel, rel=ulps)


@pytest.mark.parametrize("overlap", [1 - 1e-15, 1 - 1e-8, 0.5, -0.3, -1.0, 1.0])
def test_angle_from_overlap(overlap):
    # The exact angle of the double R, whatever R rounds.
    with mpmath.workdps(40):
        exact = float(mpmath.acos(mpmath.mpf(overlap)))
    assert float(theory.angle_from_overlap(overlap)) == pytest.approx(exact, rel=2e-15)
    assert float(theory.error_from_overlap(overlap)) == pytest.approx(exact / np.pi, rel=2e-15)
