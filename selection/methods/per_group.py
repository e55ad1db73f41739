"""Caps how many examples of a group any method keeps.

Groups are the frames of a video, the slices of a volume, the images of a patient.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from selection.arrays import Floats, Integers
from selection.given import Given
from selection.methods.wrappers import Wrapper
from selection.pool import Pool
from selection.selector import check_limit, select_among
from selection.subset import Subset


@dataclass(frozen=True, eq=False)
class PerGroup(Wrapper):
    """Applies `inner`, and keeps at most `limit` examples of each group.

    Given examples count for their group, those from outside where their group is known.

    A method whose subset is nested has an order of picks. It is asked for as many picks as it
    takes; those of a group that is full are passed over, and the others stay in its order. To the
    picks that follow, one that was passed over counts as picked, as it does in the order itself.
    Such a result is nested, too. A method without an order picks its budget; of each group the
    first `limit` picks stay, and it picks again, among the groups that are not full, what is
    missing. It counts what has stayed as picked if it compares examples.

    Weights and objective of `inner` belong to its own picks: where some were passed over, the
    weights are ones, and there is no objective.

    Args:
        inner: the method.
        limit: largest number of examples of a group, >= 1.
        near: cosine in (-1, 1]; first, an example is left out if its cosine with an earlier one of
            its group that was not left out, or with a given one of the group, is above it. Earlier
            is that of the smaller id. None leaves out nothing.

    Memory: that of `inner` with a budget that may grow to n, and 8 n d bytes where it picks among a
    part of the pool; with `near` 16 n d bytes more, and time in proportion to d times the sum of
    the squared sizes of the groups.

    Raises:
        ValueError: a pool without groups; groups that hold fewer examples than the budget within
            their limits.
    """

    limit: int
    near: float | None = None

    name: ClassVar[str] = "per-group"

    def __post_init__(self) -> None:
        check_limit(self.limit, self.near)

    @property
    def compares(self) -> bool:
        """Say that given examples count, for the limit of their group."""
        return True

    @property
    def reads(self) -> frozenset[str]:
        """Return the fields that `inner` reads, the groups, and features with `near`."""
        own = {"groups"} if self.near is None else {"groups", "features"}
        return self.inner.reads | own

    def _select_given(self, pool: Pool, budget: int, seed: int, given: Given) -> Subset:
        if pool.groups is None:
            raise ValueError("a limit per group needs groups, which the pool lacks")
        names, codes = np.unique(pool.groups, return_inverse=True)
        room = np.maximum(self.limit - _held(names, codes, given), 0)
        rows = given.rest(len(pool))
        details = {"per_group": self.limit, "groups": len(names)}
        if self.near is not None:
            rows = distinct_rows(pool, codes, given, self.near)
            details["near_duplicates"] = len(pool) - len(given.rows) - len(rows)
        reach = int(np.minimum(_counts(codes[rows], room), room).sum())
        if reach < budget:
            near, raised = "", "per_group"
            if self.near is not None:
                near = f" without near-duplicates (near = {self.near:g})"
                raised = "per_group or near"
            raise ValueError(
                f"per_group = {self.limit} allows {reach} examples of {len(names)} groups{near}, "
                f"fewer than the budget {budget}; raise {raised}, or lower the budget"
            )
        whole = len(rows) + len(given.rows) == len(pool)

        def order(count: int) -> Subset:
            if whole:  # whose features may be mapped from a file, and are not copied
                return self.inner.select(pool, count, seed, given)
            return select_among(self.inner, pool, rows, count, seed, given)

        part = order(budget)
        kept = within(part.indices, codes, room)
        if len(kept) == len(part):
            return replace(part, diagnostics={**part.diagnostics, **details, "passed_over": 0})
        if part.nested:
            asked = budget
            while len(kept) < budget and len(part) == asked < len(rows):
                # A quarter more than it takes if picks go on as before, and twice as many at most.
                rate = max(len(kept) / asked, 1e-9)
                asked = min(int(1.25 * budget / rate) + 1, 2 * asked, len(rows))
                part = order(asked)
                kept = within(part.indices, codes, room)
            kept = kept[:budget]
            seen = int(np.flatnonzero(part.indices == kept[-1])[0]) + 1
        else:
            seen = len(part)
            while len(kept) < budget and len(part):
                left = rows[(_counts(codes[kept], room) < room)[codes[rows]]]
                left = np.setdiff1d(left, kept)
                held = Given(np.union1d(given.rows, kept), given.outside)
                part = select_among(self.inner, pool, left, budget - len(kept), seed, held)
                kept = within(np.concatenate([kept, part.indices]), codes, room)
                seen += len(part)
        facts = details | {"passed_over": seen - len(kept)}
        return Subset.of(kept, requested=budget, nested=part.nested, **facts)

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Bound the bytes of `inner` with the largest budget, and of the unit vectors."""
        own = self.inner.memory_bytes(n, d, n, classes) + 8 * n * (d + 12)
        return own if self.near is None else own + 16 * n * d


def within(picks: Integers, codes: Integers, room: Integers) -> Integers:
    """Keep the first picks of each group, as many as it has room for.

    Args:
        picks: rows in pick order, shape (k,).
        codes: group of each row of the pool, from 0.
        room: of each group.

    Returns:
        The picks that stay, in the same order.
    """
    groups = codes[picks]
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    place = np.empty(len(picks), np.int64)
    place[order] = np.arange(len(picks)) - np.searchsorted(ordered, ordered)
    return picks[place < room[groups]]


def distinct_rows(pool: Pool, codes: Integers, given: Given, near: float) -> Integers:
    """Leave out the near-duplicates inside each group.

    Every row that is left out has a cosine above `near` with one of its group that stays or is
    given, and no two that stay have.

    Args:
        pool: with features, sorted by id.
        codes: group of each row, from 0.
        given: the existing set; only those of the pool are compared.
        near: the largest cosine of two that stay.

    Returns:
        The rows that stay, ascending, without the given ones.
    """
    from selection.methods.dedup import unit_vectors  # it brings JAX and SciPy

    unit, _ = unit_vectors(pool, given.without_rows())
    held = np.zeros(len(pool), dtype=bool)
    held[given.rows] = True
    # Given rows come first in their group.
    order = np.lexsort((np.arange(len(pool)), ~held, codes))
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    stays = np.zeros(len(pool), dtype=bool)
    for rows in np.split(order, starts[1:]):
        found: Floats = np.empty((len(rows), unit.shape[1]))
        count = 0
        for row in rows:
            if held[row] or not count or np.max(found[:count] @ unit[row]) <= near:
                found[count] = unit[row]
                count += 1
                stays[row] = True
    return np.flatnonzero(stays & ~held)


def _counts(codes: Integers, room: Integers) -> Integers:
    """Count the rows of each group."""
    return np.bincount(codes, minlength=len(room))


def _held(names: Integers, codes: Integers, given: Given) -> Integers:
    """Count the given examples of each group."""
    counts = _counts(codes[given.rows], names)
    outside = None if given.outside is None else given.outside.groups
    if outside is None:
        return counts
    place = np.minimum(np.searchsorted(names, outside), len(names) - 1)
    return counts + _counts(place[names[place] == outside], names)
