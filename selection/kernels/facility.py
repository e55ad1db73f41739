"""Compiled lazy greedy of sparse facility location; import where Numba is needed."""

from typing import Any

import numba
import numpy as np

from selection.kernels.heap import before, pop, push

__all__ = ["facility_greedy"]


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
