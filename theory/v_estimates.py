"""Estimates V-information on finite data.

It compares held-out log-likelihoods with and without the input.
"""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from numpy.typing import NDArray

from hardset.checks import check_integer, check_range, is_concrete, real_array
from hardset.float64 import Float64Array, float64
from hardset.pytree import STATIC, pytree_dataclass

# How far a row's probabilities may sum from 1. Single precision errs by 1e-6 and passes; half
# precision does not.
_NORMALISATION = 1e-4


@pytree_dataclass
class VInformationEstimate:
    """An estimate of V-information on held-out examples, in nats.

    It is I_V = H_V(Y|empty) - H_V(Y|X) of a fitted family. Standard errors are those of the means
    over examples, or over clusters where they are given. That of `information` is paired: what both
    sides find hard or easy cancels. They tell how far the numbers are from those of infinitely many
    held-out examples, for the family as it was fitted. They do not tell how far a fitted family is
    from the best one.

    Attributes:
        information: I_V; negative where the fitted family predicts worse than the labels alone.
        information_stderr: its standard error.
        conditional_entropy: H_V(Y|X), the mean of minus the log-likelihood given the input.
        conditional_entropy_stderr: its standard error.
        empty_entropy: H_V(Y|empty), the same without the input.
        empty_entropy_stderr: its standard error.
        pointwise: pointwise V-information of each example, shape (n,); its mean is `information`.
        independent: number of independent units that the standard errors count.
    """

    information: Float64Array
    information_stderr: Float64Array
    conditional_entropy: Float64Array
    conditional_entropy_stderr: Float64Array
    empty_entropy: Float64Array
    empty_entropy_stderr: Float64Array
    pointwise: Float64Array
    independent: int = dataclasses.field(metadata=STATIC)


@float64
def estimate_v_information(
    log_likelihood: ArrayLike, empty_log_likelihood: ArrayLike, *, clusters: Any = None
) -> VInformationEstimate:
    """Estimate V-information from log-likelihoods with and without the input.

    It is the mean of log f[x](y) - log g(y) over held-out examples, with f fitted with the input
    and g without it. The examples must not have been used to fit f or g: on the training data the
    family's capacity to memorise counts as information. The definition is that of Xu et al. 2020,
    arXiv:2002.10689, the pointwise form that of Ethayarajh, Choi, Swayamdipta 2022,
    arXiv:2110.08420.

    Args:
        log_likelihood: log f[x_i](y_i) in nats, a probability's or a density's, shape (n,), n >= 2.
        empty_log_likelihood: log g(y_i), shape (n,).
        clusters: what example i belongs to, shape (n,), numbers or names: examples of one cluster
            (patient, video) may depend on each other, and the standard errors allow for it.

    Returns:
        The estimate.

    Raises:
        ValueError: shapes that differ, fewer than two examples or clusters, NaN, an infinite
            log-likelihood.
    """
    given = _log_likelihoods("log_likelihood", log_likelihood)
    empty = _log_likelihoods("empty_log_likelihood", empty_log_likelihood)
    return _estimate(given, empty, clusters)


@float64
def classifier_v_information(
    log_probs: ArrayLike,
    labels: ArrayLike,
    *,
    empty_log_probs: ArrayLike | None = None,
    training_labels: ArrayLike | None = None,
    clusters: Any = None,
) -> VInformationEstimate:
    """Estimate a classifier's V-information from its log-probabilities.

    See `estimate_v_information`. The examples are held out. One of `empty_log_probs` and
    `training_labels` gives the side without the input.

    Args:
        log_probs: log-probabilities given the input, shape (n, classes), n >= 2; every row's
            probabilities sum to 1 within 1e-4.
        labels: observed classes, integers in [0, classes), shape (n,).
        empty_log_probs: log-probabilities of the family fitted without the input, shape
            (classes,), or (n, classes).
        training_labels: classes of the training examples, integers, shape (m,): the side without
            the input predicts their frequencies, the best prediction that they allow.
        clusters: as in `estimate_v_information`.

    Returns:
        The estimate.

    Raises:
        ValueError: shapes that do not fit, fewer than two examples or clusters, NaN, positive or
            unnormalised log-probabilities, a label outside its range, or one that was observed
            with probability 0.
    """
    probs = _log_probabilities("log_probs", log_probs, (2,))
    count, classes = probs.shape
    observed = _labels("labels", labels, classes)
    if observed.shape != (count,):
        raise ValueError(
            f"labels have the shape {observed.shape}; log_probs {probs.shape} need ({count},)"
        )
    if (empty_log_probs is None) == (training_labels is None):
        raise ValueError(
            "the side without the input needs one of empty_log_probs and training_labels"
        )
    if training_labels is not None:
        empty = _log_frequencies(_labels("training_labels", training_labels, classes), classes)
    else:
        assert empty_log_probs is not None
        empty = _log_probabilities("empty_log_probs", empty_log_probs, (1, 2))
    if empty.shape not in ((classes,), (count, classes)):
        raise ValueError(
            f"empty_log_probs have the shape {empty.shape}; log_probs {probs.shape} need "
            f"({classes},) or ({count}, {classes})"
        )
    source = "empty_log_probs" if training_labels is None else "frequency in training_labels"
    return _estimate(
        _of_label("log_probs", probs, observed),
        _of_label(source, empty, observed),
        clusters,
    )


@float64
def gaussian_v_information(
    squared_error: ArrayLike,
    empty_squared_error: ArrayLike,
    size: int,
    *,
    variance: ArrayLike | Literal["fitted"] = 1.0,
    clusters: Any = None,
) -> VInformationEstimate:
    """Estimate V-information from squared errors with and without the input.

    The family is N(m(x), v I), with H_V = (size/2) log(2 pi v) + E norm(y - m)^2/(2 v). At a fixed
    v, I_V is half the part of the squared deviation that the input explains, over v (Xu et al.
    2020, arXiv:2002.10689). At the fitted v of each side, v = E norm(y - m)^2/size, it is
    (size/2) log(v_empty/v_x).

    Args:
        squared_error: norm(y_i - m(x_i))^2 of held-out examples, sums over the components, shape
            (n,), n >= 2.
        empty_squared_error: norm(y_i - m)^2 with the m that is predicted without the input,
            shape (n,).
        size: components of y, >= 1.
        variance: v > 0 of every component, or "fitted": for either side the one that suits these
            examples best; the standard error is then that of the delta method.
        clusters: as in `estimate_v_information`.

    Returns:
        The estimate.

    Raises:
        ValueError: an argument outside its range, shapes that differ, fewer than two examples or
            clusters.
    """
    check_integer("size", size, 1, np.inf)
    given = _gaussian("squared_error", squared_error, size, variance)
    empty = _gaussian("empty_squared_error", empty_squared_error, size, variance)
    return _estimate(given, empty, clusters)


@float64
def reconstruction_v_information(
    targets: ArrayLike,
    reconstructions: ArrayLike,
    *,
    empty: ArrayLike | None = None,
    variance: ArrayLike | Literal["fitted"] = 1.0,
    clusters: Any = None,
) -> VInformationEstimate:
    """Estimate V-information from reconstructions, as those of a masked autoencoder.

    It is `gaussian_v_information` of their squared errors.

    Args:
        targets: what is predicted, shape (n, ...), n >= 2; only the components that are predicted
            (the masked patches), as many for every example.
        reconstructions: predictions given the input, same shape.
        empty: prediction without the input, the shape of one target or of its last axes: the mean
            of the training targets. Default: the mean over these examples, so that H_V(Y|empty) is
            that of their marginal variance.
        variance: as in `gaussian_v_information`.
        clusters: as in `estimate_v_information`.

    Returns:
        The estimate.

    Raises:
        ValueError: shapes that do not fit, NaN, or as in `gaussian_v_information`.
    """
    y, predicted = _real("targets", targets), _real("reconstructions", reconstructions)
    if y.ndim == 0 or predicted.shape != y.shape:
        raise ValueError(
            f"targets have the shape {y.shape} and reconstructions {predicted.shape}; both need "
            "(n, ...)"
        )
    if y.shape[0] == 0:
        raise ValueError("targets are empty")
    if empty is None:
        centre = y.mean(axis=0)
    else:
        centre = _real("empty", empty)
        if centre.shape != y.shape[y.ndim - centre.ndim :]:
            raise ValueError(f"empty has the shape {centre.shape}; targets have {y.shape}")
    components = tuple(range(1, y.ndim))
    return gaussian_v_information(
        ((y - predicted) ** 2).sum(axis=components),
        ((y - centre) ** 2).sum(axis=components),
        int(np.prod(y.shape[1:])),
        variance=variance,
        clusters=clusters,
    )


def _estimate(given: Float64Array, empty: Float64Array, clusters: Any) -> VInformationEstimate:
    if given.shape != empty.shape:
        raise ValueError(
            f"the log-likelihoods with and without the input have the shapes {given.shape} and "
            f"{empty.shape}; both need (n,)"
        )
    count = given.shape[0]
    names, codes = np.arange(count), np.arange(count)
    if clusters is not None:
        found = np.asarray(clusters)
        if found.shape != (count,):
            raise ValueError(f"clusters have the shape {found.shape}; they need ({count},)")
        names, codes = np.unique(found, return_inverse=True)
    if len(names) < 2:
        unit = "examples" if clusters is None else "clusters"
        raise ValueError(f"number of {unit} = {len(names)}; a standard error needs at least 2")

    def mean(values: Float64Array) -> tuple[Float64Array, Float64Array]:
        average = values.mean()
        sums = _sums(values - average, codes, len(names))
        variance = len(names) / (len(names) - 1) * (sums**2).sum() / count**2
        return average, variance**0.5

    return VInformationEstimate(
        *mean(given - empty), *mean(-given), *mean(-empty), given - empty, independent=len(names)
    )


def _sums(values: Float64Array, codes: NDArray[np.intp], groups: int) -> Float64Array:
    """Return the sums of the values in each group."""
    if isinstance(values, np.ndarray):
        sums: NDArray[Any] = np.bincount(codes, weights=values, minlength=groups)
        return sums
    return jax.ops.segment_sum(values, codes, num_segments=groups)


def _gaussian(name: str, squared_error: Any, size: int, variance: Any) -> Float64Array:
    """Return the log-likelihoods of a spherical Gaussian with the given squared errors."""
    check_range(name, squared_error, 0.0, np.inf)
    squares = _vector(name, _numbers(name, squared_error))
    if isinstance(variance, str):
        if variance != "fitted":
            raise ValueError(f"variance = {variance!r} is not a number > 0 or 'fitted'")
        variance = squares.mean() / size
        if is_concrete(variance) and variance == 0:
            raise ValueError(f"{name} = 0 for every example: no variance can be fitted")
    else:
        check_range("variance", variance, 0.0, np.inf, open_low=True)
        variance = _real("variance", variance)
        if variance.ndim:
            raise ValueError(f"variance has the shape {variance.shape}; it is one number")
    log = np.log if is_concrete(variance) else jnp.log
    return -(size * log(2 * np.pi * variance) + squares / variance) / 2


def _real(name: str, value: Any) -> Float64Array:
    check_range(name, value, -np.inf, np.inf)
    return _numbers(name, value)


def _numbers(name: str, value: Any) -> Float64Array:
    """Convert numbers to a NumPy array, and a tracer to double precision.

    NumPy needs no compilation.
    """
    return real_array(name, value) if is_concrete(value) else jnp.asarray(value, jnp.float64)


def _vector(name: str, values: Float64Array) -> Float64Array:
    if values.ndim != 1:
        raise ValueError(f"{name} has the shape {values.shape}; it needs (n,)")
    return values


def _log_likelihoods(name: str, value: Any) -> Float64Array:
    _check_possible(name, value)
    return _vector(name, _real(name, value))


def _log_probabilities(name: str, value: Any, dimensions: tuple[int, ...]) -> Float64Array:
    # A class of probability 0 is no fault of its row.
    check_range(
        name,
        np.maximum(real_array(name, value), -1e300) if is_concrete(value) else value,
        -np.inf,
        np.inf,
    )
    probs = _numbers(name, value)
    if probs.ndim not in dimensions or probs.shape[-1] == 0:
        needed = " or ".join(["(classes,)", "(n, classes)"][k - 1] for k in dimensions)
        raise ValueError(f"{name} has the shape {probs.shape}; it needs {needed}")
    if is_concrete(probs) and probs.size:
        highest = tuple(int(i) for i in np.unravel_index(np.argmax(probs), probs.shape))
        if probs[highest] > _NORMALISATION:
            raise ValueError(
                f"{name} = {probs[highest]:.6g} at index {highest} is positive, no logarithm of a "
                "probability; take log_softmax of logits"
            )
        sums = np.atleast_1d(np.exp(probs).sum(axis=-1))
        row = int(np.argmax(np.abs(sums - 1)))
        if abs(sums[row] - 1) > _NORMALISATION:
            raise ValueError(
                f"{name}: the probabilities of row {row} sum to {sums[row]:.6g}, not to 1; take "
                "log_softmax of logits"
            )
    return probs


def _labels(name: str, value: Any, classes: int) -> Any:
    check_range(name, value, 0, classes - 1)
    labels = np.asarray(value) if is_concrete(value) else jnp.asarray(value)
    if labels.dtype.kind not in "biu" or labels.ndim != 1:
        raise ValueError(
            f"{name} are {labels.dtype} of the shape {labels.shape}; integers (n,) are needed"
        )
    return labels.astype(int)


def _log_frequencies(labels: Any, classes: int) -> Float64Array:
    if labels.size == 0:
        raise ValueError("training_labels are empty; frequencies need at least one")
    counts = np.bincount(np.asarray(labels), minlength=classes)
    with np.errstate(divide="ignore"):
        return np.log(counts / labels.size)


def _of_label(name: str, probs: Float64Array, labels: Any) -> Float64Array:
    numbers: Any = np if is_concrete(probs) and is_concrete(labels) else jnp
    if probs.ndim == 1:
        chosen = numbers.take(probs, labels)
    else:
        chosen = numbers.take_along_axis(probs, labels[:, None], axis=1)[:, 0]
    _check_possible(name, chosen)
    return chosen


def _check_possible(name: str, value: Any) -> None:
    if is_concrete(value) and np.any(np.isneginf(real_array(name, value))):
        index = int(np.argmin(np.ravel(value)))
        raise ValueError(
            f"{name} of example {index} is log 0: what was observed had probability 0, and the "
            "entropy is infinite; smooth the probabilities"
        )
