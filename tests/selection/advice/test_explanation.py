from types import SimpleNamespace

import numpy as np
import pytest

from selection.advice.explanation import GRID, explain, predict, spectrum_of
from selection.advice.students import RegularisedStudents
from selection.advice.table_estimates import Estimates, estimate

FLIP = 0.1
N, DIM = 400, 16


class Drawn(SimpleNamespace):
    """Teacher-student data with students of its folds, and their angle to the teacher."""


def _draw(seed: int, n: int = N, decay: float = 1.0, flip: float = FLIP, loss: str = "logistic"):
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.standard_normal((DIM, DIM)))
    covariance = (turn * np.arange(1, DIM + 1.0) ** -decay) @ turn.T
    teacher = turn @ rng.standard_normal(DIM)
    teacher /= np.sqrt(teacher @ covariance @ teacher)
    x = rng.standard_normal((n, DIM)) @ np.linalg.cholesky(covariance).T
    labels = ((x @ teacher > 0) ^ (rng.random(n) < flip)).astype(np.int64)
    students = RegularisedStudents(x, labels, loss=loss)
    tests = np.array_split(rng.permutation(n), 5)
    trains = [np.setdiff1d(np.arange(n), rows) for rows in tests]
    values = np.empty(n)
    for rows, answer in zip(tests, students.answers(trains, tests), strict=True):
        values[rows] = answer.values
    angles = []
    for weights in students.weights(trains)[0][:, 0]:
        J = weights / x.std(axis=0)
        angles.append(np.arccos(J @ covariance @ teacher / np.sqrt(J @ covariance @ J)))
    scale = 1 / np.sqrt(np.diag(covariance))
    c, vectors = np.linalg.eigh(covariance * scale[:, None] * scale)
    return Drawn(
        students=students,
        labels=labels,
        values=values,
        theta=float(np.mean(angles)),
        eigenvalues=c[::-1],
        teacher=(c * (vectors.T @ (teacher / scale)) ** 2)[::-1],
    )


@pytest.fixture(scope="module")
def drawn() -> list[tuple[Drawn, Estimates]]:
    found = [_draw(seed) for seed in range(12)]
    return [(one, estimate(one.students, one.labels, one.values, seed=1)) for one in found]


def test_the_angle_of_the_probes_is_found(drawn: list[tuple[Drawn, Estimates]]) -> None:
    off = np.rad2deg([found.theta - one.theta for one, found in drawn])
    assert abs(off.mean()) < 2.0 + 3 * off.std(ddof=1) / np.sqrt(len(off))
    held = [f.theta_interval[0] <= one.theta <= f.theta_interval[1] for one, f in drawn]
    assert np.mean(held) > 0.9 - 3 * np.sqrt(0.09 / len(held))


def test_noise_spectrum_and_teacher_are_found(drawn: list[tuple[Drawn, Estimates]]) -> None:
    flips = np.array([found.flip for _, found in drawn])
    assert abs(flips.mean() - FLIP) < 0.01 + 3 * flips.std(ddof=1) / np.sqrt(len(flips))
    assert np.mean([f.flip_interval[0] <= FLIP <= f.flip_interval[1] for _, f in drawn]) > 0.64
    assert np.mean([f.noise_sigma_interval[0] == 0.0 for _, f in drawn]) > 0.64
    for one, found in drawn:
        assert found.dim == DIM
        assert found.alpha_total == N / DIM
        assert found.lam == pytest.approx(1 / DIM)
        assert found.eigenvalues.mean() == pytest.approx(1)
        # Two tenths are the sample's own noise of the largest eigenvalue at n/N = 25.
        assert found.eigenvalues[0] == pytest.approx(one.eigenvalues[0], rel=0.25)
        for part in (found.teacher, found.direction):
            assert part.sum() == pytest.approx(1)
        assert found.cross.sum() == pytest.approx(0, abs=1e-12)
    top = np.array([[f.teacher[:4].sum(), one.teacher[:4].sum()] for one, f in drawn])
    assert abs(np.mean(top[:, 0] - top[:, 1])) < 0.05


def test_the_theory_knows_sums_over_the_estimated_directions(
    drawn: list[tuple[Drawn, Estimates]],
) -> None:
    _, found = drawn[0]
    inputs = spectrum_of(found)
    # Each direction is several of them, so that t v has a mean although its square is larger.
    t, v = (np.reshape(part, (-1, DIM)) for part in (inputs.teacher, inputs.direction))
    np.testing.assert_allclose(np.sum(t**2, axis=0), found.teacher)
    np.testing.assert_allclose(np.sum(v**2, axis=0), found.direction, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(np.sum(t * v, axis=0), found.cross, atol=1e-12)


def test_the_curve_passes_through_published_points_of_one_fresh_probe() -> None:
    # Section 3 of the specification of the advice: isotropic, N = 40, n = 2,000, students of all
    # rows ranked by one fresh probe, means over draws with their standard errors. The angles are
    # those of probes trained on four fifths of the rows.
    fractions = (1.0, 0.125, 0.06)
    for theta, flip, wanted in (
        (9.97, 0.1, ((0.267, 0.009), (0.454, 0.003))),
        (3.10, 0.0, ((0.063, 0.002), (0.401, 0.011))),
    ):
        truth = Estimates(
            examples=2000,
            dim=40,
            alpha_total=50.0,
            loss="logistic",
            lam=1 / 40,
            eigenvalues=np.ones(DIM),
            teacher=np.full(DIM, 1 / DIM),
            direction=np.full(DIM, 1 / DIM),
            cross=np.zeros(DIM),
            theta=float(np.deg2rad(theta)),
            theta_interval=(0.0, 1.0),
            flip=flip,
            flip_interval=(0.0, 0.5),
            noise_sigma=0.0,
            noise_sigma_interval=(0.0, 1.0),
            slope=1.0,
            overlap=1.0,
        )
        normal = np.random.default_rng(0).standard_normal(20_000)
        # With very many folds students and probes have all rows.
        errors, failures = predict(truth, normal, folds=10**6, keep_fraction=fractions)
        assert failures == 0
        for found, (mean, error) in zip(errors["hard"][1:], wanted, strict=True):
            assert abs(found - mean) < 3 * error


def test_an_explanation_says_how_well_it_agrees(drawn: list[tuple[Drawn, Estimates]]) -> None:
    one, _ = drawn[0]
    error = float(np.mean((one.values > 0) != one.labels))
    measured = [SimpleNamespace(policy="hard", keep_fraction=0.5, error=error)]
    given = {"folds": 5, "measured": measured, "seed": 1}
    found = explain(one.students, one.labels, one.values, error_all=error, **given)
    assert found.label == "independent probe"
    assert found.drawn
    assert found.factor_all < 1.5
    assert found.keep_fraction.tolist() == list(GRID)
    assert found.measured["hard"][2] == error
    assert np.isnan(found.measured["mixture"][2])
    assert np.isnan(found.factor_hard_quarter)
    # Without selection the policies are one; half the rows at random lose.
    all_data = {float(np.round(errors[0], 9)) for errors in found.predicted.values()}
    assert len(all_data) == 1
    assert found.predicted["random"][2] > found.predicted["random"][0]
    assert np.all(np.isfinite([*found.predicted.values()]))

    far = explain(one.students, one.labels, one.values, error_all=5 * error, **given)
    assert far.factor_all > 3
    assert not far.drawn
    assert "not drawn" in far.warnings[0]


def test_tables_beyond_the_theory_get_a_sentence() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    students = RegularisedStudents(rng.standard_normal((60, 2)), labels)
    found = explain(students, labels, np.zeros(60), folds=5, measured=[], error_all=0.5)
    assert found.estimates is None
    assert not found.drawn
    assert np.all(np.isnan(found.predicted["hard"]))
    assert "two classes" in found.warnings[0]
