"""Says which rows a policy keeps of a real table, by the margins of students."""

from collections.abc import Callable

import numpy as np

from hardset.checks import check_choice
from selection.arrays import Floats, Integers

# Down these fractions a path is tested until the first that is not certified.
FRACTIONS = (0.7, 0.5, 0.35, 0.25, 0.18, 0.125, 0.09, 0.06, 0.04)
Rule = Callable[[Floats, Floats, int, np.random.Generator], Integers]


def _hard(margins: Floats, signed: Floats, count: int, random: np.random.Generator) -> Integers:
    return np.argsort(margins, kind="stable")[:count]


def _mixture(margins: Floats, signed: Floats, count: int, random: np.random.Generator) -> Integers:
    order = np.argsort(margins, kind="stable")
    hardest = (count + 1) // 2
    rest = random.choice(order[hardest:], count - hardest, replace=False)
    return np.concatenate([order[:hardest], rest])


def _random(margins: Floats, signed: Floats, count: int, random: np.random.Generator) -> Integers:
    return random.choice(len(margins), count, replace=False)


def _easy(margins: Floats, signed: Floats, count: int, random: np.random.Generator) -> Integers:
    return np.argsort(-margins, kind="stable")[:count]


def _moderate(margins: Floats, signed: Floats, count: int, random: np.random.Generator) -> Integers:
    return np.argsort(np.abs(margins - np.median(margins)), kind="stable")[:count]


def _hard_signed(
    margins: Floats, signed: Floats, count: int, random: np.random.Generator
) -> Integers:
    return np.argsort(signed, kind="stable")[:count]


def _easy_signed(
    margins: Floats, signed: Floats, count: int, random: np.random.Generator
) -> Integers:
    return np.argsort(-signed, kind="stable")[:count]


# What each one keeps, for a reader who has not met it.
MEANINGS = {
    "hard": "the rows of smallest absolute margin",
    "mixture": "half of them the rows of smallest absolute margin, half at random",
    "random": "rows at random",
    "easy": "the rows of largest absolute margin",
    "moderate": "the rows whose absolute margin is nearest to the median",
    "hard-signed": "the rows of smallest margin to their own label, wrong ones first",
    "easy-signed": "the rows of largest margin to their own label",
}
_RULES: dict[str, Rule] = {
    "hard": _hard,
    "mixture": _mixture,
    "random": _random,
    "easy": _easy,
    "moderate": _moderate,
    "hard-signed": _hard_signed,
    "easy-signed": _easy_signed,
}


def kept_rows(
    policy: str,
    margins: Floats,
    signed: Floats,
    keep_fraction: float,
    random: np.random.Generator,
) -> Integers:
    """List the rows that a policy keeps.

    Args:
        policy: a key of MEANINGS.
        margins: absolute margin of every row, small is hard, shape (n,).
        signed: margin to the row's own label, shape (n,).
        keep_fraction: in (0, 1]; round(keep_fraction n) rows are kept, at least one.
        random: draws what is kept at random, and which of the rows with equal margins.

    Returns:
        Positions, ascending, distinct.

    Raises:
        ValueError: an unknown policy.
    """
    check_choice("policy", policy, MEANINGS)
    count = max(1, int(np.floor(keep_fraction * len(margins) + 0.5)))
    # Tables are often sorted by class: equal margins must not keep the rows that stand first.
    order = random.permutation(len(margins))
    chosen = _RULES[policy](margins[order], signed[order], count, random)
    return np.sort(order[chosen]).astype(np.int64)
