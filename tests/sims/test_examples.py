"""Observed labels and covariances of simulations, against their definitions."""

import numpy as np
import pytest
from scipy.special import expit, ndtr
from sklearn.linear_model import LogisticRegression

from sims import realised_spectrum, run
from sims.cells import keep_copies, problem_cells
from sims.draws import draw_rows
from sims.examples import Examples
from sims.maxmargin.lanes import solve_native
from sims.probes import DrawState, cross_fitted_probes
from theory import ERM, CrossFitted, FixedAngle, Flip, OutOfFold, PerceptronProblem, PowerLaw
from theory.inputs import Isotropic, Spectrum
from theory.labels import Clean, Labels, LabelSteps, Logit, Probit
from theory.policies import policy_from_name

COUNT = 40_000


@pytest.mark.parametrize(
    ("labels", "chance"),
    [
        (Flip(0.1), lambda u: np.full_like(u, 0.9)),
        (Probit(0.5), lambda u: ndtr(u / 0.5)),
        (Probit(0.5, 0.1), lambda u: 0.1 + 0.8 * ndtr(u / 0.5)),
        (Logit(0.4), lambda u: expit(u / 0.4)),
        (Logit(0.0, 0.2), lambda u: np.full_like(u, 0.8)),
        (
            LabelSteps([-0.5, 0.0, 0.5], [0.3, 0.05, 0.95, 0.7]),
            lambda u: np.where(u < 0.5, 0.95, 0.7),
        ),
    ],
)
def test_labels_are_true_as_often_as_the_channel_says(labels: Labels, chance: object) -> None:
    draw = draw_rows(0, 2, 0, COUNT)
    examples = Examples(draw, labels, Isotropic())
    u = draw.labels * draw.rows[:, 0]
    right = examples.labels == np.sign(u)
    wanted = chance(np.abs(u))
    for part in (np.abs(u) < 0.5, np.abs(u) >= 0.5):
        spread = np.sqrt(np.sum(wanted[part] * (1 - wanted[part])))
        assert abs(np.sum(right[part]) - np.sum(wanted[part])) < 4 * spread
    # Both signs of the field alike.
    spread = np.sqrt(np.sum(wanted * (1 - wanted)))
    assert abs(np.sum((right - wanted) * np.sign(u))) < 4 * spread


def test_more_noise_flips_more_labels_of_the_same_rows() -> None:
    draw = draw_rows(0, 3, 1, 2000)
    few, many = (Examples(draw, Flip(flip), Isotropic()).signs < 0 for flip in (0.1, 0.3))
    assert np.all(many[few])
    assert np.count_nonzero(many) > np.count_nonzero(few) > 0
    assert Examples(draw, Clean(), Isotropic()).signs is None
    shorter = Examples(draw_rows(0, 3, 1, 700), Flip(0.1), Isotropic())
    assert np.array_equal(shorter.signs < 0, few[:700])


def test_out_of_fold_probes_are_those_of_a_selection_written_out() -> None:
    """Four folds of 12 rows: each is ranked by a ridge student of the other 36."""
    student, labels = ERM("square", LAM), Flip(0.2)
    problem = PerceptronProblem(ALPHA, FRACTION, OutOfFold(4), student=student, labels=labels)
    found = run(problem, DIM, 2, 5)
    angles = []
    for number in range(2):
        draw = draw_rows(5, DIM, number, round(ALPHA * DIM))
        x = draw.labels[:, None] * draw.rows
        y = np.sign(x[:, 0]) * np.where(draw.label_noise() < 0.8, 1, -1)

        def direction(rows: np.ndarray, x: np.ndarray = x, y: np.ndarray = y) -> np.ndarray:
            gram = x[rows].T @ x[rows] + LAM * DIM * np.eye(DIM)
            w = np.linalg.solve(gram, x[rows].T @ y[rows])
            return w / np.linalg.norm(w)

        kept, probes = [], []
        for fold in np.split(np.arange(len(x)), 4):
            probes.append(direction(np.setdiff1d(np.arange(len(x)), fold)))
            kept.append(fold[np.argsort(np.abs(x[fold] @ probes[-1]), kind="stable")[:6]])
        w = direction(np.concatenate(kept))
        one = found.isel(draw=number)
        np.testing.assert_allclose(one["overlap"], w[0], rtol=1e-9)
        np.testing.assert_allclose(one["probe_overlap"], np.mean(probes, axis=0) @ w, rtol=1e-9)
        angles += [np.arccos(probe[0]) for probe in probes]
    np.testing.assert_allclose(found["theta_mean"], np.mean(angles), rtol=1e-9)


def test_power_laws_are_realised_as_they_are_defined() -> None:
    law = PowerLaw(dim=50, a=0.8, r=1.0, rv=0.5)
    found = realised_spectrum(law)
    c = np.arange(1, 51) ** -0.8
    c *= 50 / c.sum()
    np.testing.assert_allclose(found.eigenvalues, c, rtol=1e-13)
    t2 = c**2 / np.sum(c**2)
    np.testing.assert_allclose(np.square(found.teacher), t2, rtol=1e-12)
    assert abs(found.teacher @ found.direction) < 1e-14
    assert np.isclose(found.direction @ found.direction, 1, rtol=1e-13)
    # Balanced: sums of t_j v_j over any number of directions stay below the largest term.
    law = realised_spectrum(PowerLaw(dim=2000, a=0.5))
    partial = np.cumsum(law.teacher * law.direction)
    assert np.max(np.abs(partial)) < 2 * np.max(np.abs(law.teacher * law.direction))
    np.testing.assert_allclose(
        np.square(law.direction), law.eigenvalues / np.sum(law.eigenvalues), rtol=0.2
    )


def test_spectra_repeat_their_eigenvalues() -> None:
    given = Spectrum([0.5, 1.5], [0.6, 0.8], [0.8, -0.6])
    found = realised_spectrum(given, 6)
    np.testing.assert_array_equal(found.eigenvalues, [0.5, 0.5, 0.5, 1.5, 1.5, 1.5])
    np.testing.assert_allclose(found.teacher, [0.6, 0, 0, 0.8, 0, 0], rtol=1e-15)
    np.testing.assert_allclose(found.direction, [0.8, 0, 0, -0.6, 0, 0], rtol=1e-14)
    with pytest.raises(ValueError, match="dim = 5 is no multiple of the number of eigenvalues"):
        realised_spectrum(given, 5)
    with pytest.raises(ValueError, match=r"dim = 7 is not that of the inputs, PowerLaw\(dim=9\)"):
        run(PerceptronProblem(3.0, inputs=PowerLaw(9, 1.0)), 7, 1)
    with pytest.raises(ValueError, match="dim is missing"):
        run(PerceptronProblem(3.0), None, 1)


# 12 dimensions, 4 x 12 examples, of which 24 are kept.
DIM, ALPHA, FRACTION, THETA, LAM = 12, 4.0, 0.5, 0.5, 0.3


@pytest.mark.parametrize(
    ("name", "redundancy", "inputs"),
    [
        ("hard-signed", 1, Isotropic()),
        ("hard", 3, Isotropic()),
        ("easy-signed", 1, PowerLaw(DIM, 1.0, 0.5)),
    ],
)
def test_students_are_those_of_a_selection_written_out(
    name: str, redundancy: int, inputs: Isotropic | PowerLaw
) -> None:
    problem = PerceptronProblem(
        ALPHA,
        FRACTION,
        FixedAngle(THETA),
        policy_from_name(name),
        float(redundancy),
        student=ERM("logistic", LAM),
        labels=Flip(0.2),
        inputs=inputs,
    )
    found = run(problem, None if isinstance(inputs, PowerLaw) else DIM, 2, 5)
    c, t, v = np.ones(DIM), np.eye(DIM)[0], np.eye(DIM)[1]
    if isinstance(inputs, PowerLaw):
        own = realised_spectrum(inputs)
        c, t, v = own.eigenvalues, own.teacher, own.direction
    for number in range(2):
        distinct = round(ALPHA * DIM / redundancy)
        draw = draw_rows(5, DIM, number, distinct)
        normal = draw.labels[:, None] * draw.rows
        x = normal * np.sqrt(c)
        u, z = normal @ t, normal @ (np.cos(THETA) * t + np.sin(THETA) * v)
        # The label is flipped where the draw's uniform number is among the 20% largest.
        y = np.sign(u) * np.where(draw.label_noise() < 0.8, 1, -1)
        # Copies are neighbours in the ranking.
        copies = np.repeat(np.arange(distinct), redundancy)
        ranked = (y * z if name.endswith("signed") else np.abs(z))[copies]
        order = copies[np.argsort(ranked, kind="stable")]
        kept = order[-24:] if name.startswith("easy") else order[:24]
        fitted = LogisticRegression(C=1 / (LAM * DIM), fit_intercept=False, tol=1e-12)
        w = fitted.fit(x[kept], y[kept]).coef_.ravel()
        norm = np.sqrt(w @ (c * w))
        margins = y[kept] * (x[kept] @ w)
        one = found.isel(draw=number)
        # lbfgs stops at gradients of about 1e-6.
        for name_, value in {
            "overlap": (np.sqrt(c) * w) @ t / norm,
            "probe_overlap": (np.sqrt(c) * w) @ (np.cos(THETA) * t + np.sin(THETA) * v) / norm,
            "norm": norm,
            "weight_norm2": w @ w,
            "training_loss": np.mean(np.log1p(np.exp(-margins))),
            "training_error": np.mean(margins < 0),
        }.items():
            np.testing.assert_allclose(one[name_], value, rtol=1e-4, atol=1e-6, err_msg=name_)
        assert int(one["kept_count"]) == len(set(kept))


@pytest.mark.parametrize("overlap", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("inputs", [Isotropic(), Spectrum([0.5, 1.5], [0.6, 0.8], [0.8, -0.6])])
def test_folds_have_probes_of_the_given_overlap(
    inputs: Isotropic | Spectrum, overlap: float
) -> None:
    draw = draw_rows(0, 20, 0, 4)
    examples = Examples(draw, Clean(), inputs)
    probes = np.stack(cross_fitted_probes(examples, inputs, THETA, 4.0, overlap))
    t = examples.teacher
    np.testing.assert_allclose(probes @ t, np.cos(THETA), rtol=1e-14)
    beside = (probes - np.cos(THETA) * t) / np.sin(THETA)
    gram = np.full((4, 4), overlap) + (1 - overlap) * np.eye(4)
    np.testing.assert_allclose(beside @ beside.T, gram, atol=1e-14)
    if isinstance(inputs, Spectrum):
        # The share of each eigenvalue, and no cross sums with the teacher.
        np.testing.assert_allclose(np.sum(beside[:, :10] ** 2, axis=1), 0.64, rtol=1e-13)
        np.testing.assert_allclose(beside * t, 0, atol=1e-14)


def test_each_fold_is_cut_by_its_own_probe() -> None:
    probe = CrossFitted(THETA, 3.0, 0.2)
    problem = PerceptronProblem(4.0, 0.25, probe, policy_from_name("hard-signed"), labels=Flip(0.2))
    (cell,) = problem_cells(problem, DIM)
    state = DrawState(draw_rows(1, DIM, 0, 48))
    state.train_probe(cell, solve_native)
    rows, copies = state.kept(cell)
    examples = state.examples(cell)
    expected = []
    for fold, vector in enumerate(cross_fitted_probes(examples, Isotropic(), THETA, 3.0, 0.2)):
        own = np.arange(16 * fold, 16 * fold + 16)
        x = state.draw.labels[own, None] * state.draw.rows[own]
        expected += sorted(own[np.argsort(examples.labels[own] * (x @ vector))[:4]])
    assert rows.tolist() == expected
    assert copies.tolist() == [1] * 12


def test_copies_at_the_ends_of_a_window_are_counted() -> None:
    # 8 rows in 3 copies: of the 24 ranked ones those from place 5 to 10 are kept.
    policy = policy_from_name("window", lo=0.21)
    problem = PerceptronProblem(12.0, 0.25, FixedAngle(0.0), policy, 3.0)
    (cell,) = problem_cells(problem, 2)
    draw = draw_rows(0, 2, 0, 8)
    rows, copies = keep_copies(draw, cell, np.arange(8.0), lambda: np.arange(8))
    assert rows.tolist() == [1, 2, 3]
    assert copies.tolist() == [1, 3, 2]
