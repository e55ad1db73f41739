"""Greedy graph cuts whose similarities are inner products: SAS and ClipCov."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hardset.checks import check_integer, check_range
from selection.core.arrays import BLOCK_VALUES, Array, Floats, Integers, blocks, unit_rows
from selection.core.classes import class_rows, proportional
from selection.core.pool import Pool
from selection.core.progress import steps
from selection.core.selector import Selector
from selection.core.subset import Subset
from selection.graphs.graph import mean_view
from selection.graphs.kmeans import kmeans

__all__ = ["SAS", "ClipCov", "greedy_cut"]


def greedy_cut(
    left: Floats, right: Floats, budget: int, values: Floats | None = None
) -> tuple[Integers, Floats]:
    """Greedy maximum of sum_{i not in S, j in S} s_ij + sum_{i in S} values_i.

    s_ij = left_i . right_j is symmetric. The marginal of i is sum_{j != i} s_ij - 2 sum_{j in S}
    s_ij + values_i: one matrix-vector product a pick, no matrix of similarities.

    Args:
        left: shape (m, d).
        right: shape (m, d).
        budget: number of picks; negative marginals do not stop it.
        values: shape (m,), default 0.

    Returns:
        The picks and their marginals.
    """
    marginals = left @ np.sum(right, axis=0) - np.einsum("ij,ij->i", left, right)
    if values is not None:
        marginals += values
    picks, gains = np.empty(budget, np.int64), np.empty(budget)
    for step in steps(budget, "graph cut", budget * left.size):
        pick = int(np.argmax(marginals))
        picks[step], gains[step] = pick, marginals[pick]
        marginals -= 2 * (left @ right[pick])
        marginals[pick] = -np.inf
    return picks, gains


def latent_classes(pool: Pool, features: Array, clusters: int | None, seed: int) -> list[Integers]:
    """Labels where the pool has them and `clusters` is None, otherwise spherical k-means."""
    if clusters is None:
        return class_rows(pool.labels, len(pool))
    return kmeans(features, min(clusters, len(pool)), spherical=True, seed=seed).members()


def _joined(
    groups: Sequence[Integers], parts: Sequence[tuple[Integers, Floats]], budget: int
) -> Subset:
    gains = np.concatenate([gain for _, gain in parts])
    return Subset.of(
        np.concatenate([rows[picks] for rows, (picks, _) in zip(groups, parts, strict=True)]),
        requested=budget,
        gains=gains,
        objective=float(np.sum(gains)),
        nested=len(groups) == 1,
        latent_classes=len(groups),
    )


@dataclass(frozen=True)
class SAS(Selector):
    """In every latent class, greedy maximum of sum_{i in V without S} sum_{j in S} s_ij.

    s_ij is the mean cosine over all pairs of views of i and j (one view: the cosine). The gain of i
    is sum_{j != i} s_ij - 2 sum_{j in S} s_ij. The budget is shared in proportion to the classes.

    Args:
        clusters: number of latent classes, by spherical k-means; None takes the labels, or one
            class in a pool without labels.
        published: as in the authors' code, which reduces to the largest sum_j max(s_ij, 0).

    Memory: 24 n d + 48 n bytes (`published`: and a block of 64 MiB).

    Source: Joshi and Mirzasoleiman, SAS, ICML 2023, arXiv:2302.09195.
    """

    clusters: int | None = None
    published: bool = False

    name: ClassVar[str] = "sas"
    needs: ClassVar[frozenset[str]] = frozenset({"features"})

    def __post_init__(self) -> None:
        if self.clusters is not None:
            check_integer("clusters", self.clusters, 1, 2**31)

    def _select(self, pool: Pool, budget: int, seed: int) -> Subset:
        assert pool.features is not None
        views = np.asarray(mean_view(pool.features), dtype=np.float64)
        groups = latent_classes(pool, pool.features, self.clusters, seed)
        parts = []
        for rows, count in zip(groups, proportional(groups, budget), strict=True):
            own = views if len(groups) == 1 else views[rows]
            if self.published:
                parts.append(_top_clipped(own, count))
            else:
                parts.append(greedy_cut(own, own, count))
        return _joined(groups, parts, budget)

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Mean views in double precision, norms, a copy of one class, marginals."""
        return 24 * n * d + 48 * n + (16 * max(BLOCK_VALUES, n) if self.published else 0)


def _top_clipped(views: Floats, budget: int) -> tuple[Integers, Floats]:
    """Rows of largest sum_j max(s_ij, 0), in blocks."""
    m = len(views)
    sums = np.empty(m)
    for part in blocks(m, m):
        sums[part] = np.sum(np.maximum(views[part] @ views.T, 0), axis=1)
    picks = np.argsort(-sums, kind="stable")[:budget]
    return picks, sums[picks]


@dataclass(frozen=True)
class ClipCov(Selector):
    """In every latent class, greedy maximum of sum_{i not in S, j in S} c_ij + sum_{i in S} c_ii.

    c_ij = v_i . t_j + v_j . t_i, image and text vectors of unit norm. The gain of i is
    sum_{j in V} c_ij - 2 sum_{j in S} c_ij.

    Args:
        clusters: number of latent classes, by spherical k-means on the images; None takes the
            labels, or one class in a pool without labels.
        published: with the terms of the authors' notebook: 2 c_ii instead of c_ii, plus the
            similarity to the own class mean, minus the mean similarity to those of other classes.
        label_weight: of the similarity to the own class mean (`published` only).
        other_weight: of the similarity to the other class means (`published` only).

    Memory: 96 n d + 48 n bytes.

    Source: Joshi et al., ClipCov, AISTATS 2024, arXiv:2403.12267. The weights of the notebook's
    terms are not in the paper.
    """

    clusters: int | None = None
    published: bool = False
    label_weight: float = 0.5
    other_weight: float = 1.0

    name: ClassVar[str] = "clipcov"
    needs: ClassVar[frozenset[str]] = frozenset({"features", "texts"})

    def __post_init__(self) -> None:
        if self.clusters is not None:
            check_integer("clusters", self.clusters, 1, 2**31)
        check_range("label_weight", self.label_weight, 0, np.inf, open_high=True)
        check_range("other_weight", self.other_weight, 0, np.inf, open_high=True)

    def _select(self, pool: Pool, budget: int, seed: int) -> Subset:
        assert pool.texts is not None
        images = np.asarray(unit_rows("features", pool.matrix("features")), dtype=np.float64)
        texts = np.asarray(unit_rows("texts", pool.texts), dtype=np.float64)
        if images.shape != texts.shape:
            raise ValueError(
                f"features have shape {images.shape} and texts {texts.shape}; both come from one "
                "space, (n, d)"
            )
        left = np.concatenate([images, texts], axis=1)
        right = np.concatenate([texts, images], axis=1)
        groups = latent_classes(pool, images, self.clusters, seed)
        centres = np.stack([np.mean(right[rows], axis=0) for rows in groups])
        parts = []
        counts = proportional(groups, budget)
        for number, (rows, count) in enumerate(zip(groups, counts, strict=True)):
            own = np.einsum("ij,ij->i", left[rows], right[rows])
            if self.published:
                to_centres = left[rows] @ centres.T
                mine = to_centres[:, number]
                others = (np.sum(to_centres, axis=1) - mine) / max(len(centres) - 1, 1)
                own = 2 * own + self.label_weight * mine - self.other_weight * others
            parts.append(greedy_cut(left[rows], right[rows], count, own))
        return _joined(groups, parts, budget)

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Unit vectors of both modalities, joined on both sides, and one class of them."""
        return 96 * n * d + 48 * n
