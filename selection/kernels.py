"""Compiles greedy picks and swaps on sparse graphs.

It is imported only where Numba is needed.

Heaps are lists of (-value, item): the largest value is on top, and the first of equal items.
"""

from heapq import heapify, heappop, heappush
from typing import Any

import numba
import numpy as np


@numba.njit(cache=True)
def _no_heap() -> Any:
    """Make an empty heap.

    Numba takes the type of its entries from an expression.
    """
    return [(0.0, np.int64(0)) for _ in range(0)]


@numba.njit(cache=True)
def _place(neighbours: Any, row: int, wanted: int) -> int:
    for slot in range(neighbours.shape[1]):
        if neighbours[row, slot] == wanted:
            return slot
    return -1


@numba.njit(cache=True)
def symmetrise(neighbours: Any, values: Any, mean: bool) -> Any:
    """Compress the rows of an edge list's symmetric matrix.

    The answer consists of starts, columns and entries.

    `maximum` of SciPy's sparse matrices takes a missing edge for 0, and loses negative ones.
    """
    n, k = neighbours.shape
    start = np.zeros(n + 1, dtype=np.int64)
    for i in range(n):
        for slot in range(k):
            j = neighbours[i, slot]
            if j >= 0:
                start[i + 1] += 1
                if _place(neighbours, j, i) < 0:
                    start[j + 1] += 1
    for i in range(n):
        start[i + 1] += start[i]
    columns = np.empty(start[n], dtype=np.int32)
    entries = np.empty(start[n], dtype=np.float64)
    free = start[:-1].copy()
    for i in range(n):
        for slot in range(k):
            j = neighbours[i, slot]
            if j < 0:
                continue
            value = values[i, slot]
            other = _place(neighbours, j, i)
            if other >= 0:
                back = values[j, other]
                value = (value + back) / 2 if mean else max(value, back)
            elif mean:
                value = value / 2
            columns[free[i]] = j
            entries[free[i]] = value
            free[i] += 1
            if other < 0:
                columns[free[j]] = i
                entries[free[j]] = value
                free[j] += 1
    return start, columns, entries


@numba.njit(cache=True)
def facility_greedy(
    start: Any, rows: Any, values: Any, first: Any, order: Any, cover: Any, budget: int
) -> Any:
    """Pick the columns that cover most, one after another.

    Column j says what j covers, and `first` holds its first gain.

    `order` holds the columns that may be picked, largest gain first; those that were evaluated
    again wait in a heap. `cover`, what is covered already, is overwritten.
    """
    n = len(first)
    heap = _no_heap()
    evaluated = np.zeros(n, dtype=np.int64)
    picks, gains = np.empty(budget, dtype=np.int64), np.empty(budget)
    front = 0
    for step in range(budget):
        while True:
            from_heap = len(heap) > 0 and (
                front == len(order) or heap[0] < (-first[order[front]], order[front])
            )
            if from_heap:
                lowered, item = heappop(heap)
                gain = -lowered
            else:
                item = order[front]
                gain = first[item]
                front += 1
            if evaluated[item] == step:
                break
            gain = 0.0
            for entry in range(start[item], start[item + 1]):
                gain += max(values[entry] - cover[rows[entry]], 0.0)
            evaluated[item] = step
            heappush(heap, (-gain, item))
        picks[step], gains[step] = item, gain
        for entry in range(start[item], start[item + 1]):
            cover[rows[entry]] = max(cover[rows[entry]], values[entry])
    return picks, gains


@numba.njit(cache=True)
def pick_and_discount(
    start: Any,
    columns: Any,
    entries: Any,
    values: Any,
    order: Any,
    budget: int,
    by_value: bool,
    clamped: bool,
) -> Any:
    """Pick the largest value, lower its neighbours' values, and repeat.

    The picks and their values are returned.

    `order` holds all items, largest initial value first. Only items whose value has changed pass
    through the heap. `by_value`: neighbours lose entry * value of the pick (not below zero if
    `clamped`) instead of the entry. `values` is overwritten.
    """
    n = len(values)
    taken = np.zeros(n, dtype=np.bool_)
    waiting = np.zeros(n, dtype=np.bool_)  # in the heap, with a key that is not too small
    initial = values.copy()
    heap = _no_heap()
    picks, gains = np.empty(budget, dtype=np.int64), np.empty(budget)
    front = 0
    for step in range(budget):
        while True:
            while front < n and (taken[order[front]] or waiting[order[front]]):
                front += 1
            from_heap = len(heap) > 0 and (
                front == n or heap[0] < (-initial[order[front]], order[front])
            )
            if from_heap:
                negative, item = heappop(heap)
                key = -negative
                if taken[item]:
                    continue
            else:
                item = order[front]
                key = initial[item]
                front += 1
            if key == values[item]:
                break
            if key > values[item]:
                waiting[item] = True
                heappush(heap, (-values[item], item))
        taken[item] = True
        picks[step], gains[step] = item, values[item]
        scale = 1.0
        if by_value:
            scale = max(values[item], 0.0) if clamped else values[item]
        if scale == 0.0:
            continue
        for edge in range(start[item], start[item + 1]):
            other = columns[edge]
            if not taken[other]:
                lowered = values[other] - entries[edge] * scale
                if lowered > values[other]:
                    waiting[other] = True
                    heappush(heap, (-lowered, np.int64(other)))
                values[other] = lowered
    return picks, gains


@numba.njit(cache=True)
def improve_by_swaps(
    start: Any, columns: Any, entries: Any, gains: Any, chosen: Any, slack: float, most: int
) -> int:
    """Exchange a chosen and another item while that gains.

    An exchange must gain more than `slack`. The number of swaps is returned.

    Swapping c for u gains gains[u] - gains[c] + entry(u, c). `gains` = information minus the sum of
    the entries to chosen neighbours; both arrays are updated in place. Without more swaps than
    `most`, the end is a local optimum of all pairs.
    """
    n = len(gains)
    swaps = 0
    while True:
        before_round = swaps
        low, high = np.inf, -np.inf
        for i in range(n):
            if chosen[i]:
                low = min(low, gains[i])
            else:
                high = max(high, gains[i])
        # Only items that may take part: who loses least leaves, and who gains most enters.
        leaving, entering = _no_heap(), _no_heap()
        for i in range(n):
            if chosen[i] and gains[i] < high - slack:
                leaving.append((gains[i], i))
            elif not chosen[i] and gains[i] > low + slack:
                entering.append((-gains[i], i))
        heapify(leaving)
        heapify(entering)
        while swaps < most:
            while len(leaving) > 0:
                key, item = leaving[0]
                if chosen[item] and key == gains[item]:
                    break
                heappop(leaving)
                if chosen[item] and key < gains[item]:
                    heappush(leaving, (gains[item], item))
            while len(entering) > 0:
                key, item = entering[0]
                if not chosen[item] and key == -gains[item]:
                    break
                heappop(entering)
                if not chosen[item] and key < -gains[item]:
                    heappush(entering, (-gains[item], item))
            if len(leaving) == 0 or len(entering) == 0 or -entering[0][0] - leaving[0][0] <= slack:
                break
            leaves, enters = heappop(leaving)[1], heappop(entering)[1]
            _exchange(start, columns, entries, gains, chosen, leaves, enters)
            swaps += 1
            heappush(leaving, (gains[enters], enters))
            heappush(entering, (-gains[leaves], leaves))
            for edge in range(start[leaves], start[leaves + 1]):
                other = np.int64(columns[edge])
                if not chosen[other]:
                    heappush(entering, (-gains[other], other))
            for edge in range(start[enters], start[enters + 1]):
                other = np.int64(columns[edge])
                if chosen[other]:
                    heappush(leaving, (gains[other], other))
        for i in range(n):
            if not chosen[i]:
                continue
            for edge in range(start[i], start[i + 1]):
                other = columns[edge]
                better = gains[other] - gains[i] + entries[edge] > slack
                if not chosen[other] and better and swaps < most:
                    _exchange(start, columns, entries, gains, chosen, i, other)
                    swaps += 1
                    break
        if swaps == before_round or swaps >= most:
            return swaps


@numba.njit(cache=True)
def _exchange(
    start: Any, columns: Any, entries: Any, gains: Any, chosen: Any, leaves: int, enters: int
) -> None:
    chosen[leaves], chosen[enters] = False, True
    for edge in range(start[leaves], start[leaves + 1]):
        gains[columns[edge]] += entries[edge]
    for edge in range(start[enters], start[enters + 1]):
        gains[columns[edge]] -= entries[edge]
