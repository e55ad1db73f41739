"""Cuts the rows of a table into folds that have their share of each class."""

import numpy as np

from selection.arrays import Integers


def fold_numbers(codes: Integers, folds: int, random: np.random.Generator) -> Integers:
    """Deal rows into random folds that have their share of each class.

    The rows of a class in two folds differ by at most one, and so do all rows.

    Args:
        codes: class positions, shape (n,).
        folds: number of folds.
        random: draws.

    Returns:
        The fold of each row, shape (n,).
    """
    order = random.permutation(len(codes))
    dealt = order[np.argsort(codes[order], kind="stable")]
    numbers = np.empty(len(codes), np.int64)
    numbers[dealt] = np.arange(len(codes)) % folds
    return numbers
