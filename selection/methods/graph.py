"""Selects on the graph of nearest neighbours.

The methods are InfoMax, k-median and D2.
"""

from dataclasses import asdict, dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
from scipy.sparse import csr_array

from hardset.checks import check_choice, check_integer, check_range, require
from selection.arrays import Floats, Integers
from selection.given import Given
from selection.graph import Graph, Metric, Symmetry, knn_graph
from selection.infomax import InfoMaxProblem, Solver, certify_infomax, solve_infomax
from selection.pool import Pool, Scaling, rescaled
from selection.selector import Conditional
from selection.subset import Subset


def pool_graph(pool: Pool, k: int, metric: Metric, seed: int, given: Given | None = None) -> Graph:
    """Return the pool's graph.

    Without one it is that of the features' k (at most n - 1) nearest neighbours.

    Given examples from outside the pool stand behind it.

    Raises:
        ValueError: the pool has neither a graph nor features, or a graph, which cannot hold
            examples from outside.
    """
    outside = None if given is None else given.outside
    if pool.graph is not None and outside is not None:
        raise ValueError(
            "given examples from outside the pool have no place in its graph; leave the graph out "
            "and give features"
        )
    if pool.graph is not None:
        return pool.graph
    if pool.features is None:
        raise ValueError("the method needs features or a graph, and the pool has neither")
    rows = pool.features
    if outside is not None:
        if outside.features is None:
            raise ValueError("the given examples from outside the pool lack features")
        rows = np.concatenate([rows, outside.features])
    if len(rows) == 1:
        return Graph(np.full((1, 1), -1, np.int32), np.zeros((1, 1), np.float32), metric)
    return knn_graph(rows, min(k, len(rows) - 1), metric=metric, seed=seed)


@dataclass(frozen=True)
class InfoMax(Conditional):
    """Selects much information with little redundancy.

    It maximises z.I - lam z^T K z over subsets z of the budget's size.

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
        """Bound the bytes of unit vectors, faiss's copy and sparse matrices.

        The matrix has scaled copies, and some vectors come beside it.
        """
        return 12 * n * d + 96 * n * self.neighbours + 200 * n


@dataclass(frozen=True)
class KMedian(Conditional):
    """Minimises the pairwise similarity of what is kept.

    It is z^T K z: InfoMax without scores.

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
        """Bound the bytes, which are those of InfoMax."""
        return InfoMax(neighbours=self.neighbours).memory_bytes(n, d, budget, classes)


def _conditional(
    information: Floats, matrix: csr_array, weight: float, budget: int, given: Given
) -> tuple[InfoMaxProblem, Integers]:
    """Make the problem besides the given examples.

    Its rows come with it. Given examples from outside stand last in K.
    """
    n = len(information)
    information = np.concatenate([information, np.zeros(given.outsiders)])
    whole = InfoMaxProblem(information, matrix, weight, budget)
    return whole.after(np.concatenate([given.rows, np.arange(n, len(information))]))


def redundancy(graph: Graph, symmetry: Symmetry = "union") -> csr_array:
    """Make the matrix K of redundancy from a graph.

    It holds the similarities, negative ones set to 0. It is symmetric with a zero diagonal.

    Raises:
        ValueError: the graph holds distances.
    """
    if graph.metric == "euclidean":
        raise ValueError("the graph holds distances; InfoMax needs inner products or cosines")
    return graph.symmetric(np.maximum(graph.similarities, 0), symmetry)


@dataclass(frozen=True)
class D2(Conditional):
    """Passes scores along the edges of a graph, then picks against redundancy.

    First it passes scores forward: G_i = s_i + sum_{j in N(i)} exp(-gamma_f d_ij^2) s_j. Then it
    picks the largest G.

    After the pick i its neighbours lose exp(-gamma_r d_ij^2) max(G_i, 0). N(i) holds every j that
    lists i or is listed by it. Distances are those of unit vectors under the cosine. Each gain is
    the G of the pick. Given examples are picked before all others, by the same rule; one from
    outside that has no score passes on the mean score of the pool.

    Args:
        neighbours: k, where the pool has no graph.
        gamma_forward: gamma_f >= 0.
        gamma_reverse: gamma_r >= 0.
        scaling: of the scores, which should not be negative: "min-max", "standard", "rank", "none".
        metric: "cosine" or "euclidean".
        published: as in the authors' code: k = 10, gamma_f = 1, d instead of d^2, scores as they
            are, and no max(., 0): a negative G_i then raises the neighbours.

    Memory: 12 n d + 72 n k + 120 n bytes, the features counted in single precision.

    Source: Maharana et al., D2 pruning, ICLR 2024, arXiv:2310.07931.
    """

    neighbours: int = 5
    gamma_forward: float = 1.0
    gamma_reverse: float = 0.1
    scaling: Scaling = "min-max"
    metric: Literal["cosine", "euclidean"] = "cosine"
    published: bool = False

    name: ClassVar[str] = "d2"
    needs: ClassVar[frozenset[str]] = frozenset({"scores"})
    optional: ClassVar[frozenset[str]] = frozenset({"features", "graph"})

    def __post_init__(self) -> None:
        check_integer("neighbours", self.neighbours, 1, 2**31)
        check_range("gamma_forward", self.gamma_forward, 0, np.inf, open_high=True)
        check_range("gamma_reverse", self.gamma_reverse, 0, np.inf, open_high=True)
        check_choice("scaling", self.scaling, get_args(Scaling))
        check_choice("metric", self.metric, ("cosine", "euclidean"))
        if self.published:
            for name in ("neighbours", "gamma_forward", "scaling"):
                if getattr(self, name) != type(self).__dataclass_fields__[name].default:
                    raise ValueError(f"published = True decides {name}; give one of the two")

    def _select_given(self, pool: Pool, budget: int, seed: int, given: Given) -> Subset:
        scores = self._scores(pool, given)
        k = 10 if self.published else self.neighbours
        graph = pool_graph(pool, k, self.metric, seed, given)
        power: Literal[1, 2] = 1 if self.published else 2
        forward = 1.0 if self.published else self.gamma_forward
        values = message_passing(scores, edge_weights(graph, forward, power))
        back = edge_weights(graph, self.gamma_reverse, power)
        clamped = not self.published
        rest = np.arange(len(pool))
        if len(given):
            there = np.concatenate([given.rows, np.arange(len(pool), len(values))])
            rest = given.rest(len(pool))
            order, lowering = reverse_picks(
                values[there], csr_array(back[there][:, there]), len(there), clamped=clamped
            )
            if clamped:
                lowering = np.maximum(lowering, 0)
            values = values[rest] - back[rest][:, there[order]] @ lowering
            back = csr_array(back[rest][:, rest])
        picks, gains = reverse_picks(values, back, budget, clamped=clamped)
        return Subset.of(
            rest[picks], requested=budget, gains=gains, nested=True, **graph.diagnostics()
        )

    def _scores(self, pool: Pool, given: Given) -> Floats:
        """Return scores on one scale.

        Those of given examples from outside come last.
        """
        assert pool.scores is not None
        scaling = "none" if self.published else self.scaling
        if given.outside is None or given.outside.scores is None:
            found = rescaled(pool.scores.values, scaling)
            return np.concatenate([found, np.full(given.outsiders, np.mean(found))])
        return rescaled(np.concatenate([pool.scores.values, given.outside.scores.values]), scaling)

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Bound the bytes of unit vectors, faiss's copy, edge weights and heap."""
        k = 10 if self.published else self.neighbours
        return 12 * n * d + 72 * n * k + 120 * n


def edge_weights(graph: Graph, gamma: float, power: Literal[1, 2] = 2) -> csr_array:
    """Compute weights on the symmetric edges of a graph.

    The weight is exp(-gamma d_ij^power).
    """
    squares = graph.squared_distances
    weights = np.exp(-gamma * (squares if power == 2 else np.sqrt(squares)))
    return graph.symmetric(weights)


def message_passing(scores: Floats, weights: csr_array) -> Floats:
    """Pass scores forward along the edges.

    The answer is s + W s.
    """
    return scores + weights @ scores


def reverse_picks(
    values: Floats, weights: csr_array, budget: int, *, clamped: bool = True
) -> tuple[Integers, Floats]:
    """Pick the largest value, lower its neighbours, and repeat.

    A neighbour j of the pick i loses W_ij times the value of the pick.

    Args:
        values: G, shape (n,).
        weights: W, symmetric, zero diagonal.
        budget: number of picks.
        clamped: whether a negative value lowers nothing, instead of raising the neighbours.

    Returns:
        The picks, and each one's value at that time.
    """
    pick = require("selection.kernels").pick_and_discount
    order = np.argsort(-values, kind="stable")
    found: tuple[Integers, Floats] = pick(
        weights.indptr, weights.indices, weights.data, values.copy(), order, budget, True, clamped
    )
    return found
