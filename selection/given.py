"""Holds the examples that are kept already.

They are from the pool or from outside of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hardset.checks import check_range
from selection.arrays import Array, Integers, class_rows, host_array, whole_numbers
from selection.pool import Pool


@dataclass(frozen=True, eq=False)
class Given:
    """Holds the existing set of a selection.

    `Given.of` makes, checks and sorts one.

    Attributes:
        rows: which examples of the pool are kept already, distinct, ascending, shape (k,).
        outside: kept ones that are no part of the pool; None for none.
    """

    rows: Integers
    outside: Pool | None = None

    @classmethod
    def of(
        cls,
        pool: Pool,
        *,
        rows: ArrayLike | None = None,
        ids: ArrayLike | None = None,
        features: ArrayLike | None = None,
        outside: Pool | None = None,
    ) -> "Given":
        """Make the existing set of a pool.

        Its order does not matter.

        Args:
            pool: the candidates, among which some may be given.
            rows: given rows of the pool, distinct, shape (k,); may be empty.
            ids: their ids instead.
            features: those of given examples from outside the pool, in the pool's shape but for
                the number of rows.
            outside: such examples with whatever else is known of them: gradients, labels, texts,
                scores; labels and groups in the pool's whole numbers.

        Raises:
            ValueError: rows or ids that the pool lacks or that are named twice; rows and ids, or
                features and outside, together; arrays that do not fit the pool's.
        """
        if rows is not None and ids is not None:
            raise ValueError("rows and ids of the given examples exclude each other: give one")
        if features is not None and outside is not None:
            raise ValueError("features and outside exclude each other: give one")
        if features is not None:
            outside = Pool.of(features=features)
        own = _known_rows(pool, rows) if ids is None else _rows_of_ids(pool, ids)
        found = cls(np.sort(own), None if outside is None else outside.take(_byte_order(outside)))
        found.check(pool)
        return found

    @classmethod
    def meant(cls, pool: Pool, given: "Given | ArrayLike | None") -> "Given":
        """Read an argument as an existing set.

        The argument is one already, or holds ids of shape (k,), or features of shape (k, d).

        Raises:
            ValueError: it fits the pool in none of these ways.
        """
        if given is None:
            return cls.none()
        if isinstance(given, Given):
            given.check(pool)
            return given
        array = np.asarray(host_array(given))
        return cls.of(pool, ids=array) if array.ndim == 1 else cls.of(pool, features=array)

    @classmethod
    def none(cls) -> "Given":
        """Make an empty existing set."""
        return cls(np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.rows) + self.outsiders

    @property
    def outsiders(self) -> int:
        """Count the given examples that are no part of the pool."""
        return 0 if self.outside is None else len(self.outside)

    def check(self, pool: Pool) -> None:
        """Raise ValueError unless this may be an existing set of that pool."""
        if len(self.rows) and not 0 <= self.rows[0] <= self.rows[-1] < len(pool):
            raise ValueError(
                f"given holds row {self.rows[-1]}; the pool has {len(pool)} examples, rows 0 to "
                f"{len(pool) - 1}"
            )
        if self.outside is None:
            return
        for name in ("features", "gradients", "trajectories", "texts"):
            own, other = getattr(pool, name), getattr(self.outside, name)
            if own is not None and other is not None and own.shape[1:] != other.shape[1:]:
                raise ValueError(
                    f"{name} of the given examples have shape {other.shape}, those of the pool "
                    f"{own.shape}; all but the first number must agree"
                )

    def rest(self, n: int) -> Integers:
        """List the rows of a pool of n examples that are not given, ascending."""
        left = np.ones(n, dtype=bool)
        left[self.rows] = False
        return np.flatnonzero(left)

    def values(self, pool: Pool, name: str) -> Array:
        """Join the field `name` of all k given examples.

        Those of the pool come first. The shape is (k, ...).

        Raises:
            ValueError: those from outside lack it.
        """
        own: Array = getattr(pool, name)[self.rows]
        if self.outside is None:
            return own
        other = getattr(self.outside, name)
        if other is None:
            raise ValueError(
                f"the method compares {name}, which the given examples from outside lack; give "
                f"them in Given.of(outside=Pool.of({name}=...)), or leave the pool's {name} out"
            )
        return np.concatenate([own, other])

    def moved(self, order: Integers) -> "Given":
        """Find the same examples in `pool.take(order)`.

        `order` is a permutation of the pool.
        """
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        return Given(np.sort(place[self.rows]), self.outside)

    def without_rows(self) -> "Given":
        """Keep only the given examples from outside the pool."""
        return Given(self.rows[:0], self.outside)

    def among(self, rows: Integers, n: int) -> "Given":
        """Keep the given examples that are in `pool.take(rows)` or from outside."""
        inside = np.zeros(n, dtype=bool)
        inside[self.rows] = True
        return Given(np.flatnonzero(inside[rows]), self.outside)

    def parts(
        self, groups: Sequence[Integers], n: int, homes: Integers | None = None
    ) -> list["Part"]:
        """Divide the existing set among groups of rows of a pool of n examples.

        Args:
            groups: rows of each group, ascending.
            n: the pool's size.
            homes: group of each example from outside, -1 for none; None puts all into every one.
        """
        inside = np.zeros(n, dtype=bool)
        inside[self.rows] = True
        everyone = np.arange(self.outsiders)
        parts = []
        for number, rows in enumerate(groups):
            others = everyone if homes is None else np.flatnonzero(homes == number)
            parts.append(Part(rows, np.flatnonzero(inside[rows]), others, homes is not None))
        return parts

    def class_parts(self, pool: Pool, per_class: bool = True) -> list["Part"]:
        """Divide the existing set among the labels of a pool.

        It stays whole if the pool has no labels or `per_class` is not set.

        Examples from outside without a label stand in every class.
        """
        labels = pool.labels if per_class else None
        known = None if self.outside is None else self.outside.labels
        groups = class_rows(labels, len(pool))
        if labels is None or known is None:
            return self.parts(groups, len(pool))
        numbers = {int(labels[rows[0]]): number for number, rows in enumerate(groups)}
        homes = np.array([numbers.get(int(one), -1) for one in known], np.int64)
        return self.parts(groups, len(pool), homes)

    def of_class(self, by: str, one: int) -> "Given":
        """Leave out examples from outside that are known to be of another class.

        A class is a label or a group.
        """
        known = None if self.outside is None else getattr(self.outside, by)
        if self.outside is None or known is None:
            return self
        own = np.flatnonzero(known == one)
        return Given(self.rows, self.outside.take(own) if len(own) else None)


@dataclass(frozen=True, eq=False)
class Part:
    """Holds a group of a pool, and says which of its examples are given.

    Attributes:
        rows: of the pool, ascending, shape (m,).
        inside: positions among `rows` of given ones.
        outside: positions among the given examples from outside.
        known: whether these are of this group, or only not known to be of another one.
    """

    rows: Integers
    inside: Integers
    outside: Integers
    known: bool


def shares(parts: Sequence[Part], budget: int) -> list[int]:
    """Share a budget among the parts, counting given examples.

    New and given examples together are in proportion to the parts' sizes.
    """
    return proportional(
        [part.rows for part in parts],
        budget,
        [len(part.inside) + (len(part.outside) if part.known else 0) for part in parts],
        [len(part.inside) for part in parts],
    )


def proportional(
    groups: Sequence[Integers], budget: int, given: Sequence[int] = (), inside: Sequence[int] = ()
) -> list[int]:
    """Share a budget in proportion to the groups' sizes.

    Rounding is by the largest remainder.

    Args:
        groups: rows of each group.
        budget: sum of the parts.
        given: how many of each group are kept already; these and the parts together are in
            proportion to the sizes, but for groups that have more than that already.
        inside: how many of these are rows of the group, which cannot be picked.
    """
    sizes = np.array([len(rows) for rows in groups])
    if not any(given):
        return [int(count) for count in largest_remainder(sizes, budget, sizes)]
    held = np.asarray(given)
    most = sizes - np.asarray(inside) + held
    short = np.ones(len(groups), dtype=bool)
    while True:
        total = budget + int(held[short].sum())
        counts = largest_remainder(np.where(short, sizes, 0), total, most)
        sated = short & (counts < held)
        if not np.any(sated):
            return [int(count) for count in np.where(short, counts - held, 0)]
        short &= ~sated


def largest_remainder(
    shares: ArrayLike, budget: int, available: ArrayLike | None = None
) -> Integers:
    """Share a budget in whole numbers, nearly in proportion to `shares`.

    Each gets the floor of its share, and those with the largest remainders one more, the first of
    equals first. A group that is smaller than its share gives all it has, and the rest is shared
    again among the others.

    Args:
        shares: wanted proportions, >= 0, not all 0, shape (m,).
        budget: their sum, >= 0.
        available: upper limits, shape (m,); default none.

    Raises:
        ValueError: a share below 0, or limits that sum to less than `budget`.
    """
    wanted = np.asarray(shares, dtype=np.float64)
    check_range("shares", wanted, 0.0, np.inf)
    limits = np.full(wanted.shape, budget) if available is None else np.asarray(available)
    reachable = int(limits[wanted > 0].sum())
    if reachable < budget:
        raise ValueError(
            f"the groups with a share hold {reachable} examples, fewer than the budget {budget}"
        )
    full = np.zeros(len(wanted), dtype=bool)
    while True:
        counts = np.where(full, limits, 0)
        left = budget - int(counts.sum())
        weight = np.where(full, 0.0, wanted)
        exact = left * weight / weight.sum() if left else np.zeros(len(wanted))
        floors = np.floor(exact).astype(np.int64)
        order = np.argsort(floors - exact, kind="stable")
        floors[order[: left - int(floors.sum())]] += 1
        over = ~full & (floors > limits)
        if not np.any(over):
            return counts + floors
        full |= over


def _known_rows(pool: Pool, rows: ArrayLike | None) -> Integers:
    array = np.asarray([] if rows is None else host_array(rows))
    if array.size == 0:
        return np.empty(0, np.int64)
    if array.dtype.kind == "b":
        raise ValueError("given is a mask; name the rows themselves, np.flatnonzero(mask)")
    found = whole_numbers("given", array)
    wrong = (found < 0) | (found >= len(pool))
    if np.any(wrong):
        raise ValueError(
            f"given holds row {found[np.argmax(wrong)]}; the pool has {len(pool)} examples, rows "
            f"0 to {len(pool) - 1}"
        )
    _check_distinct("row", found)
    return found


def _rows_of_ids(pool: Pool, ids: ArrayLike | None) -> Integers:
    array = np.asarray(host_array(ids))
    if array.size == 0:
        return np.empty(0, np.int64)
    if array.dtype.kind == "O" and all(isinstance(one, str) for one in array.ravel()):
        array = array.astype(np.str_)
    if array.dtype.kind == "b":
        raise ValueError("given is a mask; name the ids themselves, pool.ids[mask]")
    if array.dtype.kind != "U":
        array = whole_numbers("given", array)
    if array.ndim != 1:
        raise ValueError(f"given has shape {array.shape}; ids are (k,)")
    if (array.dtype.kind == "U") != (pool.ids.dtype.kind == "U"):
        raise ValueError(f"given holds the id {array[0]!s}, of another kind than the pool's ids")
    order = np.argsort(pool.ids)
    place = np.minimum(np.searchsorted(pool.ids, array, sorter=order), len(pool) - 1)
    rows: Integers = order[place]
    missing = pool.ids[rows] != array
    if np.any(missing):
        raise ValueError(f"given holds the id {array[np.argmax(missing)]!s}, which the pool lacks")
    _check_distinct("id", array)
    return rows


def _check_distinct(word: str, values: Array) -> None:
    found, counts = np.unique(values, return_counts=True)
    if len(found) < len(values):
        raise ValueError(f"given holds the {word} {found[np.argmax(counts > 1)]!s} more than once")


def _byte_order(pool: Pool) -> Integers:
    """Order the examples by their values alone.

    Sums over them then do not depend on the order in which they came.
    """
    columns: list[Any] = []
    for entry in fields(pool):
        value = getattr(pool, entry.name)
        if entry.name not in ("ids", "graph") and value is not None:
            columns.append(value if isinstance(value, np.ndarray) else value.values)
    keys = [b"".join(column[row].tobytes() for column in columns) for row in range(len(pool))]
    return np.array(sorted(range(len(pool)), key=keys.__getitem__), dtype=np.int64)
