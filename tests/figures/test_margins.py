"""The margins figure: density and atom, in the data and on the picture."""

import numpy as np
import pytest
import xarray as xr
from scipy.integrate import trapezoid
from scipy.stats import norm

import sims
from figures import FIGURES
from figures.settings import MarginSettings

SPEC = FIGURES["margins"]


@pytest.fixture(scope="module")
def data() -> xr.Dataset:
    """Two angles at one alpha_total and f: one compiled shape."""
    return SPEC.compute(
        MarginSettings(alpha_total=(2,), theta_deg=(0, 30), keep_fraction=(0.5,), dim=40, draws=40)
    )


def test_simulation_and_theory_are_distributions(data: xr.Dataset) -> None:
    for k in range(2):
        panel = data.isel(panel=k)
        # What lies outside the histogram, 0.002 by its choice, and finite-size tails.
        simulated = panel["atom"] + (panel["density"] * np.diff(panel["edges"])).sum()
        assert simulated.item() == pytest.approx(1.0, abs=0.01)
        above = trapezoid(panel["theory_density"], panel["theory_density_at"])
        assert panel["theory_atom"].item() + above == pytest.approx(1 - 0.002, abs=1e-3)


def test_the_atom_is_the_simulated_share_of_support_vectors(data: xr.Dataset) -> None:
    for k in range(2):
        panel = data.isel(panel=k)
        gap = abs(panel["atom"] - panel["theory_atom"]).item()
        # Finite-size shift of order 1/N on top of the statistical error; 0.02 is far below the
        # differences between the panels of the published settings.
        assert gap < 4 * panel["atom_stderr"].item() + 0.5 / 40
        assert panel["atom_stderr"].item() < 0.02
        assert panel["unsolved"].item() == 0


def test_all_data_give_the_classical_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    """f = 1: h = R u + sqrt(1 - R^2) xi, u > 0 the teacher margin, so p(h) = 2 phi(h) H(-R h/s).

    R, kappa and alpha P(h < kappa) of the max-margin perceptron at alpha = 2, six digits, as
    tabulated from the classical saddle point (Opper, Kinzel, Kleinz, Nehl 1990).
    """
    R, kappa, mass = 0.829758, 0.454578, 0.817126
    stalled = sims.StudentMargins(
        margin=0.0,
        margins=np.zeros(24),
        support=np.zeros(24, bool),
        status=sims.MaxMarginStatus.STALLED,
    )
    monkeypatch.setattr(sims, "margins", lambda *arguments: [stalled] * 2)  # theory alone counts
    data = SPEC.compute(
        MarginSettings(alpha_total=(2,), theta_deg=(0,), keep_fraction=(1.0,), dim=12, draws=2)
    ).isel(panel=0)
    assert data["unsolved"].item() == 2
    assert data["theory_margin"].item() == pytest.approx(kappa, abs=1e-6)
    assert data["theory_atom"].item() == pytest.approx(mass / 2, abs=1e-6)
    h = data["theory_density_at"].values
    expected = 2 * norm.pdf(h) * norm.cdf(R * h / np.sqrt(1 - R**2))
    np.testing.assert_allclose(data["theory_density"], expected, atol=1e-5)
    # Without a single student the picture says so.
    texts = SPEC.draw(data.expand_dims("panel")).axes[0].texts
    assert "2 draws unsolved" in texts[0].get_text()


def test_the_picture_shows_atom_and_density(data: xr.Dataset) -> None:
    figure = SPEC.draw(data)
    figure.draw_without_rendering()
    for axes in figure.axes:
        for text in axes.texts:  # beside the data, wherever those are
            assert not text.get_window_extent().overlaps(axes.bbox)
    left, right = figure.axes[:2], figure.axes[2:]
    for k, (density, atom) in enumerate(zip(left, right, strict=True)):
        panel = data.isel(panel=k)
        (line,) = (one for one in density.lines if len(one.get_xdata()) > 2)
        np.testing.assert_array_equal(line.get_ydata(), panel["theory_density"])
        segments = [one for c in atom.collections for one in c.get_segments()]
        tips = np.array([one[-1] for one in segments if one[0, 1] == 0])
        np.testing.assert_array_equal(tips, [[panel["theory_margin"], panel["theory_atom"]]])
        assert density.get_title() == f"$\\theta$ = {panel['theta_deg'].item():g}°"
    assert "alpha_total = 2, keep_fraction = 0.5" in SPEC.caption(data)
