"""InfoMax: informative examples without redundant pairs."""

from dataclasses import asdict, dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
from scipy.sparse import csr_array

from hardset.checks import check_choice, check_integer, check_range
from selection.arrays import Floats, Integers, Scaling, rescaled
from selection.given import Given
from selection.graph import Graph, Symmetry, pool_graph
from selection.infomax.bound import certify_infomax
from selection.infomax.solvers import InfoMaxProblem, Solver, solve_infomax
from selection.pool import Pool
from selection.selector import Conditional
from selection.subset import Subset


@dataclass(frozen=True)
class InfoMax(Conditional):
    """Maximises z.I - lam z^T K z over subsets z of the budget's size.

    Given examples are in z beyond the budget: each pick loses 2 lam K to them; the objective and
    its bounds are what the picks add.

    I are the scores, K the inner products with the k nearest neighbours, clipped at 0, symmetric,
    zero on the diagonal. The answer is the best of annealed mean field, lazy greedy and the
    published update, each with pairwise swaps, and above 100,000 examples that of mean field with
    swaps; the diagnostics say which one, and how far the optimum can be.

    Args:
        neighbours: k, where the pool has no graph. The authors take 5; to keep a small fraction f
            some 5/f with weight 1, or hardly a neighbour is kept and the scores decide alone.
        weight: lam, >= 0; the authors use 0.3 and find 0.3 to 4 usable.
        iterations: updates of mean field, and of the published update.
        solver: "best", "mean-field", "greedy", or the published update, "published" with a
            softmax that sums to 1, "published-scaled" to the budget.
        swaps: whether pairwise swaps follow; default they do, but for the published update alone.
        factor: of lam K x in the published update; 2 is the gradient of the objective, the paper
            leaves it open.
        scaling: of the scores: "min-max" to [0, 1], "standard", "rank" or "none".
        metric: "cosine" or "inner" (features as they are).
        symmetry: "union" counts an edge that either end lists, "mean" is (K + K^T)/2.
        certificate_steps: iterations of each upper bound; 0 leaves the certificate out.

    Memory: 12 n d + 96 n k + 200 n bytes, the features counted in single precision.

    Source: Tan et al., Data pruning by information maximization, arXiv:2506.01701.
    """

    neighbours: int = 5
    weight: float = 0.3
    iterations: int = 20
    solver: Solver = "best"
    swaps: bool | None = None
    factor: float = 2.0
    scaling: Scaling = "min-max"
    metric: Literal["cosine", "inner"] = "cosine"
    symmetry: Symmetry = "union"
    certificate_steps: int = 30

    name: ClassVar[str] = "infomax"
    needs: ClassVar[frozenset[str]] = frozenset({"scores"})
    optional: ClassVar[frozenset[str]] = frozenset({"features", "graph"})

    def __post_init__(self) -> None:
        check_integer("neighbours", self.neighbours, 1, 2**31)
        check_range("weight", self.weight, 0, np.inf, open_high=True)
        check_integer("iterations", self.iterations, 1, 10**6)
        check_integer("certificate_steps", self.certificate_steps, 0, 10**6)
        check_range("factor", self.factor, 0, np.inf, open_low=True, open_high=True)
        check_choice("solver", self.solver, get_args(Solver))
        check_choice("scaling", self.scaling, get_args(Scaling))
        check_choice("metric", self.metric, ("cosine", "inner"))
        check_choice("symmetry", self.symmetry, get_args(Symmetry))

    def _select_given(self, pool: Pool, budget: int, seed: int, given: Given) -> Subset:
        assert pool.scores is not None
        information = rescaled(pool.scores.values, self.scaling)
        graph = pool_graph(pool, self.neighbours, self.metric, seed, given)
        matrix = redundancy(graph, self.symmetry)
        problem, rest = _conditional(information, matrix, self.weight, budget, given)
        found = solve_infomax(
            problem, self.solver, self.iterations, swaps=self._swaps, factor=self.factor
        )
        diagnostics = {
            "solver": found.solver,
            "objectives": dict(found.objectives),
            "swaps": found.swaps,
            **graph.diagnostics(),
        }
        if self.certificate_steps:
            proof = asdict(certify_infomax(problem, found.indices, self.certificate_steps))
            del proof["objective"]
            diagnostics["certificate"] = proof
        return Subset.of(
            rest[found.indices],
            requested=budget,
            objective=found.objective,
            nested=self.solver == "greedy" and not self._swaps,
            **diagnostics,
        )

    @property
    def _swaps(self) -> bool:
        return not self.solver.startswith("published") if self.swaps is None else self.swaps

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Unit vectors, faiss's copy, the sparse matrix and its scaled copies, some vectors."""
        return 12 * n * d + 96 * n * self.neighbours + 200 * n


@dataclass(frozen=True)
class KMedian(Conditional):
    """Minimises the pairwise similarity z^T K z: InfoMax without scores.

    Given examples are in z beyond the budget; the objective is what the picks add.

    Args:
        neighbours: k, where the pool has no graph.
        iterations: updates of mean field.

    Memory: that of InfoMax.

    Source: Tan et al., arXiv:2506.01701, section 3.1 (lam to infinity).
    """

    neighbours: int = 5
    iterations: int = 20

    name: ClassVar[str] = "k-median"
    optional: ClassVar[frozenset[str]] = frozenset({"features", "graph"})

    def __post_init__(self) -> None:
        check_integer("neighbours", self.neighbours, 1, 2**31)
        check_integer("iterations", self.iterations, 1, 10**6)

    def _select_given(self, pool: Pool, budget: int, seed: int, given: Given) -> Subset:
        graph = pool_graph(pool, self.neighbours, "cosine", seed, given)
        matrix = redundancy(graph)
        problem, rest = _conditional(np.zeros(len(pool)), matrix, 1.0, budget, given)
        found = solve_infomax(problem, "best", self.iterations)
        return Subset.of(
            rest[found.indices],
            requested=budget,
            objective=found.objective,
            solver=found.solver,
            **graph.diagnostics(),
        )

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """As InfoMax."""
        return InfoMax(neighbours=self.neighbours).memory_bytes(n, d, budget, classes)


def _conditional(
    information: Floats, matrix: csr_array, weight: float, budget: int, given: Given
) -> tuple[InfoMaxProblem, Integers]:
    """The problem besides the given examples, and its rows; those from outside stand last in K."""
    n = len(information)
    information = np.concatenate([information, np.zeros(given.outsiders)])
    whole = InfoMaxProblem(information, matrix, weight, budget)
    return whole.after(np.concatenate([given.rows, np.arange(n, len(information))]))


def redundancy(graph: Graph, symmetry: Symmetry = "union") -> csr_array:
    """K of a graph: its similarities, negative ones set to 0, symmetric, zero diagonal.

    Raises:
        ValueError: the graph holds distances.
    """
    if graph.metric == "euclidean":
        raise ValueError("the graph holds distances; InfoMax needs inner products or cosines")
    return graph.symmetric(np.maximum(graph.similarities, 0), symmetry)
