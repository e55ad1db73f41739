"""Max-margin students: ours against other solvers on the same problems, in one run.

    python benchmarks/maxmargin.py [--batch 50] [--rounds 5] [--cases 200:1000:0.2:20,...]

Ours solves batches as a sweep does. Peers solve one problem after the other; those that are not
installed are left out:
    pip install piqp quadprog proxsuite qpax
All start from the draw's rows and the numbers of the kept ones, take turns for several rounds, and
count with their best round. Milliseconds are of processor time on one thread, so that other work on
the machine changes little; "sweep" is wall time with one calling thread a processor.
"gap" is how far a solver's margin stays below the best one, relative to it: a peer whose gap is
above 1e-6 has failed and does not count as the best.
"""

import argparse
import importlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from sims.cells import Cell, problem_cells
from sims.draws import draw_rows
from sims.machine import one_blas_thread, processors
from sims.maxmargin.exact import Separator
from sims.maxmargin.lanes import lane_count, padded_rows, solve_native
from sims.probes import DrawState
from theory.problem import FixedAngle, PerceptronProblem

Floats = NDArray[np.float64]
Problem = tuple[Floats, NDArray[np.int64]]


class Case(NamedTuple):
    """Hard selection: N, kept rows P, keep fraction f, probe angle in degrees."""

    dim: int
    kept: int
    keep_fraction: float
    degrees: float


CASES = (
    *(Case(200, kept, *kind) for kept in (100, 200) for kind in ((1.0, 0.0), (0.2, 20.0))),
    *(Case(200, kept, 0.2, 0.0) for kept in (150, 250)),
    *(
        Case(200, kept, *kind)
        for kept in (400, 1000, 4000)
        for kind in ((1.0, 0.0), (0.2, 0.0), (0.2, 20.0))
    ),
    *(Case(30, kept, 0.2, 20.0) for kept in (150, 600, 3000)),
    Case(30, 15000, 1.0, 0.0),
)
# What the ratio to the best peer is to be, by N and P, and the one to cvxpy + Clarabel everywhere.
GOALS = {
    **{(200, kept): goal for kept, goal in ((100, 2.5), (150, 2.5), (200, 2.5), (250, 0.8))},
    **{(200, kept): goal for kept, goal in ((400, 1.3), (1000, 2.0), (4000, 2.0))},
    **{(30, kept): 1.0 for kept in (150, 600, 3000, 15000)},
}
CVXPY_GOAL = 50.0
CVXPY = "cvxpy+Clarabel"
HEAD = (
    *("N, P, f, degrees", "ours", "sweep", "bracket"),
    *("best peer", "ratio", "goal", "cvxpy", "ratio", "goal"),
)
TOLERANCE = 1e-10
FAILED = 1e-6
SECONDS_PER_PEER = 1.0  # a round: a peer solves problems until it has used this much
QPAX_ROWS = 1000  # beyond, its dense systems take minutes


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


def by_proxqp(rows: Floats) -> Floats:
    """ProxQP, a proximal augmented Lagrangian, dense."""
    from proxsuite import proxqp

    count, dim = rows.shape
    solver = proxqp.dense.QP(dim, 0, count)
    solver.settings.eps_abs = TOLERANCE
    solver.init(np.eye(dim), np.zeros(dim), None, None, rows, np.ones(count), None)
    solver.solve()
    return np.asarray(solver.results.x)


@cache
def compiled_qpax(shape: tuple[int, int]) -> Callable[[Floats], Any]:
    """Qpax for rows of this shape, compiled on the first call and called once."""
    import qpax

    count, dim = shape
    none = np.zeros((0, dim)), np.zeros(0)

    def solve(rows: Floats) -> Any:
        eye = np.eye(dim)
        return qpax.solve_qp(
            eye, np.zeros(dim), *none, -rows, -np.ones(count), solver_tol=TOLERANCE
        )[0]

    return jax.jit(solve)


def by_qpax(rows: Floats) -> Floats:
    """Qpax, an interior point in JAX, compiled before."""
    with jax.enable_x64(True):
        return np.asarray(compiled_qpax(rows.shape)(rows))


PEERS: dict[str, tuple[str, Callable[[Floats], Floats]]] = {
    CVXPY: ("cvxpy", by_clarabel),
    "scipy nnls": ("scipy", by_nnls),
    "DAQP": ("daqp", by_daqp),
    "PIQP": ("piqp", by_piqp),
    "quadprog": ("quadprog", by_quadprog),
    "ProxQP": ("proxsuite", by_proxqp),
    "qpax": ("qpax", by_qpax),
}


def problems(case: Case, batch: int) -> list[Problem]:
    """Kept rows of `batch` draws."""
    alpha = case.kept / case.dim / case.keep_fraction
    probe = FixedAngle(np.deg2rad(case.degrees))
    (cell,) = problem_cells(PerceptronProblem(alpha, case.keep_fraction, probe), case.dim)
    return [_kept(cell, case.dim, number) for number in range(batch)]


def _kept(cell: Cell, dim: int, number: int) -> Problem:
    state = DrawState(draw_rows(0, dim, number, cell.distinct))
    state.train_probe(cell, solve_native)
    # A copy, so that the rest of the draw can go.
    return state.draw.rows[state.kept(cell)[0]], np.arange(cell.kept)


def timed_ours(batch: list[Problem], threads: int) -> tuple[float, list[Separator]]:
    """Seconds for all problems with `threads` calling threads, and the solutions."""
    rows, index = batch[0]
    lanes = lane_count(padded_rows(len(index), rows.shape[1]), rows.shape[1])
    lanes = min(lanes, -(-len(batch) // threads))
    parts = [batch[start : start + lanes] for start in range(0, len(batch), lanes)]
    if threads == 1:
        start = time.process_time()
        solved = [one for part in parts for one in solve_native(part)]
        return time.process_time() - start, solved
    with ThreadPoolExecutor(threads) as pool:
        start = time.perf_counter()
        solved = [one for part in pool.map(solve_native, parts) for one in part]
        return time.perf_counter() - start, solved


def timed_peer(
    solve: Callable[[Floats], Floats], batch: list[Problem], best: list[Separator]
) -> tuple[float, float]:
    """Seconds per problem, and the largest relative shortfall of its margin."""
    spent, done, gap = 0.0, 0, 0.0
    for (rows, index), ours in zip(batch, best, strict=True):
        start = time.process_time()
        matrix = rows[index]
        weights = solve(matrix)
        spent += time.process_time() - start
        done += 1
        margin = float(np.min(matrix @ weights) / np.linalg.norm(weights))
        gap = max(gap, 1 - margin / ours.margin if np.isfinite(margin) else np.inf)
        if spent > SECONDS_PER_PEER:
            break
    return spent / done, gap


def compare(
    case: Case, peers: dict[str, Callable[[Floats], Floats]], size: int, rounds: int
) -> list[str]:
    """Time one case; the row of the table of goals."""
    batch = problems(case, size)
    _, solved = timed_ours(batch, 1)
    peers = {
        name: solve for name, solve in peers.items() if name != "qpax" or case.kept <= QPAX_ROWS
    }
    for solve in peers.values():  # what is compiled is compiled before
        timed_peer(solve, batch[:1], solved[:1])
    ours, sweeps = [], []
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in peers}
    for turn in range(rounds):
        ours.append(timed_ours(batch, 1)[0] / size)
        sweeps.append(timed_ours(batch, processors())[0] / size)
        for name, solve in peers.items():
            if name != CVXPY or turn == 0:  # slower than all by far
                found[name].append(timed_peer(solve, batch, solved))
    own, sweep = min(ours), min(sweeps)
    times = {name: (min(found[name])[0], max(gap for _, gap in found[name])) for name in peers}
    bracket = max(one.bracket for one in solved)
    print(f"N = {case.dim}, P = {case.kept}, f = {case.keep_fraction:g}, {case.degrees:g} degrees")
    print(f"  {'ours':<15}{1e3 * own:>10.3f}            bracket {bracket:.1e}")
    print(f"  {'ours, sweep':<15}{1e3 * sweep:>10.3f}")
    for name, (seconds, gap) in times.items():
        print(f"  {name:<15}{1e3 * seconds:>10.3f}{seconds / own:>9.2f} x  gap {gap:.1e}")
    print(end="", flush=True)
    best = min((seconds, name) for name, (seconds, gap) in times.items() if gap < FAILED)
    return [
        f"{case.dim}, {case.kept}, {case.keep_fraction:g}, {case.degrees:g}",
        f"{1e3 * own:.3f}",
        f"{1e3 * sweep:.3f}",
        f"{bracket:.0e}",
        f"{best[1]} {1e3 * best[0]:.3f}",
        *_against(GOALS.get((case.dim, case.kept)), best[0] / own),
        f"{1e3 * times[CVXPY][0]:.1f}",
        *_against(CVXPY_GOAL, times[CVXPY][0] / own),
    ]


def _against(goal: float | None, ratio: float) -> tuple[str, str]:
    if goal is None:
        return f"{ratio:.2f}", "-"
    return f"{ratio:.2f}", f"{goal:g}" if ratio >= goal else f"{goal:g}: missed"


def main() -> None:
    """Print milliseconds per problem, ratios to ours and gaps, and the table of goals."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=50, help="problems of ours a case")
    parser.add_argument("--rounds", type=int, default=5, help="of which the best one counts")
    parser.add_argument("--cases", help="N:P:f:degrees, separated by commas; all by default")
    options = parser.parse_args()
    cases = CASES
    if options.cases:
        asked = (text.split(":") for text in options.cases.split(","))
        cases = tuple(Case(int(n), int(p), float(f), float(t)) for n, p, f, t in asked)
    peers = {}
    for name, (module, solve) in PEERS.items():
        try:
            importlib.import_module(module)
            peers[name] = solve
        except ImportError:
            print(f"{name} is not installed: left out")
    print(
        f"{processors()} processors, batches of {options.batch}, best of {options.rounds} rounds; "
        "milliseconds"
    )
    with one_blas_thread():
        table = [compare(case, peers, options.batch, options.rounds) for case in cases]
    for row in (HEAD, ["---"] * len(HEAD), *table):
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
