"""Memorization: how much a model needs to see an example to get it right."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from tqdm import tqdm

from hardset.checks import check_integer, check_range
from selection.arrays import Array, Integers
from selection.pool import Scores
from selection.selector import check_seed, generator


def memorization(inside: ArrayLike, correct: ArrayLike) -> Scores:
    """P(correct on i | i in S) - P(correct on i | i not in S) over the training sets S of M models.

    Args:
        inside: whether model m was trained on example i, shape (M, n); bool, or 0 and 1.
        correct: whether it classifies i correctly, shape (M, n); bool, or 0 and 1.

    Raises:
        ValueError: shapes that differ, a value that is neither 0 nor 1, an example that all or no
            models were trained on.

    Source: Feldman and Zhang, arXiv:2008.03703, the subsampled estimator.
    """
    members, hits = _flags("inside", inside), _flags("correct", correct)
    if members.shape != hits.shape or members.ndim != 2:
        raise ValueError(
            f"inside has shape {members.shape} and correct {hits.shape}; both must be (M, n)"
        )
    seen = members.sum(axis=0)
    for count, word in ((seen, "no"), (len(members) - seen, "every")):
        if not np.all(count):
            raise ValueError(
                f"example {int(np.argmin(count))} is in {word} training set of the "
                f"{len(members)} models; more models are needed"
            )
    with_it = np.sum(hits & members, axis=0) / seen
    without = np.sum(hits & ~members, axis=0) / (len(members) - seen)
    return Scores.of(with_it - without, name="memorization", models=len(members))


def random_training_sets(n: int, models: int, fraction: float = 0.7, seed: int = 0) -> Array:
    """Which of n examples each of `models` models is trained on: floor(fraction n) at random.

    Args:
        n: number of examples.
        models: number of models, at least 2.
        fraction: share of the examples that each one sees, in (0, 1).
        seed: of the choice.

    Returns:
        Shape (models, n), bool.

    Raises:
        ValueError: an argument outside its range.
    """
    check_integer("models", models, 2, 10**6)
    check_range("fraction", fraction, 0.0, 1.0, open_low=True, open_high=True)
    check_seed(seed)
    count = int(np.floor(fraction * n))
    if not 1 <= count < n:
        raise ValueError(f"fraction = {fraction:g} of {n} examples is none or all of them")
    inside = np.zeros((models, n), dtype=bool)
    for model, row in enumerate(inside):
        row[generator(seed, model).choice(n, count, replace=False)] = True
    return inside


def train_on_random_subsets(
    train: Callable[[Integers, int], ArrayLike],
    n: int,
    *,
    models: int = 100,
    fraction: float = 0.7,
    seed: int = 0,
    progress: bool = False,
) -> Scores:
    """`memorization` of models that are trained here, each on a random part of the data.

    Args:
        train: takes the rows to train on and a model's number; returns whether the model it
            trained classifies each of the n examples correctly.
        n: number of examples.
        models: number of models, at least 2; with few of them an example may be in all training
            sets or in none.
        fraction: share of the examples that each one sees, in (0, 1).
        seed: of the training sets.
        progress: whether to show a bar on stderr.

    Raises:
        ValueError: an argument outside its range, an answer of `train` that is not n times 0 or 1;
            see `memorization`.
    """
    inside = random_training_sets(n, models, fraction, seed)
    correct = np.empty((models, n), dtype=bool)
    for model in tqdm(range(models), desc="models", disable=not progress):
        name = f"correct of model {model}"
        found = _flags(name, train(np.flatnonzero(inside[model]), model))
        if found.shape != (n,):
            raise ValueError(f"{name} has shape {found.shape}; it must be ({n},)")
        correct[model] = found
    return memorization(inside, correct)


def _flags(name: str, values: ArrayLike) -> Array:
    """The values as bool, if each is 0 or 1: NaN and probabilities would silently count as True."""
    array = np.asarray(values)
    if array.dtype.kind == "b":
        return array
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name} has dtype {array.dtype}; it must be 0 or 1, or False or True")
    flags: Array = array == 1
    broken = ~flags & (array != 0)
    if np.any(broken):
        index = tuple(int(i) for i in np.argwhere(broken)[0])
        place = index[0] if len(index) == 1 else index
        raise ValueError(
            f"{name} holds {array[index]} at index {place}; it must be 0 or 1, or False or True"
        )
    return flags
