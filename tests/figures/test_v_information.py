"""The v-information figure: theory lines and simulated points."""

import numpy as np
import pytest
import xarray as xr
from scipy.integrate import quad
from scipy.special import entr, ndtr
from scipy.stats import norm

import sims
from figures import FIGURES
from figures.settings import CurveSettings
from theory.policies import Hard
from theory.problem import FixedAngle, PerceptronProblem

SPEC = FIGURES["v-information"]
CHOSEN = CurveSettings(
    alpha_total=(2.0,), theta_deg=(0,), keep_fraction=(0.5, 1.0), dim=40, draws=30, theory_points=5
)


def information(error: float) -> float:
    """log 2 - E_h h_b(Phi(h cot(pi e))) by adaptive quadrature."""
    slope = 1 / np.tan(np.pi * error)
    entropy = quad(
        lambda h: norm.pdf(h) * (entr(ndtr(slope * h)) + entr(ndtr(-slope * h))), -12, 12
    )[0]
    return float(np.log(2) - entropy)


@pytest.fixture(scope="module")
def data() -> xr.Dataset:
    return SPEC.compute(CHOSEN)


def test_line_ends_at_the_unpruned_student(data: xr.Dataset) -> None:
    """R = 0.829758 at alpha = 2, f = 1 (Opper, Kinzel, Kleinz, Nehl 1990), six digits."""
    expected = information(np.arccos(0.829758) / np.pi)
    assert data["theory_status"].values.tolist() == [[0] * 5]
    assert data["theory_information"].values[0, -1] == pytest.approx(expected, abs=3e-6)
    assert (np.diff(data["theory_information"].values[0]) > 0).all()


def test_points_average_the_information_of_every_draw(data: xr.Dataset) -> None:
    problem = PerceptronProblem(2.0, np.array([0.5, 1.0]), FixedAngle(0.0), Hard())
    draws = sims.run(problem, 40, 30, 0)["error"].values
    expected = np.vectorize(information)(draws)
    np.testing.assert_allclose(data["information_mean"][0], expected.mean(axis=1), rtol=1e-8)
    np.testing.assert_allclose(
        data["information_stderr"][0], expected.std(axis=1, ddof=1) / np.sqrt(30), rtol=1e-8
    )
    # At f = 1 the line is the limit of the points; 1/N = 0.025 is the size of what is left.
    gap = data["information_mean"][0, 1] - data["theory_information"][0, -1]
    assert abs(gap) < 4 * data["information_stderr"][0, 1] + 0.025


def test_picture(data: xr.Dataset) -> None:
    figure = SPEC.draw(data)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    label = next(text for text in axes.texts if "log" in text.get_text())
    assert axes.bbox.y0 < label.get_window_extent().y0 < label.get_window_extent().y1 < axes.bbox.y1
    assert any(np.allclose(line.get_ydata(), np.log(2)) for line in axes.lines)
    drawn = [line for line in axes.lines if len(line.get_xdata()) == 5]
    np.testing.assert_array_equal(drawn[0].get_ydata(), data["theory_information"][0])
    assert axes.get_ylim()[0] < 0 < np.log(2) < axes.get_ylim()[1]
    assert "in nats" in SPEC.caption(data)
