"""Batches of max-margin problems against proofs by hand, Clarabel and the compiled solver."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest

from sims.maxmargin import lanes
from sims.maxmargin.active_set import by_active_set
from sims.maxmargin.exact import Separator
from sims.maxmargin.host import (
    Method,
    by_interior_points,
    by_pivoting,
    by_working_sets,
    methods_for,
    solve_on_host,
)
from sims.maxmargin.interior import interior
from sims.maxmargin.lanes import max_margin_cvxpy, solve_lanes
from sims.maxmargin.solver import MaxMarginStatus

# At least x86's 64-bit mantissa: 2000 times finer than what is checked.
FINE = np.longdouble
DIM = 12
# Fewer rows than dimensions and more, and so many that some are never looked at.
COUNTS = (1, 7, 12, 17, 40, 700)
# Every method with the counts that it is for, and two that stop at a bad guess.
METHODS: dict[str, tuple[Sequence[Method], Sequence[int]]] = {
    "active set": ((by_active_set,), COUNTS),
    "pivoting": ((by_pivoting, by_interior_points), (1, 7, 12, 17)),
    "interior points": ((by_interior_points,), COUNTS),
    "working sets": ((by_working_sets,), (3000,)),
    # Rows must leave and come in one by one.
    "wrong support": ((partial(by_interior_points, first_target=0.2, near=np.inf),), (40,)),
}
EVERY = [(name, count) for name, (_, counts) in METHODS.items() for count in counts]
KINDS = [(1.0, 0.0), (0.2, 0.0), (0.2, 0.35), (0.01, 0.0)]


def hardest(seed: int, count: int, keep: float, tilt: float = 0.0) -> np.ndarray:
    """Rows y x of the teacher e_1, the `count` of smallest margin to a probe at angle `tilt`."""
    x = np.random.default_rng(seed).standard_normal((round(count / keep), DIM))
    probe = np.cos(tilt) * x[:, 0] + np.sin(tilt) * x[:, 1]
    x = x[np.argsort(np.abs(probe))[:count]]
    return x * np.sign(x[:, :1])


def together(matrices: list[np.ndarray]) -> list[Separator]:
    return solve_lanes([(rows, np.arange(len(rows))) for rows in matrices])


def by_method(name: str, matrices: list[np.ndarray]) -> list[Separator]:
    found = solve_on_host(np.stack(matrices), METHODS[name][0])
    assert None not in found
    return [one for one in found if one is not None]


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


@pytest.mark.parametrize(("name", "count"), EVERY)
@pytest.mark.parametrize(("keep", "tilt"), KINDS)
def test_every_answer_is_proved(name: str, count: int, keep: float, tilt: float) -> None:
    matrices = [hardest(seed, count, keep, tilt) for seed in range(12)]
    for rows, found in zip(matrices, by_method(name, matrices), strict=True):
        check_proof(rows, found)


@pytest.mark.parametrize(("name", "count"), EVERY)
def test_methods_agree(name: str, count: int) -> None:
    """DAQP's answers are the others', to the certificate, on the same rows."""
    matrices = [hardest(seed, count, 0.2, 0.35) for seed in range(12)]
    for found, other in zip(
        by_method("active set", matrices), by_method(name, matrices), strict=True
    ):
        assert found.margin == pytest.approx(other.margin, rel=1e-10)
        assert np.allclose(found.direction, other.direction, rtol=0, atol=1e-7)
        assert np.array_equal(found.dual > 0, other.dual > 0)


def test_the_quickest_method_comes_first() -> None:
    assert methods_for(150, 30)[0] is by_active_set
    assert methods_for(200, 200)[0] is by_pivoting
    assert methods_for(400, 200) == (by_interior_points,)
    assert methods_for(100_000, 200)[0] is by_working_sets


@pytest.mark.parametrize("count", [7, 17, 700])
def test_agrees_with_clarabel(count: int) -> None:
    rows = hardest(3, count, 0.2)
    (found,) = together([rows])
    direction, margin, _ = max_margin_cvxpy(rows)
    # Clarabel's relative gap g bounds its direction to sqrt(2 g) = 1.4e-6 at worst; 1e-7 is met.
    assert np.linalg.norm(found.direction - direction) < 1e-7
    assert np.isclose(found.margin, margin, rtol=1e-9)


@pytest.mark.parametrize(("name", "count"), EVERY)
def test_other_lanes_change_no_digit(name: str, count: int) -> None:
    matrices = [hardest(seed, count, keep) for seed, keep in enumerate((1.0, 0.1, 0.5, 0.03))]
    batch = by_method(name, matrices)
    backwards = by_method(name, matrices[::-1])[::-1]
    for rows, found, turned in zip(matrices, batch, backwards, strict=True):
        (alone,) = by_method(name, [rows])
        for other in (alone, turned):
            assert np.array_equal(other.direction, found.direction)
            assert np.array_equal(other.dual, found.dual)
            assert (other.margin, other.bracket) == (found.margin, found.bracket)


@pytest.mark.parametrize(
    ("name", "count"), [("active set", 7), ("active set", 40), ("pivoting", 7)]
)
def test_scale_free(name: str, count: int) -> None:
    rows = hardest(5, count, 0.5)
    (plain,) = by_method(name, [rows])
    for power in (-800, -30, 30, 800):
        scaled, again = by_method(name, [np.ldexp(rows, power), rows])
        assert np.ldexp(scaled.margin, -power) == pytest.approx(plain.margin, rel=1e-14)
        assert np.allclose(scaled.direction, plain.direction, rtol=0, atol=1e-14)
        assert scaled.bracket <= 1e-10
        assert again.margin == plain.margin


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


def test_double_precision_finishes_where_single_cannot() -> None:
    # Margins of 1e-4 of the rows' norms.
    matrices = np.stack([hardest(seed, 200, 0.002) for seed in range(6)])
    single_alone = []
    for rows in matrices.astype(np.float32):
        (point,) = interior(rows[None], 1e-12, (200, 200))
        exact = rows.astype(np.float64) @ point.direction[0]
        image = point.dual[0].astype(np.float64) @ rows.take(point.members[0], axis=0)
        single_alone.append(np.min(exact) / np.linalg.norm(point.direction) / np.linalg.norm(image))
    assert min(single_alone) < 0.9  # the bracket of its point is above 0.1
    for rows, found in zip(matrices, by_method("interior points", list(matrices)), strict=True):
        check_proof(rows, found)


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
