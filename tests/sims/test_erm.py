"""The solver of regularised losses against Clarabel, optimality by hand and closed forms."""

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from sims.erm.solver import ERMResult, ERMStatus, erm
from theory.policy_names import LOSSES

# Fewer rows than dimensions, and more; the tests share these shapes, as each is compiled.
WIDE, TALL = (12, 30), (40, 8)
# Clarabel is asked for 1e-10 in value: strong convexity makes weights good to its square root.
VALUE, WEIGHTS = 1e-7, 1e-4


def problem(seed: int, count: int, dim: int, noise: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Rows with the labels of a teacher, a share of them wrong; both classes where possible."""
    draws = np.random.default_rng(seed)
    x = draws.standard_normal((count, dim))
    y = np.where(x[:, 0] + 0.2 > 0, 1.0, -1.0) * np.where(draws.random(count) < noise, -1.0, 1.0)
    y[: min(2, count)] = (1.0, -1.0)[: min(2, count)]
    return x, y


def losses(loss: str, t: np.ndarray) -> np.ndarray:
    """The losses by their definitions."""
    short = np.maximum(1 - t, 0)
    return {
        "logistic": np.log1p(np.exp(-np.abs(t))) + np.maximum(-t, 0),
        "hinge": short,
        "squared-hinge": short**2 / 2,
        "square": (1 - t) ** 2 / 2,
    }[loss]


def slopes(loss: str, t: np.ndarray) -> np.ndarray:
    """The derivatives of the smooth losses."""
    return {
        "logistic": -1 / (1 + np.exp(np.minimum(t, 700))),
        "squared-hinge": -np.maximum(1 - t, 0),
        "square": t - 1,
    }[loss]


def check(
    found: ERMResult,
    x: np.ndarray,
    y: np.ndarray,
    s: np.ndarray,
    loss: str,
    lam: float,
    offset: bool,
) -> None:
    """Recompute margins, objective and the proof of optimality from their definitions."""
    assert int(found.status) == ERMStatus.SOLVED
    assert float(found.certificate) <= 1e-10
    w, b, u = (np.asarray(leaf) for leaf in (found.weights, found.intercept, found.dual))
    ridge = lam * x.shape[1]
    t = y * (x @ w + b)
    # The margins' sums have tens of terms, each rounded.
    np.testing.assert_allclose(found.margins, t, rtol=1e-9, atol=1e-9)
    value = s @ losses(loss, t) + ridge / 2 * w @ w
    np.testing.assert_allclose(found.objective, value, rtol=1e-9, atol=1e-12)
    pull = (u * y) @ x
    if loss == "hinge":
        assert np.all(u >= 0)
        assert np.all(u <= s)
        # The dual value of u by its definition; with an intercept u balances the classes.
        dual = np.sum(u) - pull @ pull / (2 * ridge)
        assert value - dual <= 1e-9 * value
        if offset:
            assert abs(u @ y) <= 1e-8 * np.sum(s)
        return
    gradient = (s * slopes(loss, t) * y) @ x + ridge * w
    # Where lam is tiny the slopes cancel, and margins rounded in another order move their sum.
    norms = np.linalg.norm(x, axis=1)
    rounding = 1e-15 * np.sum(s * norms * (1 + abs(b) + norms * np.linalg.norm(w)))
    assert np.linalg.norm(gradient) <= 1e-10 * ridge * np.linalg.norm(w) + rounding
    if offset:
        assert abs((s * slopes(loss, t)) @ y) <= 1e-9 * np.sum(s)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("offset", [False, True])
@pytest.mark.parametrize("lam", [1e-6, 1e-2, 1.0, 1e6])
def test_optimality_holds_at_every_shape_and_strength(loss: str, offset: bool, lam: float) -> None:
    for seed, (count, dim) in enumerate((WIDE, TALL)):
        x, y = problem(seed, count, dim)
        s = np.random.default_rng(seed).uniform(0.2, 3.0, count)
        found = erm(x, y, loss=loss, lam=lam, sample_weight=s, intercept=offset)
        check(found, x, y, s, loss, lam, offset)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("offset", [False, True])
def test_minimiser_is_clarabels(loss: str, offset: bool) -> None:
    x, y = problem(5, *TALL)
    s = np.random.default_rng(5).uniform(0.2, 3.0, len(y))
    lam = 0.05
    w, b = cp.Variable(8), cp.Variable()
    t = cp.multiply(y, x @ w + (b if offset else 0))
    term = {
        "logistic": s @ cp.logistic(-t),
        "hinge": s @ cp.pos(1 - t),
        "squared-hinge": s @ cp.square(cp.pos(1 - t)) / 2,
        "square": s @ cp.square(1 - t) / 2,
    }[loss]
    reference = cp.Problem(cp.Minimize(term + lam * 8 / 2 * cp.sum_squares(w)))
    reference.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10)
    found = erm(x, y, loss=loss, lam=lam, sample_weight=s, intercept=offset)
    np.testing.assert_allclose(found.objective, reference.value, rtol=VALUE)
    np.testing.assert_allclose(found.weights, w.value, atol=WEIGHTS)


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_are_repeated_rows_and_zero_is_absence(loss: str) -> None:
    count, dim = TALL
    x, y = problem(7, count, dim)
    # Every other row twice, the rest absent: both problems have as many rows.
    times = np.where(np.arange(count) % 2 == 0, 2, 0)
    y[:4] = (1.0, 1.0, -1.0, -1.0)
    weighted_x = np.where(times[:, None] > 0, x, np.nan)
    ones = np.ones(count)
    options = {"loss": loss, "lam": 0.1, "intercept": True}
    one = erm(weighted_x, y, sample_weight=times, **options)
    two = erm(np.repeat(x, times, 0), np.repeat(y, times), sample_weight=ones, **options)
    # Strong convexity: a gap of 1e-10 of an objective near 10 bounds the distance by about 1e-4.
    np.testing.assert_allclose(one.weights, two.weights, atol=1e-4 if loss == "hinge" else 1e-9)
    np.testing.assert_allclose(one.objective, two.objective, rtol=1e-9)
    assert np.all(np.asarray(one.margins)[times == 0] == 0)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("lam", [1e-6, 1e-2, 1e3])
def test_certificate_never_understates(loss: str, lam: float) -> None:
    """The proof is repeated with the digits of NumPy's long doubles."""
    x, y = problem(8, *TALL)
    found = erm(x, y, loss=loss, lam=lam, sample_weight=np.ones(len(y)))
    certificate = float(found.certificate)
    assert 0 <= certificate <= 1e-10
    ridge = np.longdouble(lam) * x.shape[1]
    long_x, w = x.astype(np.longdouble), np.asarray(found.weights).astype(np.longdouble)

    def value(z: np.ndarray) -> np.longdouble:
        return np.sum(losses(loss, y * (long_x @ z))) + ridge / 2 * (z @ z)

    t = y * (long_x @ w)
    if loss == "hinge":
        u = np.asarray(found.dual).astype(np.longdouble)
        pull = (u * y) @ long_x
        best = np.sum(u) - pull @ pull / (2 * ridge)
    else:
        gradient = (slopes(loss, t) * y) @ long_x + ridge * w
        bend = {
            "logistic": 1 / (2 + 2 * np.cosh(t)),
            "squared-hinge": np.where(t < 1, 1.0, 0.0),
            "square": np.ones(len(t)),
        }[loss].astype(np.float64)
        # One step of Newton's method goes on to the minimum: its error is squared.
        hessian = (x.T * bend) @ x + float(ridge) * np.eye(x.shape[1])
        best = value(w - np.linalg.solve(hessian, gradient.astype(np.float64)))
        relative = np.linalg.norm(gradient.astype(np.float64)) / float(ridge * np.sqrt(w @ w))
        # At the smallest lam rounding is above 1e-10, and the certificate is the duality gap.
        assert relative <= certificate or lam < 1e-2
    # Long doubles themselves round at 1e-19.
    assert value(w) - best <= (certificate + 1e-18) * value(w)


@pytest.mark.parametrize("loss", LOSSES)
def test_units_of_features_and_weights_do_not_matter(loss: str) -> None:
    x, y = problem(9, *TALL)
    ones = np.ones(len(y))
    one = erm(x, y, loss=loss, lam=0.1, sample_weight=ones, intercept=True)
    # lam in proportion to the square of the features' unit and to the weights' unit.
    for unit, size in ((1e60, 1.0), (1e-60, 1e9), (1.0, 1e-30)):
        lam = 0.1 * unit**2 * size
        two = erm(unit * x, y, loss=loss, lam=lam, sample_weight=size * ones, intercept=True)
        assert int(two.status) == ERMStatus.SOLVED
        np.testing.assert_allclose(two.objective / size, one.objective, rtol=1e-9)
        np.testing.assert_allclose(unit * two.weights, one.weights, atol=1e-4)


@pytest.mark.parametrize("loss", ["logistic", "hinge"])
def test_hundred_thousand_rows_and_a_batch_of_large_problems(loss: str) -> None:
    x, y = problem(4, 100_000, 3)
    found = erm(x, y, loss=loss, lam=1e-6)
    check(found, x, y, np.ones(len(y)), loss, 1e-6, False)
    batch = erm(np.stack([x, -x]), np.stack([y, -y]), loss=loss, lam=np.array([1e-6, 1e-6]))
    np.testing.assert_array_equal(batch.weights, np.stack([found.weights] * 2))


def test_square_without_intercept_is_ridge_regression() -> None:
    x, y = problem(3, 50, 6)
    found = erm(x, y, loss="square", lam=0.3)
    expected = np.linalg.solve(x.T @ x + 0.3 * 6 * np.eye(6), x.T @ y)
    np.testing.assert_allclose(found.weights, expected, rtol=1e-11)


def test_hinge_of_one_row_is_known() -> None:
    # W = c x: the shortfall 1 - c x.x vanishes at c = 1/x.x if lam N c <= 1, else c = 1/lam N.
    x = np.array([[3.0, 4.0]])
    for lam, c in ((1e-3, 1 / 25), (25.0, 1 / 50)):
        found = erm(x, np.ones(1), loss="hinge", lam=lam)
        np.testing.assert_allclose(found.weights, c * x[0], rtol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_one_class_is_served_by_the_intercept(loss: str) -> None:
    """By W = 0 and b = y, except that the logistic loss falls for ever."""
    x, y = problem(2, *TALL)
    # Weights take the other class away.
    found = erm(x, y, loss=loss, lam=0.1, intercept=True, sample_weight=(y < 0).astype(float))
    assert np.all(np.asarray(found.weights) == 0)
    assert float(found.objective) == 0.0
    if loss == "logistic":
        assert int(found.status) == ERMStatus.NO_MINIMISER
        assert np.isnan(found.certificate)
    else:
        assert int(found.status) == ERMStatus.SOLVED
        assert float(found.intercept) == -1.0
        np.testing.assert_array_equal(found.margins, np.where(y < 0, 1.0, 0.0))


@pytest.mark.parametrize("loss", LOSSES)
def test_features_that_say_nothing_leave_the_class_frequency(loss: str) -> None:
    count, dim = TALL
    y = np.where(np.arange(count) < 30, 1.0, -1.0)
    found = erm(
        np.zeros(TALL), y, loss=loss, lam=1e-3, sample_weight=np.ones(count), intercept=True
    )
    assert int(found.status) == ERMStatus.SOLVED
    assert np.all(np.asarray(found.weights) == 0)
    # The minimiser over b alone: log odds, the majority, and the mean label twice.
    expected = {"logistic": np.log(3), "hinge": 1.0}.get(loss, 0.5)
    np.testing.assert_allclose(found.intercept, expected, rtol=1e-9)
    # Each row with both labels: W = 0 again.
    x, _ = problem(1, 20, dim)
    twice = np.vstack([x, x])
    both = np.repeat([1.0, -1.0], 20)
    found = erm(twice, both, loss=loss, lam=1e-3, sample_weight=np.ones(count), intercept=True)
    assert int(found.status) == ERMStatus.SOLVED
    np.testing.assert_allclose(found.weights, 0.0, atol=1e-9)


@pytest.mark.parametrize("loss", ["squared-hinge", "hinge"])
def test_batches_jit_and_vmap_agree(loss: str) -> None:
    pairs = [problem(seed, 25, 6) for seed in range(3)]
    x, y = (np.stack(leaf) for leaf in zip(*pairs, strict=True))
    lam = np.array([0.01, 0.1, 1.0])
    batch = erm(x, y, loss=loss, lam=lam)
    with jax.enable_x64(True):
        lanes = jax.jit(jax.vmap(lambda a, b, c: erm(a, b, loss=loss, lam=c)))(
            jnp.asarray(x), jnp.asarray(y), jnp.asarray(lam)
        )
    assert np.asarray(batch.weights).shape == (3, 6)
    # Lanes differ in the order of sums alone, which moves the last step within the certificate.
    np.testing.assert_allclose(batch.objective, lanes.objective, rtol=1e-9)
    np.testing.assert_allclose(batch.weights, lanes.weights, atol=1e-4)


@pytest.mark.parametrize("shape", [(25, 6), (2**15, 8)])  # in one program, and lane by lane
def test_lanes_that_share_features_are_separate_problems(shape: tuple[int, int]) -> None:
    x, y = problem(6, *shape)
    draws = np.random.default_rng(6)
    weights = draws.integers(0, 2, (2, 2, len(y))).astype(float)
    lam = np.array([[0.01, 0.1], [1.0, 10.0]])
    options = {"loss": "logistic", "intercept": True}
    lanes = erm(x, y, lam=lam, sample_weight=weights, **options)
    assert np.shape(lanes.weights) == (2, 2, shape[1])
    assert np.shape(lanes.dual) == (2, 2, len(y))
    for place in np.ndindex(2, 2):
        there = weights[place] > 0
        model = LogisticRegression(C=1 / (lam[place] * shape[1]), tol=1e-10, max_iter=10_000)
        model.fit(x[there], y[there])
        # Theirs stops where the gradient of the mean loss is below 1e-10.
        np.testing.assert_allclose(lanes.weights[place], model.coef_[0], atol=1e-6)
        np.testing.assert_allclose(lanes.intercept[place], model.intercept_[0], atol=1e-6)
        assert np.all(np.asarray(lanes.margins)[place][~there] == 0)
    # Four lanes again, so that no other program is compiled.
    both = np.stack([y, -y, y, -y])
    turned = erm(x, both, lam=0.1, sample_weight=np.ones(len(y)), **options)
    np.testing.assert_allclose(turned.weights[0], -turned.weights[1], atol=1e-9)
    common = erm(x, y, lam=lam.ravel(), sample_weight=weights[0, 0], **options)
    np.testing.assert_allclose(common.weights[0], lanes.weights[0, 0], atol=1e-9)


def test_shapes_of_shared_features_are_checked() -> None:
    x, y = problem(1, 6, 3)
    for labels, lam, weights in (
        (np.stack([y, y]), np.ones(3), None),
        (y, np.ones(2), np.ones((3, 6))),
        (y, 1.0, np.ones((2, 5))),
    ):
        with pytest.raises(ValueError, match="has shape"):
            erm(x, labels, loss="square", lam=lam, sample_weight=weights)


def test_nothing_and_nonsense_have_a_status() -> None:
    x, y = problem(1, 6, 3)
    empty = erm(x, y, loss="hinge", lam=1.0, sample_weight=np.zeros(6))
    assert int(empty.status) == ERMStatus.EMPTY
    assert np.all(np.asarray(empty.weights) == 0)
    bad = x.copy()
    bad[2, 1] = np.nan
    for features, labels, lam in ((bad, y, 1.0), (x, 2 * y, 1.0), (x, y, 0.0), (x, y, np.inf)):
        found = erm(features, labels, loss="logistic", lam=lam)
        assert int(found.status) == ERMStatus.NOT_FINITE
        assert np.all(np.asarray(found.weights) == 0)
    with pytest.raises(ValueError, match="shape"):
        erm(x, y[:-1], loss="square", lam=1.0)
    assert all(status.sentence for status in ERMStatus)
