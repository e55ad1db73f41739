"""Scores of a classifier's output: how unsure it is, or how wrong."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from hardset.checks import check_range
from selection.core.arrays import Floats, blocks, real_rows
from selection.core.scores import Scores
from selection.scoring.logits import check_classes, log_probabilities, stacked

__all__ = ["entropy", "least_confidence", "margin", "middle_perplexity", "reducible_loss"]


def entropy(logits: ArrayLike) -> Scores:
    """-sum_c p_c log p_c, p = softmax(logits), mean over seeds and epochs.

    Args:
        logits: shape (n, C), (T, n, C) or (S, T, n, C).

    Raises:
        ValueError: another shape, NaN or infinity.
    """
    return _averaged("entropy", logits, lambda log_p: -np.sum(np.exp(log_p) * log_p, axis=1))


def margin(logits: ArrayLike) -> Scores:
    """-(p_1 - p_2) of the two most likely classes, mean over seeds and epochs.

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
    """1 - p_1 of the most likely class, mean over seeds and epochs.

    Args:
        logits: shape (n, C), (T, n, C) or (S, T, n, C).

    Raises:
        ValueError: another shape, NaN or infinity.
    """
    return _averaged("least-confidence", logits, lambda log_p: -np.expm1(log_p.max(axis=1)))


def middle_perplexity(losses: ArrayLike, *, centre: float = 0.5) -> Scores:
    """-abs(q - centre), q in [0, 1] the rank quantile of the perplexity exp(loss).

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
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(sizes) - (sizes + 1) / 2
    quantiles = middle[group] / max(len(values) - 1, 1)
    return Scores.of(-np.abs(quantiles - centre), name="middle-perplexity", centre=centre)


def reducible_loss(losses: ArrayLike, holdout_losses: ArrayLike) -> Scores:
    """loss - holdout loss: what can be learned of an example and is not learned yet.

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
    """Mean over seeds and epochs of a function of the log probabilities (n, C)."""
    values = stacked("logits", logits)
    seeds, epochs, count, classes = values.shape
    check_classes(classes)  # of one class entropy and the like are 0 everywhere
    total = np.zeros(count)
    for seed, epoch in np.ndindex(seeds, epochs):
        for rows in blocks(count, classes):
            total[rows] += function(log_probabilities(values[seed, epoch, rows], rows.start))
    return Scores.of(total / (seeds * epochs), name=name, seeds=seeds, epochs=epochs)
