"""Upper bounds on InfoMax's objective: how far a subset can be from the optimum."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.sparse.linalg import ArpackNoConvergence, eigsh

from selection._arrays import Floats, Integers
from selection.infomax_problem import InfoMaxProblem, largest
from theory.checks import check_integer

__all__ = ["InfoMaxCertificate", "certify"]

DENSE_UP_TO = 2000  # examples whose matrix is decomposed as a whole
LANCZOS_UP_TO = 100_000  # examples beyond which Lanczos iterations take too long
EIGENVALUE_MARGIN = 0.01  # by which a Lanczos value is lowered, of the largest row sum
MULTIPLIER_STEP = 1.0  # of Polyak's rule


@dataclass(frozen=True)
class InfoMaxCertificate:
    """An upper bound on the optimum and the distance of a subset from it.

    Attributes:
        objective: of the subset.
        bound: no subset of this size has a larger objective.
        gap: bound - objective, absolute.
        relative_gap: gap over the sum of the p largest I; never over the bound, which can have
            either sign.
        bounds: each bound by the name of its relaxation; `bound` is the smallest.
    """

    objective: float
    bound: float
    gap: float
    relative_gap: float
    bounds: Mapping[str, float]


def certify(
    problem: InfoMaxProblem, indices: Integers, iterations: int = 100
) -> InfoMaxCertificate:
    """The smallest of four upper bounds on max z.I - lam z^T K z.

    With K >= 0: the sum of the p largest I. For binary z, z^T K z = z^T (K + D) z - diag(D).z for
    every diagonal D; with K + D positive semidefinite the right side is convex, and f(x) +
    max_s grad f(x).(s - x) bounds the relaxed optimum at every iterate x of Frank-Wolfe: D =
    -lambda_min(K), and D = row sums of K (a signless Laplacian). Last, z_i z_j >= z_i + z_j - 1
    with a multiplier u_ij in [0, 2 lam K_ij] for each edge (Lagrangian; projected subgradient).

    Above 2,000 examples lambda_min comes from Lanczos iterations, which approach it from above;
    it is lowered by its residual and 1% of the largest row sum. Without convergence, and above
    100,000 examples, this bound is left out. The others hold whatever the size.

    Args:
        problem: the objective.
        indices: the subset that is judged.
        iterations: steps of each relaxation; more of them only tighten the bounds.
    """
    check_integer("iterations", iterations, 1, 10**6)
    objective = problem.objective(indices)
    top = problem.top_sum(problem.information)
    bounds = {"top-p": top}
    chosen = problem.indicator(indices)
    sums = np.asarray(problem.redundancy.sum(axis=1), dtype=np.float64)
    bounds["row-sums"] = _frank_wolfe(problem, sums, chosen, iterations)
    lowest = _smallest_eigenvalue(problem, float(np.max(sums)))
    if lowest is not None:
        shift = np.full(len(problem), -lowest)
        bounds["eigenvalue"] = _frank_wolfe(problem, shift, chosen, iterations)
    bounds["lagrangian"] = _lagrangian(problem, chosen, objective, iterations)
    # A bound may meet the optimum; summation in another order then differs by rounding.
    rounding = 1e-12 * (float(np.sum(np.abs(problem.information))) + abs(objective))
    bound = max(min(bounds.values()) + rounding, objective)
    gap = bound - objective
    scale = abs(top)
    return InfoMaxCertificate(
        objective, bound, gap, gap / scale if scale > 0 else float(gap > 0), bounds
    )


def _smallest_eigenvalue(problem: InfoMaxProblem, largest_sum: float) -> float | None:
    """A number below lambda_min(K); K has a zero trace, so that it is not positive."""
    n, matrix = len(problem), problem.redundancy
    if matrix.nnz == 0:
        return 0.0
    if n <= DENSE_UP_TO:
        lowest = float(np.linalg.eigvalsh(matrix.toarray())[0])
        return min(lowest, 0.0) - 1e-12 * largest_sum
    if n > LANCZOS_UP_TO:
        return None
    start = np.cos(np.arange(n, dtype=np.float64))  # any vector that is no eigenvector
    try:
        values, vectors = eigsh(matrix, k=1, which="SA", tol=1e-2, v0=start, maxiter=100)
    except ArpackNoConvergence:
        return None
    residual = np.linalg.norm(matrix @ vectors[:, 0] - values[0] * vectors[:, 0])
    return float(values[0] - residual - EIGENVALUE_MARGIN * largest_sum)


def _frank_wolfe(
    problem: InfoMaxProblem, diagonal: Floats, start: Floats, iterations: int
) -> float:
    """Smallest dual bound on max (I + lam D).x - lam x^T (K + D) x, 0 <= x <= 1, sum x = p."""
    doubled = 2 * problem.weight * diagonal
    linear = problem.information + doubled / 2
    filling = start.copy()
    curved = problem.coupling_matrix @ filling + doubled * filling  # 2 lam (K + D) x
    best = np.inf
    for _ in range(iterations):
        gradient = linear - curved
        vertex = problem.indicator(largest(gradient, problem.budget))
        direction = vertex - filling
        slope = float(gradient @ direction)
        value = float(filling @ linear - filling @ curved / 2)
        best = min(best, value + slope)
        if slope <= 0:
            break
        bend = problem.coupling_matrix @ direction + doubled * direction
        curvature = float(direction @ bend)
        step = 1.0 if curvature <= slope else slope / curvature
        filling += step * direction
        curved += step * bend
    return best


def _lagrangian(
    problem: InfoMaxProblem, chosen: Floats, objective: float, iterations: int
) -> float:
    """Smallest dual value max_z sum_i (I_i - sum_j u_ij) z_i + sum u, u in [0, 2 lam K]."""
    upper = problem.coupling_matrix.tocoo()
    half = upper.row < upper.col
    rows, columns, most = upper.row[half], upper.col[half], upper.data[half]
    n = len(problem)
    multipliers = most * chosen[rows] * chosen[columns]
    best = np.inf
    for _ in range(iterations):
        at_nodes = np.bincount(rows, multipliers, n) + np.bincount(columns, multipliers, n)
        values = problem.information - at_nodes
        vertex = problem.indicator(largest(values, problem.budget))
        dual = float(vertex @ values + np.sum(multipliers))
        best = min(best, dual)
        slope = 1 - vertex[rows] - vertex[columns]
        # A step leaves the box where the multiplier is at its end already.
        slope[((multipliers <= 0) & (slope > 0)) | ((multipliers >= most) & (slope < 0))] = 0
        length = float(slope @ slope)
        if length == 0 or dual <= objective:
            break
        step = MULTIPLIER_STEP * (dual - objective) / length
        multipliers = np.clip(multipliers - step * slope, 0, most)
    return best
