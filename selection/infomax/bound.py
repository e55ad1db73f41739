"""Upper bounds on InfoMax's objective: how far a subset can be from the optimum."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigvalsh_tridiagonal
from scipy.sparse import csr_array
from threadpoolctl import threadpool_limits

from hardset.checks import check_integer
from selection.arrays import Floats, Integers
from selection.infomax.solvers import InfoMaxProblem, largest
from selection.selector import generator

DENSE_UP_TO = 2000  # examples whose matrix is decomposed as a whole
LANCZOS_UP_TO = 100_000  # examples beyond which it takes seconds and was the loosest bound
LANCZOS_STEPS = 150
LANCZOS_FAILURE = 1e-9
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
        failure: probability with which `bound` is too low: 0 if it is proven, 1e-9 if it comes from
            an eigenvalue by random Lanczos iterations.
    """

    objective: float
    bound: float
    gap: float
    relative_gap: float
    bounds: Mapping[str, float]
    failure: float = 0.0


def certify_infomax(
    problem: InfoMaxProblem, indices: Integers, iterations: int = 100
) -> InfoMaxCertificate:
    """The smallest of four upper bounds on max z.I - lam z^T K z.

    With K >= 0: the sum of the p largest I. For binary z, z^T K z = z^T (K + D) z - diag(D).z for
    every diagonal D; with K + D positive semidefinite the right side is convex, and f(x) +
    max_s grad f(x).(s - x) bounds the relaxed optimum at every iterate x of Frank-Wolfe: D =
    -lambda_min(K), and D = row sums of K (a signless Laplacian). Last, z_i z_j >= z_i + z_j - 1
    with a multiplier u_ij in [0, 2 lam K_ij] for each edge (Lagrangian; projected subgradient).

    Up to 2,000 examples lambda_min is that of the dense matrix, less its rounding. Above, it comes
    from 150 Lanczos iterations, lowered by what a random start misses with a probability of at most
    1e-9; `failure` says whether the bound depends on it. Above 100,000 it is left out. The other
    bounds are proven whatever the size.

    Args:
        problem: the objective.
        indices: the subset that is judged.
        iterations: steps of each relaxation; more of them only tighten the bounds.

    Source: Kuczynski and Wozniakowski, SIAM J. Matrix Anal. Appl. 13, 1094 (1992), theorem 4.2, for
    the Lanczos iterations.
    """
    check_integer("iterations", iterations, 1, 10**6)
    objective = problem.objective(indices)
    top = problem.top_sum(problem.information)
    bounds = {"top-p": top}
    chosen = problem.indicator(indices)
    sums = np.asarray(problem.redundancy.sum(axis=1), dtype=np.float64)
    bounds["row-sums"] = _frank_wolfe(problem, sums, chosen, iterations)
    if len(problem) <= LANCZOS_UP_TO:
        shift = np.full(len(problem), -below_smallest_eigenvalue(problem.redundancy))
        bounds["eigenvalue"] = _frank_wolfe(problem, shift, chosen, iterations)
    bounds["lagrangian"] = _lagrangian(problem, chosen, objective, iterations)
    # A bound may meet the optimum; summation in another order then differs by rounding.
    rounding = 1e-12 * (float(np.sum(np.abs(problem.information))) + abs(objective))
    least = min(bounds, key=lambda name: bounds[name])
    bound = max(bounds[least] + rounding, objective)
    gap = bound - objective
    scale = abs(top)
    random = least == "eigenvalue" and len(problem) > DENSE_UP_TO
    return InfoMaxCertificate(
        objective,
        bound,
        gap,
        gap / scale if scale > 0 else float(gap > 0),
        bounds,
        LANCZOS_FAILURE if random else 0.0,
    )


def below_smallest_eigenvalue(matrix: csr_array) -> float:
    """A number below lambda_min of a symmetric matrix >= 0 of zero trace, so that it is <= 0.

    With k steps from a uniform direction the largest Ritz value of -K misses the largest eigenvalue
    by more than eps of the spectrum's width with a probability of at most
    1.648 sqrt(n) exp(-sqrt(eps) (2k - 1)).
    """
    n = matrix.shape[0]
    largest_sum = float(np.max(np.asarray(matrix.sum(axis=1))))
    if largest_sum == 0:
        return 0.0
    if n <= DENSE_UP_TO:
        with threadpool_limits(1, user_api="blas"):  # waiting threads would take a processor each
            lowest = float(np.linalg.eigvalsh(matrix.toarray())[0])
        # The backward error is a small multiple of n eps of the norm.
        return min(lowest, 0.0) - 100 * n * np.finfo(np.float64).eps * largest_sum
    highest = _largest_ritz_value(-matrix, LANCZOS_STEPS)
    root = np.log(1.648 * np.sqrt(n) / LANCZOS_FAILURE) / (2 * LANCZOS_STEPS - 1)
    missed = float(root**2)  # 1 % at a million examples
    # l - ritz <= missed (l + largest_sum), as no eigenvalue of -K is below -largest_sum.
    return -min((highest + missed * largest_sum) / (1 - missed), largest_sum)


def _largest_ritz_value(matrix: csr_array, steps: int) -> float:
    """The largest Ritz value of Lanczos iterations from a random start."""
    n = matrix.shape[0]
    vector = generator(0).standard_normal(n)
    vector /= np.linalg.norm(vector)
    before, coupling = np.zeros(n), 0.0
    diagonal, beside = [], []
    for _ in range(steps):
        image = matrix @ vector - coupling * before
        diagonal.append(float(image @ vector))
        image -= diagonal[-1] * vector
        coupling = float(np.linalg.norm(image))
        beside.append(coupling)
        if coupling <= 1e-10 * max(beside):  # further steps find nothing new
            break
        before, vector = vector, image / coupling
    ritz = eigvalsh_tridiagonal(
        diagonal, beside[:-1], select="i", select_range=(len(diagonal) - 1,) * 2
    )
    return float(ritz[0])


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
