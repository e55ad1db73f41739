"""A data set, split and then made harder: wrong labels, copies."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_integer
from selection.core.selector import generator
from selection.experiments.datasets import Dataset

__all__ = ["CONDITIONS", "Task", "make_task"]

CONDITIONS = ("clean", "noise", "duplicates")
WRONG = 0.2  # of the labels
COPIES = 5


@dataclass(frozen=True, eq=False)
class Task:
    """Training examples to select from, and a clean test set.

    Attributes:
        inputs: shape (n, d), standardised with the training set.
        labels: as given to the methods and the training, shape (n,).
        origin: number of the data set's example that each one is, shape (n,).
        test_inputs: shape (m, d).
        test_labels: shape (m,).
        classes: C.
    """

    inputs: NDArray[np.float32]
    labels: NDArray[np.int64]
    origin: NDArray[np.int64]
    test_inputs: NDArray[np.float32]
    test_labels: NDArray[np.int64]
    classes: int


def make_task(dataset: Dataset, condition: str, seed: int, train: int) -> Task:
    """Split, then spoil the training part.

    "noise" gives a fifth of the examples another class, uniformly; "duplicates" keeps a fifth of
    the examples, five copies of each, so that the pool's size stays. The same seed has the same
    split in all conditions.

    Args:
        dataset: the data.
        condition: one of CONDITIONS.
        seed: of the split and the noise, >= 0.
        train: training examples, a multiple of five; the others are the test set.

    Raises:
        ValueError: an unknown condition, or a size outside its range.
    """
    if condition not in CONDITIONS:
        raise ValueError(f"condition {condition!r} is not one of {', '.join(CONDITIONS)}")
    check_integer("train", train, COPIES, len(dataset.labels) - 1)
    if train % COPIES:
        raise ValueError(f"train = {train} is not a multiple of {COPIES}")
    order = generator(seed, 0).permutation(len(dataset.labels))
    rows, test = order[:train], order[train:]
    chance = generator(seed, 1)
    if condition == "duplicates":
        rows = np.repeat(rows[: train // COPIES], COPIES)
    labels = dataset.labels[rows]
    if condition == "noise":
        wrong = chance.permutation(train)[: int(WRONG * train)]
        labels = labels.copy()
        labels[wrong] += chance.integers(1, dataset.classes, len(wrong))
        labels %= dataset.classes
    inputs = dataset.inputs[rows]
    centre, spread = inputs.mean(axis=0), inputs.std(axis=0)
    # Columns that hardly vary are not blown up.
    scale = np.maximum(spread, np.sqrt(np.mean(spread**2)))
    return Task(
        (inputs - centre) / scale,
        labels,
        rows,
        (dataset.inputs[test] - centre) / scale,
        dataset.labels[test],
        dataset.classes,
    )
