"""The reference solver gives known values, so that it may judge others."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri
from scipy.stats import norm as normal

sys.path.insert(0, str(Path(__file__).parent))

import erm_reference as reference

REFERENCE = Path(__file__).parents[1] / "reference"
POINTS = json.loads((REFERENCE / "erm_points.json").read_text())
KOLOSSOV = json.loads((REFERENCE / "kolossov_points.json").read_text())["points"]
EVERYTHING = reference.intervals([(-9.0, 9.0, 1.0)])


def weight_of(
    policy: str, f: float, theta: float, labels: reference.Channel, lo: float = 0.0
) -> reference.Weight:
    """The windows of ranks behind the names of policies."""
    low = {"easy": 1 - f, "moderate": (1 - f) / 2, "window": lo, "window-signed": lo}
    start = low.get(policy.replace("easy-signed", "easy"), 0.0)
    if policy.endswith("-signed"):
        return reference.signed_ranks(start, start + f, theta, labels)
    return reference.ranks(start, start + f)


# The closed form is exact; both sides lose a few digits of 1e-16 in sums of 1e4 nodes.
@pytest.mark.parametrize("spectrum", ["isotropic", "power-law"])
def test_square_loss_has_a_closed_form(spectrum: str) -> None:
    lam, alpha, theta, f, eps = 0.1, 4.0, np.pi / 6, 0.5, 0.1
    inputs = (
        reference.Spectrum.isotropic()
        if spectrum == "isotropic"
        else reference.Spectrum.power_law(50, 1.2, 1.0, 0.5)
    )
    values = inputs.eigenvalues

    def resolvent(g: float) -> np.ndarray:
        return values / (lam + alpha * f / (1 + g) * values)

    g = brentq(lambda g: g - np.mean(resolvent(g)), 1e-9, 1 / lam, xtol=1e-15)
    if spectrum == "isotropic":  # Marchenko and Pastur
        kept = alpha * f
        root = np.sqrt((lam + kept - 1) ** 2 + 4 * lam)
        assert g == pytest.approx((1 - lam - kept + root) / (2 * lam), rel=1e-12)
    edge, cot = ndtri((1 + f) / 2), 1 / np.tan(theta)

    def over_kept(function: Any) -> float:
        return 2 * quad(lambda z: normal.pdf(z) * function(z), 0, edge, epsabs=1e-14)[0]

    c, s = np.cos(theta), np.sin(theta)
    turn = np.array([[c, s], [s, -c]])
    first = np.array(
        [
            over_kept(lambda z: z * (2 * ndtr(z * cot) - 1)),
            over_kept(lambda z: 2 * normal.pdf(z * cot)),
        ]
    )
    b = (1 - 2 * eps) * turn @ first
    S = turn @ np.diag([over_kept(lambda z: z**2), f]) @ turn.T
    k, m = resolvent(g), alpha / (1 + g)
    inverse = np.linalg.inv(inputs.sums(k))
    a = np.linalg.solve(inverse - m * f * np.eye(2) + m * S, m * b)
    nu, share = inverse @ a, m * np.mean(k**2) / (1 + g)
    rest = share * (f - 2 * a @ b + a @ S @ a) + nu @ inputs.sums(k**2) @ nu - a @ a
    q = np.sqrt(rest / (1 - share * f))
    labels = reference.flips(eps)
    answer = reference.solve(
        reference.Point("square", lam, alpha, theta, reference.ranks(0, f), labels, inputs)
    )
    norm = np.sqrt(a @ a + q**2)
    assert answer.prox_step == pytest.approx(g, rel=1e-12)
    assert answer.norm == pytest.approx(norm, rel=1e-11)
    assert answer.overlap == pytest.approx(a[0] / norm, rel=1e-11)
    assert answer.probe_overlap == pytest.approx((a[0] * c + a[1] * s) / norm, rel=1e-11)


# Sur and Candes (2019) print four decimals.
@pytest.mark.parametrize(
    ("kappa", "published"), [(0.1, (1.1678, 3.3466, 0.9605)), (0.2, (1.4994, 4.7436, 3.0269))]
)
def test_maximum_likelihood_is_that_of_sur_and_candes(
    kappa: float, published: tuple[float, float, float]
) -> None:
    temperature = 5**-0.5
    labels = reference.flips(temperature=temperature)
    point = reference.Point("logistic", 0.0, 1 / kappa, 0.0, EVERYTHING, labels)
    answer = reference.solve(point)
    found = (
        answer.overlap * answer.norm * temperature,
        answer.orthogonal / np.sqrt(kappa),
        answer.prox_step,
    )
    np.testing.assert_allclose(found, published, rtol=0, atol=6e-5)


def test_strong_regularisation_gives_hebbs_vector() -> None:
    """Every example is a violator, and W is a multiple of the sum of y x."""
    alpha, theta, f, eps = 4.0, np.pi / 6, 0.5, 0.1
    labels = reference.flips(eps)
    point = reference.Point("hinge", 100.0, alpha, theta, reference.ranks(0, f), labels)
    # Nine decimals of the value are known; at lam = 100 the limit is reached to 1e-14.
    assert reference.solve(point).overlap == pytest.approx(0.429845994, abs=6e-10)


# Five digits are known. A half of flips leaves Cover's 2, exactly.
@pytest.mark.parametrize(
    ("eps", "theta_deg", "f", "kept"),
    [(0.1, 0, 1, 2.9923), (0.05, 20, 0.5, 3.8971), (0.5, 0, 1, 2.0)],
)
def test_separability(eps: float, theta_deg: float, f: float, kept: float) -> None:
    theta = np.deg2rad(theta_deg)
    weight = EVERYTHING if f == 1 else reference.ranks(0, f)
    threshold = reference.separability_threshold(theta, weight, reference.flips(eps))
    assert f * threshold == pytest.approx(kept, abs=6e-5)


# One of each loss; policy, noise and spectrum differ. Another program made the numbers.
@pytest.mark.parametrize("index", [8, 11, 22, 25])
def test_points_of_another_solver(index: int) -> None:
    point = POINTS[index]
    theta = np.deg2rad(point["theta_deg"])
    labels = reference.flips(point["eps"], point.get("sigma", 0.0), point.get("temp", 0.0))
    weight = weight_of(point["policy"], point["f"], theta, labels, point.get("lo", 0.0))
    assert reference.kept_fraction(theta, weight, labels) == pytest.approx(point["f"], rel=1e-12)
    inputs = reference.Spectrum.isotropic()
    if "spectrum" in point:
        given = point["spectrum"]
        inputs = reference.Spectrum.power_law(given["N"], given["a"], given["r"], given["rv"])
    answer = reference.solve(
        reference.Point(
            loss=point["loss"].replace("_", "-"),
            lam=point["lam"],
            alpha_total=point["alpha_total"],
            theta=theta,
            weight=weight,
            labels=labels,
            spectrum=inputs,
        )
    )
    found = (answer.overlap, answer.probe_overlap, answer.norm, answer.weight_norm2, answer.error)
    wanted = [point[name] for name in ("R", "rho", "norm", "w2", "error")]
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-10)


# Smooth weights, with label flips and with label steps; printed with twelve digits.
@pytest.mark.parametrize("index", [2, 9, 13, 18])
def test_smooth_weights(index: int) -> None:
    point = KOLOSSOV[index]
    theta, form = np.deg2rad(point["theta_deg"]), point["weight"]
    if "label_steps" in point:
        labels = reference.label_steps(*point["label_steps"].values())
    else:
        labels = reference.flips(point["eps"])

    def share(z: np.ndarray) -> np.ndarray:
        right = 1 / (1 + np.exp(-np.clip(form["scale"] * z, -form["clip"], form["clip"])))
        return np.minimum(form["c"] * (right * (1 - right)) ** form["exponent"], 1.0)

    clipped = form["clip"] / form["scale"]
    breaks = [-clipped, clipped]
    if share(np.zeros(1))[0] == 1 or share(np.array([clipped]))[0] == 1:
        edge = brentq(lambda z: _unclipped(form, z) - 1, 0.0, clipped, xtol=1e-15)
        breaks += [-edge, edge]
    weight = reference.Weight(share, tuple(breaks), 2 / form["scale"])
    assert reference.kept_fraction(theta, weight, labels) == pytest.approx(point["f"], abs=1e-9)
    answer = reference.solve(
        reference.Point("logistic", point["lam"], point["alpha_total"], theta, weight, labels)
    )
    found = (answer.overlap, answer.probe_overlap, answer.norm, answer.error)
    wanted = [point[name] for name in ("R", "rho", "norm", "error")]
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


def _unclipped(form: dict[str, float], z: float) -> float:
    right = 1 / (1 + np.exp(-form["scale"] * z))
    return float(form["c"] * (right * (1 - right)) ** form["exponent"])


# Made by two quadratures of another program, and printed with eight decimals:
# folds, common, loss, lam, eps, theta_deg, policy, f, alpha_total, overlap, norm, error.
CROSS_FITTED = """
5 0.0 square 0.1 0.1 20 hard 0.2 20 0.95199290 1.42009286 0.09903091
5 0.0 squared-hinge 0.1 0.1 20 hard 0.1 20 0.72166281 1.45616401 0.24337813
5 0.0 logistic 0.1 0.1 40 hard 0.2 20 0.86218844 2.25233617 0.16909335
2 0.0 hinge 0.1 0.1 30 hard 0.2 20 0.88672003 2.29927180 0.15297813
10 0.0 logistic 0.025 0.0 20 hard 0.1 50 0.98275437 5.94125232 0.05920124
5 0.3 squared-hinge 0.1 0.1 40 hard 0.2 20 0.88657812 1.33248016 0.15307581
5 0.0 squared-hinge 0.1 0.1 20 hard-signed 0.2 20 -0.69346052 1.03552039 0.74391482
"""


@pytest.mark.parametrize("row", CROSS_FITTED.strip().splitlines())
def test_cross_fitted_probes(row: str) -> None:
    folds, common, loss, lam, eps, theta_deg, policy, f, alpha, *wanted = row.split()
    theta, labels = np.deg2rad(float(theta_deg)), reference.flips(float(eps))
    answer = reference.solve(
        reference.Point(
            loss=loss,
            lam=float(lam),
            alpha_total=float(alpha),
            theta=theta,
            weight=weight_of(policy, float(f), theta, labels),
            labels=labels,
            folds=int(folds),
            common=float(common),
        )
    )
    found = (answer.overlap, answer.norm, answer.error)
    np.testing.assert_allclose(found, [float(one) for one in wanted], rtol=0, atol=6e-9)


def test_folds_of_one_probe_are_one_fold() -> None:
    """Probes that agree (common = 1) are one probe, whatever their number."""
    labels = reference.flips(0.1)
    answers = [
        reference.solve(
            reference.Point(
                "hinge", 0.1, 5.0, 0.5, reference.ranks(0, 0.4), labels, folds=folds, common=1.0
            )
        )
        for folds in (1, 4)
    ]
    assert answers[0].overlap == pytest.approx(answers[1].overlap, rel=1e-12)
