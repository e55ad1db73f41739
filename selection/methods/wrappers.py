"""Conditions that any method can be put under: quotas, a mislabel cut-off, lists of examples."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from hardset.checks import check_choice, check_range
from selection.core.arrays import Floats, Integers
from selection.core.classes import largest_remainder
from selection.core.given import Given
from selection.core.pool import Pool
from selection.core.selector import Conditional, Selector, generator, select_among
from selection.core.subset import Subset

__all__ = ["Cutoff", "Listed", "Quotas"]

Partition = Literal["labels", "groups"]


@dataclass(frozen=True)
class Quotas(Conditional):
    """`inner` applied within every class or group, each with its own part of the budget.

    Parts are rounded by the largest remainder; a class smaller than its part gives all it has.
    Proportional parts of small classes may be 0; the diagnostics hold the parts. Given examples
    count for none of them: sizes and shares are those of the others. `inner` sees the given
    examples of the class, and those from outside whose class is not known.

    Args:
        inner: the method.
        by: "labels" or "groups", a field of the pool.
        shares: "equal" numbers, "proportional" to the sizes, or a mapping from the class to its
            share >= 0, classes that are not in it get nothing.
        expected: classes that must be there; default those of the pool.

    Memory: that of `inner` on the largest class, and a copy of its rows of the pool.
    """

    inner: Selector
    by: Partition = "labels"
    shares: Literal["equal", "proportional"] | Mapping[int, float] = "equal"
    expected: tuple[int, ...] | None = None

    name: ClassVar[str] = "quotas"

    def __post_init__(self) -> None:
        check_choice("by", self.by, get_args(Partition))
        if isinstance(self.shares, str) and self.shares not in ("equal", "proportional"):
            raise ValueError(f"shares = {self.shares!r} is not equal, proportional or a mapping")

    @property
    def compares(self) -> bool:
        """As `inner`."""
        return self.inner.compares

    @property
    def reads(self) -> frozenset[str]:
        """As `inner`, and the partition."""
        return self.inner.reads | {self.by}

    def _select_given(self, pool: Pool, budget: int, seed: int, given: Given) -> Subset:
        whole = getattr(pool, self.by)
        if whole is None:
            raise ValueError(f"quotas need {self.by}, which the pool lacks")
        left = np.ones(len(pool), dtype=bool)
        left[given.rows] = False
        partition = whole if not len(given.rows) else whole[left]
        found, starts, sizes = np.unique(partition, return_index=True, return_counts=True)
        for one in self.expected or ():
            if one not in whole:
                raise ValueError(f"{self.by} {one} has no example among the {len(pool)} candidates")
        counts = largest_remainder(self._shares(whole, found, sizes), budget, sizes)
        if self.shares == "equal" and not np.all(counts):
            raise ValueError(
                f"budget = {budget} leaves nothing for {self.by} {found[np.argmin(counts)]}; "
                f"{len(found)} of them with equal shares need a larger one"
            )
        parts = []
        # Classes by their first example: their names have no part in the answer.
        for number, place in enumerate(np.argsort(starts)):
            if counts[place]:
                rows = np.flatnonzero((whole == found[place]) & left)
                own_seed = int(generator(seed, number).integers(2**62))
                held = given.of_class(self.by, found[place])
                own = Given(held.rows[whole[held.rows] == found[place]], held.outside)
                count = int(counts[place])
                parts.append(select_among(self.inner, pool, rows, count, own_seed, own))
        quotas = {str(one): int(count) for one, count in zip(found, counts, strict=True)}
        return _joined(parts, budget, quotas=quotas)

    def _shares(self, whole: Integers, found: Integers, sizes: Integers) -> Floats:
        if self.shares == "equal":
            return np.ones(len(found))
        if self.shares == "proportional":
            return sizes.astype(np.float64)
        assert isinstance(self.shares, Mapping)
        for one in self.shares:
            if one not in whole:
                raise ValueError(f"{self.by} {one} has a share but no example in the pool")
        return np.array([float(self.shares.get(int(one), 0.0)) for one in found])

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """One class: its rows in double precision, and what `inner` takes."""
        part = -(-n // classes)
        return 16 * n + 8 * part * (d + 4) + self.inner.memory_bytes(part, d, budget) + 48 * budget


@dataclass(frozen=True)
class Cutoff(Conditional):
    """`inner` on what remains without the floor(fraction * n) most likely mislabelled examples.

    They are those of highest `mislabel` score, or of highest score in a pool without one. Given
    examples are neither counted nor dropped.

    Args:
        inner: the method.
        fraction: share that is dropped, in [0, 1).

    Memory: that of `inner` on the rest, and a copy of its rows of the pool.
    """

    inner: Selector
    fraction: float

    name: ClassVar[str] = "cutoff"

    def __post_init__(self) -> None:
        check_range("fraction", self.fraction, 0.0, 1.0, open_high=True)

    @property
    def compares(self) -> bool:
        """As `inner`."""
        return self.inner.compares

    @property
    def reads(self) -> frozenset[str]:
        """As `inner`, and how likely a label is wrong."""
        return self.inner.reads | {"mislabel", "scores"}

    def _select_given(self, pool: Pool, budget: int, seed: int, given: Given) -> Subset:
        suspicion = pool.mislabel or pool.scores
        if suspicion is None:
            raise ValueError("a cut-off needs mislabel or scores, which the pool lacks")
        rest = given.rest(len(pool))
        n = len(rest)
        dropped = int(np.floor(self.fraction * n))
        if n - dropped < budget:
            raise ValueError(
                f"a cut-off of {self.fraction:g} drops {dropped} of {n} examples and leaves "
                f"{n - dropped}, fewer than the budget {budget}"
            )
        rows = np.sort(rest[np.argsort(-suspicion.values[rest], kind="stable")[dropped:]])
        return select_among(self.inner, pool, rows, budget, seed, given)

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """The order, the rows that stay in double precision, and what `inner` takes."""
        return 32 * n + 8 * n * (d + 4) + self.inner.memory_bytes(n, d, budget, classes)


@dataclass(frozen=True)
class Listed(Conditional):
    """`include` first, in its order, then what `inner` picks of the others without `exclude`.

    `inner` counts the included examples, and those that are given, as kept already. Included ones
    have weight 1.

    Args:
        inner: the method.
        include: ids that must be kept.
        exclude: ids that must not.

    Memory: that of `inner`, and a copy of its rows of the pool.
    """

    inner: Selector
    include: tuple[int | str, ...] = field(default=())
    exclude: tuple[int | str, ...] = field(default=())

    name: ClassVar[str] = "listed"

    def __post_init__(self) -> None:
        for one in self.include:
            if one in self.exclude:
                raise ValueError(f"id {one!r} is both included and excluded")
        if len(set(self.include)) < len(self.include):
            raise ValueError("include holds an id more than once")

    @property
    def compares(self) -> bool:
        """As `inner`."""
        return self.inner.compares

    @property
    def reads(self) -> frozenset[str]:
        """As `inner`."""
        return self.inner.reads

    def _select_given(self, pool: Pool, budget: int, seed: int, given: Given) -> Subset:
        first, away = (_rows(pool, name, getattr(self, name)) for name in ("include", "exclude"))
        if len(first) > budget:
            raise ValueError(f"include holds {len(first)} ids, more than the budget {budget}")
        again = np.isin(first, given.rows)
        if np.any(again):
            raise ValueError(
                f"include holds the id {self.include[int(np.argmax(again))]!r}, which is given "
                "already"
            )
        kept = np.union1d(first, given.rows)
        there = np.ones(len(pool), dtype=bool)
        there[away] = there[kept] = False
        rows = np.flatnonzero(there)
        left = budget - len(first)
        if left > len(rows):
            raise ValueError(
                f"include and exclude leave {len(rows)} examples, fewer than the {left} "
                f"that the budget {budget} still asks for"
            )
        parts = [Subset.of(first, requested=len(first))] if len(first) else []
        if left:
            held = Given(kept, given.outside)
            parts.append(select_among(self.inner, pool, rows, left, seed, held))
        return _joined(parts, budget, included=len(first))

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """The rows that stay in double precision, and what `inner` takes."""
        return 16 * n + 8 * n * (d + 4) + self.inner.memory_bytes(n, d, budget, classes)


def _rows(pool: Pool, name: str, wanted: tuple[int | str, ...]) -> Integers:
    """Rows of ids in a pool that is sorted by them, in the order of the list."""
    rows = np.empty(len(wanted), np.int64)
    words = pool.ids.dtype.kind == "U"
    for place, one in enumerate(wanted):
        row = int(np.searchsorted(pool.ids, one)) if isinstance(one, str) == words else len(pool)
        if row == len(pool) or pool.ids[row] != one:
            raise ValueError(f"{name} holds the id {one!r}, which the pool lacks")
        rows[place] = row
    return rows


def _joined(parts: list[Subset], budget: int, **diagnostics: Any) -> Subset:
    """One subset after the other; an objective of parts is no objective of the whole."""
    return Subset.of(
        np.concatenate([part.indices for part in parts]),
        weights=np.concatenate([part.weights for part in parts]),
        requested=budget,
        parts=[dict(part.diagnostics) for part in parts if part.diagnostics],
        **diagnostics,
    )
