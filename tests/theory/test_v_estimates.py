"""V-information on finite data against the toy model's closed form and against brute force."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special, stats

from theory import (
    classifier_v_information,
    estimate_v_information,
    gaussian_v_information,
    reconstruction_v_information,
    v_information,
)

DIM = 30


def toy_data(rng, overlap, count):
    """Fields of a student at the given overlap with the teacher, and the teacher's labels."""
    axes = np.linalg.qr(rng.standard_normal((DIM, 2)))[0]
    teacher, student = axes[:, 0], axes @ [overlap, np.sqrt(1 - overlap**2)]
    x = rng.standard_normal((count, DIM))
    return x @ student, (x @ teacher > 0).astype(int)


def probit(slope, fields):
    """log P(y | h) = log Phi(+- slope h), shape (n, 2)."""
    return special.log_ndtr(slope * np.multiply.outer(fields, [-1.0, 1.0]))


@pytest.mark.parametrize("overlap", [0.2, 0.7, 0.97])
def test_closed_form_of_the_toy_model(overlap):
    fields, labels = toy_data(np.random.default_rng(3), overlap, 20_000)
    best = probit(overlap / np.sqrt(1 - overlap**2), fields)
    found = classifier_v_information(best, labels, empty_log_probs=np.log([0.5, 0.5]))
    expected = float(v_information(np.arccos(overlap) / np.pi))
    assert 0 < found.information_stderr < 0.006
    assert abs(found.information - expected) < 4 * found.information_stderr
    assert found.empty_entropy == pytest.approx(np.log(2), rel=1e-14)
    assert found.empty_entropy_stderr == pytest.approx(0, abs=1e-16)


def test_closed_form_from_a_fitted_family():
    """Slope and label frequencies fitted on other examples cost O(1/4000) of the information."""
    overlap = 0.8
    fields, labels = toy_data(np.random.default_rng(4), overlap, 24_000)
    train, held_out = slice(4000), slice(4000, None)

    def loss(slope):
        return -np.mean(probit(slope, fields[train])[np.arange(4000), labels[train]])

    slope = optimize.minimize_scalar(loss, bounds=(0, 10)).x
    found = classifier_v_information(
        probit(slope, fields[held_out]), labels[held_out], training_labels=labels[train]
    )
    expected = float(v_information(np.arccos(overlap) / np.pi))
    assert abs(found.information - expected) < 4 * found.information_stderr + 1e-3
    assert found.information_stderr < 0.005


def test_entropies_by_brute_force():
    rng = np.random.default_rng(0)
    probs = rng.dirichlet([1.0, 2.0, 0.5], 50)
    probs[7] = [0, 0.25, 0.75]
    labels = rng.integers(0, 3, 50)
    labels[7] = 2
    training = np.array([0, 2, 2, 1, 2, 0, 2, 1])
    with np.errstate(divide="ignore"):
        log_probs = np.log(probs)
    found = classifier_v_information(log_probs, labels, training_labels=training)
    frequencies = {0: 2 / 8, 1: 2 / 8, 2: 4 / 8}
    given = [-np.log(probs[i, y]) for i, y in enumerate(labels)]
    empty = [-np.log(frequencies[y]) for y in labels]
    gain = np.subtract(empty, given)
    assert found.conditional_entropy == pytest.approx(np.mean(given), rel=1e-13)
    assert found.empty_entropy == pytest.approx(np.mean(empty), rel=1e-13)
    np.testing.assert_allclose(found.pointwise, gain, rtol=1e-12, atol=1e-14)
    for stderr, values in (
        (found.information_stderr, gain),
        (found.conditional_entropy_stderr, given),
        (found.empty_entropy_stderr, empty),
    ):
        assert stderr == pytest.approx(stats.sem(values), rel=1e-12)
    assert found.information == pytest.approx(found.empty_entropy - found.conditional_entropy)
    assert found.independent == 50
    for same in (
        classifier_v_information(log_probs, labels, empty_log_probs=np.log([0.25, 0.25, 0.5])),
        classifier_v_information(
            log_probs, labels, empty_log_probs=np.tile(np.log([0.25, 0.25, 0.5]), (50, 1))
        ),
        estimate_v_information(np.negative(given), np.negative(empty)),
    ):
        np.testing.assert_allclose(same.pointwise, gain, rtol=1e-12, atol=1e-14)


def test_standard_error_is_the_spread_over_data_sets():
    """Unequal classes, so that both sides vary; also vmap over data sets."""
    rng = np.random.default_rng(1)
    sets, count = 400, 200
    field = rng.standard_normal((sets, count))
    positive = field + rng.standard_normal((sets, count)) > 1
    share = stats.norm.sf(1 / np.sqrt(2))
    given = np.where(positive, stats.norm.logcdf(field - 1), stats.norm.logsf(field - 1))
    empty = np.where(positive, np.log(share), np.log(1 - share))
    with jax.enable_x64(True):
        found = jax.tree.map(np.asarray, jax.vmap(estimate_v_information)(given, empty))
    for name in ("information", "conditional_entropy", "empty_entropy"):
        spread = np.std(getattr(found, name), ddof=1)
        # The spread of 400 sets is known to 1/sqrt(800) = 3.5%.
        assert np.mean(getattr(found, f"{name}_stderr")) == pytest.approx(spread, rel=0.14)
    one = estimate_v_information(given[3], empty[3])
    np.testing.assert_allclose(found.information[3], one.information, rtol=1e-12)
    np.testing.assert_allclose(found.information_stderr[3], one.information_stderr, rtol=1e-12)


def test_copies_in_a_cluster_count_once():
    rng = np.random.default_rng(2)
    given, empty = -rng.exponential(size=(2, 40))
    names = np.array([f"patient {k}" for k in range(40)])
    once = estimate_v_information(given, empty)
    copies = estimate_v_information(
        np.repeat(given, 3), np.repeat(empty, 3), clusters=np.repeat(names, 3)
    )
    assert copies.independent == 40
    for name in ("information", "conditional_entropy", "empty_entropy"):
        assert getattr(copies, name) == pytest.approx(getattr(once, name), rel=1e-12)
        stderr = getattr(once, f"{name}_stderr")
        assert getattr(copies, f"{name}_stderr") == pytest.approx(stderr, rel=1e-12)
    with jax.enable_x64(True):
        jitted = jax.jit(
            lambda *sides: estimate_v_information(*sides, clusters=names[[*range(39), 0]])
        )
        traced = jitted(given, empty)
    first = estimate_v_information(given, empty, clusters=names[[*range(39), 0]])
    assert float(traced.information_stderr) == pytest.approx(float(first.information_stderr))
    assert traced.independent == first.independent == 39
    alone = estimate_v_information(given, empty, clusters=names)
    assert alone.information_stderr == pytest.approx(once.information_stderr, rel=1e-12)


@pytest.mark.parametrize(
    ("variance", "closed_form"),
    # x, y standard normal with correlation c: the residual's variance is 1 - c^2.
    [(1.0, lambda c: c**2 / 2), ("fitted", lambda c: -np.log(1 - c**2) / 2)],
)
def test_correlated_gaussians(variance, closed_form):
    correlation = 0.8
    x, noise = np.random.default_rng(5).standard_normal((2, 20_000))
    y = correlation * x + np.sqrt(1 - correlation**2) * noise
    found = reconstruction_v_information(y, correlation * x, variance=variance)
    assert found.information_stderr < 0.01
    assert abs(found.information - closed_form(correlation)) < 4 * found.information_stderr


def test_fitted_variance_has_the_right_standard_error():
    """-log(1 - r^2)/2 of a sample: spread over 300 samples of 150."""
    x, noise = np.random.default_rng(6).standard_normal((2, 300, 150))
    pairs = zip(0.8 * x + 0.6 * noise, 0.8 * x, strict=True)
    found = [reconstruction_v_information(*pair, variance="fitted") for pair in pairs]
    spread = np.std([one.information for one in found], ddof=1)
    # The spread of 300 samples is known to 4%, the delta method to 1/150.
    stderr = np.mean([one.information_stderr for one in found])
    assert stderr == pytest.approx(spread, rel=0.16)


@pytest.mark.parametrize("variance", [0.3, "fitted"])
def test_reconstruction_by_densities(variance):
    rng = np.random.default_rng(7)
    targets = rng.standard_normal((20, 2, 3))
    reconstructions = targets + 0.4 * rng.standard_normal((20, 2, 3))
    empty = rng.standard_normal((2, 3))
    found = reconstruction_v_information(targets, reconstructions, empty=empty, variance=variance)
    sides = []
    for centre in (reconstructions, empty):
        v = np.mean((targets - centre) ** 2) if variance == "fitted" else variance
        sides.append(stats.norm.logpdf(targets, centre, np.sqrt(v)).sum(axis=(1, 2)))
    np.testing.assert_allclose(found.pointwise, sides[0] - sides[1], rtol=1e-12, atol=1e-13)
    assert found.conditional_entropy == pytest.approx(-np.mean(sides[0]), rel=1e-13)
    assert found.empty_entropy == pytest.approx(-np.mean(sides[1]), rel=1e-13)
    squares = [np.sum((targets - c) ** 2, axis=(1, 2)) for c in (reconstructions, empty)]
    same = gaussian_v_information(*squares, 6, variance=variance)
    assert same.information == pytest.approx(float(found.information), rel=1e-13)


def test_marginal_variance_is_the_default():
    targets = np.random.default_rng(8).standard_normal((9, 4))
    found = reconstruction_v_information(targets, targets)
    # Unit variance: half the summed marginal variance is explained, and nothing is left.
    assert found.information == pytest.approx(targets.var(axis=0).sum() / 2, rel=1e-13)
    assert found.conditional_entropy == pytest.approx(2 * np.log(2 * np.pi), rel=1e-13)


def test_single_precision_jax_arrays_and_derivatives():
    fields, labels = toy_data(np.random.default_rng(9), 0.8, 100)
    log_probs = probit(1.3, fields)
    wanted = classifier_v_information(log_probs, labels, training_labels=labels)

    def information(log_probs):
        estimate = classifier_v_information(log_probs, labels, training_labels=labels)
        return estimate.information

    single = jnp.asarray(log_probs, jnp.float32)
    found = information(single)
    assert isinstance(found, np.float64)
    assert found == pytest.approx(float(wanted.information), rel=1e-6)
    assert float(jax.jit(information)(single)) == pytest.approx(float(found), rel=1e-6)
    with jax.enable_x64(True):
        slope = np.asarray(jax.grad(information)(log_probs))
    expected = np.zeros((100, 2))
    expected[np.arange(100), labels] = 1 / 100
    np.testing.assert_allclose(slope, expected, rtol=1e-6, atol=1e-12)


TWO = np.log([[0.5, 0.5], [0.25, 0.75]])
HALF = {"empty_log_probs": np.log([0.5, 0.5])}
BAD = [
    (
        lambda: estimate_v_information([-1.0, np.nan], [-1, -1]),
        r"log_likelihood = nan at .*\(1,\) .*\(-inf, inf\)",
    ),
    (lambda: estimate_v_information([-1.0, np.inf], [-1, -1]), r"log_likelihood = inf"),
    (
        lambda: estimate_v_information([0, -np.inf], [-1, -1]),
        "log_likelihood of example 1 is log 0",
    ),
    (lambda: estimate_v_information([-1.0, -1j], [-1, -1]), "log_likelihood = .* is complex"),
    (lambda: estimate_v_information("all", [-1, -1]), "log_likelihood = 'all' is not a number"),
    (lambda: estimate_v_information([-1.0, -1], [-1.0, -1, -1]), r"shapes \(2,\) and \(3,\)"),
    (lambda: estimate_v_information([[-1.0]], [-1.0]), r"log_likelihood has the shape \(1, 1\)"),
    (
        lambda: estimate_v_information([], []),
        "number of examples = 0; a standard error needs at least 2",
    ),
    (lambda: estimate_v_information([-1.0], [-1.0]), "number of examples = 1"),
    (
        lambda: estimate_v_information([-1.0, -2], [-1, -1], clusters=[7, 7]),
        "number of clusters = 1",
    ),
    (lambda: estimate_v_information([-1.0, -2], [-1, -1], clusters=[7]), r"clusters .* \(1,\)"),
    (lambda: classifier_v_information(np.exp(TWO), [0, 1], **HALF), r"0.75 at .*\(1, 1\) is posi"),
    (lambda: classifier_v_information(TWO - 1, [0, 1], **HALF), r"of row 0 sum to 0.367879"),
    (lambda: classifier_v_information(TWO * np.nan, [0, 1], **HALF), r"log_probs = nan .*\(0, 0\)"),
    (lambda: classifier_v_information(None, [0, 1], **HALF), "log_probs = None is not a number"),
    (lambda: classifier_v_information(TWO[0], [0, 1], **HALF), r"log_probs has the shape \(2,\)"),
    (lambda: classifier_v_information(TWO, [0, 2], **HALF), r"labels = 2 at index \(1,\) .*\[0, 1"),
    (lambda: classifier_v_information(TWO, [0, -1], **HALF), r"labels = -1 at index \(1,\)"),
    (lambda: classifier_v_information(TWO, [0.0, 1.0], **HALF), "labels are float64"),
    (lambda: classifier_v_information(TWO, [0, 1, 1], **HALF), r"labels have the shape \(3,\)"),
    (lambda: classifier_v_information(TWO, [0, 1]), "needs one of empty_log_probs and training"),
    (
        lambda: classifier_v_information(TWO, [0, 1], training_labels=[0, 1], **HALF),
        "needs one of empty_log_probs and training",
    ),
    (
        lambda: classifier_v_information(TWO, [0, 1], training_labels=[0, 0]),
        "frequency in training_labels of example 1 is log 0",
    ),
    (
        lambda: classifier_v_information(TWO, [0, 1], training_labels=np.array([], int)),
        "training_labels are empty",
    ),
    (
        lambda: classifier_v_information(TWO, [0, 1], empty_log_probs=np.log([0.5, 0.25, 0.25])),
        r"empty_log_probs have the shape \(3,\)",
    ),
    (
        lambda: classifier_v_information(np.zeros((0, 2)), np.array([], int), **HALF),
        "number of examples = 0",
    ),
    (lambda: gaussian_v_information([1.0, -1], [1, 1], 2), r"squared_error = -1 at index \(1,\)"),
    (lambda: gaussian_v_information([1.0, 1], [1, 1], 0), r"size = 0 .*\[1, inf\)"),
    (lambda: gaussian_v_information([1.0, 1], [1, 1], 1.5), "size = 1.5 is not a whole number"),
    (lambda: gaussian_v_information([1.0, 1], [1, 1], 2, variance=0), r"variance = 0 .*\(0, inf"),
    (lambda: gaussian_v_information([1, 1], [1, 1], 2, variance="ml"), "variance = 'ml' is not"),
    (lambda: gaussian_v_information([1, 1], [1, 1], 2, variance=[1, 1]), r"variance has .* \(2,\)"),
    (lambda: gaussian_v_information([0, 0], [1, 1], 2, variance="fitted"), "squared_error = 0 for"),
    (lambda: reconstruction_v_information([1.0, np.nan], [1, 1]), r"targets = nan at index \(1,\)"),
    (lambda: reconstruction_v_information([1.0, 2], [1]), r"shape \(2,\) and reconstructions \(1"),
    (lambda: reconstruction_v_information([1.0, 2], [1, 1], empty=[1, 2, 3]), "incompatible|shape"),
    (lambda: reconstruction_v_information(1.0, 1.0), r"targets have the shape \(\)"),
]


@pytest.mark.parametrize(("build", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_arguments(build, message):
    with pytest.raises(ValueError, match=message):
        build()
