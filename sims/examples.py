"""A user's own features and labels: read from files, checked, brought to one scale."""

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hardset.arrays import ArrayFileError, load_array

SMALLEST_ROW = 1e-290  # size of a row over the largest one that floating point still tells from 0


def load_arrays(features_path: str | Path, labels_path: str | Path) -> tuple[NDArray, NDArray]:
    """Read features (P, N) and labels (P,) from .npy files; pickled objects are refused.

    Raises:
        ValueError: a file is missing, not a .npy file, cut short, or of the wrong dimension.
    """
    return _load("features", features_path, 2), _load("labels", labels_path, 1)


def _load(name: str, path: str | Path, ndim: int) -> NDArray:
    try:
        array = load_array(path)
    except ArrayFileError as error:
        raise ValueError(f"{name} file {error}") from None
    if array.ndim != ndim:
        wanted = "(P, N)" if ndim == 2 else "(P,)"
        raise ValueError(f"{name} file {path} has shape {array.shape}; it must be {wanted}")
    return array


def signed_rows(features: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], int]:
    """Return the rows y_i x_i over 2**exponent, and that exponent.

    Args:
        features: examples x_i, shape (P, N), finite numbers.
        labels: y_i, shape (P,), either -1/+1 or 0/1.

    Raises:
        ValueError: wrong shapes, values that are not finite numbers, other labels.
    """
    matrix = _real("features", features)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(
            f"features has shape {matrix.shape}; it must be (P, N): "
            "at least one example (row) of at least one feature (column)"
        )
    signs = _signs(labels, matrix.shape[0])
    matrix, exponent = _scaled(matrix)
    return matrix * signs[:, None], exponent


def _real(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values)
    if array.dtype.kind not in "buif":
        raise ValueError(f"{name} has dtype {array.dtype}; it must hold real numbers")
    array = array.astype(np.float64)
    if not np.all(np.isfinite(array)):
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(
            f"{name} holds {array[index]} at index {index}; every value must be a finite number"
        )
    return array


def _scaled(matrix: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """The matrix over 2**exponent: compiled code takes numbers below 2.2e-308 for zero."""
    largest = np.max(np.abs(matrix), axis=1)
    exponent = int(np.frexp(np.max(largest))[1])
    scaled = np.ldexp(matrix, -exponent)
    lost = (largest > 0) & (largest < np.max(largest) * SMALLEST_ROW)
    if np.any(lost):
        row = int(np.flatnonzero(lost)[0])
        raise ValueError(
            f"features holds row {row} of size {largest[row]:.3g} beside one of size "
            f"{np.max(largest):.3g}; their ratio must be at least {SMALLEST_ROW:g}"
        )
    return scaled, exponent


def _signs(labels: ArrayLike, count: int) -> NDArray[np.float64]:
    values = _real("labels", labels)
    if values.shape != (count,):
        raise ValueError(
            f"labels has shape {values.shape}; it must be ({count},), one label per row of features"
        )
    if np.all(np.isin(values, (-1.0, 1.0))):
        return values
    if np.all(np.isin(values, (0.0, 1.0))):
        return 2.0 * values - 1.0
    strange = values[~np.isin(values, (-1.0, 0.0, 1.0))]
    found = f"{strange[0]:g}" if strange.size else "-1 and 0 together"
    raise ValueError(f"labels holds {found}; labels are either -1 and +1, or 0 and 1")
