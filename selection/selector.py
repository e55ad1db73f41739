"""Defines what every selection method answers, and checks what it is asked."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from hardset.checks import check_integer, check_range
from selection.arrays import Integers
from selection.given import Given
from selection.pool import FIELDS, Pool
from selection.subset import Subset


class Selector(ABC):
    """Selects examples of a pool.

    The options of a method are the fields of a frozen dataclass.

    Methods see the pool by ascending id: a permutation of the examples permutes the answer, and
    whatever a method breaks by position is broken by id.

    Attributes:
        name: the method's name on the command line.
        needs: fields of the pool that it cannot do without.
        optional: fields that it looks at where the pool has them; all, unless a method says so.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()
    optional: ClassVar[frozenset[str]] = frozenset(FIELDS)

    @property
    def compares(self) -> bool:
        """Say whether given examples count as picked.

        Otherwise they are only left out.
        """
        return False

    @property
    def reads(self) -> frozenset[str]:
        """Return the fields of the pool that have a part in the answer.

        The ids always have.
        """
        return self.needs | self.optional

    def select(
        self, pool: Pool, budget: int, seed: int = 0, given: Given | ArrayLike | None = None
    ) -> Subset:
        """Keep `budget` examples of the pool, besides those that are given.

        Args:
            pool: the n candidates.
            budget: how many to keep, 1 to n, or to as many as are not given; methods that stop
                elsewhere say so in `achieved`.
            seed: of all random choices, >= 0.
            given: examples that are kept already, `Given.of(pool, ...)`; for short their ids (rows
                of a pool without ids), (k,), or features of ones from outside the pool, (k, d).
                They are not picked again and are no part of the answer; methods that compare
                examples count them as picked, the others leave them out.

        Returns:
            The subset, rows of `pool` in pick order.

        Raises:
            ValueError: a budget outside its range, a pool without what the method needs, given
                examples from outside the pool for a method that cannot compare them.
        """
        held = Given.meant(pool, given)
        check_budget(budget, len(pool), len(held.rows))
        check_seed(seed)
        for field in sorted(self.needs):
            if getattr(pool, field) is None:
                raise ValueError(f"method {self.name!r} needs {field}, which the pool lacks")
        order = pool.id_order()
        if order is None:
            return self._after(pool, int(budget), int(seed), held)
        found = self._after(pool.take(order), int(budget), int(seed), held.moved(order))
        return found.at(order)

    def _after(self, pool: Pool, budget: int, seed: int, given: Given) -> Subset:
        if len(given):
            return self._select_given(pool, budget, seed, given)
        return self._select(pool, budget, seed)

    @abstractmethod
    def _select(self, pool: Pool, budget: int, seed: int) -> Subset:
        """Select with checked arguments.

        The pool is sorted by id.
        """

    def _select_given(self, pool: Pool, budget: int, seed: int, given: Given) -> Subset:
        """Select besides given examples, with checked arguments.

        By default the given examples are left out of the pool.
        """
        if given.outside is not None:
            raise ValueError(
                f"method {self.name!r} does not compare examples with each other: given ones from "
                "outside the pool have no part in it; leave them out"
            )
        rest = given.rest(len(pool))
        return self._select(pool.take(rest), budget, seed).at(rest)

    @abstractmethod
    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Bound the bytes that `select` allocates beyond the pool itself.

        Args:
            n: number of candidates.
            d: number of features (views x features, gradients or epochs where those are used).
            budget: how many are kept. Given examples take what their rows take, besides, and
                features whose squares would vanish take a copy.
            classes: number of classes, of equal size.
        """


def select_among(
    method: Selector, pool: Pool, rows: Integers, budget: int, seed: int, given: Given
) -> Subset:
    """Pick by a method among some rows of the pool, besides given examples.

    Args:
        method: how.
        pool: it is copied at these rows, and at the given ones where the method compares them.
        rows: candidates, ascending, none of them given.
        budget: how many.
        seed: of all random choices.
        given: the existing set.
    """
    held = given.without_rows()
    if method.compares and len(given.rows):
        rows = np.union1d(rows, given.rows)
        held = given.among(rows, len(pool))
    return method.select(pool.take(rows), budget, seed, held).at(rows)


class Conditional(Selector):
    """Selects with an objective that counts given examples as picked."""

    @property
    def compares(self) -> bool:
        """Say whether given examples count as picked.

        Otherwise they are only left out.
        """
        return True

    def _select(self, pool: Pool, budget: int, seed: int) -> Subset:
        return self._select_given(pool, budget, seed, Given.none())

    @abstractmethod
    def _select_given(self, pool: Pool, budget: int, seed: int, given: Given) -> Subset:
        """Select with checked arguments, where given examples count as picked.

        The pool is sorted by id. The existing set may be empty.
        """


def check_budget(budget: Any, n: int, given: int = 0) -> None:
    """Raise ValueError unless `budget` is within its range.

    It is a whole number from 1 to n, less those given.
    """
    whole = isinstance(budget, int | np.integer) and not isinstance(budget, bool)
    if given == n:
        raise ValueError(f"all {n} examples are given already: there is nothing left to select")
    if not whole or not 1 <= budget <= n - given:
        those = f"a count of the {n} examples"
        if given:
            those = f"a count of those of the {n} examples that are not among the {given} given"
        raise ValueError(f"budget = {budget} is outside the valid range 1 to {n - given}, {those}")


def budget_count(budget: int | float, n: int) -> int:
    """Convert a budget to a number of examples.

    An integer is such a number. A float is a fraction of n, rounded.

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


def check_limit(per_group: int | None, near: float | None) -> None:
    """Check the options of a limit per group.

    Raises:
        ValueError: a value out of its range, or a cosine without a limit.
    """
    if per_group is None:
        if near is not None:
            raise ValueError("near has no effect without per_group")
        return
    check_integer("per_group", per_group, 1, 2**31)
    if near is not None:
        check_range("near", near, -1.0, 1.0, open_low=True)


def generator(seed: int, *key: int) -> np.random.Generator:
    """Make the generator of one random choice.

    Different keys give independent streams.
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))
