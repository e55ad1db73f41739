"""Selects by greedy graph cuts.

The similarities are inner products. The methods are SAS and ClipCov.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hardset.checks import check_integer, check_range
from hardset.progress import steps
from selection.arrays import BLOCK_VALUES, Array, Floats, Integers, blocks, unit_rows
from selection.given import Given, Part, shares
from selection.graph import kmeans, mean_view
from selection.pool import Pool, first_largest, levels
from selection.selector import Conditional
from selection.subset import Subset


def greedy_cut(
    left: Floats,
    right: Floats,
    budget: int,
    values: Floats | None = None,
    inside: Integers | None = None,
    outside: Floats | None = None,
) -> tuple[Integers, Floats]:
    """Maximise a cut greedily.

    The cut is sum_{i not in S, j in S} s_ij + sum_{i in S} values_i.

    s_ij = left_i . right_j is symmetric. The marginal of i is sum_{j != i} s_ij - 2 sum_{j in S}
    s_ij + values_i: one matrix-vector product a pick, no matrix of similarities. Equal marginals
    go to the first row.

    Args:
        left: shape (m, d).
        right: shape (m, d).
        budget: number of picks; negative marginals do not stop it.
        values: shape (m,), default 0.
        inside: rows that are in S from the start.
        outside: right sides of further members of S, which are not among the i, shape (k, d).

    Returns:
        The picks and their marginals.
    """
    marginals = left @ np.sum(right, axis=0) - np.einsum("ij,ij->i", left, right)
    if values is not None:
        marginals += values
    # Marginals are differences of sums over all pairs. Their rounding is this large.
    size = len(left) * float(np.max(np.einsum("ij,ij->i", left, left)))
    if inside is not None and len(inside):
        marginals -= 2 * (left @ np.sum(right[inside], axis=0))
        marginals[inside] = -np.inf
    if outside is not None and len(outside):
        marginals -= left @ np.sum(outside, axis=0)
    picks, gains = np.empty(budget, np.int64), np.empty(budget)
    for step in steps(budget, "graph cut", budget * left.size):
        pick = first_largest(marginals, size)
        picks[step], gains[step] = pick, marginals[pick]
        marginals -= 2 * (left @ right[pick])
        marginals[pick] = -np.inf
    return picks, gains


def latent_classes(
    pool: Pool, features: Array, clusters: int | None, seed: int, given: Given, before: Floats
) -> list[Part]:
    """Return the latent classes of the pool.

    They are its labels where it has them and `clusters` is None, else spherical k-means clusters.

    Args:
        pool: the candidates.
        features: what is clustered, shape (n, ...).
        clusters: their number.
        seed: of k-means.
        given: the existing set.
        before: vectors of its examples from outside, shape (k, d), which are in the cluster of the
            nearest centroid.
    """
    if clusters is None:
        return given.class_parts(pool)
    found = kmeans(features, min(clusters, len(pool)), spherical=True, seed=seed)
    groups = found.members()
    number = {int(found.assignments[rows[0]]): place for place, rows in enumerate(groups)}
    homes = np.array([number.get(one, -1) for one in found.nearest(before).tolist()], np.int64)
    return given.parts(groups, len(pool), homes)


def _joined(
    classes: Sequence[Part], found: Sequence[tuple[Integers, Floats]], budget: int
) -> Subset:
    gains = np.concatenate([gain for _, gain in found])
    return Subset.of(
        np.concatenate([part.rows[picks] for part, (picks, _) in zip(classes, found, strict=True)]),
        requested=budget,
        gains=gains,
        objective=float(np.sum(gains)),
        nested=len(classes) == 1,
        latent_classes=len(classes),
    )


@dataclass(frozen=True)
class SAS(Conditional):
    """Picks views that stand for their latent class, greedily.

    In every class it maximises sum_{i in V without S} sum_{j in S} s_ij greedily.

    s_ij is the mean cosine over all pairs of views of i and j (one view: the cosine). The gain of i
    is sum_{j != i} s_ij - 2 sum_{j in S} s_ij. The budget is shared in proportion to the classes.
    Given examples are in S from the start, those from outside in the second sum alone: of one such
    example the gain loses s_ij once. They count in the shares of their classes.

    Args:
        clusters: number of latent classes, by spherical k-means; None takes the labels, or one
            class in a pool without labels.
        published: as in the authors' code, which reduces to the largest sum_j max(s_ij, 0), and in
            which given examples are left out only.

    Memory: 24 n d + 48 n bytes (`published`: and a block of 64 MiB).

    Source: Joshi and Mirzasoleiman, SAS, ICML 2023, arXiv:2302.09195.
    """

    clusters: int | None = None
    published: bool = False

    name: ClassVar[str] = "sas"
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    optional: ClassVar[frozenset[str]] = frozenset({"labels"})

    def __post_init__(self) -> None:
        if self.clusters is not None:
            check_integer("clusters", self.clusters, 1, 2**31)

    def _select_given(self, pool: Pool, budget: int, seed: int, given: Given) -> Subset:
        assert pool.features is not None
        views = np.asarray(mean_view(pool.features), dtype=np.float64)
        before = given.values(pool, "features")[len(given.rows) :]
        before = np.asarray(mean_view(before), dtype=np.float64)
        classes = latent_classes(pool, pool.features, self.clusters, seed, given, before)
        found = []
        for part, count in zip(classes, shares(classes, budget), strict=True):
            own = views if len(classes) == 1 else views[part.rows]
            if self.published:
                found.append(_top_clipped(own, count, part.inside))
            else:
                outside = before[part.outside]
                found.append(greedy_cut(own, own, count, None, part.inside, outside))
        return _joined(classes, found, budget)

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Bound the bytes of mean views, norms, one class and marginals.

        Mean views have double precision, and one class of them is copied.
        """
        return 24 * n * d + 48 * n + (16 * max(BLOCK_VALUES, n) if self.published else 0)


def _top_clipped(views: Floats, budget: int, given: Integers) -> tuple[Integers, Floats]:
    """Find the rows of the largest clipped sums.

    The sum is sum_j max(s_ij, 0), computed in blocks. Given rows are left out.
    """
    m = len(views)
    sums = np.empty(m)
    for part in blocks(m, m):
        sums[part] = np.sum(np.maximum(views[part] @ views.T, 0), axis=1)
    rest = Given(given).rest(m)
    picks = rest[np.argsort(levels(-sums[rest]), kind="stable")[:budget]]
    return picks, sums[picks]


@dataclass(frozen=True)
class ClipCov(Conditional):
    """Picks image-text pairs that stand for their latent class, greedily.

    In every class it maximises sum_{i not in S, j in S} c_ij + sum_{i in S} c_ii greedily.

    c_ij = v_i . t_j + v_j . t_i, image and text vectors of unit norm. The gain of i is
    sum_{j in V} c_ij - 2 sum_{j in S} c_ij. Given examples, from outside with texts, are in S from
    the start, as in SAS.

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
    optional: ClassVar[frozenset[str]] = frozenset({"labels"})

    def __post_init__(self) -> None:
        if self.clusters is not None:
            check_integer("clusters", self.clusters, 1, 2**31)
        check_range("label_weight", self.label_weight, 0, np.inf, open_high=True)
        check_range("other_weight", self.other_weight, 0, np.inf, open_high=True)

    def _select_given(self, pool: Pool, budget: int, seed: int, given: Given) -> Subset:
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
        own_images, own_texts = (
            unit_rows(name, np.asarray(given.values(pool, name)[len(given.rows) :], np.float64))
            for name in ("features", "texts")
        )
        before = np.concatenate([own_texts, own_images], axis=1)
        classes = latent_classes(pool, images, self.clusters, seed, given, own_images)
        centres = np.stack([np.mean(right[part.rows], axis=0) for part in classes])
        found = []
        counts = shares(classes, budget)
        for number, (part, count) in enumerate(zip(classes, counts, strict=True)):
            rows = part.rows
            own = np.einsum("ij,ij->i", left[rows], right[rows])
            if self.published:
                to_centres = left[rows] @ centres.T
                mine = to_centres[:, number]
                others = (np.sum(to_centres, axis=1) - mine) / max(len(centres) - 1, 1)
                own = 2 * own + self.label_weight * mine - self.other_weight * others
            outside = before[part.outside]
            found.append(greedy_cut(left[rows], right[rows], count, own, part.inside, outside))
        return _joined(classes, found, budget)

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Bound the bytes of unit vectors of both modalities.

        They are joined on both sides, and one class of them is copied.
        """
        return 96 * n * d + 48 * n
