"""Selection methods against their peers in one run: times, objectives, ratios.

    python benchmarks/data_selection.py [--tasks neighbours facility d2 infomax certificate million]
    python benchmarks/data_selection.py --tasks isotropic [--points 1000000]

Processor seconds of one thread, except a million points, which use all processors and have wall
time and peak memory, too: "million" on a mixture of 1,000 Gaussians, "isotropic" (a quarter of an
hour) on points without structure. Peers that are not installed are left out.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from threadpoolctl import threadpool_limits

from selection import Pool
from selection.graph import exact_neighbours, knn_graph
from selection.infomax import (
    InfoMaxProblem,
    certify_infomax,
    greedy,
    mean_field,
    published_update,
    solve_infomax,
    with_swaps,
)
from selection.methods.facility import greedy_sparse, neighbour_similarity
from selection.methods.graph import (
    InfoMax,
    edge_weights,
    message_passing,
    redundancy,
    reverse_picks,
)

POINTS, DIM, NEIGHBOURS = 50_000, 128, 5
GAUSSIANS = 1000
Row = tuple[str, str, float, str]


def mixture(n: int, seed: int = 0) -> np.ndarray:
    """Points of 1,000 Gaussians of unit variance whose centres are as far apart as points."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((GAUSSIANS, DIM), dtype=np.float32)
    rows = rng.standard_normal((n, DIM), dtype=np.float32)
    rows += centres[rng.integers(GAUSSIANS, size=n)]
    return rows


def isotropic(n: int, seed: int = 0) -> np.ndarray:
    """Points of one Gaussian."""
    return np.random.default_rng(seed).standard_normal((n, DIM), dtype=np.float32)


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds and the result."""
    start = time.process_time()
    found = function()
    return time.process_time() - start, found


def neighbours(n: int) -> Iterator[Row]:
    """Exact k nearest neighbours."""
    import faiss
    from sklearn.neighbors import NearestNeighbors

    rows = isotropic(n)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    faiss.omp_set_num_threads(1)

    def flat() -> np.ndarray:
        index = faiss.IndexFlatIP(DIM)
        index.add(unit)
        return index.search(unit, NEIGHBOURS + 1)[1][:, 1:]

    def plain() -> np.ndarray:
        found = np.empty((len(unit), NEIGHBOURS), np.int64)
        for start in range(0, len(unit), 1000):
            products = unit[start : start + 1000] @ unit.T
            top = np.argpartition(-products, NEIGHBOURS + 1, axis=1)[:, : NEIGHBOURS + 1]
            order = np.argsort(-np.take_along_axis(products, top, 1), axis=1)
            found[start : start + 1000] = np.take_along_axis(top, order, 1)[:, 1:]
        return found

    # In turn, twice: the machine's speed may drift.
    peer, ours = [], []
    for _ in range(2):
        seconds, truth = timed(flat)
        peer.append(seconds)
        seconds, graph = timed(lambda: knn_graph(rows, NEIGHBOURS, method="exact", threads=1))
        ours.append(seconds)
    task = f"exact kNN, n={n} d={DIM} k={NEIGHBOURS}"
    yield task, "faiss Flat", min(peer), ""
    same = float(np.mean(graph.neighbours == truth))
    yield task, "hardset", min(ours), f"same neighbours {same:.4f}"
    bare, _ = timed(lambda: exact_neighbours(unit, NEIGHBOURS, False, 1))
    yield task, "hardset, without normalising", bare, ""
    unit = unit[: n // 5]  # the slow ones on a fifth of the points, a 25th of the pairs
    search = NearestNeighbors(n_neighbors=NEIGHBOURS + 1, algorithm="brute", n_jobs=1)
    seconds, _ = timed(lambda: search.fit(unit).kneighbors(unit))
    yield task, "scikit-learn brute, 25 x a fifth of the points", 25 * seconds, ""
    seconds, _ = timed(plain)
    yield task, "NumPy argpartition, 25 x a fifth of the points", 25 * seconds, ""


def facility(n: int) -> Iterator[Row]:
    """Lazy greedy on a sparse graph."""
    budget = n // 10
    matrix = neighbour_similarity(mixture(n)[:, :32], 10, 0)
    greedy_sparse(matrix[:100, :100], 5)
    seconds, (picks, gains) = timed(lambda: greedy_sparse(matrix, budget))
    task = f"facility location, sparse, n={n} p={budget}"

    def objective(rows: np.ndarray) -> float:
        return float(matrix[:, np.sort(rows)].max(axis=1).sum())

    yield task, "hardset", seconds, f"F {gains.sum():.3f} (again: {objective(picks):.3f})"
    try:
        from apricot import FacilityLocationSelection
    except ImportError:
        return
    from scipy.sparse import csr_matrix

    peer = csr_matrix(matrix)
    small = csr_matrix(matrix[:200, :200])
    FacilityLocationSelection(5, metric="precomputed", optimizer="lazy").fit(small)  # compiles
    method = FacilityLocationSelection(budget, metric="precomputed", optimizer="lazy")
    seconds, _ = timed(lambda: method.fit(peer))
    yield task, "apricot, lazy", seconds, f"F {objective(method.ranking):.3f}"


def d2(n: int) -> Iterator[Row]:
    """Reverse message passing."""
    graph = knn_graph(mixture(n), 10)
    scores = np.random.default_rng(1).random(n)
    weights = edge_weights(graph, 0.1)
    values = message_passing(scores, edge_weights(graph, 1.0))
    budget = n // 2
    reverse_picks(values, weights, 5)
    seconds, (picks, _) = timed(lambda: reverse_picks(values, weights, budget))
    task = f"D2, n={n} p={budget}"
    yield task, "hardset", seconds, ""

    def by_argmax() -> np.ndarray:
        left, found = values.copy(), np.empty(budget, np.int64)
        start, columns, entries = weights.indptr, weights.indices, weights.data
        for step in range(budget):
            pick = int(np.argmax(left))
            found[step] = pick
            own = slice(start[pick], start[pick + 1])
            left[columns[own]] -= entries[own] * max(left[pick], 0.0)
            left[pick] = -np.inf
        return found

    seconds, plain = timed(by_argmax)
    yield task, "argmax a pick", seconds, f"same picks {np.mean(plain == picks):.4f}"


def infomax(n: int) -> Iterator[Row]:
    """Solvers and their objectives."""
    matrix = redundancy(knn_graph(mixture(n), NEIGHBOURS))
    information = np.random.default_rng(1).random(n)
    small = csr_array(matrix[:50, :50])
    solve_infomax(InfoMaxProblem(information[:50], small, 0.3, 5))
    for weight in (0.3, 1.0, 4.0):
        for fill in (0.05, 0.1, 0.3, 0.5):
            one = InfoMaxProblem(information, matrix, weight, int(fill * n))
            yield from solvers(one, f"InfoMax, n={n} lam={weight} p/n={fill}")


def solvers(one: InfoMaxProblem, task: str) -> Iterator[Row]:
    """Every solver, alone and with swaps, against the best of all."""
    functions: dict[str, Callable[[], np.ndarray]] = {
        "published, 20 iterations": lambda: published_update(one),
        "published, scaled to p": lambda: published_update(one, scaled=True),
        "lazy greedy": lambda: greedy(one)[0],
        "mean field, 20": lambda: mean_field(one, 20),
        "mean field, 60": lambda: mean_field(one, 60),
    }
    found: list[tuple[str, float, float]] = []
    for name, function in functions.items():
        seconds, rows = timed(function)
        found.append((name, seconds, one.objective(rows)))
        more, (better, _) = timed(lambda start=rows: with_swaps(one, start))
        found.append((f"{name} + swaps", seconds + more, one.objective(better)))
    seconds, best_of = timed(lambda: solve_infomax(one))
    found.append((f"default ({best_of.solver})", seconds, best_of.objective))
    best = max(objective for _, _, objective in found)
    scale = one.top_sum(one.information)
    for name, seconds, objective in found:
        below = (best - objective) / scale
        yield task, name, seconds, f"{objective:.1f}, {below:.4f} of top-p below the best"


def certificate(n: int) -> Iterator[Row]:
    """Upper bounds."""
    matrix = redundancy(knn_graph(mixture(n), NEIGHBOURS))
    information = np.random.default_rng(1).random(n)
    for weight in (0.3, 1.0, 4.0):
        for fill in (0.05, 0.1, 0.3, 0.5):
            one = InfoMaxProblem(information, matrix, weight, int(fill * n))
            rows = solve_infomax(one).indices
            seconds, proof = timed(lambda p=one, r=rows: certify_infomax(p, r, 100))
            least = min(proof.bounds, key=lambda name: proof.bounds[name])
            yield (
                f"certificate, n={n} lam={weight} p/n={fill}",
                f"bound by {least}",
                seconds,
                f"gap {proof.gap:.1f}, {proof.relative_gap:.4f} of top-p",
            )


def end_to_end(kind: str, n: int) -> Iterator[Row]:
    """A run in a process of its own, for its peak memory."""
    command = [sys.executable, __file__, "--one", kind, "--points", str(n)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    solver, seconds, facts = done.stdout.splitlines()[-1].split("|")
    yield f"InfoMax end to end, {kind}, n={n} p={n // 10}", solver, float(seconds), facts


def one_million(kind: str, n: int) -> None:
    """Features to subset, with time, recall and peak memory; then the solver alone, one thread."""
    rows = mixture(n) if kind == "mixture" else isotropic(n)
    scores = np.random.default_rng(1).random(n)
    wall, processor = time.perf_counter(), time.process_time()
    graph = knn_graph(rows, NEIGHBOURS)
    search = time.process_time() - processor
    found = InfoMax().select(Pool.of(graph=graph, scores=scores), n // 10)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    proof = found.diagnostics["certificate"]
    problem = InfoMaxProblem(scores, redundancy(graph), 0.3, n // 10)
    with threadpool_limits(1):
        solve = min(timed(lambda: solve_infomax(problem))[0] for _ in range(3))
    print(
        f"hardset ({found.diagnostics['solver']})|{processor}|wall {wall:.1f} s, neighbours "
        f"{search:.1f} s, solver alone {solve:.2f} s, recall {graph.recall:.4f}, peak {peak:.2f} "
        f"GiB, gap {proof['relative_gap']:.4f} of top-p"
    )


TASKS: dict[str, tuple[Callable[[int], Iterator[Row]], int]] = {
    "neighbours": (neighbours, POINTS),
    "facility": (facility, POINTS),
    "d2": (d2, POINTS),
    "infomax": (infomax, POINTS),
    "certificate": (certificate, POINTS),
    "million": (partial(end_to_end, "mixture"), 1_000_000),
    "isotropic": (partial(end_to_end, "isotropic"), 1_000_000),
}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--tasks", nargs="+", choices=TASKS, default=list(TASKS)[:-1], help="default: not isotropic"
    )
    parser.add_argument("--points", type=int, help="number of points, default that of the table")
    parser.add_argument("--one", choices=("mixture", "isotropic"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one_million(options.one, options.points)
        return
    print(f"load average {os.getloadavg()[0]:.1f}\n")
    print("| task | method | processor s | ratio to the first | result |")
    print("|---|---|---|---|---|")
    for name in options.tasks:
        function, points = TASKS[name]
        first: dict[str, float] = {}
        with threadpool_limits(None if name in ("million", "isotropic") else 1):
            for task, method, seconds, facts in function(options.points or points):
                ratio = seconds / first.setdefault(task, seconds)
                print(f"| {task} | {method} | {seconds:.3f} | {ratio:.2f} | {facts} |", flush=True)


if __name__ == "__main__":
    main()
