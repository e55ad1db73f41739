"""Quantities of a classifier's logits, block by block."""

import numpy as np
from numpy.typing import ArrayLike

from selection.core.arrays import Array, Floats, Integers, real_numbers
from selection.core.labels import class_codes
from selection.core.tensors import host_array

__all__ = [
    "check_classes",
    "check_names",
    "checked_labels",
    "error_vectors",
    "label_statistics",
    "log_probabilities",
    "stacked",
]

TWO_COLUMNS = (
    "of a classifier with a single logit z give the columns 0 and z, "
    "numpy.stack([0 * z, z], axis=-1)"
)


def stacked(name: str, values: ArrayLike) -> Array:
    """Numbers of shape (n, C), (T, n, C) or (S, T, n, C) as (S, T, n, C), without a copy.

    Raises:
        ValueError: another number of axes, an axis of length 0, no real numbers.
    """
    array = real_numbers(name, host_array(values))
    if array.ndim not in (2, 3, 4) or 0 in array.shape:
        raise ValueError(
            f"{name} has shape {array.shape}; it must be (n, C), (T, n, C) or (S, T, n, C): "
            "seeds, epochs, examples, classes, none of them 0"
            + (f"; {TWO_COLUMNS}" if name == "logits" and array.ndim == 1 else "")
        )
    return array.reshape((1,) * (4 - array.ndim) + array.shape)


def check_classes(classes: int) -> None:
    """Raise ValueError unless logits have two classes at least."""
    if classes < 2:
        raise ValueError(f"logits has one class; at least two are needed: {TWO_COLUMNS}")


def checked_labels(labels: ArrayLike, count: int, classes: int) -> Integers:
    """Labels 0 ... classes-1 of `count` examples; names stand for the classes in sorted order.

    Raises:
        ValueError: another length, more or fewer names than classes, or the first label that is
            no class.
    """
    check_classes(classes)
    found, names = class_codes("labels", labels)
    if names is not None:
        check_names(len(names), classes)
    if len(found) != count:
        raise ValueError(f"the arrays have different lengths: labels {len(found)}, logits {count}")
    outside = (found < 0) | (found >= classes)
    if np.any(outside):
        index = int(np.argmax(outside))
        raise ValueError(
            f"labels holds {found[index]} at index {index}; the logits have the classes 0 to "
            f"{classes - 1}{_remedy(found, classes)}"
        )
    return found


def _remedy(labels: Integers, classes: int) -> str:
    """What to do about labels that do not begin at 0, where one thing suggests itself."""
    low, high = int(labels.min()), int(labels.max())
    count = len(np.unique(labels))
    if high - low < classes and (low < 0 or high - low + 1 == classes):
        shift = f"labels - {low}" if low > 0 else f"labels + {-low}"
        return f", and the labels go from {low} to {high}: give {shift}"
    if count == classes:
        return (
            ", and the labels have as many values: where the columns are in their order, give "
            "numpy.unique(labels, return_inverse=True)[1]"
        )
    return "; number the labels as the logits' columns, from 0"


def check_names(names: int, classes: int) -> None:
    """Raise ValueError unless there are as many names of labels as classes of the logits."""
    if names != classes:
        raise ValueError(
            f"labels has {names} names, logits {classes} classes; names stand for the classes in "
            "sorted order and must be as many: give labels 0, 1, ... instead"
        )


def log_probabilities(logits: Array, first_row: int = 0) -> Floats:
    """log softmax(logits) over the last axis, shape (n, C).

    Raises:
        ValueError: the first logit that is not finite, its row counted from `first_row`.
    """
    values = np.asarray(logits, dtype=np.float64)
    if not np.all(np.isfinite(values)):
        row, column = (int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise ValueError(
            f"logits holds {values[row, column]} for example {first_row + row}, class {column}; "
            "every value must be a finite number"
        )
    shifted = values - values.max(axis=-1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))


def error_vectors(log_p: Floats, labels: Integers) -> Floats:
    """p - onehot(y), shape (n, C)."""
    errors = np.exp(log_p)
    errors[np.arange(len(labels)), labels] = np.expm1(log_p[np.arange(len(labels)), labels])
    return errors


def label_statistics(
    logits: Array, labels: Integers, features: Array | None = None, first_row: int = 0
) -> dict[str, Array]:
    """The fields of `TrainingDynamics` for one block of examples, each of shape (n,).

    Args:
        logits: shape (n, C), C at least 2.
        labels: shape (n,), classes of the logits.
        features: penultimate features, shape (n, d).
        first_row: number of the first example, for messages.

    Raises:
        ValueError: the first logit or feature that is not finite.
    """
    log_p = log_probabilities(logits, first_row)
    rows = np.arange(len(labels))
    own = np.asarray(logits, dtype=np.float64)[rows, labels]
    others = np.array(logits, dtype=np.float64)
    others[rows, labels] = -np.inf
    margins = own - others.max(axis=1)
    norms = np.linalg.norm(error_vectors(log_p, labels), axis=1)
    found = {
        "losses": -log_p[rows, labels],
        "probabilities": np.exp(log_p[rows, labels]),
        "margins": margins,
        "error_norms": norms,
        # Not argmax: it gives ties to the first class, and the classes' order must not count.
        "correct": margins > 0,
    }
    if features is not None:
        hidden = np.asarray(features, dtype=np.float64)
        if not np.all(np.isfinite(hidden)):
            row, column = (int(i) for i in np.argwhere(~np.isfinite(hidden))[0])
            raise ValueError(
                f"features holds {hidden[row, column]} for example {first_row + row}, column "
                f"{column}; every value must be a finite number"
            )
        found["gradient_norms"] = norms * np.sqrt(1 + np.einsum("ij,ij->i", hidden, hidden))
    return found
