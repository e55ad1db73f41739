"""Solvers of InfoMax: the published update, mean field at fixed filling, greedy with swaps."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array, issparse

from hardset.checks import check_choice, check_integer, check_range
from hardset.optional import require
from selection.arrays import Array, Floats, Integers, real_rows
from selection.selector import check_budget


@dataclass(frozen=True, eq=False)
class InfoMaxProblem:
    """Maximise z.I - lam z^T K z over z in {0, 1}^n with sum z = p (arXiv:2506.01701, eq. 2).

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
        """The problem of any array-likes, checked.

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
        """The problem of the other examples when some are chosen already, and their rows.

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
        """2 lam K_ij, the loss if both ends of an edge are chosen, in the order of K's entries."""
        return 2 * self.weight * self.redundancy.data

    @cached_property
    def coupling_matrix(self) -> csr_array:
        """2 lam K."""
        matrix = self.redundancy
        return csr_array((self.coupling, matrix.indices, matrix.indptr), shape=matrix.shape)

    def marginals(self, filling: Floats) -> Floats:
        """Gradient I - 2 lam K x; what an example adds to the chosen ones if x is binary."""
        return self.information - self.coupling_matrix @ filling

    def indicator(self, indices: Integers) -> Floats:
        """z as an array of zeros and ones."""
        chosen = np.zeros(len(self))
        chosen[indices] = 1.0
        return chosen

    def objective(self, indices: Integers) -> float:
        """z.I - lam z^T K z of a subset."""
        chosen = self.indicator(indices)
        return float(chosen @ self.information - chosen @ (self.coupling_matrix @ chosen) / 2)

    def top_sum(self, values: Floats) -> float:
        """Largest linear objective: the sum of the p largest values."""
        n = len(values)
        if self.budget == n:
            return float(np.sum(values))
        return float(np.sum(np.partition(values, n - self.budget)[n - self.budget :]))


def largest(values: Array, count: int) -> Integers:
    """Positions of the `count` largest values, smaller position first among equals, ascending."""
    n = len(values)
    if count >= n:
        return np.arange(n)
    edge = np.partition(values, n - count)[n - count]
    above = np.flatnonzero(values > edge)
    level = np.flatnonzero(values == edge)[: count - len(above)]
    return np.sort(np.concatenate([above, level]))


WARMEST, COLDEST = 0.3, 0.05  # ends of the annealing for lam <= .45, in spreads of I
DAMPING = 0.7  # of each update; undamped, neighbours that exclude each other would oscillate
FILLING_TOLERANCE = 1e-3  # of sum x = p, relative; the rounding to p examples is exact
SWAP_SLACK = 1e-12  # of the largest marginal: smaller gains are rounding


@dataclass(frozen=True, eq=False)
class InfoMaxSolution:
    """A feasible point.

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
    """Top p of x after x <- s softmax(I - factor lam K x), from x = s/n (arXiv:2506.01701, eq. 3).

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
    """Top p of the mean field x_i = sigmoid((I_i - 2 lam (K x)_i - mu)/T) with sum x = p.

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
    # Single precision halves the traffic of memory, which is the cost; the rounding ends it anyway.
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
    """sigmoid((field - mu)/T) that sums to `count`, and mu, from a first guess of mu."""
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
    """The middle of an interval, or a point beyond its finite end."""
    if np.isinf(low):
        return high - beyond
    return low + beyond if np.isinf(high) else (low + high) / 2


def greedy(problem: InfoMaxProblem) -> tuple[Integers, Floats]:
    """Picks of largest marginal I_i - 2 lam (K z)_i, one after another, and those marginals.

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
    """The subset after exchanging pairs until no exchange gains, and the number of exchanges.

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


Solver = Literal["best", "mean-field", "greedy", "published", "published-scaled"]

# Of a problem, iterations, and the factor of the published update.
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
LARGE = 100_000  # examples above which the first of them stands for all


def solve_infomax(
    problem: InfoMaxProblem,
    solver: Solver = "best",
    iterations: int = 20,
    *,
    swaps: bool = True,
    factor: float = 2.0,
) -> InfoMaxSolution:
    """The best point of one solver, or of three, each followed by swaps.

    Args:
        problem: the objective.
        solver: "best" takes the largest objective of mean field, greedy and the published update
            scaled to the budget; on few examples no one of them wins everywhere. Above 100,000
            examples it is mean field alone, which with swaps came within .2 % of the best of
            three at lam = .3, 1, 4 and p/n = .1 to .5.
        iterations: updates of the iterative solvers.
        swaps: whether pairwise swaps follow.
        factor: of the published update.
    """
    check_choice("solver", solver, get_args(Solver))
    found = []
    best_of = BEST_OF if len(problem) <= LARGE else BEST_OF[:1]
    for name in best_of if solver == "best" else (solver,):
        indices, count = SOLVERS[name](problem, iterations, factor), 0
        if swaps:
            indices, count = with_swaps(problem, indices)
        found.append((problem.objective(indices), name, indices, count))
    objectives = {name: objective for objective, name, _, _ in found}
    objective, name, indices, count = max(found, key=lambda one: one[0])
    return InfoMaxSolution(indices, objective, name, objectives, count)
