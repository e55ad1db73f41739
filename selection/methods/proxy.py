"""Selection via proxy: any method with the scores of a smaller model."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from selection.core.given import Given
from selection.core.pool import Pool
from selection.core.scores import Scores
from selection.core.selector import Conditional, Selector
from selection.core.subset import Subset

__all__ = ["ViaProxy"]


@dataclass(frozen=True, eq=False)
class ViaProxy(Conditional):
    """`inner` with the scores of a smaller model in place of the pool's.

    Scores belong to ids, so that wrappers that show a part of the pool change nothing. Given
    examples from outside the pool have none.

    Args:
        inner: the method.
        scores: of the smaller model, for every id of the pool at least.
        ids: which example each score belongs to; default 0 ... n-1, the ids of a pool without any.

    Memory: that of `inner`, and 24 bytes a score.

    Source: Coleman et al., Selection via proxy, ICLR 2020, arXiv:1906.11829.
    """

    inner: Selector
    scores: Scores
    ids: ArrayLike | None = None

    name: ClassVar[str] = "via-proxy"

    @property
    def compares(self) -> bool:
        """As `inner`."""
        return self.inner.compares

    @property
    def reads(self) -> frozenset[str]:
        """As `inner`, but for the scores."""
        return self.inner.reads - {"scores"}

    def _select_given(self, pool: Pool, budget: int, seed: int, given: Given) -> Subset:
        known = Pool.of(scores=self.scores, ids=self.ids)
        order = np.argsort(known.ids)
        if known.ids.dtype.kind != pool.ids.dtype.kind:
            raise ValueError(
                "the ids of the proxy's scores and of the pool are not of one kind, "
                "integers or strings; give ViaProxy(ids=...)"
            )
        place = np.searchsorted(known.ids, pool.ids, sorter=order)
        rows = order[np.minimum(place, len(order) - 1)]
        missing = known.ids[rows] != pool.ids
        if np.any(missing):
            raise ValueError(
                f"the proxy has no score of the example {pool.ids[np.argmax(missing)]!s}; it has "
                f"{len(known)} scores, the pool {len(pool)} examples"
            )
        if given.outside is not None:
            given = Given(given.rows, replace(given.outside, scores=None))
        scored = replace(pool, scores=self.scores.take(rows))
        return self.inner.select(scored, budget, seed, given)

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """As `inner`, and the order of the scores."""
        return self.inner.memory_bytes(n, d, budget, classes) + 24 * len(self.scores)
