"""Solves InfoMax as an optimisation problem.

It holds the objective, solvers, and upper bounds on the optimum.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import eigvalsh_tridiagonal
from scipy.sparse import csr_array, issparse
from threadpoolctl import threadpool_limits

from hardset.checks import check_choice, check_integer, check_range, require
from selection.arrays import Array, Floats, Integers, real_rows
from selection.selector import check_budget, generator

Solver = Literal["best", "mean-field", "greedy", "published", "published-scaled"]

WARMEST, COLDEST = 0.3, 0.05  # ends of the annealing for lam <= .45, in spreads of I
DAMPING = 0.7  # of each update; undamped, neighbours that exclude each other would oscillate
FILLING_TOLERANCE = 1e-3  # of sum x = p, relative; the rounding to p examples is exact
SWAP_SLACK = 1e-12  # of the largest marginal: smaller gains are rounding
MEAN_FIELD_ABOVE = 100_000  # examples above which "best" is mean field alone
DENSE_UP_TO = 2000  # examples whose matrix is decomposed as a whole
LANCZOS_UP_TO = 100_000  # examples beyond which it takes seconds and was the loosest bound
LANCZOS_STEPS = 150
LANCZOS_FAILURE = 1e-9
MULTIPLIER_STEP = 1.0  # of Polyak's rule


@dataclass(frozen=True, eq=False)
class InfoMaxProblem:
    """Asks for p examples of much information and little redundancy.

    Maximise z.I - lam z^T K z over z in {0, 1}^n with sum z = p (arXiv:2506.01701, eq. 2).

    Attributes:
        information: I, shape (n,).
        redundancy: K, symmetric, non-negative, zero diagonal, sparse.
        weight: lam, >= 0.
        budget: p.
    """

    information: Floats
    redundancy: csr_array
    weight: float
    budget: int

    @classmethod
    def of(
        cls, information: ArrayLike, redundancy: Any, weight: float, budget: int
    ) -> "InfoMaxProblem":
        """Make the problem of any array-likes, checked.

        Args:
            information: shape (n,), finite.
            redundancy: shape (n, n), dense or SciPy sparse.
            weight: lam, finite, >= 0.
            budget: p, 1 to n.

        Raises:
            ValueError: a shape, or a matrix that is not symmetric, not finite, has a negative
                entry or a diagonal.
        """
        values = real_rows("information", information, ndim=(1,)).astype(np.float64)
        check_budget(budget, len(values))
        check_range("weight", weight, 0, np.inf, open_high=True)
        matrix = csr_array(redundancy if issparse(redundancy) else np.asarray(redundancy, float))
        matrix = matrix.astype(np.float64)
        if matrix.shape != (len(values), len(values)):
            raise ValueError(
                f"redundancy has shape {matrix.shape}; it must be {(len(values), len(values))}"
            )
        if not np.all(np.isfinite(matrix.data)) or np.any(matrix.data < 0):
            raise ValueError("redundancy must hold finite similarities >= 0")
        if np.any(matrix.diagonal() != 0):
            raise ValueError("redundancy must have a zero diagonal")
        if abs(matrix - matrix.T).max() > 0:
            raise ValueError("redundancy must be symmetric")
        return cls(values, matrix, float(weight), int(budget))

    def __len__(self) -> int:
        return len(self.information)

    def after(self, given: Integers) -> tuple["InfoMaxProblem", Integers]:
        """Make the problem of the other examples when some are chosen already.

        The rows of these examples come with it.

        Each loses 2 lam times its redundancy to the given ones. The objective is what the others
        add, so that every solver and every bound stays what it is.

        Args:
            given: distinct rows, not counted in the budget.
        """
        rest = np.setdiff1d(np.arange(len(self)), given)
        if len(rest) == len(self):
            return self, rest
        left = self.marginals(self.indicator(given))[rest]
        kept = csr_array(self.redundancy[rest][:, rest])
        return InfoMaxProblem(left, kept, self.weight, self.budget), rest

    @cached_property
    def coupling(self) -> Floats:
        """Return the loss of each edge whose ends are both chosen.

        It is 2 lam K_ij, in the order of K's entries.
        """
        return 2 * self.weight * self.redundancy.data

    @cached_property
    def coupling_matrix(self) -> csr_array:
        """Return the sparse matrix 2 lam K."""
        matrix = self.redundancy
        return csr_array((self.coupling, matrix.indices, matrix.indptr), shape=matrix.shape)

    def marginals(self, filling: Floats) -> Floats:
        """Compute what each example adds to the chosen ones.

        It is I - 2 lam K x, which is this gain if x is binary.
        """
        return self.information - self.coupling_matrix @ filling

    def indicator(self, indices: Integers) -> Floats:
        """Write z as an array of zeros and ones."""
        chosen = np.zeros(len(self))
        chosen[indices] = 1.0
        return chosen

    def objective(self, indices: Integers) -> float:
        """Compute the objective of a subset.

        It is z.I - lam z^T K z.
        """
        chosen = self.indicator(indices)
        return float(chosen @ self.information - chosen @ (self.coupling_matrix @ chosen) / 2)

    def top_sum(self, values: Floats) -> float:
        """Sum the p largest values.

        This is the largest linear objective.
        """
        n = len(values)
        if self.budget == n:
            return float(np.sum(values))
        return float(np.sum(np.partition(values, n - self.budget)[n - self.budget :]))


def largest(values: Array, count: int) -> Integers:
    """Find the `count` largest values.

    Of equal values the first ones are taken. Positions ascend.
    """
    n = len(values)
    if count >= n:
        return np.arange(n)
    edge = np.partition(values, n - count)[n - count]
    above = np.flatnonzero(values > edge)
    level = np.flatnonzero(values == edge)[: count - len(above)]
    return np.sort(np.concatenate([above, level]))


@dataclass(frozen=True, eq=False)
class InfoMaxSolution:
    """Holds a subset that satisfies the budget, and how it was found.

    Attributes:
        indices: the chosen examples; greedy alone gives pick order, the others descending marginal.
        objective: z.I - lam z^T K z.
        solver: what found it.
        objectives: of every solver that was tried.
        swaps: number of pairwise exchanges at the end.
    """

    indices: Integers
    objective: float
    solver: str
    objectives: Mapping[str, float]
    swaps: int = 0


def published_update(
    problem: InfoMaxProblem, iterations: int = 20, *, scaled: bool = False, factor: float = 2.0
) -> Integers:
    """Iterate the published update, and take the p largest values.

    x <- s softmax(I - factor lam K x), from x = s/n (arXiv:2506.01701, eq. 3).

    The equation leaves the scale open: s = 1 as it is printed, which makes K x negligible for large
    n, or s = p (`scaled`), so that sum x is the budget.

    Args:
        problem: the objective.
        iterations: number of updates, >= 1.
        scaled: whether s = p.
        factor: 2 is the gradient of the objective.

    Returns:
        p rows, ascending.
    """
    check_integer("iterations", iterations, 1, 10**6)
    scale = float(problem.budget) if scaled else 1.0
    filling = np.full(len(problem), scale / len(problem))
    for _ in range(iterations):
        filling = problem.coupling_matrix @ filling
        filling *= -factor / 2
        filling += problem.information
        filling -= np.max(filling)
        np.exp(filling, out=filling)
        filling *= scale / np.sum(filling)
    return largest(filling, problem.budget)


def mean_field(problem: InfoMaxProblem, iterations: int = 20) -> Integers:
    """Anneal the mean field, and take the p largest values.

    The sum of x is held at p.

    The mean field is x_i = sigmoid((I_i - 2 lam (K x)_i - mu)/T).

    mu is found by safeguarded Newton steps; 0.7 of each update is taken. T falls geometrically from
    max(.3 R, lam/1.5) to max(.05 R, lam/10), R the range of I: one temperature does not serve all
    lam, and the objective at high filling gains a few per cent from the warm start.

    Args:
        problem: the objective.
        iterations: number of updates, >= 1.

    Returns:
        p rows, ascending.
    """
    check_integer("iterations", iterations, 1, 10**6)
    n, p = len(problem), problem.budget
    if p == n:
        return np.arange(n)
    scale = float(np.ptp(problem.information)) or 1.0
    warmest = max(WARMEST * scale, problem.weight / 1.5)
    coldest = max(COLDEST * scale, problem.weight / 10)
    # Single precision halves the traffic of memory, which takes most of the time. Its rounding does
    # no harm: the field is rounded to a subset at the end.
    matrix = problem.redundancy
    entries = problem.coupling.astype(np.float32)
    coupling = csr_array((entries, matrix.indices, matrix.indptr), shape=matrix.shape)
    information = problem.information.astype(np.float32)
    filling = np.full(n, p / n, dtype=np.float32)
    level = np.nan
    for temperature in np.geomspace(warmest, coldest, iterations):
        field = information - coupling @ filling
        if np.isnan(level):
            level = float(np.partition(field, n - p)[n - p])
        target, level = _filled(field, p, float(temperature), level)
        target -= filling
        target *= np.float32(DAMPING)
        filling += target
    return largest(filling, p)


def _filled(field: Array, count: int, temperature: float, level: float) -> tuple[Array, float]:
    """Fill x so that it sums to `count`, and return it with mu.

    It is sigmoid((field - mu)/T), and the search of mu starts from a first guess.
    """
    low, high = -np.inf, np.inf
    while True:
        filling = np.subtract(np.float32(level), field)
        filling *= np.float32(1 / temperature)
        with np.errstate(over="ignore"):  # 1/(1 + inf) = 0
            np.exp(filling, out=filling)
        filling += 1
        np.reciprocal(filling, out=filling)
        total = float(np.sum(filling))
        if abs(total - count) <= FILLING_TOLERANCE * count:
            return filling, level
        low, high = (level, high) if total > count else (low, level)
        slope = (total - float(filling @ filling)) / temperature
        step = level + (total - count) / slope if slope > 0 else np.nan
        if not low < step < high:
            step = _inside(low, high, 4 * temperature)
        if step in (low, high):  # no number in between: the sum jumps by more than the tolerance
            return filling, level
        level = step


def _inside(low: float, high: float, beyond: float) -> float:
    """Return the middle of an interval.

    Where one end is infinite, it is a point beyond the finite end.
    """
    if np.isinf(low):
        return high - beyond
    return low + beyond if np.isinf(high) else (low + high) / 2


def greedy(problem: InfoMaxProblem) -> tuple[Integers, Floats]:
    """Pick the largest marginal gain again and again.

    The gain of example i is I_i - 2 lam (K z)_i. The gains of the picks are returned too.

    A heap holds the examples whose marginal a pick has lowered; prefixes answer smaller budgets.
    """
    pick = require("selection.kernels").pick_and_discount
    matrix, values = problem.redundancy, problem.information.copy()
    order = np.argsort(-values, kind="stable")
    found: tuple[Integers, Floats] = pick(
        matrix.indptr, matrix.indices, problem.coupling, values, order, problem.budget, False, False
    )
    return found


def with_swaps(problem: InfoMaxProblem, indices: Integers) -> tuple[Integers, int]:
    """Exchange pairs until no exchange gains.

    The number of exchanges is returned too.

    Args:
        problem: the objective.
        indices: p distinct rows.

    Returns:
        p rows by descending marginal, a local optimum of all pairs; the number of swaps.
    """
    swap = require("selection.kernels").improve_by_swaps
    matrix = problem.redundancy
    chosen = problem.indicator(indices).astype(bool)
    marginals = problem.marginals(chosen.astype(np.float64))
    slack = SWAP_SLACK * max(float(np.max(np.abs(marginals))), 1e-300)
    most = 10 * len(problem)
    swaps = swap(matrix.indptr, matrix.indices, problem.coupling, marginals, chosen, slack, most)
    rows = np.flatnonzero(chosen)
    return rows[np.argsort(-marginals[rows], kind="stable")], int(swaps)


# Each solver takes a problem, a number of iterations, and the factor of the published update.
SOLVERS: Mapping[str, Callable[[InfoMaxProblem, int, float], Integers]] = {
    "mean-field": lambda problem, iterations, _: mean_field(problem, iterations),
    "greedy": lambda problem, *_: greedy(problem)[0],
    "published": lambda problem, iterations, factor: published_update(
        problem, iterations, factor=factor
    ),
    "published-scaled": lambda problem, iterations, factor: published_update(
        problem, iterations, scaled=True, factor=factor
    ),
}
BEST_OF = ("mean-field", "greedy", "published-scaled")


def solve_infomax(
    problem: InfoMaxProblem,
    solver: Solver = "best",
    iterations: int = 20,
    *,
    swaps: bool = True,
    factor: float = 2.0,
    mean_field_above: int = MEAN_FIELD_ABOVE,
) -> InfoMaxSolution:
    """Solve the problem by one solver, or take the best of three.

    Each solver is followed by swaps.

    Args:
        problem: the objective.
        solver: "best" takes the largest objective of mean field, greedy and the published update
            scaled to the budget; on few examples no one of them wins everywhere. Above 100,000
            examples it is mean field alone, which with swaps came within .2 % of the best of
            three at lam = .3, 1, 4 and p/n = .1 to .5.
        iterations: updates of the iterative solvers.
        swaps: whether pairwise swaps follow.
        factor: of the published update.
        mean_field_above: examples above which "best" is mean field alone.
    """
    check_choice("solver", solver, get_args(Solver))
    found = []
    best_of = BEST_OF if len(problem) <= mean_field_above else BEST_OF[:1]
    for name in best_of if solver == "best" else (solver,):
        indices, count = SOLVERS[name](problem, iterations, factor), 0
        if swaps:
            indices, count = with_swaps(problem, indices)
        found.append((problem.objective(indices), name, indices, count))
    objectives = {name: objective for objective, name, _, _ in found}
    objective, name, indices, count = max(found, key=lambda one: one[0])
    return InfoMaxSolution(indices, objective, name, objectives, count)


@dataclass(frozen=True)
class InfoMaxCertificate:
    """Bounds the optimum from above, and a subset's distance from it.

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
    problem: InfoMaxProblem,
    indices: Integers,
    iterations: int = 100,
    *,
    eigenvalue_up_to: int = LANCZOS_UP_TO,
) -> InfoMaxCertificate:
    """Find the smallest of four upper bounds on the optimum.

    The optimum is max z.I - lam z^T K z.

    The first bound, with K >= 0, is the sum of the p largest I. For binary z, z^T K z = z^T (K + D)
    z - diag(D).z for every diagonal D; with K + D positive semidefinite the right side is convex,
    and f(x) + max_s grad f(x).(s - x) bounds the relaxed optimum at every iterate x of Frank-Wolfe:
    D = -lambda_min(K), and D = row sums of K (a signless Laplacian). Last, z_i z_j >= z_i + z_j - 1
    with a multiplier u_ij in [0, 2 lam K_ij] for each edge (Lagrangian; projected subgradient).

    Up to 2,000 examples lambda_min is that of the dense matrix, less its rounding. Above, it comes
    from 150 Lanczos iterations, lowered by what a random start misses with a probability of at most
    1e-9; `failure` says whether the bound depends on it. Above 100,000 it is left out. The other
    bounds are proven whatever the size.

    Args:
        problem: the objective.
        indices: the subset that is judged.
        iterations: steps of each relaxation; more of them only tighten the bounds.
        eigenvalue_up_to: examples above which the bound by lambda_min is left out.

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
    if len(problem) <= eigenvalue_up_to:
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
    """Bound the smallest eigenvalue of a matrix from below.

    The matrix is symmetric, has no negative entry and zero trace.

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
    """Compute the largest Ritz value of Lanczos iterations from a random start."""
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
    """Find the smallest dual bound of the relaxed problem by Frank-Wolfe.

    The problem is max (I + lam D).x - lam x^T (K + D) x, 0 <= x <= 1, sum x = p.
    """
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
    """Find the smallest dual value of the Lagrangian bound.

    The dual value is max_z sum_i (I_i - sum_j u_ij) z_i + sum u, u in [0, 2 lam K].
    """
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
        # A multiplier at an end of its range cannot move beyond it.
        slope[((multipliers <= 0) & (slope > 0)) | ((multipliers >= most) & (slope < 0))] = 0
        length = float(slope @ slope)
        if length == 0 or dual <= objective:
            break
        step = MULTIPLIER_STEP * (dual - objective) / length
        multipliers = np.clip(multipliers - step * slope, 0, most)
    return best
