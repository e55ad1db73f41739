"""Selection via proxy: any method with the scores of a smaller model."""

from dataclasses import dataclass, replace
from typing import ClassVar

from selection.core.pool import Pool
from selection.core.scores import Scores
from selection.core.selector import Selector
from selection.core.subset import Subset

__all__ = ["ViaProxy"]


@dataclass(frozen=True, eq=False)
class ViaProxy(Selector):
    """`inner` with the scores of a smaller model in place of the pool's.

    Args:
        inner: the method.
        scores: of the smaller model, one for each id of the pool in ascending order.

    Memory: that of `inner`.

    Source: Coleman et al., Selection via proxy, ICLR 2020, arXiv:1906.11829.
    """

    inner: Selector
    scores: Scores

    name: ClassVar[str] = "via-proxy"

    def _select(self, pool: Pool, budget: int, seed: int) -> Subset:
        if len(self.scores) != len(pool):
            raise ValueError(
                f"the proxy has scores of {len(self.scores)} examples, the pool {len(pool)}"
            )
        return self.inner.select(replace(pool, scores=self.scores), budget, seed)

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """As `inner`."""
        return self.inner.memory_bytes(n, d, budget, classes)
