"""Properties of the max-margin solver over random data of many kinds, up to its limits."""

import jax
import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sims.maxmargin.solver import MaxMarginResult, MaxMarginStatus, max_margin

DIM = 10
# Two shapes to compile: in the first the dual space is the smaller one.
FEW, MANY = 13, 40

# At least x86's 64-bit mantissa: 2000 times finer than what is checked.
FINE = np.longdouble


def solve(rows: np.ndarray) -> MaxMarginResult:
    """Solve in the smaller of the two shapes that holds the rows; what pads them is NaN."""
    count = len(rows)
    padded = FEW if count <= FEW else MANY
    matrix = np.full((padded, DIM), np.nan)
    matrix[:count] = rows
    return jax.tree.map(np.asarray, max_margin(matrix, np.arange(padded) < count))


def signed(x: np.ndarray, teacher: np.ndarray) -> np.ndarray:
    field = x @ teacher
    rows = (x * np.sign(field)[:, None])[field != 0]
    # Without a labelled row there is no problem: one that is solved at sight.
    return rows if len(rows) else np.ones((1, DIM))


def correlated(rng: np.random.Generator, count: int) -> np.ndarray:
    mixing = np.linalg.qr(rng.standard_normal((DIM, DIM)))[0] * np.logspace(0, -3, DIM)
    return rng.standard_normal((count, DIM)) @ mixing.T


def hardest(rng: np.random.Generator, count: int) -> np.ndarray:
    x = rng.standard_normal((20 * count, DIM))
    return x[np.argsort(np.abs(x[:, 0]))[:count]]


KINDS = {
    "normal": lambda rng, count: rng.standard_normal((count, DIM)),
    "hardest twentieth": hardest,
    "integers": lambda rng, count: rng.integers(-3, 4, (count, DIM)).astype(float),
    "zeros and ones": lambda rng, count: (rng.random((count, DIM)) < 0.3).astype(float),
    "correlated": correlated,
    "equal columns": lambda rng, count: np.repeat(rng.standard_normal((count, DIM // 2)), 2, 1),
    "low rank": lambda rng, count: rng.standard_normal((count, 3)) @ rng.standard_normal((3, DIM)),
    "one dimension": lambda rng, count: rng.standard_normal((count, 1)) * np.eye(1, DIM),
    "far from the origin": lambda rng, count: rng.standard_normal((count, DIM)) + 3.0,
    "equal rows": lambda rng, count: rng.standard_normal((4, DIM))[rng.integers(0, 4, count)],
}

seeds = st.integers(0, 2**32 - 1)
counts = st.one_of(st.sampled_from([1, 2, DIM - 1, DIM, DIM + 1, MANY]), st.integers(1, MANY))


@st.composite
def separable(draw: st.DrawFn) -> np.ndarray:
    """Label-signed rows of a random teacher."""
    rng = np.random.default_rng(draw(seeds))
    kind = draw(st.sampled_from(sorted(KINDS)))
    x = KINDS[kind](rng, draw(counts))
    teacher = np.eye(DIM)[0] if kind == "hardest twentieth" else rng.standard_normal(DIM)
    return signed(x, teacher)


def size(rows: np.ndarray) -> float:
    return float(np.max(np.linalg.norm(rows, axis=1)))


def check_proof(rows: np.ndarray, found: MaxMarginResult) -> None:
    """Recompute the gap with more digits: it is at most the reported one."""
    assert int(found.status) == MaxMarginStatus.SOLVED
    fine = rows.astype(FINE)
    direction, dual = found.direction.astype(FINE), found.dual[: len(rows)].astype(FINE)
    assert np.all(dual >= 0)
    margin = np.min(fine @ direction) / np.sqrt(direction @ direction)
    bound = np.sqrt(np.sum((dual @ fine) ** 2)) / np.sum(dual)
    assert 1 - margin / bound <= float(found.bracket) + 4e-16
    assert float(found.bracket) <= 1e-10


@given(separable())
def test_every_separable_problem_is_solved_with_an_honest_bracket(rows: np.ndarray) -> None:
    check_proof(rows, solve(rows))


@given(separable(), seeds, st.integers(-300, 300))
def test_symmetries(rows: np.ndarray, seed: int, power: int) -> None:
    rng = np.random.default_rng(seed)
    plain = solve(rows)
    # Rounding of the inputs, seen from a margin.
    rounding = 1e-14 * size(rows) / float(plain.margin)
    frame = np.linalg.qr(rng.standard_normal((DIM, DIM)))[0]
    rotated = solve(rows @ frame.T)
    assert np.allclose(rotated.direction, frame @ plain.direction, rtol=0, atol=100 * rounding)
    assert np.isclose(rotated.margin, plain.margin, rtol=10 * rounding)
    several = rows[rng.permutation(np.arange(max(MANY, len(rows))) % len(rows))]
    mixed = solve(several)
    assert np.allclose(mixed.direction, plain.direction, rtol=0, atol=100 * rounding)
    assert np.isclose(mixed.margin, plain.margin, rtol=10 * rounding)
    # A power of two costs no digit.
    scaled = solve(np.ldexp(rows, power))
    assert np.array_equal(scaled.direction, plain.direction)
    assert np.ldexp(float(scaled.margin), -power) == float(plain.margin)
    tenfold = solve(rows * 10.0 ** (power / 2))
    assert np.allclose(tenfold.direction, plain.direction, rtol=0, atol=100 * rounding)


@given(seeds, st.integers(1, DIM), st.integers(0, 30), st.floats(-4, 1))
def test_known_optima(seed: int, active: int, others: int, exponent: float) -> None:
    rng = np.random.default_rng(seed)
    kappa = 10.0**exponent
    w = rng.standard_normal(DIM)
    w /= np.linalg.norm(w)
    raw = rng.standard_normal((active, DIM))
    across = raw - np.outer(raw @ w, w)
    dual = rng.uniform(0.1, 1.0, active)
    # Stationarity: the parts across w cancel; all of `active` have margin kappa.
    across[-1] = -(dual[:-1] @ across[:-1]) / dual[-1]
    rest = rng.standard_normal((others, DIM))
    rest += np.outer(kappa * (1.1 + rng.exponential(size=others)) - rest @ w, w)
    rows = np.concatenate([across + kappa * w, rest])
    found = solve(rows)
    rounding = 1e-14 * size(rows) / kappa
    assert int(found.status) == MaxMarginStatus.SOLVED
    assert np.isclose(found.margin, kappa, rtol=10 * rounding)
    # A multiplier ten times smaller moves the direction ten times more.
    assert np.allclose(found.direction, w, rtol=0, atol=1000 * rounding)
    assert 1 - float(found.margin) / kappa <= float(found.bracket) + rounding
    check_proof(rows, found)


@given(seeds, st.integers(2, MANY), st.floats(-3, 3))
# One row 300 times as large as the others, with a dual variable as much smaller.
@example(16, 16, 1.9375)
def test_opposed_rows_have_a_farkas_certificate(seed: int, count: int, exponent: float) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, DIM))
    chosen = rng.choice(count - 1, min(count - 1, int(rng.integers(1, DIM))), replace=False)
    rows[-1] = -(10.0**exponent) * (rng.uniform(0.1, 1.0, len(chosen)) @ rows[chosen])
    rows = rng.permutation(rows)
    found = solve(rows)
    assert int(found.status) == MaxMarginStatus.NOT_SEPARABLE
    fine, dual = rows.astype(FINE), found.dual[:count].astype(FINE)
    assert np.all(dual >= 0)
    scale = dual @ np.sqrt(np.sum(fine**2, axis=1))
    assert np.sqrt(np.sum((dual @ fine) ** 2)) <= 1.001e-12 * scale


@given(seeds, st.floats(-3.5, -1))
def test_almost_opposed_rows_are_separated(seed: int, exponent: float) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((30, DIM))
    x[:, 0] = 0.0
    # Their first coordinate alone keeps the rows from surrounding the origin.
    tilt = 10.0**exponent
    rows = np.concatenate([x, -x[:10]]) + tilt * np.eye(1, DIM)
    found = solve(rows)
    check_proof(rows, found)
    assert np.isclose(found.margin, tilt, rtol=1e-8)
    assert np.allclose(found.direction, np.eye(DIM)[0], rtol=0, atol=1e-8)


@given(arrays(np.float64, (FEW, DIM), elements=st.floats(width=64) | st.sampled_from([0.0, 1.0])))
def test_any_numbers_end_with_a_status(rows: np.ndarray) -> None:
    found = solve(rows)
    status = MaxMarginStatus(int(found.status))
    finite = bool(np.all(np.isfinite(rows)))
    assert (status is MaxMarginStatus.NOT_FINITE) == (not finite)
    if finite:
        assert np.all(np.isfinite(found.direction))
        assert np.all(found.dual >= 0)
        assert np.isclose(np.sum(found.dual), 1.0, rtol=0, atol=1e-12)
