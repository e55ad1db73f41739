"""Draws where methods put their examples in the plane.

The score and the density of the examples disagree on purpose.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from selection.graph import Graph
from selection.pool import Pool
from selection.registry import parse_method
from selection.selector import generator

Floats = NDArray[np.float64]

METHODS = ("random", "hard", "k-center", "facility-location", "d2", "infomax")

# Centre, spread and share of the examples; the rest is uniform on the unit square.
CLUMPS = (((0.22, 0.25), 0.05, 0.3), ((0.70, 0.30), 0.07, 0.2), ((0.45, 0.78), 0.05, 0.1))
# Centre, width and height of the hills of the score: on a clump, and where examples are few.
HILLS = (((0.70, 0.30), 0.12, 1.0), ((0.85, 0.82), 0.14, 0.8))
BANDWIDTH = 0.03
NEIGHBOURS = 20


@dataclass(frozen=True, eq=False)
class Plane:
    """Holds examples in the unit square.

    Attributes:
        points: shape (n, 2).
        scores: hills in [0, 1], high where an example is informative, shape (n,).
        pool: scores, points as features, and the graph of a Gaussian kernel of width `BANDWIDTH`,
            the cosines of its feature vectors.
    """

    points: Floats
    scores: Floats
    pool: Pool


@dataclass(frozen=True, eq=False)
class Coverage:
    """Measures what one method kept.

    Attributes:
        method: as on the command line.
        kept: rows.
        score: mean score of the kept examples.
        distance: from an example to the nearest kept one, mean over all.
        crowded: share of the kept examples whose nearest kept one is within `BANDWIDTH`.
    """

    method: str
    kept: NDArray[np.int64]
    score: float
    distance: float
    crowded: float


def make_plane(n: int = 2000, seed: int = 0) -> Plane:
    """Draw examples in clumps on a uniform ground, and a score.

    The score has a hill on one clump, and another hill where examples are few.
    """
    random = generator(seed)
    counts = [round(share * n) for _, _, share in CLUMPS]
    parts = [
        np.asarray(centre) + spread * random.standard_normal((count, 2))
        for (centre, spread, _), count in zip(CLUMPS, counts, strict=True)
    ]
    points = np.concatenate([*parts, random.random((n - sum(counts), 2))])
    scores = np.sum(
        [
            height * np.exp(-np.sum((points - centre) ** 2, axis=1) / (2 * width**2))
            for centre, width, height in HILLS
        ],
        axis=0,
    )
    distances, rows = KDTree(points).query(points, NEIGHBOURS + 1)
    kernel = np.exp(-(distances[:, 1:] ** 2) / (2 * BANDWIDTH**2))
    pool = Pool.of(scores=scores, features=points, graph=Graph.of(rows[:, 1:], kernel))
    return Plane(points, scores, pool)


def cover(plane: Plane, method: str, budget: int, seed: int = 0) -> Coverage:
    """Select by a method, and measure what it kept.

    Raises:
        ValueError: an unknown method, or one that needs more than scores and features.
    """
    kept = parse_method(method).select(plane.pool, budget, seed).indices
    tree = KDTree(plane.points[kept])
    nearest, _ = tree.query(plane.points)
    pairs, _ = tree.query(plane.points[kept], 2)
    return Coverage(
        method,
        kept,
        score=float(plane.scores[kept].mean()),
        distance=float(nearest.mean()),
        crowded=float(np.mean(pairs[:, 1] <= BANDWIDTH)),
    )


def coverage_table(found: Mapping[str, Coverage]) -> str:
    """Write the measures of every method in Markdown."""
    lines = [
        "| method | mean score | distance to the nearest kept | kept within "
        f"{BANDWIDTH:g} of another |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {one.method} | {one.score:.3f} | {one.distance:.4f} | {100 * one.crowded:.0f} % |"
        for one in found.values()
    ]
    return "\n".join(lines) + "\n"


def draw_coverage(plane: Plane, found: Mapping[str, Coverage], path: Path) -> None:
    """Write the picture to `path`, in the format of its suffix."""
    from matplotlib.figure import Figure

    columns = min(3, len(found))
    lines = -(-len(found) // columns)
    figure = Figure(figsize=(0.8 + 3.1 * columns, 0.4 + 3.2 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for axis in grid.flat[len(found) :]:
        axis.set_visible(False)
    shown = None
    for axis, one in zip(grid.flat, found.values(), strict=False):
        shown = axis.scatter(*plane.points.T, c=plane.scores, s=4, cmap="viridis", linewidths=0)
        axis.scatter(*plane.points[one.kept].T, s=9, color="crimson", linewidths=0)
        axis.set_title(f"{one.method}: score {one.score:.2f}, distance {one.distance:.3f}", size=9)
        axis.set_aspect("equal")
        axis.set_xticks([])
        axis.set_yticks([])
    assert shown is not None
    figure.colorbar(shown, ax=grid, shrink=0.6, label="score")
    figure.savefig(path, dpi=150)
