"""The max-margin solver against brute force, Clarabel, known optima and certificates by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sims.maxmargin.lanes import OracleError, max_margin_cvxpy
from sims.maxmargin.solver import MaxMarginResult, MaxMarginStatus, max_margin

DIM = 10
FEW, SOME, MANY = 6, 13, 40
# From 10,000 rows of 10 features on, the solver works through sets of 50 rows.
SETS = 10_400


def teacher_rows(seed: int, count: int, dim: int = DIM, keep: float = 1.0) -> np.ndarray:
    """Rows y x with y = sign(x_1), the `count` hardest of count / keep."""
    x = np.random.default_rng(seed).standard_normal((round(count / keep), dim))
    x = x[np.argsort(np.abs(x[:, 0]))[:count]]
    return x * np.sign(x[:, :1])


def solve(rows: np.ndarray, padded_to: int | None = None) -> MaxMarginResult:
    """Solve through a masked matrix of `padded_to` rows; what pads it is not even finite."""
    count = rows.shape[0]
    matrix = np.full((padded_to or count, rows.shape[1]), np.nan)
    matrix[:count] = rows
    return jax.tree.map(np.asarray, max_margin(matrix, np.arange(matrix.shape[0]) < count))


def check_solved(rows: np.ndarray, found: MaxMarginResult) -> None:
    """Recompute the certificate from its definition."""
    assert int(found.status) == MaxMarginStatus.SOLVED
    count = rows.shape[0]
    direction, dual = np.asarray(found.direction), np.asarray(found.dual)
    assert np.all(dual >= 0)
    assert np.all(dual[count:] == 0)
    assert np.isclose(np.sum(dual), 1.0, rtol=0, atol=1e-14)
    assert np.isclose(np.linalg.norm(direction), 1.0, rtol=0, atol=1e-14)
    margin = np.min(rows @ direction)
    bound = np.linalg.norm(rows.T @ dual[:count])
    # Rounding of a margin: eps norm(a) sqrt(N), a few times.
    rounding = 1e-14 * np.max(np.linalg.norm(rows, axis=1)) / margin
    assert np.isclose(float(found.margin), margin, rtol=rounding, atol=0)
    assert 1.0 - margin / bound <= 1e-10
    assert 1.0 - margin / bound <= float(found.bracket) + rounding


def check_not_separable(rows: np.ndarray, found: MaxMarginResult) -> None:
    """Check the Farkas certificate by hand."""
    assert int(found.status) == MaxMarginStatus.NOT_SEPARABLE
    dual = np.asarray(found.dual)[: rows.shape[0]]
    assert np.all(dual >= 0)
    assert np.isclose(np.sum(dual), 1.0, rtol=0, atol=1e-14)
    scale = dual @ np.linalg.norm(rows, axis=1)
    residual = np.linalg.norm(rows.T @ dual)
    assert residual <= 1e-12 * scale
    assert float(found.farkas) <= 1e-12


def brute_force(rows: np.ndarray) -> np.ndarray:
    """Best direction over all supports: each is the least-norm w with unit margins on it."""
    best, length = np.zeros(rows.shape[1]), np.inf
    for size in range(1, min(rows.shape) + 1):
        for chosen in itertools.combinations(range(rows.shape[0]), size):
            part = rows[list(chosen)]
            w = np.linalg.lstsq(part, np.ones(size), rcond=None)[0]
            if np.min(rows @ w) >= 1 - 1e-9 and np.linalg.norm(w) < length:
                best, length = w, np.linalg.norm(w)
    return best / length


def known_optimum(seed: int, count: int, active: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose max-margin direction is known: w in the cone of rows of margin exactly 1."""
    rng = np.random.default_rng(seed)
    w = rng.standard_normal(DIM)
    w /= np.linalg.norm(w)
    raw = rng.standard_normal((active, DIM))
    across = raw - np.outer(raw @ w, w)
    z = rng.uniform(0.1, 1.0, active)
    across[-1] = -(z[:-1] @ across[:-1]) / z[-1]
    rest = rng.standard_normal((count - active, DIM))
    rest += np.outer(1.0 + rng.exponential(size=count - active) - rest @ w, w)
    rows = np.concatenate([across + w, rest])
    return rng.permutation(rows), w


@pytest.mark.parametrize("count", [FEW, SOME, MANY, SETS])
@pytest.mark.parametrize("keep", [1.0, 0.2, 0.02])
def test_agrees_with_clarabel(count: int, keep: float) -> None:
    rows = teacher_rows(count, count, keep=keep)
    found = solve(rows)
    check_solved(rows, found)
    direction, margin, _ = max_margin_cvxpy(rows)
    # Clarabel's relative gap g bounds its direction to sqrt(2 g) = 1.4e-6 at worst; 1e-7 is met.
    assert np.linalg.norm(np.asarray(found.direction) - direction) < 1e-7
    assert np.isclose(float(found.margin), margin, rtol=1e-9)


@pytest.mark.parametrize("count", [1, 3, 7, 10])
@pytest.mark.parametrize("padded_to", [MANY, SETS])
def test_agrees_with_brute_force(count: int, padded_to: int) -> None:
    for seed in range(5):
        rows = teacher_rows(seed, count)[:, :4] @ np.eye(4, DIM)
        # The teacher is the first of the four coordinates that are left.
        found = solve(rows, padded_to)
        check_solved(rows, found)
        assert np.linalg.norm(np.asarray(found.direction) - brute_force(rows)) < 1e-12


@pytest.mark.parametrize("count", [SOME, MANY, SETS])
def test_reaches_known_optimum(count: int) -> None:
    for seed, active in ((0, 2), (1, DIM - 1), (2, DIM)):
        rows, w = known_optimum(seed, count, active)
        found = solve(rows)
        check_solved(rows, found)
        # Rounding in the construction, over the smallest multiplier.
        assert np.linalg.norm(np.asarray(found.direction) - w) < 1e-12
        assert np.isclose(float(found.margin), 1.0, rtol=1e-12)
        assert np.sum(found.support) == active


def test_two_dimensions_are_geometry() -> None:
    angles = np.random.default_rng(3).uniform(0.3, 0.3 + 0.9 * np.pi, 30)
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = solve(rows)
    # Unit rows: the bisector of the two outermost.
    middle = 0.5 * (angles.min() + angles.max())
    expected = [np.cos(middle), np.sin(middle)]
    assert np.allclose(found.direction, expected, rtol=0, atol=1e-13)
    assert np.isclose(float(found.margin), np.cos(0.5 * np.ptp(angles)), rtol=1e-12)
    assert set(np.flatnonzero(found.support)) == {angles.argmin(), angles.argmax()}


def test_small_margin() -> None:
    # Margin 1e-4 between two nearly opposite rows, and others far away.
    tilt = 1e-4
    rows = np.array([[1.0, tilt], [-1.0, tilt], [0.3, 2.0], [-0.2, 5.0]])
    found = solve(rows)
    check_solved(rows, found)
    assert np.allclose(found.direction, [0.0, 1.0], rtol=0, atol=1e-12)
    assert np.isclose(float(found.margin), tilt, rtol=1e-12)


@pytest.mark.parametrize(("distinct", "times"), [(3, 2), (20, 2), (40, 10)])
def test_duplicates_change_nothing(distinct: int, times: int) -> None:
    rows = teacher_rows(distinct, distinct)
    once, often = solve(rows, SETS), solve(np.repeat(rows, times, axis=0), SETS)
    check_solved(np.repeat(rows, times, axis=0), often)
    assert np.allclose(often.direction, once.direction, rtol=0, atol=1e-12)
    shared = np.asarray(often.dual)[: distinct * times].reshape(distinct, times).sum(axis=1)
    assert np.allclose(shared, once.dual[:distinct], rtol=0, atol=1e-9)


def test_every_row_a_duplicate_of_a_support_vector() -> None:
    # 40 copies of 10 orthogonal rows: no working set of 50 rows has room for the whole support.
    rows = np.repeat(np.eye(DIM), 40, axis=0)
    found = solve(rows, SETS)
    check_solved(rows, found)
    assert np.allclose(found.direction, np.full(DIM, DIM**-0.5), rtol=0, atol=1e-12)


@pytest.mark.parametrize("padded_to", [SOME, MANY, SETS])
def test_rank_deficient(padded_to: int) -> None:
    rng = np.random.default_rng(4)
    low = teacher_rows(4, SOME, dim=4)
    frame = np.linalg.qr(rng.standard_normal((DIM, 4)))[0]
    rows = low @ frame.T
    found = solve(rows, padded_to)
    check_solved(rows, found)
    # An isometry into more dimensions takes the solution with it.
    assert np.allclose(found.direction, frame @ solve(low).direction, rtol=0, atol=1e-12)


def test_lattice_rows_with_many_on_the_margin() -> None:
    rng = np.random.default_rng(5)
    rows = rng.choice([-1.0, 1.0], (SETS, DIM))
    rows[:, 0] = 1.0
    rows = np.unique(rows, axis=0)
    found = solve(rows, SETS)
    check_solved(rows, found)
    direction, _, _ = max_margin_cvxpy(rows)
    assert np.linalg.norm(np.asarray(found.direction) - direction) < 1e-7


@pytest.mark.parametrize("padded_to", [MANY, SETS])
def test_padding_changes_no_digit(padded_to: int) -> None:
    for seed in range(4):
        rows = teacher_rows(seed, 30, keep=0.3)
        plain, padded = solve(rows), solve(rows, padded_to)
        assert int(padded.status) == int(plain.status)
        assert np.array_equal(padded.support[:30], plain.support)
        assert np.allclose(padded.direction, plain.direction, rtol=0, atol=1e-14)
        assert np.isclose(float(padded.margin), float(plain.margin), rtol=1e-12)


@pytest.mark.parametrize("count", [FEW, MANY, SETS])
def test_scale_free(count: int) -> None:
    rows = teacher_rows(6, count)
    plain = solve(rows)
    for scale in (1e-200, 1e-9, 1e200):
        scaled = solve(rows * scale)
        assert np.allclose(scaled.direction, plain.direction, rtol=0, atol=1e-13)
        assert np.isclose(float(scaled.margin) / scale, float(plain.margin), rtol=1e-12)
        assert float(scaled.bracket) <= 1e-10


def test_row_order_and_rotation() -> None:
    rng = np.random.default_rng(7)
    rows = teacher_rows(7, MANY, keep=0.5)
    plain = solve(rows)
    order = rng.permutation(MANY)
    shuffled = solve(rows[order])
    assert np.allclose(shuffled.direction, plain.direction, rtol=0, atol=1e-12)
    assert np.allclose(shuffled.dual, plain.dual[order], rtol=0, atol=1e-10)
    frame = np.linalg.qr(rng.standard_normal((DIM, DIM)))[0]
    rotated = solve(rows @ frame.T)
    assert np.allclose(rotated.direction, frame @ plain.direction, rtol=0, atol=1e-12)


@pytest.mark.parametrize("padded_to", [MANY, SETS])
def test_not_separable_has_certificate(padded_to: int) -> None:
    rng = np.random.default_rng(8)
    noise = rng.standard_normal((40, DIM))
    opposite = teacher_rows(8, 12)
    opposite[-1] = -3.0 * opposite[0]
    zero = teacher_rows(9, 12)
    zero[3] = 0.0
    spread = noise * 10.0 ** rng.uniform(-4, 4, (40, 1))
    for rows in (noise, opposite, zero, spread):
        found = solve(rows, padded_to)
        check_not_separable(rows, found)
        assert int(found.iterations) < 40


@pytest.mark.parametrize("padded_to", [MANY, SETS])
def test_no_rows_and_no_numbers(padded_to: int) -> None:
    empty = max_margin(np.ones((padded_to, DIM)), np.zeros(padded_to, bool))
    assert int(empty.status) == MaxMarginStatus.EMPTY
    broken = teacher_rows(10, padded_to)
    broken[2, 3] = np.inf
    assert int(max_margin(broken).status) == MaxMarginStatus.NOT_FINITE
    for found in (empty, max_margin(broken)):
        assert np.all(np.asarray(found.direction) == 0)
        assert not np.any(found.support)


@pytest.mark.parametrize("count", [FEW, SETS])
def test_vmap_is_loop(count: int) -> None:
    lanes = [teacher_rows(seed, count, keep=0.5) for seed in range(4)]
    lanes.append(np.random.default_rng(11).standard_normal((count, DIM)))
    lanes.append(np.zeros((count, DIM)))
    mask = np.ones((len(lanes), count), bool)
    mask[1, count // 2 :] = False
    # A caller's own jit converts its arguments: double precision starts outside it.
    with jax.enable_x64(True):
        together = jax.jit(jax.vmap(max_margin))(np.stack(lanes), mask)
    together = jax.tree.map(np.asarray, together)
    for index, rows in enumerate(lanes):
        alone = jax.tree.map(np.asarray, max_margin(rows, mask[index]))
        lane = jax.tree.map(lambda leaf, i=index: leaf[i], together)
        assert int(lane.status) == int(alone.status)
        if int(alone.status) == MaxMarginStatus.SOLVED:
            assert np.allclose(lane.direction, alone.direction, rtol=0, atol=1e-12)
            assert np.isclose(float(lane.margin), float(alone.margin), rtol=1e-12)
            assert float(lane.bracket) <= 1e-10


def test_double_precision_under_a_single_precision_caller() -> None:
    rows = teacher_rows(12, MANY).astype(np.float32)
    with jax.enable_x64(False):
        inside = jax.jit(lambda batch: jax.lax.map(max_margin, batch))(rows[None])
    outside = max_margin(rows.astype(np.float64))
    assert inside.direction.dtype == jnp.float64
    assert np.allclose(inside.direction[0], outside.direction, rtol=0, atol=1e-14)


def test_every_status_has_a_sentence() -> None:
    sentences = {status.sentence for status in MaxMarginStatus}
    assert len(sentences) == len(MaxMarginStatus)
    assert all(sentence.endswith(".") and len(sentence) > 20 for sentence in sentences)


def test_bad_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"features has shape \(3,\)"):
        max_margin(np.ones(3))
    with pytest.raises(ValueError, match=r"features has shape \(0, 3\)"):
        max_margin(np.ones((0, 3)))
    with pytest.raises(ValueError, match=r"mask has shape \(2,\)"):
        max_margin(np.ones((3, 3)), np.ones(2, bool))


def test_oracle_refuses_what_it_cannot_solve() -> None:
    with pytest.raises(OracleError, match="status"):
        max_margin_cvxpy(np.array([[1.0, 0.0], [-1.0, 0.0]]))
    with pytest.raises(OracleError, match="zero"):
        max_margin_cvxpy(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="features has shape"):
        max_margin_cvxpy(np.full((2, 2), np.nan))
