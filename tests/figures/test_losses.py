"""Figures of students with a loss show the numbers of an independent derivation.

The values were computed by a solver in NumPy with another quadrature, and are printed to four
decimals. Its ridges of least error are known to a few percent, which the least error does not feel.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from figures import FIGURES
from figures.curation import curation_problem
from figures.published import KOLOSSOV, kolossov_problem
from theory.labels import LabelSteps
from theory.policies import Power
from theory.students import ERM

PRINTED = 1e-4
SMALL: dict[str, Any] = {"dim": 12, "draws": 2, "theory_points": 2}
REFERENCE = Path(__file__).parents[1] / "reference" / "kolossov_points.json"


def computed(name: str, **changes: Any) -> xr.Dataset:
    spec = FIGURES[name]
    return spec.compute(spec.settings(**(SMALL | changes)))


def test_a_few_flips_help_hard_selection() -> None:
    data = computed("label-noise", flip=(0, 0.05))
    assert data["error_mean"].dims == ("rule", "flip")
    assert not data["theory_status"].any()
    for rule, *values in (
        ("all data", 0.0224, 0.0656),
        ("random", 0.1037, 0.1542),
        ("hard", 0.1522, 0.0853),
        ("window", 0.0635, 0.0884),
        ("easy", 0.1194, 0.1463),
        ("window-signed", 0.1022, 0.0996),
        ("easy-signed", 0.1194, 0.1196),
    ):
        found = data["theory_error"].sel(rule=rule, theory_flip=[0, 0.05])
        np.testing.assert_allclose(found, values, atol=PRINTED, rtol=0)
    signed = data["theory_error"].sel(rule="hard-signed", theory_flip=[0, 0.05])
    np.testing.assert_allclose(signed, [0.3321, 0.521], atol=5e-4, rtol=0)  # three decimals


def test_the_loss_decides_whether_hard_examples_help() -> None:
    losses = ("square", "squared-hinge")
    data = computed("loss-decides", loss=losses, theta_deg=20, keep_fraction=(0.2, 1))
    found = data["theory_error"].isel(theta_deg=0).sel(theory_keep_fraction=[0.2, 1])
    np.testing.assert_allclose(
        found.sel(loss=list(losses)), [[0.0502, 0.0546], [0.1522, 0.0224]], atol=PRINTED, rtol=0
    )


def test_the_ridge_decides_as_well() -> None:
    lams = (1e-4, 1e-3, 1e-2)
    data = computed("regularisation", loss="squared-hinge", lam=lams, lam_range=(1e-6, 100))
    hard, easy = (
        data["theory_error"].sel(loss="squared-hinge", rule=rule) for rule in ("hard", "easy")
    )
    np.testing.assert_allclose(
        hard.sel(theory_lam=[1e-6, *lams]),
        [0.0881, 0.0883, 0.0901, 0.1086],
        atol=PRINTED,
        rtol=0,
    )
    assert hard[0] < easy[0] and hard[-1] > easy[-1]


def test_five_probes_are_better_than_one() -> None:
    data = computed("cross-fitted", folds=(1, 5), flip=0, keep_fraction=(0.2, 0.5))
    found = data["theory_overlap"].isel(flip=0).sel(theory_keep_fraction=0.2)
    np.testing.assert_allclose(found[:2], [0.7144, 0.97559], atol=5e-5, rtol=0)
    assert np.isinf(data["theory_folds"][-1]) and found[-1] > found[1]
    # The simulation has the finite numbers of folds.
    assert data["error_mean"].sizes == {"flip": 1, "folds": 2, "keep_fraction": 2}


def test_thresholds_of_separability() -> None:
    data = computed(
        "separability",
        theta_deg=(0, 20),
        flip=0.05,
        theory_range=(0.2, 1),
        volume_share=(0.1, 10),
    )
    kept = (data["threshold"] * data["theory_keep_fraction"]).isel(flip=0, theory_keep_fraction=0)
    for rule, *values in (
        ("hard", 4.2482, 3.8142),
        ("window", 5.4630, 3.8678),
        ("easy", 5.7188, 5.7174),
    ):
        np.testing.assert_allclose(kept.sel(rule=rule), values, atol=PRINTED, rtol=0)
    everything = (data["threshold"]).isel(flip=0, theory_keep_fraction=1).sel(rule="hard")
    np.testing.assert_allclose(everything, 3.8097, atol=PRINTED, rtol=0)
    # Far below the threshold every draw is separable, and far above it none.
    assert (data["not_separable"].sel(volume_share=0.1) == 0).all()
    assert (data["solved"].sel(volume_share=10) == 0).all()


def test_less_is_more_with_flips() -> None:
    maps = {"map_volumes": 2, "map_flips": 2, "map_fractions": 2, "map_range": (19.99, 20)}
    data = computed("less-is-more", flip=0.1, keep_fraction=(0.4, 1), **maps)
    np.testing.assert_allclose(data["theory_error"][0], [0.0557, 0.0706], atol=PRINTED, rtol=0)
    # The corner of the maps is the same problem.
    corner = data["map_error"].isel(map_flip=-1, map_alpha_total=-1)
    np.testing.assert_allclose(corner, data["theory_error"][0], rtol=1e-6)


def test_an_even_spectrum_is_isotropic() -> None:
    data = computed("spectrum", alpha_total=20, keep_fraction=1, spectrum_a=(0, 1))
    assert data["theory_error"].dims == ("keep_fraction", "spectrum_a", "theory_alpha_total")
    found = data["theory_error"].sel(spectrum_a=0, theory_alpha_total=20).item()
    np.testing.assert_allclose(found, 0.0846, atol=PRINTED, rtol=0)
    # Fewer directions matter to a steep spectrum.
    assert data["theory_error"].sel(spectrum_a=1, theory_alpha_total=20).item() < found


def test_curation_has_the_angles_that_it_says() -> None:
    """Three unit vectors are built from the angles, and multiplied."""
    settings = FIGURES["curation"].settings(alpha_total=5)
    generator, pruner = np.deg2rad(25.0), np.deg2rad(40.0)
    problem = curation_problem(settings, "hard", np.array([25.0]), np.array([40.0]))
    theta = problem.probe.theta[0]  # type: ignore[union-attr]
    teacher = np.array([1.0, 0.0, 0.0])
    probe = np.array([np.cos(theta), np.sin(theta), 0.0])
    inside = problem.downstream.along_plane[0]  # type: ignore[index]
    away = np.array([0.0, inside, np.sqrt(1 - inside**2)])
    truth = teacher + problem.downstream.delta[0] * away  # type: ignore[index]
    truth /= np.linalg.norm(truth)
    np.testing.assert_allclose(truth @ teacher, np.cos(generator), rtol=1e-12)
    np.testing.assert_allclose(truth @ probe, np.cos(pruner), rtol=1e-12)
    # What is not along the truth is orthogonal: the deviations are independent.
    off = [one - (one @ truth) * truth for one in (teacher, probe)]
    np.testing.assert_allclose(off[0] @ off[1], 0, atol=1e-12)


def test_published_points_are_those_of_the_reference() -> None:
    points = json.loads(REFERENCE.read_text())["points"]
    assert len(points) == len(KOLOSSOV)
    for row, point in zip(KOLOSSOV, points, strict=True):
        labels, surrogate, ridge, exponent, fraction, printed, mean, stderr = row
        problem = kolossov_problem(labels, surrogate, ridge, exponent, fraction)
        assert isinstance(problem.student, ERM) and isinstance(problem.policy, Power)
        assert isinstance(problem.labels, LabelSteps)
        weight = point["weight"]
        for found, wanted in (
            (problem.alpha_total, point["alpha_total"]),
            (np.rad2deg(problem.probe.theta), point["theta_deg"]),  # type: ignore[union-attr]
            (problem.student.lam, point["lam"]),
            (problem.policy.scale, weight["scale"]),
            (problem.policy.exponent, weight["exponent"]),
            (problem.policy.clip, weight["clip"]),
            (fraction, point["f"]),
        ):
            np.testing.assert_allclose(found, wanted, rtol=1e-9)
        steps = point.get("label_steps") or {"u": [0], "prob": [point["eps"], 1 - point["eps"]]}
        at = np.array([-1.0, -0.05, 0.05, 1.0])
        chances = np.asarray(problem.labels.probabilities)[
            np.searchsorted(np.asarray(problem.labels.edges), at)
        ]
        np.testing.assert_allclose(chances, np.take(steps["prob"], np.searchsorted(steps["u"], at)))
        np.testing.assert_allclose(printed, point["published"]["test_error_noisy"], atol=1e-6)
        if simulated := point.get("published_simulation"):
            assert (mean, stderr) == tuple(simulated["test_error_noisy"])
        else:
            assert np.isnan(mean)
