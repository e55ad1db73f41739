"""Compiled loops over neighbour lists; import it where Numba is needed, not before."""

from typing import Any

import numba
import numpy as np

__all__ = ["symmetrise"]


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
