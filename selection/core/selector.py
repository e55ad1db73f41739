"""What every selection method answers."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from selection.core.pool import Pool
from selection.core.subset import Subset

__all__ = ["Selector", "budget_count", "check_budget", "check_seed", "generator"]


class Selector(ABC):
    """A selection method; its options are the fields of a frozen dataclass.

    Methods see the pool by ascending id: a permutation of the examples permutes the answer, and
    whatever a method breaks by position is broken by id.

    Attributes:
        name: the method's name on the command line.
        needs: fields of the pool that it cannot do without.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()

    def select(self, pool: Pool, budget: int, seed: int = 0) -> Subset:
        """Keep `budget` examples of the pool.

        Args:
            pool: the n candidates.
            budget: how many to keep, 1 to n; methods that stop elsewhere say so in `achieved`.
            seed: of all random choices, >= 0.

        Returns:
            The subset, rows of `pool` in pick order.

        Raises:
            ValueError: a budget outside 1 ... n, or a pool without what the method needs.
        """
        check_budget(budget, len(pool))
        check_seed(seed)
        for field in sorted(self.needs):
            if getattr(pool, field) is None:
                raise ValueError(f"method {self.name!r} needs {field}, which the pool lacks")
        order = pool.id_order()
        if order is None:
            return self._select(pool, int(budget), int(seed))
        return self._select(pool.take(order), int(budget), int(seed)).at(order)

    @abstractmethod
    def _select(self, pool: Pool, budget: int, seed: int) -> Subset:
        """`select` with checked arguments; the pool is sorted by id."""

    @abstractmethod
    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Bytes that `select` allocates at most, beyond the pool itself.

        Args:
            n: number of candidates.
            d: number of features (views x features, gradients or epochs where those are used).
            budget: how many are kept.
            classes: number of classes, of equal size.
        """


def check_budget(budget: Any, n: int) -> None:
    """Raise ValueError unless `budget` is a whole number from 1 to n."""
    whole = isinstance(budget, int | np.integer) and not isinstance(budget, bool)
    if not whole or not 1 <= budget <= n:
        raise ValueError(
            f"budget = {budget} is outside the valid range 1 to {n}, a count of the {n} examples"
        )


def budget_count(budget: int | float, n: int) -> int:
    """A budget as a count: an integer is one already, a float a fraction of n, rounded.

    Raises:
        ValueError: a fraction outside (0, 1], or none or more than all of the n examples.
    """
    if not isinstance(budget, float):
        check_budget(budget, n)
        return int(budget)
    if not 0 <= budget <= 1:
        raise ValueError(f"budget = {budget} is neither a count 1 to {n} nor a fraction in (0, 1]")
    count = int(np.floor(budget * n + 0.5))
    if count == 0:
        raise ValueError(
            f"budget = {budget} of {n} examples is 0, outside the valid range 1 to {n}"
        )
    return count


def check_seed(seed: Any) -> None:
    """Raise ValueError unless `seed` is a whole number >= 0."""
    whole = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
    if not whole or seed < 0:
        raise ValueError(f"seed = {seed} is not a whole number >= 0")


def generator(seed: int, *key: int) -> np.random.Generator:
    """The generator of one random choice; different keys give independent streams."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))
