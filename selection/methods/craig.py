"""Facility location on features, CRAIG on gradients, AdaCore on preconditioned gradients."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from scipy.sparse import csr_array, diags_array

from hardset.checks import check_choice, check_integer, check_range
from selection.core.arrays import Array, Floats, Integers
from selection.core.given import Given, shares
from selection.core.magnitude import lifted
from selection.core.pool import Pool
from selection.core.selector import Conditional
from selection.core.subset import Subset
from selection.graphs.graph import knn_graph
from selection.methods.facility import Points, assign, block_bytes, greedy_exact, greedy_sparse

__all__ = ["CRAIG", "AdaCore", "FacilityLocation", "gradients_or_features"]

Mode = Literal["auto", "exact", "sparse"]
EXACT_UP_TO = 20_000  # examples of one class, in "auto" and for the sparse mode's loss


@dataclass(frozen=True)
class FacilityLocation(Conditional):
    """Greedy maximum of F(S) = sum_i max_{j in S} (max d - d_ij), d Euclidean on the features.

    Weights are cluster sizes: a pick counts for itself, every other example for the pick nearest to
    it, the earliest of equals. Given examples are in S from the start: gains and the objective are
    what the picks add, and who is as near to a given example as to any pick counts for no pick.

    Args:
        mode: "exact" recomputes blocks of similarities; "sparse" knows those of the k nearest
            neighbours only (0 elsewhere, max d the largest of them); "auto": exact up to 20,000
            examples a class. Sparse answers report `sparse_loss`, what they lose of the exact
            greedy F, relative, where a class has at most 20,000 examples.
        neighbours: k of the sparse mode.
        per_class: whether each label has its own F and a part of the budget: given examples and
            picks together are in proportion to its size (largest remainder).

    Memory: 16 m d + 200 m + 64 budget bytes and three blocks of 32 MiB for a class of m examples,
    and 72 m k bytes more in the sparse mode.

    Source: Mirzasoleiman et al., CRAIG, ICML 2020, arXiv:1906.01827; lazy greedy, Minoux 1978.
    """

    mode: Mode = "auto"
    neighbours: int = 20
    per_class: bool = False

    name: ClassVar[str] = "facility-location"
    optional: ClassVar[frozenset[str]] = frozenset({"features", "labels"})

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, get_args(Mode))
        check_integer("neighbours", self.neighbours, 1, 2**31)

    def _rows(self, pool: Pool, given: Given) -> tuple[float, Array, Array]:
        """What to multiply distances with; rows of the pool and of the given examples."""
        return lifted(pool.matrix("features"), given.values(pool, "features"))

    def _select_given(self, pool: Pool, budget: int, seed: int, given: Given) -> Subset:
        scale, rows, before = self._rows(pool, given)
        outside = before[len(given.rows) :]
        classes = given.class_parts(pool, self.per_class)
        counts = shares(classes, budget)
        used = [(one, count) for one, count in zip(classes, counts, strict=True) if count]
        parts = [
            self._one_class(
                rows if len(classes) == 1 else rows[one.rows],
                count,
                seed,
                one.inside,
                outside[one.outside],
            )
            for one, count in used
        ]
        details: dict[str, Any] = {"mode": [part.diagnostics["mode"] for part in parts]}
        losses = [p.diagnostics["loss"] for p in parts if "loss" in p.diagnostics]
        if losses:
            details["sparse_loss"] = losses
        return Subset.of(
            np.concatenate(
                [one.rows[part.indices] for (one, _), part in zip(used, parts, strict=True)]
            ),
            weights=np.concatenate([part.weights for part in parts]),
            gains=scale * np.concatenate([part.gains for part in parts if part.gains is not None]),
            objective=scale * sum(part.objective or 0.0 for part in parts),
            requested=budget,
            nested=len(classes) == 1,
            mean_distance=scale
            * float(
                sum(part.diagnostics["distances"] for part in parts)
                / sum(len(one.rows) for one, _ in used)
            ),
            **details,
        )

    def _one_class(
        self, rows: Array, budget: int, seed: int, inside: Integers, outside: Array
    ) -> Subset:
        """The picks of one class, some of whose rows are given, and others from outside."""
        m = len(rows)
        exact = self.mode == "exact" or (self.mode == "auto" and m <= EXACT_UP_TO) or m == 1
        details: dict[str, Any] = {"mode": "exact" if exact else "sparse"}
        before = np.concatenate([rows[inside], outside])
        allowed = Given(inside).rest(m)
        points = Points(rows, before) if exact or m <= EXACT_UP_TO else None
        if exact and points is not None:
            picks, gains = greedy_exact(points, budget, allowed)
        else:
            everyone = np.concatenate([rows, outside]) if len(outside) else rows
            k = min(self.neighbours, len(everyone) - 1)
            matrix = neighbour_similarity(everyone, k, seed)
            cover = None
            if len(before):
                there = np.concatenate([inside, np.arange(m, len(everyone))])
                cover = matrix[:m, there].max(axis=1).toarray()
                matrix = matrix[:m, :m]
            picks, gains = greedy_sparse(matrix, budget, cover, allowed)
            if points is not None:
                best = float(np.sum(greedy_exact(points, budget, allowed)[1]))
                lost = best - points.objective(picks)
                details["loss"] = lost / best if best > 0 else 0.0
        owner, nearest = assign(rows, picks, before)
        return Subset.of(
            picks,
            requested=budget,
            weights=np.bincount(owner[owner >= 0], minlength=budget),
            gains=gains,
            objective=float(np.sum(gains)),
            distances=float(np.sum(nearest)),
            **details,
        )

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Points and blocks of exact classes, the graph of sparse ones."""
        m = -(-n // classes) if self.per_class else n
        picks = 64 * budget + block_bytes(m)
        if self.mode == "exact" or (self.mode == "auto" and m <= EXACT_UP_TO):
            return 16 * m * d + 200 * m + picks
        return 16 * m * d + 72 * m * self.neighbours + 200 * m + picks


def neighbour_similarity(rows: Array, k: int, seed: int) -> csr_array:
    """max d - d_ij for the k nearest neighbours of either end, max d for i = j, else 0."""
    graph = knn_graph(rows, k, metric="euclidean", seed=seed)
    distances = np.sqrt(graph.squared_distances)
    largest = float(np.max(distances))
    # Rounding in single precision leaves exact copies at small distances: largest > 0 is enough.
    near = graph.symmetric(largest - distances)
    return csr_array(near + diags_array(np.full(len(rows), largest)))


def gradients_or_features(pool: Pool, given: Given) -> tuple[Array, Array]:
    """Last-layer gradients of the pool and of the given examples, or features without them.

    Features stand for gradients in convex models.

    Raises:
        ValueError: the pool has neither, or given examples from outside lack what it has.
    """
    if pool.gradients is not None:
        return pool.gradients, given.values(pool, "gradients")
    if pool.features is None:
        raise ValueError("the method needs gradients or features, and the pool has neither")
    return pool.matrix("features"), given.values(pool, "features")


@dataclass(frozen=True)
class CRAIG(FacilityLocation):
    """Facility location on last-layer gradients, class by class; weights are cluster sizes.

    sum_i min_{j in S} norm(g_i - g_j) bounds the error of the weighted gradient; features stand
    for gradients in a pool without them (convex models).

    Args:
        mode: "exact", "sparse" or "auto", as for facility location.
        neighbours: k of the sparse mode.
        per_class: whether labels, where the pool has them, are treated one by one.

    Memory: that of facility location.

    Source: Mirzasoleiman et al., ICML 2020, arXiv:1906.01827.
    """

    per_class: bool = True

    name: ClassVar[str] = "craig"
    optional: ClassVar[frozenset[str]] = frozenset({"gradients", "features", "labels"})

    def _rows(self, pool: Pool, given: Given) -> tuple[float, Array, Array]:
        return lifted(*gradients_or_features(pool, given))


@dataclass(frozen=True)
class AdaCore(CRAIG):
    """CRAIG on gradients that the diagonal of the Hessian preconditions: g / (abs(h) + damping).

    Args:
        mode: "exact", "sparse" or "auto", as for facility location.
        neighbours: k of the sparse mode.
        per_class: whether labels, where the pool has them, are treated one by one.
        damping: added to abs(h), as a fraction of its mean, > 0.
        curvature: h, shape (g,), for instance Hutchinson's estimate; by default the mean square of
            the gradients, the empirical Fisher information.

    Memory: that of facility location + 8 n d bytes.

    Source: Pooladzandi et al., AdaCore, ICML 2022, arXiv:2207.13887.
    """

    damping: float = 0.01
    curvature: Floats | None = None

    name: ClassVar[str] = "adacore"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("damping", self.damping, 0, np.inf, open_low=True, open_high=True)

    def _rows(self, pool: Pool, given: Given) -> tuple[float, Array, Array]:
        scale, gradients, before = lifted(*gradients_or_features(pool, given))
        if self.curvature is None:
            scale = 1 / scale  # the curvature is quadratic in the gradients
            curvature = np.einsum("ij,ij->j", gradients, gradients, dtype=np.float64)
            curvature /= len(gradients)
        else:
            curvature = np.abs(np.asarray(self.curvature, dtype=np.float64))
            if curvature.shape != gradients.shape[1:]:
                raise ValueError(
                    f"curvature has shape {curvature.shape}; the gradients need "
                    f"{gradients.shape[1:]}"
                )
        floor = self.damping * float(np.mean(curvature))
        curvature += floor if floor > 0 else 1.0
        return scale, np.asarray(gradients / curvature), np.asarray(before / curvature)

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """As CRAIG, and the preconditioned gradients."""
        return super().memory_bytes(n, d, budget, classes) + 8 * n * d
