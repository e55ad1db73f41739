"""InfoMax against enumeration of all subsets, its bound, its solvers against plain definitions."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_array

from selection import Pool
from selection.graph import Graph, knn_graph
from selection.infomax import (
    SOLVERS,
    InfoMaxProblem,
    below_smallest_eigenvalue,
    certify_infomax,
    greedy,
    mean_field,
    published_update,
    solve_infomax,
    with_swaps,
)
from selection.methods.graph import InfoMax, KMedian, redundancy

WEIGHTS = (0.3, 1.0, 4.0)
ROUNDING = 1e-12  # of sums of ten numbers of size one


def problem(
    seed: int, n: int, budget: int, weight: float, k: int = 5, d: int = 3
) -> InfoMaxProblem:
    """Random scores on the neighbour graph of random points."""
    rng = np.random.default_rng(seed)
    graph = knn_graph(rng.standard_normal((n, d)), min(k, n - 1))
    return InfoMaxProblem.of(rng.random(n), redundancy(graph), weight, budget)


def optimum(one: InfoMaxProblem) -> float:
    """Largest z.I - lam z^T K z over all subsets of the budget's size."""
    dense = one.redundancy.toarray()
    return max(
        one.information[list(rows)].sum() - one.weight * dense[np.ix_(rows, rows)].sum()
        for rows in itertools.combinations(range(len(one)), one.budget)
    )


@pytest.mark.parametrize("weight", WEIGHTS)
def test_solvers_and_bounds_enclose_the_optimum(weight: float) -> None:
    shortfalls = []
    for seed in range(4):
        for budget in (1, 3, 5, 9, 10):
            one = problem(seed, 10, budget, weight)
            best = optimum(one)
            for solver in SOLVERS:
                found = solve_infomax(one, solver)
                assert len(np.unique(found.indices)) == budget
                assert found.objective <= best + ROUNDING
                assert np.isclose(found.objective, one.objective(found.indices), rtol=0, atol=1e-14)
            proof = certify_infomax(one, found.indices, iterations=30)
            assert all(bound >= best - ROUNDING for bound in proof.bounds.values())
            assert proof.bound >= best
            assert proof.gap == proof.bound - proof.objective >= best - found.objective
            shortfalls.append(best - solve_infomax(one).objective)
    # Local optima of all pairs: the best of three misses at most a few optima of twenty.
    assert np.mean(np.array(shortfalls) > ROUNDING) <= 0.15


def test_the_guarantee_of_greedy_holds_where_the_objective_is_monotone() -> None:
    for seed in range(10):
        one = problem(seed, 10, 4, 0.05, k=2)
        lowest = one.information - one.coupling_matrix @ np.ones(10)
        raised = InfoMaxProblem(
            one.information - min(lowest.min(), 0), one.redundancy, one.weight, one.budget
        )
        rows, gains = greedy(raised)
        assert raised.objective(rows) >= (1 - np.exp(-1)) * optimum(raised)
        assert np.isclose(np.sum(gains), raised.objective(rows), rtol=1e-14)


def test_lazy_greedy_is_greedy() -> None:
    one = problem(1, 200, 80, 1.0)
    marginals, picks = one.information.copy(), []
    for _ in range(80):
        best = int(np.argmax(marginals))
        picks.append(best)
        marginals = marginals - 2 * one.weight * one.redundancy[[best]].toarray()[0]
        marginals[picks] = -np.inf
    assert greedy(one)[0].tolist() == picks


@pytest.mark.parametrize("weight", WEIGHTS)
def test_no_swap_improves_what_swaps_have_improved(weight: float) -> None:
    one = problem(2, 120, 50, weight)
    start = np.arange(50)
    rows, count = with_swaps(one, start)
    assert count > 0 and one.objective(rows) > one.objective(start)
    dense = one.coupling_matrix.toarray()
    chosen = one.indicator(rows)
    gains = one.information - dense @ chosen
    swaps = gains[None, :] - gains[:, None] + dense
    assert swaps[chosen == 1][:, chosen == 0].max() <= 1e-9


def test_the_default_returns_the_best_solver_and_says_which() -> None:
    one = problem(3, 500, 200, 1.0)
    found = solve_infomax(one)
    assert found.objective == max(found.objectives.values()) == found.objectives[found.solver]
    for solver in found.objectives:
        assert solve_infomax(one, solver).objective == found.objectives[solver]


@pytest.mark.parametrize(("weight", "fill"), [(0.3, 0.1), (0.3, 0.5), (1.0, 0.3)])
def test_mean_field_beats_the_published_update(weight: float, fill: float) -> None:
    # The softmax that sums to one is top-p in disguise; scaled to the budget it is better, and
    # mean field is better still; all of it before any swaps.
    # (At similarities near 1 the scaled update oscillates; those of 32 dimensions are about 0.6.)
    one = problem(4, 3000, int(fill * 3000), weight, d=32)
    top = np.argsort(-one.information)[: one.budget]
    literal = published_update(one)
    # K x is of order p/n^2 there.
    assert len(np.intersect1d(literal, top)) >= 0.99 * one.budget
    scaled = one.objective(published_update(one, scaled=True))
    assert one.objective(literal) < scaled < one.objective(mean_field(one))
    best = solve_infomax(one, iterations=60)
    own = solve_infomax(one, "mean-field")
    assert best.objective - own.objective <= 0.01 * abs(best.objective)


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_the_published_solver_is_the_update_and_nothing_else(factor: float) -> None:
    """A loop over x <- p softmax(I - factor lam K x), its 30 largest, no swaps."""
    one = problem(7, 200, 30, 1.0)
    dense = one.redundancy.toarray()
    filling = np.full(200, 30 / 200)
    for _ in range(5):
        power = np.exp(one.information - factor * one.weight * dense @ filling)
        filling = 30 * power / power.sum()
    rows, columns = np.divmod(np.arange(200 * 199), 199)
    others = (columns + (columns >= rows)).reshape(200, 199)
    graph = Graph.of(others, np.take_along_axis(dense, others, axis=1))
    pool = Pool.of(scores=one.information, graph=graph)
    method = InfoMax(
        solver="published-scaled", iterations=5, factor=factor, weight=1.0, scaling="none"
    )
    found = method.select(pool, 30)
    assert set(found.indices.tolist()) == set(np.argsort(-filling)[:30].tolist())
    assert found.diagnostics["swaps"] == 0
    assert replace(method, swaps=True).select(pool, 30).objective > found.objective


def test_without_redundancy_every_solver_takes_the_largest_scores() -> None:
    rng = np.random.default_rng(5)
    one = InfoMaxProblem.of(rng.random(40), csr_array((40, 40)), 0.3, 15)
    top = set(np.argsort(-one.information)[:15].tolist())
    for solver in ("best", *SOLVERS):
        assert set(solve_infomax(one, solver).indices.tolist()) == top
    assert certify_infomax(one, np.array(sorted(top))).relative_gap < 1e-11


def test_the_gap_is_small_where_the_relaxation_is_tight() -> None:
    one = problem(6, 3000, 300, 0.3)
    proof = certify_infomax(one, solve_infomax(one).indices, iterations=200)
    assert 0 <= proof.relative_gap < 0.02
    assert np.isclose(proof.relative_gap, proof.gap / one.top_sum(one.information), rtol=1e-12)


@pytest.mark.parametrize("d", [3, 32])
def test_the_eigenvalue_is_below_that_of_the_dense_matrix(d: int) -> None:
    rng = np.random.default_rng(8)
    for n in (400, 2300):  # decomposed as a whole; by Lanczos iterations
        matrix = redundancy(knn_graph(rng.standard_normal((n, d)), 5))
        exact = np.linalg.eigvalsh(matrix.toarray())[0]
        found = below_smallest_eigenvalue(matrix)
        # Lanczos iterations give away 1 % of the spectrum's width, rounding next to nothing.
        width = 2 * matrix.sum(axis=1).max()
        assert exact - (0.012 * width if n > 2000 else 1e-9) < found < exact


def test_lanczos_iterations_that_end_early() -> None:
    """Pairs: the eigenvalues are -1 and 1 alone, found in two steps."""
    rows = np.arange(3000)
    pairs = csr_array((np.ones(3000), (rows, rows ^ 1)), shape=(3000, 3000))
    assert below_smallest_eigenvalue(pairs) == pytest.approx(-1, rel=1e-12)
    assert below_smallest_eigenvalue(csr_array((2500, 2500))) == 0.0


def test_the_certificate_says_whether_it_is_proven() -> None:
    crowded = problem(9, 2400, 1200, 1.0, d=32)
    proof = certify_infomax(crowded, solve_infomax(crowded, "mean-field").indices, iterations=30)
    assert min(proof.bounds, key=lambda name: proof.bounds[name]) == "eigenvalue"
    assert proof.failure == 1e-9
    sparse = problem(9, 2400, 240, 0.3, d=32)
    proof = certify_infomax(sparse, solve_infomax(sparse, "mean-field").indices, iterations=30)
    assert min(proof.bounds, key=lambda name: proof.bounds[name]) != "eigenvalue"
    assert proof.failure == 0.0
    small = problem(9, 400, 200, 1.0, d=32)
    assert certify_infomax(small, np.arange(200)).failure == 0.0


def test_the_eigenvalue_is_left_out_of_large_problems() -> None:
    one = problem(9, 400, 200, 1.0, d=32)
    bounds = certify_infomax(one, np.arange(200), iterations=5, eigenvalue_up_to=300).bounds
    assert set(bounds) == {"top-p", "row-sums", "lagrangian"}


def test_many_examples_are_left_to_mean_field() -> None:
    one = problem(10, 2000, 600, 1.0)
    best = solve_infomax(one)
    found = solve_infomax(one, mean_field_above=1000)
    assert dict(found.objectives) == {"mean-field": best.objectives["mean-field"]}
    # What mean field with swaps misses of the best of three.
    assert best.objective - found.objective <= 0.01 * abs(best.objective)


def test_options_that_the_paper_leaves_open() -> None:
    rng = np.random.default_rng(7)
    pool = Pool.of(scores=5 + rng.random(200), features=rng.standard_normal((200, 6)))
    assert pool.scores is not None
    scores = pool.scores.values
    scaled = (scores - scores.min()) / np.ptp(scores)
    graph = knn_graph(pool.features, 5)
    for symmetry in ("union", "mean"):
        matrix = np.maximum(graph.symmetric(symmetry=symmetry).toarray(), 0)
        found = InfoMax(symmetry=symmetry).select(pool, 60)
        chosen = np.zeros(200)
        chosen[found.indices] = 1
        expected = chosen @ scaled - 0.3 * chosen @ matrix @ chosen
        assert found.objective is not None
        assert np.isclose(found.objective, expected, rtol=1e-12)
        assert found.diagnostics["certificate"]["gap"] >= 0
    shifted = Pool.of(scores=3 * scores - 7, features=pool.features)
    for scaling in ("min-max", "standard", "rank"):
        ours, theirs = (InfoMax(scaling=scaling).select(p, 60).indices for p in (pool, shifted))
        assert np.array_equal(ours, theirs)
    lists = InfoMax(solver="greedy", swaps=False).select(pool, 60)
    assert lists.nested
    shorter = InfoMax(solver="greedy", swaps=False).select(pool, 25)
    assert np.array_equal(shorter.indices, lists.indices[:25])


def test_negative_similarities_are_clipped_and_distances_refused() -> None:
    graph = Graph.of([[1], [0]], [[-0.5], [-0.5]])
    pool = Pool.of(scores=[0.0, 1.0], graph=graph)
    assert InfoMax().select(pool, 2).objective == 1.0
    far = Graph.of([[1], [0]], [[-0.5], [-0.5]], metric="euclidean")
    with pytest.raises(ValueError, match="graph holds distances"):
        InfoMax().select(Pool.of(scores=[0.0, 1.0], graph=far), 1)


def test_k_median_avoids_neighbours() -> None:
    points = np.repeat(np.eye(6), 4, axis=0)
    found = KMedian().select(Pool.of(features=points), 6)
    assert found.objective == 0.0
    assert sorted((found.indices // 4).tolist()) == list(range(6))


def test_bad_problems_are_refused() -> None:
    matrix = np.array([[0.0, 1.0], [1.0, 0.0]])
    with pytest.raises(ValueError, match="symmetric"):
        InfoMaxProblem.of([1.0, 2.0], np.triu(matrix), 0.3, 1)
    with pytest.raises(ValueError, match=">= 0"):
        InfoMaxProblem.of([1.0, 2.0], -matrix, 0.3, 1)
    with pytest.raises(ValueError, match="finite"):
        InfoMaxProblem.of([1.0, 2.0], np.where(matrix > 0, np.inf, 0), 0.3, 1)
    with pytest.raises(ValueError, match="zero diagonal"):
        InfoMaxProblem.of([1.0, 2.0], np.eye(2), 0.3, 1)
    with pytest.raises(ValueError, match=r"weight = -1 is outside the valid range \[0, inf\)"):
        InfoMax(weight=-1)
    with pytest.raises(ValueError, match="solver = 'exact' is not one of best, mean-field"):
        InfoMax(solver="exact")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs features or a graph"):
        InfoMax().select(Pool.of(scores=[1.0, 2.0]), 1)
