"""Methods that spread out: coding rate and dispersion."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from hardset.checks import check_choice, check_range
from selection.core.arrays import (
    BLOCK_VALUES,
    Floats,
    Integers,
    square_distances,
    unit_rows,
)
from selection.core.pool import Pool
from selection.core.progress import steps
from selection.core.selector import Selector
from selection.core.subset import Subset
from selection.graphs.graph import mean_view

__all__ = ["CodingRate", "HullVolume", "greedy_log_det"]

TIE = 1e-9  # relative difference of gains that counts as none


def greedy_log_det(rows: Floats, budget: int, strength: float) -> tuple[Integers, Floats]:
    """Greedy maximum of log det(I + a Z_S^T Z_S), and each pick's gain.

    The gain of i is log(1 + a z_i^T M^-1 z_i), M = I + a Z_S^T Z_S, by rank-one updates: O(n d)
    a pick, no n x n matrix.

    Args:
        rows: Z, shape (n, d).
        budget: number of picks.
        strength: a > 0.
    """
    n, d = rows.shape
    inverse = np.eye(d)
    leverage = np.einsum("ij,ij->i", rows, rows)
    picks, gains = np.empty(budget, np.int64), np.empty(budget)
    taken = np.zeros(n, dtype=bool)
    for step in steps(budget, "coding rate", budget * rows.size):
        left = np.where(taken, -np.inf, leverage)
        # Rows of one norm start as equals: the first one, not the one that rounding favours.
        pick = int(np.argmax(left >= np.max(left) * (1 - TIE)))
        own = float(rows[pick] @ inverse @ rows[pick])
        picks[step], gains[step] = pick, np.log1p(strength * own)
        taken[pick] = True
        direction = inverse @ rows[pick]
        scale = strength / (1 + strength * own)
        inverse -= scale * np.outer(direction, direction)
        leverage -= scale * (rows @ direction) ** 2
    return picks, gains


@dataclass(frozen=True)
class CodingRate(Selector):
    """Greedy maximum of the coding rate log det(I + d/(p eps^2) Z_S^T Z_S) / 2, rows of unit norm.

    p is the budget, so that the picks for one budget are no prefix of those for another.

    Args:
        precision: eps > 0, the distortion up to which features are coded.

    Memory: 24 n d + 48 n + 32 d^2 bytes; time O(n d budget).

    Source: Yu et al., maximal coding rate reduction, NeurIPS 2020, arXiv:2006.08558.
    """

    precision: float = 0.5

    name: ClassVar[str] = "coding-rate"
    needs: ClassVar[frozenset[str]] = frozenset({"features"})

    def __post_init__(self) -> None:
        check_range("precision", self.precision, 0, np.inf, open_low=True, open_high=True)

    def _select(self, pool: Pool, budget: int, seed: int) -> Subset:
        assert pool.features is not None
        views = np.asarray(mean_view(pool.features), dtype=np.float64)
        unit = unit_rows("features", views)
        strength = unit.shape[1] / (budget * self.precision**2)
        picks, gains = greedy_log_det(unit, budget, strength)
        return Subset.of(
            picks, requested=budget, gains=gains / 2, objective=float(np.sum(gains)) / 2
        )

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Unit vectors, leverages, the inverse."""
        return 24 * n * d + 48 * n + 32 * d * d


@dataclass(frozen=True)
class HullVolume(Selector):
    """Picks that span: the largest volume of a simplex, or the largest sum of distances.

    "volume": the pick farthest from the affine span of the picks so far, which multiplies the
    simplex volume by distance/size; when the span is full (after d + 1 picks), a new simplex is
    begun among the rest. "dispersion": the pick with the largest sum of distances to all picks, at
    least half the largest sum of pairwise distances. Both begin farthest from the mean.

    Args:
        measure: "volume" or "dispersion".

    Memory: 32 n d + 64 n bytes and two blocks of 32 MiB; time O(n d budget).

    Source: Yu et al., 2022 (dispersion and convex hull volume); Ravi, Rosenkrantz and Tayi 1994.
    """

    measure: Literal["volume", "dispersion"] = "volume"

    name: ClassVar[str] = "hull-volume"
    needs: ClassVar[frozenset[str]] = frozenset({"features"})

    def __post_init__(self) -> None:
        check_choice("measure", self.measure, ("volume", "dispersion"))

    def _select(self, pool: Pool, budget: int, seed: int) -> Subset:
        features = pool.matrix("features")
        if self.measure == "volume":
            picks, gains = _simplices(np.asarray(features, dtype=np.float64), budget)
            return Subset.of(picks, requested=budget, gains=gains, nested=True)
        picks, gains = _dispersed(features, budget)
        return Subset.of(
            picks, requested=budget, gains=gains, objective=float(np.sum(gains)), nested=True
        )

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Residuals of all examples, or blocks of differences."""
        return 32 * n * d + 64 * n + 16 * min(n * d, BLOCK_VALUES)


def _simplices(rows: Floats, budget: int) -> tuple[Integers, Floats]:
    """Picks by Gram-Schmidt, and their distances to the span of their own simplex."""
    centred = rows - np.mean(rows, axis=0)
    scale = float(np.max(np.einsum("ij,ij->i", centred, centred)))
    taken = np.zeros(len(rows), dtype=bool)
    picks, gains = np.empty(budget, np.int64), np.empty(budget)
    residual, squares, first = centred, np.zeros(len(rows)), True
    for step in steps(budget, "hull volume", budget * rows.size):
        if not first:
            pick = int(np.argmax(np.where(taken, -1.0, squares)))
            if squares[pick] <= 1e-12 * scale:  # flat up to rounding: begin anew
                first = True
        if first:
            distances = np.einsum("ij,ij->i", centred, centred)
            pick = int(np.argmax(np.where(taken, -1.0, distances)))
            gains[step] = np.sqrt(distances[pick])
            residual = centred - centred[pick]
            first = False
        else:
            gains[step] = np.sqrt(squares[pick])
            direction = residual[pick] / gains[step]
            residual -= np.outer(residual @ direction, direction)
        picks[step] = pick
        taken[pick] = True
        squares = np.einsum("ij,ij->i", residual, residual)
    return picks, gains


def _dispersed(rows: Floats, budget: int) -> tuple[Integers, Floats]:
    """Picks by the sum of distances to those before."""
    n = len(rows)
    point: Floats = np.asarray(np.mean(rows, axis=0, dtype=np.float64))
    sums, taken = np.zeros(n), np.zeros(n, dtype=bool)
    picks, gains = np.empty(budget, np.int64), np.empty(budget)
    for step in steps(budget, "dispersion", budget * rows.size):
        ranked = np.sqrt(square_distances(rows, point)) if step == 0 else sums
        pick = int(np.argmax(np.where(taken, -1.0, ranked)))
        picks[step], gains[step] = pick, sums[pick]
        taken[pick] = True
        point = np.asarray(rows[pick], dtype=np.float64)
        sums += np.sqrt(square_distances(rows, point))
    return picks, gains
