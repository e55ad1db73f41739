"""Scores a classifier's output by how unsure or how wrong it is."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from hardset.checks import check_range
from selection.arrays import (
    Array,
    Floats,
    Integers,
    blocks,
    class_codes,
    host_array,
    real_numbers,
    real_rows,
)
from selection.pool import Scores

TWO_COLUMNS = (
    "of a classifier with a single logit z give the columns 0 and z, "
    "numpy.stack([0 * z, z], axis=-1)"
)


def stacked(name: str, values: ArrayLike) -> Array:
    """View numbers as an array of seeds, epochs, examples and classes.

    Numbers of shape (n, C), (T, n, C) or (S, T, n, C) become (S, T, n, C).

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
    """Raise ValueError unless logits have at least two classes."""
    if classes < 2:
        raise ValueError(f"logits has one class; at least two are needed: {TWO_COLUMNS}")


def checked_labels(labels: ArrayLike, count: int, classes: int) -> Integers:
    """Check the labels of `count` examples.

    They are 0 ... classes-1, or names, which stand for classes in sorted order.

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
    """Suggest a remedy for labels that do not begin at 0.

    Where no special remedy suggests itself, the text asks to number the labels from 0.
    """
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
    """Raise ValueError unless there are as many label names as classes."""
    if names != classes:
        raise ValueError(
            f"labels has {names} names, logits {classes} classes; names stand for the classes in "
            "sorted order and must be as many: give labels 0, 1, ... instead"
        )


def log_probabilities(logits: Array, first_row: int = 0) -> Floats:
    """Compute log softmax(logits) over the last axis, shape (n, C).

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
    """Compute p - onehot(y), shape (n, C)."""
    errors = np.exp(log_p)
    errors[np.arange(len(labels)), labels] = np.expm1(log_p[np.arange(len(labels)), labels])
    return errors


def label_statistics(
    logits: Array, labels: Integers, features: Array | None = None, first_row: int = 0
) -> dict[str, Array]:
    """Compute the fields of `TrainingDynamics` for one block of examples, each (n,).

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


def entropy(logits: ArrayLike) -> Scores:
    """Score by the entropy of the prediction.

    It is -sum_c p_c log p_c with p = softmax(logits), the mean over seeds and epochs.

    Args:
        logits: shape (n, C), (T, n, C) or (S, T, n, C).

    Raises:
        ValueError: another shape, NaN or infinity.
    """
    return _averaged("entropy", logits, lambda log_p: -np.sum(np.exp(log_p) * log_p, axis=1))


def margin(logits: ArrayLike) -> Scores:
    """Score by the gap between the two most likely classes, negated.

    It is -(p_1 - p_2), the mean over seeds and epochs.

    Args:
        logits: shape (n, C), (T, n, C) or (S, T, n, C), C at least 2.

    Raises:
        ValueError: another shape, NaN or infinity.
    """

    def top_two(log_p: Floats) -> Floats:
        second, first = np.partition(log_p, [-2, -1], axis=1)[:, -2:].T
        return np.exp(second) - np.exp(first)

    return _averaged("margin", logits, top_two)


def least_confidence(logits: ArrayLike) -> Scores:
    """Score by the doubt in the most likely class.

    It is 1 - p_1, the mean over seeds and epochs.

    Args:
        logits: shape (n, C), (T, n, C) or (S, T, n, C).

    Raises:
        ValueError: another shape, NaN or infinity.
    """
    return _averaged("least-confidence", logits, lambda log_p: -np.expm1(log_p.max(axis=1)))


def prediction_changes(logits: Array, before: Array, first_row: int = 0) -> Floats:
    """Measure how far predictions moved since the epoch before, shape (n,).

    It is sum_c abs(p_c (log p_c - log q_c)) with p = softmax(logits) and q = softmax(before).

    Args:
        logits: of an epoch, shape (n, C).
        before: of the epoch before, shape (n, C).
        first_row: number of the first example, for messages.

    Raises:
        ValueError: the first logit that is not finite.
    """
    log_p, log_q = (log_probabilities(one, first_row) for one in (logits, before))
    return np.asarray(np.sum(np.exp(log_p) * np.abs(log_p - log_q), axis=1))


def middle_perplexity(losses: ArrayLike, *, centre: float = 0.5) -> Scores:
    """Score by how near the rank of the perplexity is to a centre.

    It is -abs(q - centre), q in [0, 1] the rank quantile of the perplexity exp(loss).

    Examples whose perplexity is in the middle of the data have the highest score. Equal losses
    share their mean rank.

    Args:
        losses: mean negative log-likelihood of each example, shape (n,).
        centre: the quantile in the middle of the band, in [0, 1].

    Raises:
        ValueError: another shape, NaN or infinity, a centre outside its range.

    Source: Marion et al., When less is more, arXiv:2309.04564.
    """
    check_range("centre", centre, 0.0, 1.0)
    values = real_rows("losses", losses, ndim=(1,))
    from scipy.stats import rankdata  # half a second that a wrong option need not pay

    quantiles = (rankdata(values) - 1) / max(len(values) - 1, 1)
    return Scores.of(-np.abs(quantiles - centre), name="middle-perplexity", centre=centre)


def reducible_loss(losses: ArrayLike, holdout_losses: ArrayLike) -> Scores:
    """Score by what can be learned and is not learned yet.

    The score is loss - holdout loss.

    With the losses of one training early and late it is the learnability loss(early) - loss(late).

    Args:
        losses: of the model in training, or early in training, shape (n,).
        holdout_losses: of a model trained on other data, or late in training, shape (n,).

    Raises:
        ValueError: different lengths, NaN or infinity.

    Source: Mindermann et al., Prioritized training on points that are learnable, ICML 2022.
    """
    before = real_rows("losses", losses, ndim=(1,))
    after = real_rows("holdout_losses", holdout_losses, ndim=(1,))
    if len(before) != len(after):
        raise ValueError(
            f"the arrays have different lengths: losses {len(before)}, holdout_losses {len(after)}"
        )
    return Scores.of(before.astype(np.float64) - after, name="reducible-loss")


def _averaged(name: str, logits: ArrayLike, function: Callable[[Floats], Floats]) -> Scores:
    """Average a function of the log probabilities over seeds and epochs.

    The log probabilities have the shape (n, C).
    """
    values = stacked("logits", logits)
    seeds, epochs, count, classes = values.shape
    check_classes(classes)  # of one class entropy and the like are 0 everywhere
    total = np.zeros(count)
    for seed, epoch in np.ndindex(seeds, epochs):
        for rows in blocks(count, classes):
            total[rows] += function(log_probabilities(values[seed, epoch, rows], rows.start))
    return Scores.of(total / (seeds * epochs), name=name, seeds=seeds, epochs=epochs)
