"""Every figure: data, file, picture; and what the data say."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from figures import FIGURES, Settings, make_data, make_pictures
from theory.datafile import read_dataset

# Small enough that all figures together need few compiled shapes.
SMALL = {"dim": 12, "draws": 3, "seed": 5, "keep_fraction": (0.5,), "alpha_total": (3.0,)}


def settings(name: str, **changes: object) -> Settings:
    defaults = FIGURES[name].defaults
    return Settings(**{**vars(defaults), **SMALL, **changes})


@pytest.mark.parametrize("name", FIGURES)
def test_redrawing_reads_the_file_alone(name: str, tmp_path: Path) -> None:
    spec = FIGURES[name]
    data = make_data(spec, settings(name), tmp_path, progress=False)
    first, caption = make_pictures(spec, data, tmp_path, ["png", "svg", "pdf"])
    moved = data.rename(tmp_path / "moved.nc")
    redrawn = tmp_path / "redrawn"
    redrawn.mkdir()
    second, again = make_pictures(spec, moved, redrawn, ["png", "svg", "pdf"])
    assert caption == again
    assert caption.endswith("N = 12, 3 draws.")
    assert [path.name for path in first] == [f"{name}.{kind}" for kind in ("png", "svg", "pdf")]
    for path, other in zip(first, second, strict=True):
        assert path.read_bytes() == other.read_bytes()


def test_file_holds_what_was_computed(tmp_path: Path) -> None:
    spec = FIGURES["geometry"]
    wanted = spec.compute(settings("geometry"))
    data = make_data(spec, settings("geometry"), tmp_path, progress=False)
    found = read_dataset(data, kind=spec.kind)
    xr.testing.assert_equal(found, wanted)


def test_published_values() -> None:
    """Full data, theta = 0: the values printed in the OptiDEL paper's figure, four decimals."""
    chosen = settings("fitting-error", alpha_total=(5, 10, 20, 50, 100), keep_fraction=(0.9, 1.0))
    data = FIGURES["fitting-error"].compute(chosen)
    ends = data["theory_error"].isel(theta_deg=0, theory_fraction=-1)
    published = [0.0938, 0.0492, 0.0249, 0.0100, 0.0050]
    np.testing.assert_allclose(ends, published, atol=0.5e-4, rtol=0)
    assert not data["theory_status"].any()


def test_margins_are_a_distribution() -> None:
    data = FIGURES["margins"].compute(settings("margins", dim=40, draws=20, theta_deg=(30,)))
    panel = data.isel(panel=0)
    # The histogram and the density end 3 above kappa, more than three standard deviations out.
    simulated = panel["atom"] + (panel["density"] * panel["edges"].diff("edge").values).sum()
    assert simulated.item() == pytest.approx(1.0, abs=0.01)
    theory = panel["theory_atom"] + panel["theory_density"].integrate("point") * (3 / 192)
    assert theory.item() == pytest.approx(1.0, abs=0.01)
    # Finite-size shift of order 1/N on top of the statistical error.
    gap = abs(panel["atom"] - panel["theory_atom"]).item()
    assert gap < 4 * panel["atom_stderr"].item() + 1 / 40


def test_geometry_keeps_the_slab() -> None:
    data = FIGURES["geometry"].compute(settings("geometry", keep_fraction=(0.3,)))
    assert (data["kept"].sum("example") == round(0.3 * data.sizes["example"])).all()
    theta = np.deg2rad(data["theta_deg"])
    field = data["field"].isel(component=0) * np.cos(theta) + data["field"].isel(
        component=1
    ) * np.sin(theta)
    assert ((abs(field) <= data["edge"]) == data["kept"]).all()
    inside = (data["student_theory"] ** 2).sum("component")
    assert (inside < 1).all()


def synthetic_curves() -> xr.Dataset:
    """A curves dataset with one unsolved cell and one unconverged theory point."""
    grid, fine = (
        ("theta_deg", "alpha_total", "keep_fraction"),
        (
            "theta_deg",
            "alpha_total",
            "theory_fraction",
        ),
    )
    status = np.zeros((1, 1, 5), int)
    status[0, 0, 2] = 3
    return xr.Dataset(
        {
            "theory_error": (fine, np.linspace(0.4, 0.1, 5)[None, None]),
            "theory_status": (fine, status),
            "error_mean": (grid, [[[np.nan, 0.1]]]),
            "error_stderr": (grid, [[[np.nan, 0.01]]]),
            "not_separable": (grid, [[[7, 0]]]),
            "failed": (grid, [[[0, 0]]]),
            "empty": (grid, [[[0, 0]]]),
        },
        coords={
            "theta_deg": [0.0],
            "alpha_total": [5.0],
            "keep_fraction": [0.1, 1.0],
            "theory_fraction": np.geomspace(0.1, 1, 5),
        },
    )


def test_missing_cells_are_visible() -> None:
    figure = FIGURES["fitting-error"].draw(synthetic_curves())
    axes = figure.axes[0]
    theory = next(line for line in axes.lines if np.size(line.get_ydata()) == 5)
    assert np.flatnonzero(np.isnan(theory.get_ydata())).tolist() == [2]
    crosses = [line for line in axes.lines if line.get_marker() == "x"]
    marked = np.concatenate([line.get_xdata() for line in crosses])
    np.testing.assert_allclose(sorted(marked), [0.1, np.geomspace(0.1, 1, 5)[2]])
    assert "7" in {text.get_text() for text in axes.texts}
    assert "n draws" in figure.get_supxlabel()


def test_pearson_mode_says_so() -> None:
    data = xr.Dataset(attrs={"overlap": "pearson"})
    assert "np.corrcoef" in FIGURES["downstream"].caption(data)
    assert "corrcoef" not in FIGURES["downstream"].caption(xr.Dataset(attrs={"overlap": "cosine"}))
