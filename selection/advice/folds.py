"""Cuts the rows of a table into folds that have their share of each class."""

import numpy as np

from selection.arrays import Integers


def fold_numbers(
    codes: Integers, folds: int, random: np.random.Generator, groups: Integers | None = None
) -> Integers:
    """Deal rows into random folds that have their share of each class.

    Without groups the rows of a class in two folds differ by at most one, and so do all rows. With
    groups a fold gets whole ones: class by class the largest first, to the fold with fewest rows.

    Args:
        codes: class positions, shape (n,).
        folds: number of folds.
        random: draws.
        groups: group positions, shape (n,); a group counts for the class of most of its rows.

    Returns:
        The fold of each row, shape (n,).
    """
    if groups is not None:
        return _dealt_groups(codes, folds, random, groups)[groups]
    order = random.permutation(len(codes))
    dealt = order[np.argsort(codes[order], kind="stable")]
    numbers = np.empty(len(codes), np.int64)
    numbers[dealt] = np.arange(len(codes)) % folds
    return numbers


def _dealt_groups(
    codes: Integers, folds: int, random: np.random.Generator, groups: Integers
) -> Integers:
    """Return the fold of each group."""
    classes = int(codes.max()) + 1
    table = np.zeros((int(groups.max()) + 1, classes), np.int64)
    np.add.at(table, (groups, codes), 1)
    sizes, main = table.sum(axis=1), table.argmax(axis=1)
    order = random.permutation(len(table))
    order = order[np.lexsort((-sizes[order], main[order]))]
    numbers, held = np.empty(len(table), np.int64), np.zeros((classes, folds), np.int64)
    whole = np.zeros(folds, np.int64)
    for group in order:
        one = main[group]
        # Of folds with equally many rows of the class that with fewest rows at all.
        fold = int(np.lexsort((whole, held[one]))[0])
        numbers[group] = fold
        held[one, fold] += sizes[group]
        whole[fold] += sizes[group]
    return numbers
