"""D2 pruning: scores passed along the edges of a graph, greedy picks against redundancy."""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
from scipy.sparse import csr_array

from hardset.checks import check_choice, check_integer, check_range
from hardset.optional import require
from selection.arrays import Floats, Integers, Scaling, rescaled
from selection.given import Given
from selection.graph import Graph, pool_graph
from selection.pool import Pool
from selection.selector import Conditional
from selection.subset import Subset


@dataclass(frozen=True)
class D2(Conditional):
    """Forward G_i = s_i + sum_{j in N(i)} exp(-gamma_f d_ij^2) s_j, then picks of largest G.

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
        """Scores on one scale, those of given examples from outside last."""
        assert pool.scores is not None
        scaling = "none" if self.published else self.scaling
        if given.outside is None or given.outside.scores is None:
            found = rescaled(pool.scores.values, scaling)
            return np.concatenate([found, np.full(given.outsiders, np.mean(found))])
        return rescaled(np.concatenate([pool.scores.values, given.outside.scores.values]), scaling)

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Unit vectors and faiss's copy, edge weights, heap."""
        k = 10 if self.published else self.neighbours
        return 12 * n * d + 72 * n * k + 120 * n


def edge_weights(graph: Graph, gamma: float, power: Literal[1, 2] = 2) -> csr_array:
    """exp(-gamma d_ij^power) on the symmetric edges of a graph."""
    squares = graph.squared_distances
    weights = np.exp(-gamma * (squares if power == 2 else np.sqrt(squares)))
    return graph.symmetric(weights)


def message_passing(scores: Floats, weights: csr_array) -> Floats:
    """Forward step: s + W s."""
    return scores + weights @ scores


def reverse_picks(
    values: Floats, weights: csr_array, budget: int, *, clamped: bool = True
) -> tuple[Integers, Floats]:
    """Picks of the largest value, which each lowers its neighbours by W_ij times its own value.

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
