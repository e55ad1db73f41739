"""Class labels as users have them: whole numbers, or names."""

import numpy as np
from numpy.typing import ArrayLike

from selection.core.arrays import Array, Integers, check_unmasked, whole_numbers
from selection.core.tensors import host_array

__all__ = ["class_codes"]


def class_codes(name: str, labels: ArrayLike) -> tuple[Integers, Array | None]:
    """Labels as whole numbers.

    Args:
        name: the argument's name, as the user wrote it.
        labels: whole numbers, which stay as they are, or strings, shape (n,).

    Returns:
        The numbers, shape (n,), and the distinct names in sorted order, of which they are the
        positions; None instead of names for labels that are numbers.

    Raises:
        ValueError: another shape, a value that is neither, with its index.
    """
    values = host_array(labels)
    check_unmasked(name, values)
    array = np.asarray(values)
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8")
    if array.dtype.kind == "O" and array.ndim == 1 and len(array):
        array = _of_objects(name, array)
    if array.ndim == 1 and len(array) and array.dtype == np.int64:
        return array, None  # without a copy
    if array.dtype.kind not in "UT" or array.ndim != 1 or len(array) == 0:
        return whole_numbers(name, array), None
    names, codes = np.unique(array.astype(np.str_), return_inverse=True)
    return codes.astype(np.int64), names


def _of_objects(name: str, array: Array) -> Array:
    """Strings or numbers out of an array of Python objects, which must be all of one kind."""
    texts = [isinstance(one, str) for one in array]
    numbers = [isinstance(one, int | float | np.number | np.bool_) for one in array]
    kinds = texts if any(texts) else numbers
    if not all(kinds):
        index = kinds.index(False)
        raise ValueError(
            f"{name} holds {array[index]!r} at index {index}; labels must be all whole numbers or "
            "all strings"
        )
    return array.astype(np.str_) if any(texts) else np.asarray(array.tolist())
