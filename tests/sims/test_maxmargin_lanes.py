"""Batches of max-margin problems against proofs by hand, Clarabel and the compiled solver."""

import numpy as np
import pytest

from sims.maxmargin import host as _maxmargin_host_working
from sims.maxmargin import host_interior as _maxmargin_host_interior
from sims.maxmargin import lanes
from sims.maxmargin.lanes import Separator, solve_lanes
from sims.maxmargin.oracle import max_margin_cvxpy
from sims.maxmargin.solver import MaxMarginStatus

# At least x86's 64-bit mantissa: 2000 times finer than what is checked.
FINE = np.longdouble
DIM = 12
# Pivoting with fewer rows than dimensions and with more, interior points, and rows that leave.
COUNTS = (1, 7, 12, 17, 40, 700)


def hardest(seed: int, count: int, keep: float, tilt: float = 0.0) -> np.ndarray:
    """Rows y x of the teacher e_1, the `count` of smallest margin to a probe at angle `tilt`."""
    x = np.random.default_rng(seed).standard_normal((round(count / keep), DIM))
    probe = np.cos(tilt) * x[:, 0] + np.sin(tilt) * x[:, 1]
    x = x[np.argsort(np.abs(probe))[:count]]
    return x * np.sign(x[:, :1])


def together(matrices: list[np.ndarray]) -> list[Separator]:
    return solve_lanes([(rows, np.arange(len(rows))) for rows in matrices])


def check_proof(rows: np.ndarray, found: Separator) -> None:
    """Recompute the gap with more digits: it is at most the reported one."""
    assert found.status == MaxMarginStatus.SOLVED
    fine, direction, dual = (leaf.astype(FINE) for leaf in (rows, found.direction, found.dual))
    assert np.all(dual >= 0)
    margin = np.min(fine @ direction) / np.sqrt(direction @ direction)
    bound = np.sqrt(np.sum((dual @ fine) ** 2)) / np.sum(dual)
    assert 1 - margin / bound <= found.bracket + 4e-16
    assert found.bracket <= 1e-10
    assert np.isclose(np.linalg.norm(found.direction), 1.0, rtol=0, atol=1e-14)
    rounding = 1e-14 * np.max(np.linalg.norm(rows, axis=1)) / float(margin)
    assert np.isclose(found.margin, float(margin), rtol=rounding, atol=0)


@pytest.fixture
def on_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left to the compiled solver."""
    monkeypatch.delattr(lanes, "solve_on_device")


@pytest.mark.usefixtures("on_host")
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(("keep", "tilt"), [(1.0, 0.0), (0.2, 0.0), (0.2, 0.35), (0.01, 0.0)])
def test_every_answer_is_proved(count: int, keep: float, tilt: float) -> None:
    matrices = [hardest(seed, count, keep, tilt) for seed in range(12)]
    for rows, found in zip(matrices, together(matrices), strict=True):
        check_proof(rows, found)


@pytest.mark.usefixtures("on_host")
@pytest.mark.parametrize(("keep", "tilt"), [(1.0, 0.0), (0.2, 0.35)])
def test_working_sets(monkeypatch: pytest.MonkeyPatch, keep: float, tilt: float) -> None:
    """What they tell is settled on all rows: the proof covers those outside."""
    monkeypatch.setattr(_maxmargin_host_working, "WORTH_IT", 0)
    matrices = [hardest(seed, 3000, keep, tilt) for seed in range(6)]
    for rows, found in zip(matrices, together(matrices), strict=True):
        check_proof(rows, found)


@pytest.mark.usefixtures("on_host")
@pytest.mark.parametrize("count", [7, 17, 700])
def test_agrees_with_clarabel(count: int) -> None:
    rows = hardest(3, count, 0.2)
    (found,) = together([rows])
    direction, margin, _ = max_margin_cvxpy(rows)
    # Clarabel's relative gap g bounds its direction to sqrt(2 g) = 1.4e-6 at worst; 1e-7 is met.
    assert np.linalg.norm(found.direction - direction) < 1e-7
    assert np.isclose(found.margin, margin, rtol=1e-9)


@pytest.mark.usefixtures("on_host")
@pytest.mark.parametrize("count", COUNTS)
def test_other_lanes_change_no_digit(count: int) -> None:
    matrices = [hardest(seed, count, keep) for seed, keep in enumerate((1.0, 0.1, 0.5, 0.03))]
    batch = together(matrices)
    for rows, found in zip(matrices, batch, strict=True):
        (alone,) = together([rows])
        assert np.array_equal(alone.direction, found.direction)
        assert np.array_equal(alone.dual, found.dual)
        assert (alone.margin, alone.bracket) == (found.margin, found.bracket)


@pytest.mark.usefixtures("on_host")
@pytest.mark.parametrize("count", [7, 40])
def test_scale_free(count: int) -> None:
    rows = hardest(5, count, 0.5)
    (plain,) = together([rows])
    for power in (-800, -30, 30, 800):
        (scaled,) = together([np.ldexp(rows, power)])
        assert np.ldexp(scaled.margin, -power) == pytest.approx(plain.margin, rel=1e-14)
        assert np.allclose(scaled.direction, plain.direction, rtol=0, atol=1e-14)
        assert scaled.bracket <= 1e-10


def test_more_dependent_rows_on_the_margin_than_dimensions() -> None:
    # Rows of margin 1 along the first axis on opposite sides of it, and two that are further.
    axes = np.eye(7, DIM - 1)
    across = np.concatenate([axes, -axes, np.ones((1, DIM - 1)), -np.ones((1, DIM - 1))])
    rows = np.insert(across, 0, [1.0] * 14 + [2.0] * 2, axis=1)
    frame = np.linalg.qr(np.random.default_rng(0).standard_normal((DIM, DIM)))[0]
    (found,) = together([rows @ frame.T])
    check_proof(rows @ frame.T, found)
    assert np.allclose(found.direction, frame[:, 0], rtol=0, atol=1e-12)
    assert np.isclose(found.margin, 1.0, rtol=1e-12)


@pytest.mark.usefixtures("on_host")
def test_settles_from_a_wrong_support(monkeypatch: pytest.MonkeyPatch) -> None:
    # The first guess is too early: rows must leave and come in one by one.
    monkeypatch.setattr("sims.maxmargin.host.FIRST_TARGET", 0.2)
    monkeypatch.setattr("sims.maxmargin.host.NEAR", np.inf)
    for seed in range(10):
        rows = hardest(seed, 40, 0.5)
        check_proof(rows, together([rows])[0])


@pytest.mark.usefixtures("on_host")
def test_double_precision_finishes_where_single_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    types = []
    interior = _maxmargin_host_interior.interior

    def noted(rows: np.ndarray, *arguments: object) -> list:
        types.append(rows.dtype)
        return interior(rows, *arguments)

    monkeypatch.setattr("sims.maxmargin.host.interior", noted)
    # Margins of 1e-4 of the rows' norms.
    matrices = [hardest(seed, 200, 0.002) for seed in range(6)]
    for rows, found in zip(matrices, together(matrices), strict=True):
        check_proof(rows, found)
    assert np.dtype(np.float64) in types


def test_the_rest_is_left_to_the_compiled_solver() -> None:
    rows = [hardest(seed, 14, 0.5) for seed in range(4)]
    opposed = np.concatenate([rows[0][:-1], -2.0 * rows[0][:1]])
    zero, broken = rows[1].copy(), rows[2].copy()
    zero[3], broken[2, 5] = 0.0, np.nan
    duplicated = np.concatenate([rows[3][:7], rows[3][:7]])
    statuses = [one.status for one in together([rows[0], opposed, zero, broken, duplicated])]
    assert statuses == [
        MaxMarginStatus.SOLVED,
        MaxMarginStatus.NOT_SEPARABLE,
        MaxMarginStatus.NOT_SEPARABLE,
        MaxMarginStatus.NOT_FINITE,
        MaxMarginStatus.SOLVED,
    ]


def test_accelerators_take_compiled_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    matrices = [hardest(seed, 9 + seed, 0.5) for seed in range(3)]
    expected = together(matrices[:1]) + together(matrices[1:2]) + together(matrices[2:])
    monkeypatch.setattr(lanes, "on_processor", lambda: False)
    monkeypatch.setattr(lanes, "MAX_LANES", 3)
    assert lanes.padded_rows(9, DIM) == 16
    lanes.compile_shape((16, DIM))
    for found, other in zip(together(matrices), expected, strict=True):
        assert np.allclose(found.direction, other.direction, rtol=0, atol=1e-12)
        assert np.isclose(found.margin, other.margin, rtol=1e-12)
        assert found.dual.shape == other.dual.shape
