"""Max-margin students: ours against other solvers on the same problems, in one run.

    python benchmarks/maxmargin.py [--batch 20]

Ours runs as a sweep does: compiled batches, one thread calling ("ours") and one a processor
("sweep"). Peers solve one problem after the other; those that are not installed are left out:
    pip install daqp piqp quadprog
"gap" is how far a solver's margin stays below the best one, relative to it.
"""

import argparse
import importlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from sims.cells import Cell, problem_cells
from sims.draws import draw_rows
from sims.engine import DrawState, one_blas_thread, processors, solve_native
from sims.lanes import Separator, lane_count, padded_rows
from theory.probes import FixedAngle
from theory.problem import PerceptronProblem

Floats = NDArray[np.float64]
Problem = tuple[Floats, NDArray[np.int64]]

# N, kept rows, f: hard selection at theta = 0. The last two are of the published code's N.
CASES = (
    (200, 100, 1.0),
    (200, 200, 1.0),
    (200, 400, 0.2),
    (200, 1000, 1.0),
    (200, 1000, 0.2),
    (200, 4000, 1.0),
    (30, 150, 1.0),
    (30, 1500, 0.5),
)
TOLERANCE = 1e-10
SECONDS_PER_PEER = 1.5  # a peer solves problems until it has used this much


def by_clarabel(rows: Floats) -> Floats:
    """cvxpy with Clarabel, the notebook's formulation at tight tolerances."""
    import cvxpy as cp

    weights = cp.Variable(rows.shape[1])
    problem = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(weights)), [rows @ weights >= 1])
    tolerances = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), TOLERANCE)
    problem.solve(solver=cp.CLARABEL, **tolerances)
    return np.asarray(weights.value)


def by_nnls(rows: Floats) -> Floats:
    """SciPy's non-negative least squares in Lawson and Hanson's least-distance form."""
    matrix = np.vstack([rows.T, np.ones(len(rows))])
    target = np.zeros(len(matrix))
    target[-1] = 1.0
    weights, _ = nnls(matrix, target, maxiter=100 * len(rows))
    rest = matrix @ weights - target
    return -rest[:-1] / rest[-1]


def by_daqp(rows: Floats) -> Floats:
    """DAQP, a dual active-set method."""
    import daqp

    count, dim = rows.shape
    large = np.full(count, 1e30)
    answer = daqp.solve(
        np.eye(dim), np.zeros(dim), rows, large, np.ones(count), np.zeros(count, np.int32)
    )
    return np.asarray(answer[0])


def by_piqp(rows: Floats) -> Floats:
    """PIQP, a proximal interior point, dense."""
    import piqp

    count, dim = rows.shape
    solver = piqp.DenseSolver()
    solver.settings.eps_abs = solver.settings.eps_rel = TOLERANCE
    solver.setup(np.eye(dim), np.zeros(dim), None, None, rows, np.ones(count), None)
    solver.solve()
    return np.asarray(solver.result.x)


def by_quadprog(rows: Floats) -> Floats:
    """Quadprog, Goldfarb and Idnani's method."""
    import quadprog

    dim = rows.shape[1]
    return np.asarray(quadprog.solve_qp(np.eye(dim), np.zeros(dim), rows.T, np.ones(len(rows)))[0])


PEERS: dict[str, tuple[str, Callable[[Floats], Floats]]] = {
    "cvxpy+Clarabel": ("cvxpy", by_clarabel),
    "scipy nnls": ("scipy", by_nnls),
    "DAQP": ("daqp", by_daqp),
    "PIQP": ("piqp", by_piqp),
    "quadprog": ("quadprog", by_quadprog),
}


def problems(dim: int, kept: int, keep_fraction: float, batch: int) -> list[Problem]:
    """Kept rows of `batch` draws."""
    alpha = kept / dim / keep_fraction
    (cell,) = problem_cells(PerceptronProblem(alpha, keep_fraction, FixedAngle(0.0)), dim)
    return [_kept(cell, dim, number) for number in range(batch)]


def _kept(cell: Cell, dim: int, number: int) -> Problem:
    state = DrawState(draw_rows(0, dim, number, cell.distinct))
    state.train_probe(cell, solve_native)
    return state.draw.rows, state.kept(cell)


def timed_ours(batch: list[Problem], threads: int) -> tuple[float, list[Separator]]:
    """Seconds per problem with `threads` calling threads, compiled before, and the solutions."""
    rows, index = batch[0]
    lanes = lane_count(padded_rows(len(index), rows.shape[1]), rows.shape[1])
    parts = [batch[start : start + lanes] for start in range(0, len(batch), lanes)]
    solve_native(batch[:1])
    with ThreadPoolExecutor(threads) as pool:
        start = time.perf_counter()
        solved = [one for part in pool.map(solve_native, parts) for one in part]
        return (time.perf_counter() - start) / len(batch), solved


def timed_peer(
    solve: Callable[[Floats], Floats], batch: list[Problem], best: list[Separator]
) -> tuple[float, float]:
    """Seconds per problem, and the largest relative shortfall of its margin."""
    spent, done, gap = 0.0, 0, 0.0
    for (rows, index), ours in zip(batch, best, strict=True):
        matrix = np.ascontiguousarray(rows[index])
        start = time.perf_counter()
        weights = solve(matrix)
        spent += time.perf_counter() - start
        done += 1
        gap = max(gap, 1 - float(np.min(matrix @ weights) / np.linalg.norm(weights)) / ours.margin)
        if spent > SECONDS_PER_PEER:
            break
    return spent / done, gap


def main() -> None:
    """Print milliseconds per problem, ratios to ours and gaps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=20, help="problems of ours a case")
    options = parser.parse_args()
    peers = {}
    for name, (module, solve) in PEERS.items():
        try:
            importlib.import_module(module)
            peers[name] = solve
        except ImportError:
            print(f"{name} is not installed: left out")
    print(f"{processors()} processors, batches of {options.batch}; ms per problem")
    with one_blas_thread():
        compare(peers, options.batch)


def compare(peers: dict[str, Callable[[Floats], Floats]], size: int) -> None:
    """Print the table, `size` problems of ours a case."""
    for dim, kept, keep_fraction in CASES:
        batch = problems(dim, kept, keep_fraction, size)
        ours, solved = timed_ours(batch, 1)
        sweep, _ = timed_ours(batch, processors())
        bracket = max(one.bracket for one in solved)
        print(f"N = {dim}, P = {kept}, f = {keep_fraction:g}", flush=True)
        print(f"  {'ours':<15}{1e3 * ours:>10.2f}            bracket {bracket:.1e}")
        print(f"  {'ours, sweep':<15}{1e3 * sweep:>10.2f}", flush=True)
        for name, solve in peers.items():
            seconds, gap = timed_peer(solve, batch, solved)
            ratio = f"{seconds / ours:.2g}" if seconds < 10 * ours else f"{seconds / ours:.0f}"
            print(f"  {name:<15}{1e3 * seconds:>10.2f}{ratio:>9} x  gap {gap:.1e}", flush=True)


if __name__ == "__main__":
    main()
