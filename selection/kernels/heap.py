"""A binary heap of (key, item), largest key first, then the smaller item; compiled.

Entries may be out of date: callers compare the key with the item's present value.
"""

from typing import Any

import numba
import numpy as np

__all__ = ["before", "heapify", "pop", "push"]


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
