"""Compiled greedy picks on a sparse symmetric graph, and swaps; import where Numba is needed."""

from typing import Any

import numba
import numpy as np


@numba.njit(cache=True, inline="always")
def before(key: float, item: int, other_key: float, other: int) -> bool:
    """Whether an entry stands above another one."""
    return key > other_key or (key == other_key and item < other)


@numba.njit(cache=True)
def _sink(keys: Any, items: Any, size: int, at: int) -> None:
    key, item = keys[at], items[at]
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        right = child + 1
        if right < size and before(keys[right], items[right], keys[child], items[child]):
            child = right
        if not before(keys[child], items[child], key, item):
            break
        keys[at], items[at] = keys[child], items[child]
        at = child
    keys[at], items[at] = key, item


@numba.njit(cache=True)
def heapify(keys: Any, items: Any, size: int) -> None:
    """Order the first `size` entries as a heap."""
    for at in range(size // 2 - 1, -1, -1):
        _sink(keys, items, size, at)


@numba.njit(cache=True)
def pop(keys: Any, items: Any, size: int) -> int:
    """Remove the top entry, which the caller has read; the new size."""
    size -= 1
    if size > 0:
        keys[0], items[0] = keys[size], items[size]
        _sink(keys, items, size, 0)
    return size


@numba.njit(cache=True)
def push(keys: Any, items: Any, size: int, key: float, item: int) -> Any:
    """Add an entry; the arrays, larger ones if they were full, and the new size."""
    if size == len(keys):
        room = max(2 * size, 1024)
        more_keys, more_items = np.empty(room, keys.dtype), np.empty(room, items.dtype)
        more_keys[:size], more_items[:size] = keys[:size], items[:size]
        keys, items = more_keys, more_items
    at = size
    while at > 0:
        parent = (at - 1) // 2
        if not before(key, item, keys[parent], items[parent]):
            break
        keys[at], items[at] = keys[parent], items[parent]
        at = parent
    keys[at], items[at] = key, item
    return keys, items, size + 1


@numba.njit(cache=True)
def _place(neighbours: Any, row: int, wanted: int) -> int:
    for slot in range(neighbours.shape[1]):
        if neighbours[row, slot] == wanted:
            return slot
    return -1


@numba.njit(cache=True)
def symmetrise(neighbours: Any, values: Any, mean: bool) -> Any:
    """Compressed rows of the symmetric matrix of an edge list: starts, columns, entries."""
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
    """Picks and gains; column j of the matrix says what j covers, `first` its first gain.

    `order` holds the columns that may be picked, largest gain first; those that were evaluated
    again wait in a heap. `cover`, what is covered already, is overwritten.
    """
    n = len(first)
    keys, items, size = np.empty(1024), np.empty(1024, dtype=np.int64), 0
    evaluated = np.zeros(n, dtype=np.int64)
    picks, gains = np.empty(budget, dtype=np.int64), np.empty(budget)
    front = 0
    for step in range(budget):
        while True:
            from_heap = size > 0 and (
                front == len(order) or before(keys[0], items[0], first[order[front]], order[front])
            )
            if from_heap:
                gain, item = keys[0], items[0]
                size = pop(keys, items, size)
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
            keys, items, size = push(keys, items, size, gain, item)
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
    """Pick the largest value, lower its neighbours' values, repeat: the picks and their values.

    `order` holds all items, largest initial value first. Only items whose value has changed pass
    through the heap. `by_value`: neighbours lose entry * value of the pick (not below zero if
    `clamped`) instead of the entry. `values` is overwritten.
    """
    n = len(values)
    taken = np.zeros(n, dtype=np.bool_)
    waiting = np.zeros(n, dtype=np.bool_)  # in the heap, with a key that is not too small
    initial = values.copy()
    keys, items, size = np.empty(1024), np.empty(1024, dtype=np.int64), 0
    picks, gains = np.empty(budget, dtype=np.int64), np.empty(budget)
    front = 0
    for step in range(budget):
        while True:
            while front < n and (taken[order[front]] or waiting[order[front]]):
                front += 1
            from_heap = size > 0 and (
                front == n or before(keys[0], items[0], initial[order[front]], order[front])
            )
            if from_heap:
                key, item = keys[0], items[0]
                size = pop(keys, items, size)
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
                keys, items, size = push(keys, items, size, values[item], item)
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
                    keys, items, size = push(keys, items, size, lowered, other)
                values[other] = lowered
    return picks, gains


@numba.njit(cache=True)
def improve_by_swaps(
    start: Any, columns: Any, entries: Any, gains: Any, chosen: Any, slack: float, most: int
) -> int:
    """Exchange a chosen and another item while that gains more than `slack`: number of swaps.

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
        # Only what may take part: those in are sorted by -gain, those out by gain.
        count_in, count_out = 0, 0
        for i in range(n):
            if chosen[i]:
                count_in += gains[i] < high - slack
            else:
                count_out += gains[i] > low + slack
        in_keys, in_items = np.empty(count_in + 1), np.empty(count_in + 1, dtype=np.int64)
        out_keys, out_items = np.empty(count_out + 1), np.empty(count_out + 1, dtype=np.int64)
        ins, outs = 0, 0
        for i in range(n):
            if chosen[i] and gains[i] < high - slack:
                in_keys[ins], in_items[ins] = -gains[i], i
                ins += 1
            elif not chosen[i] and gains[i] > low + slack:
                out_keys[outs], out_items[outs] = gains[i], i
                outs += 1
        heapify(in_keys, in_items, ins)
        heapify(out_keys, out_items, outs)
        while swaps < most:
            while ins > 0:
                item, key = in_items[0], in_keys[0]
                if chosen[item] and key == -gains[item]:
                    break
                ins = pop(in_keys, in_items, ins)
                if chosen[item] and key > -gains[item]:
                    in_keys, in_items, ins = push(in_keys, in_items, ins, -gains[item], item)
            while outs > 0:
                item, key = out_items[0], out_keys[0]
                if not chosen[item] and key == gains[item]:
                    break
                outs = pop(out_keys, out_items, outs)
                if not chosen[item] and key > gains[item]:
                    out_keys, out_items, outs = push(out_keys, out_items, outs, gains[item], item)
            if ins == 0 or outs == 0 or out_keys[0] + in_keys[0] <= slack:
                break
            leaves, enters = in_items[0], out_items[0]
            ins, outs = pop(in_keys, in_items, ins), pop(out_keys, out_items, outs)
            _exchange(start, columns, entries, gains, chosen, leaves, enters)
            swaps += 1
            in_keys, in_items, ins = push(in_keys, in_items, ins, -gains[enters], enters)
            out_keys, out_items, outs = push(out_keys, out_items, outs, gains[leaves], leaves)
            for edge in range(start[leaves], start[leaves + 1]):
                other = columns[edge]
                if not chosen[other]:
                    out_keys, out_items, outs = push(out_keys, out_items, outs, gains[other], other)
            for edge in range(start[enters], start[enters + 1]):
                other = columns[edge]
                if chosen[other]:
                    in_keys, in_items, ins = push(in_keys, in_items, ins, -gains[other], other)
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
