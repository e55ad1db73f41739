"""Tiny features and ties: the same answer as at ordinary size, and ids instead of rounding."""

import math
from typing import Any

import numpy as np
import pytest

from selection import SELECTORS, Pool, Selector, kmeans, knn_graph, ssp
from selection.arrays import lifted, unit_rows
from selection.given import Given
from selection.methods.clusters import S2L
from selection.methods.dedup import SemDeDup
from selection.methods.diversity import Herding, HullVolume, KCenter
from selection.methods.facility import AdaCore, FacilityLocation
from selection.methods.gradients import Glister, GradMatch
from selection.methods.graph import D2
from selection.methods.graph_cut import SAS, ClipCov
from selection.methods.ranking import ModerateCoreset
from selection.pool import first_least, levels, rescaled

N = 60
RNG = np.random.default_rng(0)
LABELS = np.arange(N) % 3
ROWS = RNG.standard_normal((N, 4)) + 2 * np.eye(4)[LABELS]
SCORES = RNG.random(N)
FIELDS = ("features", "gradients", "trajectories", "texts")
TINY = 2.0**-565  # some 1e-170, and a power of two: nothing is rounded


def pool(scale: float, dtype: Any = np.float64, **changes: Any) -> Pool:
    rows = {name: (ROWS * (1 + place / 8)).astype(dtype) for place, name in enumerate(FIELDS)}
    return Pool.of(scores=SCORES, **{n: r * dtype(scale) for n, r in rows.items()}, **changes)


METHODS: dict[str, Selector] = {
    name: kind()
    for name, kind in SELECTORS.items()
    if name not in ("optimal-window", "gradmatch", "glister")
}
METHODS |= {
    "k-center, central": KCenter(first="central"),
    "facility location, sparse": FacilityLocation(mode="sparse", neighbours=6),
    "adacore, curvature": AdaCore(curvature=np.array([1.0, 2, 3, 4])),
    "gradmatch without a penalty": GradMatch(penalty=0.0, tolerance=0.2),
    "dispersion": HullVolume(measure="dispersion"),
    "sas in clusters": SAS(clusters=3),
    "semdedup, exact": SemDeDup(exact=True),
}
# Powers of the scale in what a method reports; 0 elsewhere.
POWERS = {"adacore": -1, "badge": 2, "gradmatch without a penalty": 2}
POWERS |= dict.fromkeys(("k-center", "k-center, central", "herding", "dispersion"), 1)
POWERS |= dict.fromkeys(("facility-location", "facility location, sparse", "craig"), 1)
POWERS |= dict.fromkeys(("adacore, curvature", "hull-volume"), 1)


@pytest.mark.parametrize(
    ("name", "scale", "dtype"),
    [(name, TINY, np.float64) for name in METHODS]
    + [(name, 2.0**-100, np.float32) for name in METHODS]
    + [(name, 1e-170, np.float64) for name in POWERS],
)
def test_tiny_rows_are_the_same_selection(name: str, scale: float, dtype: Any) -> None:
    plain = METHODS[name].select(pool(1.0, dtype), 12, seed=4)
    tiny = METHODS[name].select(pool(scale, dtype), 12, seed=4)
    assert np.array_equal(plain.indices, tiny.indices)
    np.testing.assert_allclose(tiny.weights, plain.weights, rtol=1e-6)
    power = POWERS.get(name, 0)
    if plain.objective is not None and math.log2(scale).is_integer():
        assert tiny.objective == pytest.approx(plain.objective * scale**power, rel=1e-6, abs=0)
    if plain.gains is not None and tiny.gains is not None and power == 1:
        np.testing.assert_allclose(tiny.gains / scale, plain.gains, rtol=1e-6)


@pytest.mark.parametrize("name", ["k-center", "herding", "facility-location", "badge", "sas"])
def test_tiny_given_ones_too(name: str) -> None:
    found = []
    for scale in (1.0, TINY):
        one = pool(scale)
        outside = Pool.of(**dict.fromkeys(FIELDS, ROWS[:2] * scale + scale))
        given = Given.of(one, rows=[7, 9], outside=outside)
        found.append(METHODS[name].select(one, 8, seed=1, given=given))
    assert np.array_equal(found[0].indices, found[1].indices)


def test_what_depends_on_the_scale_says_so_or_is_right() -> None:
    with pytest.raises(ValueError, match=r"squares vanish beside penalty = 0\.5; scale them up"):
        GradMatch().select(pool(TINY), 5)
    # min (w g - b)^2 + lam w^2 of one example g = b = 2^-200: w = g^2 / (g^2 + lam).
    one = GradMatch().select(Pool.of(features=[[2.0**-200]]), 1)
    assert one.weights[0] == pytest.approx(2.0**-400 / 0.5, rel=1e-12)
    # exp(-d^2) is 1 beside any edge that short, but the nearest are still the nearest.
    found = D2(metric="euclidean").select(pool(TINY), 9)
    graph, tiny = knn_graph(ROWS, 5, metric="euclidean"), knn_graph(ROWS * TINY, 5)
    assert np.all(np.isfinite(found.gains))
    far = knn_graph(ROWS * TINY, 5, metric="euclidean")
    assert np.array_equal(graph.neighbours, far.neighbours)
    inner = [knn_graph(rows, 5, metric="inner").neighbours for rows in (ROWS, ROWS * TINY)]
    assert np.array_equal(inner[0], inner[1])
    assert np.array_equal(tiny.neighbours, knn_graph(ROWS, 5).neighbours)
    assert np.array_equal(tiny.similarities, knn_graph(ROWS, 5).similarities)
    # The last layer's constant 1 outweighs them: the answer is that of features that are 0.
    labelled = [Pool.of(features=ROWS * scale, labels=LABELS) for scale in (TINY, 0.0)]
    glister = [Glister(stochastic=False).select(one, 9).indices for one in labelled]
    assert np.array_equal(glister[0], glister[1])


def test_clusters_of_tiny_rows() -> None:
    plain, tiny = kmeans(ROWS, 4), kmeans(ROWS * TINY, 4)
    assert np.array_equal(plain.assignments, tiny.assignments)
    assert np.array_equal(plain.distances, tiny.distances / TINY)
    assert np.array_equal(plain.centroids, tiny.centroids / TINY)
    assert np.array_equal(tiny.nearest(ROWS * TINY), plain.nearest(ROWS))
    distances = [ssp(rows, clusters=4, cosine=False).values for rows in (ROWS, ROWS * TINY)]
    assert np.array_equal(distances[0], distances[1] / TINY)
    assert S2L(clusters=4).select(pool(TINY), 8).achieved == 8


def test_directions_of_rows_of_very_different_length() -> None:
    scales = np.ldexp(1.0, -10 * np.arange(N))[:, None]
    unit = unit_rows("features", ROWS)
    np.testing.assert_allclose(unit_rows("features", ROWS * scales), unit, rtol=1e-15)
    single = ROWS[:9].astype(np.float32)
    short = np.ldexp(np.float32(1), -12 * np.arange(9))[:, None]
    np.testing.assert_allclose(
        unit_rows("features", single * short), unit_rows("features", single), rtol=3e-7
    )
    with pytest.raises(ValueError, match="features has norm zero at row 1"):
        unit_rows("features", np.array([[1e-170, 0], [0, 0]]))


def test_lifting_rounds_nothing() -> None:
    scale, rows, before = lifted(ROWS * TINY, ROWS[:2] * TINY)
    assert np.array_equal(rows * scale, ROWS * TINY) and 0.5 <= np.abs(rows).max() < 1
    assert np.array_equal(before * scale, ROWS[:2] * TINY)
    for one in (ROWS, np.zeros((3, 2))):
        assert lifted(one, one[:0])[1] is one
    least = np.array([[5e-324], [0.0]])
    assert lifted(least, least[:0])[1].tolist() == [[0.5], [0.0]]


@pytest.mark.parametrize("scaling", ["min-max", "standard", "rank"])
def test_tiny_scores_keep_their_spread(scaling: Any) -> None:
    assert np.array_equal(rescaled(SCORES * TINY, scaling), rescaled(SCORES, scaling))


# Two examples are equal in everything that these methods compare: the first id is taken.
TWO: dict[str, Selector] = {
    "sas": SAS(),
    "clipcov": ClipCov(),
    "herding": Herding(),
    "k-center": KCenter(first="central"),
    "facility-location": FacilityLocation(),
    "hull-volume": HullVolume(),
    "dispersion": HullVolume(measure="dispersion"),
    "moderate": ModerateCoreset(),
    "infomax": SELECTORS["infomax"](),
    "k-median": SELECTORS["k-median"](),
    "d2": D2(),
    "coding-rate": SELECTORS["coding-rate"](),
}


@pytest.mark.parametrize("name", TWO)
def test_ties_of_two_examples_go_to_the_smaller_id(name: str) -> None:
    rng = np.random.default_rng(7)
    for _ in range(8):
        rows = rng.standard_normal((2, 5)) + rng.integers(3)
        for order in ([0, 1], [1, 0]):
            one = Pool.of(
                features=rows[order], texts=rows[order], scores=[1.0, 1.0], ids=["a", "b"]
            )
            assert TWO[name].select(one, 1).indices.tolist() == [0]


@pytest.mark.parametrize("name", ["sas", "clipcov", "herding", "dispersion", "hull-volume"])
def test_ties_of_a_regular_simplex_go_to_the_smallest_ids(name: str) -> None:
    # All pairs are equally far, in any orientation; a copy is as good as the other one.
    turn = np.linalg.qr(np.random.default_rng(3).standard_normal((6, 6)))[0]
    rows = np.eye(6) @ turn
    found = TWO[name].select(Pool.of(features=rows, texts=rows), 4)
    assert found.indices.tolist() == [0, 1, 2, 3]


def test_levels_join_what_differs_by_rounding() -> None:
    assert levels(np.array([3.0, 1.0, 3.0 + 4e-16, 2.0])).tolist() == [2, 0, 2, 1]
    assert levels(np.array([])).tolist() == []
    assert first_least(np.array([2.0, 1 + 1e-15, 1.0])) == 1
