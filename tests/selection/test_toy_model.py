"""Coordinates of toy data whose coordinates are known, and what the theory makes of them."""

import dataclasses

import numpy as np
import pytest

import replica
from selection.advice.estimates import (
    LearningCurve,
    angle_of_overlap,
    coordinates_of_overlap,
    effective_dimension,
    estimate_coordinates,
)
from selection.advice.probes import (
    cross_validation,
    margin_overlap,
    max_margin_probe,
    part_size,
    probe_overlaps,
    simulated_overlaps,
    weight_overlap,
)
from selection.advice.toy_model import toy_model_advice
from theory import FixedAngle, PerceptronProblem, policy_from_name


@pytest.fixture(scope="module")
def curve() -> LearningCurve:
    return LearningCurve.of_theory()


def teacher_data(n: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(seed).standard_normal((n, d))
    return x, np.where(x[:, 0] < 0, -1.0, 1.0)


def test_effective_dimension_is_unbiased() -> None:
    n, scales = 100, np.array([3.0, 2.0, *np.ones(60)])
    truth = np.sum(scales**2) ** 2 / np.sum(scales**4)
    found = [
        effective_dimension(
            np.random.default_rng(s).standard_normal((n, 62)) * scales + 5, groups=10
        )
        for s in range(60)
    ]
    values = np.array([one.value for one in found])
    error = values.std(ddof=1) / np.sqrt(len(values))
    # The ratio of two unbiased traces is biased by about its variance.
    assert abs(values.mean() - truth) < 3 * error + 0.01 * truth
    # The sample covariance adds 1/n of the squared trace: about 1 / (1/truth + 1/n).
    assert np.mean([one.plug_in for one in found]) == pytest.approx(
        1 / (1 / truth + 1 / n), rel=0.02
    )
    # A jackknife is conservative for pairs; 60 draws give the spread within 10%.
    ratio = np.sqrt(np.mean([one.stderr**2 for one in found])) / values.std(ddof=1)
    assert 0.7 < ratio < 1.6


def test_effective_dimension_by_pairs() -> None:
    x = np.random.default_rng(0).standard_normal((50, 7)) * np.arange(1, 8)
    centred = x - x.mean(axis=0)
    gram = centred @ centred.T
    pairs = ~np.eye(50, dtype=bool)
    wanted = np.sum(np.outer(np.diag(gram), np.diag(gram))[pairs]) / np.sum(gram[pairs] ** 2)
    assert effective_dimension(x).value == pytest.approx(wanted, rel=1e-12)


def test_plug_in_gives_alpha_plus_one() -> None:
    for alpha in (0.5, 2.0):
        n = int(alpha * 1000)
        found = effective_dimension(teacher_data(n, 1000, 3)[0])
        assert n / found.plug_in == pytest.approx(alpha + 1, rel=0.01)
        assert n / found.value == pytest.approx(alpha, rel=0.01)


@pytest.mark.parametrize("degrees", [10, 20, 30, 40, 50])
def test_angle_of_probes_at_a_known_angle(degrees: float) -> None:
    theta, d = np.deg2rad(degrees), 1000
    found = []
    for seed in range(10):
        random = np.random.default_rng(seed)
        sides = random.standard_normal((2, d - 1))
        sides *= np.sin(theta) / np.linalg.norm(sides, axis=1, keepdims=True)
        probes = np.concatenate([np.full((2, 1), np.cos(theta)), sides], axis=1)
        found.append(float(angle_of_overlap(weight_overlap(*probes))))
    assert np.rad2deg(np.mean(found)) == pytest.approx(degrees, abs=2)


@pytest.mark.parametrize("alpha", [0.8, 2.0, 4.0])
def test_theta_and_volume_at_a_thousand_dimensions(curve: LearningCurve, alpha: float) -> None:
    """Two degrees and 10% over ten teachers; the truth is the replica solution's probe.

    Its angles are 51.8, 33.9 and 20.5 degrees.
    """
    n = round(1000 * alpha)
    angles, volumes = [], []
    for seed in range(10):
        x, signs = teacher_data(n, 1000, seed)
        overlap = probe_overlaps(x, signs, splits=1, metric="isotropic", seed=seed).mean()
        angles.append(float(curve.trained_on(angle_of_overlap(overlap), 2.0)))
        volumes.append(n / effective_dimension(x).value)
    problem = PerceptronProblem(alpha_total=alpha)
    truth = 180 * float(np.asarray(replica.solve(problem).error))
    assert np.rad2deg(np.mean(angles)) == pytest.approx(truth, abs=2)
    assert np.mean(volumes) == pytest.approx(alpha, rel=0.1)


def test_metric_of_the_covariance() -> None:
    """In any metric the probes at angle theta to the target meet at cos^2 theta."""
    random = np.random.default_rng(0)
    d, theta = 60, np.deg2rad(35)
    scales = np.geomspace(0.1, 3, d)
    sides = random.standard_normal((2, d - 1))
    sides[1] -= sides[0] * (sides[0] @ sides[1]) / (sides[0] @ sides[0])
    sides *= np.sin(theta) / np.linalg.norm(sides, axis=1, keepdims=True)
    whitened = np.concatenate([np.full((2, 1), np.cos(theta)), sides], axis=1)
    probes = whitened / scales
    exact = weight_overlap(*probes, covariance=np.diag(scales**2))
    assert np.rad2deg(angle_of_overlap(exact)) == pytest.approx(35, abs=1e-10)
    assert abs(weight_overlap(*probes) - exact) > 0.05
    x = random.standard_normal((20_000, d)) * scales
    # The standard error of a correlation, (1 - c^2) / sqrt(n); four of them.
    error = (1 - exact**2) / np.sqrt(len(x))
    assert abs(margin_overlap(x @ probes[0], x @ probes[1]) - exact) < 4 * error


def anisotropic_data(n: int, d: int, power: float, seed: int):
    """Normal features of variances j^-power, classes of a teacher, and what gives its angles."""
    random = np.random.default_rng([seed, 11])
    variances = np.arange(1, d + 1.0) ** -power
    teacher = random.standard_normal(d)
    x = random.standard_normal((n, d)) * np.sqrt(variances)

    def angle(probe: np.ndarray) -> float:
        return np.arccos(weight_overlap(probe, teacher, np.diag(variances)))

    return x, x @ teacher > 0, angle


def test_angle_of_anisotropic_features() -> None:
    """The truth is each draw's own angle, of the covariance that made the features."""
    found, truth, covered, overlap = [], [], 0, []
    for seed in range(24):
        x, classes, angle = anisotropic_data(160, 60, 1.0, seed)
        one = estimate_coordinates(x, classes, splits=1, replicates=10, seed=seed)
        truth.append(angle(max_margin_probe(x, np.where(classes, 1.0, -1.0))))
        found.append(one.theta)
        overlap.append(one.theta_of_overlap)
        covered += one.theta_interval[0] <= truth[-1] <= one.theta_interval[1]
        assert one.theta_from == "error" and one.theta == one.theta_of_error
        assert "far from isotropic" in one.warnings[0]
    error = np.std(np.subtract(found, truth), ddof=1) / np.sqrt(len(found))
    assert abs(np.mean(found) - np.mean(truth)) < 3 * error
    # Nine in ten: fewer than 17 of 24 have a chance of .2 %.
    assert covered >= 17
    # What the overlap makes of it is below by many standard errors.
    assert np.nanmean(overlap) < np.mean(truth) - 4 * error


def test_cross_validation_trains_on_the_other_folds() -> None:
    """Unit vectors as examples: a sum of y x knows those that it was trained on, no other."""
    signs = np.where(np.arange(30) % 2, 1.0, -1.0)
    found = cross_validation(np.eye(30), signs, folds=10, fit=lambda x, y: x.T @ y)
    assert (found.held_out, found.training, found.folds) == (1.0, 0.0, 10)


def test_noisy_labels_are_told() -> None:
    x, classes, _ = anisotropic_data(400, 10, 1.0, 0)
    classes[::8] ^= True
    found = estimate_coordinates(x, classes, splits=2, replicates=10)
    assert found.theta_from == "overlap"
    assert any("no probe through the mean separates" in sentence for sentence in found.warnings)
    assert any("err more than their overlap explains" in one for one in found.warnings)
    # A flipped eighth adds pi/8 at most, and half of it at the angles of this volume.
    assert found.theta_of_error > found.theta_of_overlap + np.pi / 16
    asked = estimate_coordinates(x, classes, splits=2, replicates=10, angle="error")
    assert asked.theta_from == "error" and asked.theta == found.theta_of_error
    alone = estimate_coordinates(x, classes, splits=2, replicates=10, angle="overlap")
    assert alone.theta == found.theta and np.isnan(alone.theta_of_error)


def test_isotropy_counts_columns_that_vary() -> None:
    x = np.random.default_rng(0).standard_normal((400, 50))
    padded = effective_dimension(np.concatenate([x, np.full((400, 9), 3.0)], axis=1))
    assert padded.columns == 50
    # The relative error of d_eff is about sqrt(2)/n d_eff/sqrt(d_eff) ~ 2 %.
    assert padded.isotropy == pytest.approx(1, abs=0.08)


def test_undefined_angle() -> None:
    assert np.isnan(angle_of_overlap(-0.1))
    assert np.isnan(angle_of_overlap(0.0))
    features = np.random.default_rng(0).standard_normal((200, 10))
    found = coordinates_of_overlap(features, -0.05, 100)
    assert not found.defined
    assert np.isnan(found.theta_interval).all()
    with pytest.raises(ValueError, match=r"theta is undefined: .* overlap -0\.05"):
        toy_model_advice(found)


def test_learning_curve_is_the_replica_solution(curve: LearningCurve) -> None:
    alphas = np.array([0.137, 1.9, 33.0])
    exact = np.pi * np.asarray(replica.solve(PerceptronProblem(alpha_total=alphas)).error)
    np.testing.assert_allclose(curve.angle(alphas), exact, rtol=2e-4)
    np.testing.assert_allclose(curve.alpha(exact), alphas, rtol=2e-4)
    np.testing.assert_allclose(curve.trained_on(exact, 1.0), exact, rtol=1e-4)
    needed = replica.required_data(exact[1] / np.pi).alpha_total
    assert curve.alpha(exact[1]) == pytest.approx(float(np.asarray(needed)), rel=1e-3)
    assert np.isnan(curve.trained_on(np.nan, 2.0))


def test_probe_is_nearly_max_margin(curve: LearningCurve) -> None:
    x, signs = teacher_data(400, 200, 0)
    weights = max_margin_probe(x, signs)
    margins = signs * (x @ weights) / np.linalg.norm(weights)
    # The largest margin of that volume in the theory, less what a soft margin gives away.
    problem = PerceptronProblem(alpha_total=2.0)
    largest = float(np.asarray(replica.solve(problem).margin))
    assert margins.min() > 0.75 * largest
    angle = np.arccos(weights[0] / np.linalg.norm(weights))
    assert np.rad2deg(angle) == pytest.approx(np.rad2deg(curve.angle(2.0)), abs=5)


def test_bootstrap_has_the_spread_of_repeated_data() -> None:
    """The spread in 30 dimensions, scaled by the root of the ratio, is that in 120."""
    settings = {"splits": 1, "metric": "isotropic"}
    small = simulated_overlaps(0.5, 0.0, 30, 150, **settings, seed=1)
    large = simulated_overlaps(0.5, 0.0, 120, 150, **settings, seed=2)
    # A standard deviation of 150 draws is known within 6%; the ratio of two within 8%.
    assert np.std(small) / 2 / np.std(large) == pytest.approx(1, abs=0.25)
    assert small.mean() == pytest.approx(large.mean(), abs=0.05)


@pytest.fixture(scope="module")
def advice():
    x, signs = teacher_data(400, 100, 5)
    found = estimate_coordinates(x, signs, splits=2, replicates=20, metric="isotropic", seed=5)
    return toy_model_advice(found, policies=("hard", "random"), tolerance=0.05)


def test_recommended_fraction_is_the_best_of_a_scan(advice) -> None:
    found = advice.coordinates
    fractions = np.linspace(0.05, 1, 96)
    problems = {
        name: PerceptronProblem(
            alpha_total=found.alpha_total,
            keep_fraction=fractions,
            probe=FixedAngle(found.theta),
            policy=policy_from_name(name),
        )
        for name in ("hard", "random")
    }
    errors = {name: np.asarray(replica.solve(p).error) for name, p in problems.items()}
    least = min(np.min(one) for one in errors.values())
    assert advice.error == pytest.approx(least, rel=1e-4)
    low, high = advice.band
    assert low <= advice.keep_fraction <= high
    inside = (fractions >= low) & (fractions <= high)
    assert np.all(errors[advice.policy][inside] <= 1.05 * least * (1 + 1e-6))
    # The next point of the band's grid, a factor 1.08 below, is outside the tolerance.
    assert errors[advice.policy][fractions < low / 1.09].min() > 1.05 * least
    for one in advice.policies:
        enough = errors[one.policy] <= 1.05 * advice.full_error
        assert one.sufficient_fraction == pytest.approx(fractions[np.argmax(enough)], abs=0.011)


def test_one_call_from_labels_probes_or_margins(curve: LearningCurve) -> None:
    """The same probes, known by their weights or by margins on fresh data, and their labels."""
    x, signs = teacher_data(1600, 50, 0)
    probes = [max_margin_probe(x[rows], signs[rows]) for rows in (slice(800), slice(800, None))]
    fresh, truth = teacher_data(4000, 50, 1)
    margins = np.stack([truth * (fresh @ probe) for probe in probes])
    options = {"policies": ("hard",), "lowest": 0.1}
    by_probes = toy_model_advice(x, probes=np.stack(probes), **options)
    by_scores = toy_model_advice(x, scores=margins, trained_on=800, **options)
    by_labels = toy_model_advice(x, signs, **options)
    angle = angle_of_overlap(weight_overlap(*probes, covariance=np.cov(x.T, bias=True)))
    assert by_probes.coordinates.theta_part == pytest.approx(angle, rel=1e-9)
    assert by_probes.coordinates.trained_on == 800
    # 4,000 margins know a cosine near .99 within about (1 - c^2)/sqrt(m) = 3e-4.
    assert by_scores.coordinates.overlap == pytest.approx(by_probes.coordinates.overlap, abs=2e-3)
    wanted = estimate_coordinates(x, signs)
    assert by_labels.coordinates.theta == wanted.theta
    assert by_labels.keep_fraction == toy_model_advice(wanted, **options).keep_fraction


def test_equally_good_policies(advice) -> None:
    """With a perfect probe and plenty of data hard selection is as good as everything."""
    found = dataclasses.replace(
        advice.coordinates,
        alpha_total=60.0,
        theta=0.0,
        theta_interval=(0.0, 0.0),
        errors=None,  # those of other data
    )
    best = toy_model_advice(found, policies=("hard", "random"))
    assert best.policy == "hard"
    assert best.keep_fraction < 0.6
    assert best.band[0] < best.keep_fraction < best.band[1] == 1.0
    assert best.error == pytest.approx(best.full_error, rel=2e-5)


def test_intervals_hold_the_estimates(advice) -> None:
    found = advice.coordinates
    assert found.alpha_interval[0] < found.alpha_total < found.alpha_interval[1]
    assert found.theta_interval[0] < found.theta < found.theta_interval[1]
    assert advice.fraction_interval[0] <= advice.keep_fraction <= advice.fraction_interval[1]
    assert found.theta < found.theta_part
    assert "heuristic" in advice.caveat


def test_every_share_of_the_examples() -> None:
    assert part_size(100, 0.2, "covariance") == 40
    assert part_size(101, 0.2, "isotropic") == 50


X, Y = teacher_data(60, 5, 0)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: estimate_coordinates(X, Y[:-1]), "different lengths: features 60, labels 59"),
        (lambda: estimate_coordinates(X, np.arange(60) % 3), "labels has 3 classes; the theory"),
        (lambda: estimate_coordinates(X, np.ones(60)), "labels has one class"),
        (lambda: estimate_coordinates(X, Y, holdout=1.0), "holdout = 1 is outside"),
        (lambda: estimate_coordinates(X, Y, splits=0), "splits = 0 is outside"),
        (lambda: estimate_coordinates(X, Y, metric="cosine"), "metric = 'cosine' is not one of"),
        (lambda: estimate_coordinates(X, Y, angle="both"), "angle = 'both' is not one of auto"),
        (lambda: cross_validation(X, Y, folds=31), "folds = 31 is outside"),
        (lambda: estimate_coordinates(X, Y, level=1.0), "level = 1 is outside"),
        (lambda: estimate_coordinates(X, Y, replicates=1), "replicates = 1 is outside"),
        (lambda: effective_dimension(X[:30]), "features has 30 rows"),
        (lambda: effective_dimension(np.ones((50, 3))), "the same in every row"),
        (lambda: coordinates_of_overlap(X, 0.5, 30, angle="error"), "angle = 'error' needs errors"),
        (lambda: coordinates_of_overlap(X, 1.5, 30), "overlap = 1.5 is outside"),
        (lambda: part_size(3, 0.2, "covariance"), "3 examples are too few"),
        (lambda: estimate_coordinates(np.ones((60, 5)), Y), "the same in every row"),
        (lambda: toy_model_advice(X), "features need one of labels, scores and probes"),
        (
            lambda: toy_model_advice(X, Y, probes=X[:2]),
            "features need one of labels, scores and probes",
        ),
        (
            lambda: toy_model_advice(X, probes=X[:2, :4]),
            r"probes has shape \(2, 4\); it must be \(2, 5\)",
        ),
        (
            lambda: toy_model_advice(X, scores=X[:3]),
            r"scores has shape \(3, 5\); it must be \(2, 5\)",
        ),
        (lambda: toy_model_advice(X, Y, trained_on=5), "trained_on belongs to scores or probes"),
        (
            lambda: estimate_coordinates(X, np.where(np.arange(60) == 0, 1, 0)),
            "has one class alone",
        ),
    ],
)
def test_bad_input(call, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        call()


def test_policies_of_the_recommendation(advice) -> None:
    found = dataclasses.replace(advice.coordinates)
    with pytest.raises(ValueError, match="policies is empty"):
        toy_model_advice(found, policies=())
    with pytest.raises(ValueError, match="soft"):
        toy_model_advice(found, policies=("soft",))
