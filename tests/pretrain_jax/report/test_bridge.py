"""The bridge on data whose coordinates are known."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from hardset.seal import seal_file
from pretrain_jax.report import Bridge, bridge
from pretrain_jax.report.charts import bridge_chart
from pretrain_jax.report.collect import collect
from pretrain_jax.report.page import page
from pretrain_jax.report.toy_model import bridge_of_run
from pretrain_jax.synthesis.tables import write_table
from selection import LearningCurve
from tests.pretrain_jax.records import edit_record

COUNT, DIM, OVERLAP = 400, 20, 0.75


@pytest.fixture(scope="module")
def margins() -> tuple[np.ndarray, np.ndarray]:
    """Two margins whose correlation is OVERLAP to rounding, with positive means."""
    rng = np.random.default_rng(0)
    basis = rng.normal(size=(COUNT, 3))
    basis -= basis.mean(axis=0)
    common, one, other = np.linalg.qr(basis)[0].T
    shared, own = np.sqrt(OVERLAP) * common, np.sqrt(1 - OVERLAP)
    return 3 + shared + own * one, 7 + 2 * (shared + own * other)


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(COUNT, DIM)).astype(np.float32)


@pytest.fixture(scope="module")
def found(features: np.ndarray, margins: tuple[np.ndarray, np.ndarray]) -> Bridge:
    return bridge(features, *margins, COUNT // 2, policies=("hard", "random"))


def test_coordinates(found: Bridge, margins: tuple[np.ndarray, np.ndarray]) -> None:
    """theta of a half is arccos(sqrt(.75)) = 30 degrees; isotropic features have all dimensions."""
    known = found.coordinates
    assert known.overlap == pytest.approx(np.corrcoef(*margins)[0, 1])
    assert np.rad2deg(known.theta_part) == pytest.approx(30.0)
    # An effective dimension of 20 from 400 rows has an error of a few percent.
    assert known.alpha_total == pytest.approx(COUNT / DIM, rel=0.1)
    curve = LearningCurve.of_theory()
    assert known.theta == pytest.approx(float(curve.angle(2 * curve.alpha(known.theta_part))))
    assert known.theta < known.theta_part


def test_curve_and_band(found: Bridge) -> None:
    """All data give the learning curve of max-margin, whatever the probe; the band is around."""
    assert found.recommendation is not None
    assert found.fractions[-1] == 1.0
    alpha = found.coordinates.alpha_total
    full = float(LearningCurve.of_theory().angle(alpha)) / np.pi
    # Interpolation of the learning curve.
    assert found.error[-1] == pytest.approx(full, rel=1e-4)
    assert found.error[-1] == pytest.approx(found.recommendation.full_error, rel=1e-6)
    known = np.isfinite(found.error)
    assert known.all()
    assert np.all(found.low <= found.error)
    assert np.all(found.error <= found.high)
    assert found.error.min() >= found.recommendation.error * (1 - 1e-6)
    alphas = found.coordinates.alpha_interval
    ends = LearningCurve.of_theory().angle(np.array(alphas)) / np.pi
    np.testing.assert_allclose([found.high[-1], found.low[-1]], ends, rtol=1e-4)


def test_page_of_a_defined_angle(found: Bridge, run_folder: Path) -> None:
    text = page(collect(run_folder), "none", found, "none")
    advice = found.recommendation
    assert advice is not None
    assert f"The theory's best: keep {100 * advice.keep_fraction:.3g} % by {advice.policy}" in text
    assert "heuristic" in text
    assert "30.0" in text  # degrees of a half's probe
    axes = bridge_chart(found, []).figure.axes
    assert [one.get_ylabel() for one in axes] == [
        r"fitting error $\arccos(R)/\pi$",
        "measured error, 1 - mIoU",
    ]
    (curve, line) = axes[0].lines
    np.testing.assert_array_equal(curve.get_ydata(), found.error)
    assert line.get_xdata()[0] == 100 * advice.keep_fraction


def test_undefined_angle_is_said(
    features: np.ndarray, margins: tuple[np.ndarray, np.ndarray], run_folder: Path
) -> None:
    one, other = margins
    none = bridge(features, one, -other, COUNT // 2)
    assert none.recommendation is None
    assert np.isnan(none.coordinates.theta)
    text = page(collect(run_folder), "none", none, "none")
    assert "theta is undefined" in text
    assert ">undefined<" in text
    assert "The theory's best" not in text
    assert len(bridge_chart(none, []).figure.axes) == 1


def test_refused(features: np.ndarray, margins: tuple[np.ndarray, np.ndarray]) -> None:
    one, other = margins
    with pytest.raises(ValueError, match="features have 399 rows, the margins 400 and 400"):
        bridge(features[1:], one, other, COUNT // 2)
    with pytest.raises(ValueError, match="other holds the same margin everywhere"):
        bridge(features, one, np.ones(COUNT), COUNT // 2)


def test_files_of_a_run(
    run_folder: Path, features: np.ndarray, margins: tuple[np.ndarray, np.ndarray]
) -> None:
    """Tables in any order of the images; here both probes disagree, so that nothing is solved."""
    one, other = margins
    place = run_folder / "scores/images"
    assert "scores/images-half-0 is not there" in str(bridge_of_run(collect(run_folder)))
    order = np.random.default_rng(2).permutation(COUNT)
    for half, values in enumerate((one, -other)):
        folder = run_folder / f"scores/images-half-{half}"
        folder.mkdir()
        rows = order if half else np.arange(COUNT)
        batch = {"image": rows, "margin": values[rows].astype(np.float32)}
        write_table(folder, "part", [batch], {"image": "int64", "margin": "float"})
        shutil.copy(place / "manifest.json", folder)
        edit_record(folder / "manifest.json", seed=half)
    assert "holds no features" in str(bridge_of_run(collect(run_folder)))
    np.save(place / "features.npy", features)
    seal_file(place / "features.npy")
    found = bridge_of_run(collect(run_folder))
    assert isinstance(found, Bridge)
    assert found.coordinates.overlap == pytest.approx(-OVERLAP, abs=1e-5)
    assert found.coordinates.trained_on == COUNT // 2
    np.save(place / "features.npy", features[:30])
    seal_file(place / "features.npy")
    assert "30 images are too few" in str(bridge_of_run(collect(run_folder)))


def test_points_without_an_answer_are_counted(found: Bridge, run_folder: Path) -> None:
    error = found.error.copy()
    error[:3] = np.nan
    text = page(collect(run_folder), "none", dataclasses.replace(found, error=error), "none")
    assert "3 of 41 points of the curve have no certified answer" in text
