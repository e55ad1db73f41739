"""Which rows of a draw are kept: exact ranking of the realised fields."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from sims.cells import Cell
from sims.draws import Draw
from theory._float64 import float64
from theory.policies import (
    Custom,
    Easy,
    EasySigned,
    Hard,
    HardSigned,
    Mixture,
    Moderate,
    Policy,
    Random,
    Window,
)

__all__ = ["keep_rows", "kept_rows", "rank_rows"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

SIGNED = (HardSigned, EasySigned)


def rank_rows(margins: Floats, policy: Policy, dual: Floats | None = None) -> Integers:
    """Rows in the order hardest first.

    Args:
        margins: signed probe margins y J_p.x, shape (P,).
        policy: signed policies rank y z, all others abs(z).
        dual: dual variables of an in-sample probe, shape (P,). Its support vectors all sit at the
            margin; they come first, largest dual variable first.
    """
    ranked = margins if isinstance(policy, SIGNED) else np.abs(margins)
    if dual is None:
        return np.argsort(ranked, kind="stable")
    return np.lexsort((-dual, np.where(dual > 0, -np.inf, ranked)))


def keep_rows(draw: Draw, cell: Cell, margins: Floats, order: Callable[[], Integers]) -> Integers:
    """Indices of the distinct rows of which at least one copy is kept, ascending.

    Args:
        draw: the draw; its first `cell.distinct` rows stand, each in `cell.copies` copies.
        cell: policy and number of copies to keep.
        margins: signed probe margins of those rows, shape (distinct,).
        order: gives the rows hardest first, as `rank_rows` does; called only if needed.

    Returns:
        Row indices. Copies have equal margins and add no constraint, so one row stands for all.
    """
    policy = cell.policy
    if isinstance(policy, Custom):
        return _kept_by_weight(draw, cell, policy, margins)
    if isinstance(policy, Random):
        return _kept_by_chance(draw, cell, np.empty(0, np.int64), 0)
    if isinstance(policy, Mixture):
        hardest = int(np.floor(float(np.asarray(policy.w)) * cell.kept + 0.5))
        return _kept_by_chance(draw, cell, order(), hardest)
    first, last = _window(policy, cell)
    return np.sort(order()[first:last])


def kept_rows(cell: Cell) -> int | None:
    """How many distinct rows the cell keeps, or None where that differs from draw to draw."""
    if isinstance(cell.policy, Custom):
        return None
    if isinstance(cell.policy, Random | Mixture):
        return cell.kept if cell.copies == 1 else None
    first, last = _window(cell.policy, cell)
    return last - first


def _window(policy: Policy, cell: Cell) -> tuple[int, int]:
    """First and last + 1 of the ranked rows that have a kept copy."""
    start = _window_start(policy, cell)
    # Positions start .. start + kept of the ranked copies, `copies` positions a row.
    return start // cell.copies, -(-(start + cell.kept) // cell.copies)


def _window_start(policy: Policy, cell: Cell) -> int:
    spare = cell.volume - cell.kept
    if isinstance(policy, Hard | HardSigned):
        return 0
    if isinstance(policy, Easy | EasySigned):
        return spare
    if isinstance(policy, Moderate):
        return spare // 2
    if isinstance(policy, Window):
        return min(int(np.floor(float(np.asarray(policy.lo)) * cell.volume + 0.5)), spare)
    raise ValueError(f"policy {policy.name!r} cannot be simulated")


def _kept_by_chance(draw: Draw, cell: Cell, order: Integers, hardest: int) -> Integers:
    """The `hardest` first copies of the ranking, and a uniform choice among the others."""
    scores = draw.scores(cell.distinct, cell.copies)
    whole, part = divmod(hardest, cell.copies)
    scores[order[:whole]] = -1.0
    if part:
        scores[order[whole], :part] = -1.0
    flat = np.argsort(scores.ravel(), kind="stable")[: cell.kept]
    return np.unique(flat // cell.copies)


@float64
def _kept_by_weight(draw: Draw, cell: Cell, policy: Custom, margins: Floats) -> Integers:
    field = margins if policy.variable == "yz" else margins * draw.labels[: cell.distinct]
    weight = np.asarray(policy.weight(jnp.asarray(field)), dtype=np.float64)
    scores = draw.scores(cell.distinct, cell.copies)
    return np.flatnonzero(np.any(scores < weight[:, None], axis=1))
