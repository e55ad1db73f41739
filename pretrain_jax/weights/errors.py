"""The error of files of weights, and how its messages name what is in them."""

from collections.abc import Iterable
from itertools import islice

from hardset.cli import one_line

__all__ = ["WeightsError", "names"]

SHOWN = 5  # names in a message
LONGEST_NAME = 80


class WeightsError(ValueError):
    """A file of weights cannot be read, or does not fit the model."""


def names(all_of_them: Iterable[str]) -> str:
    """The first few names of a list, fit for a terminal, and how many more there are."""
    rest = list(all_of_them)
    shown = ", ".join(one_line(name, LONGEST_NAME) for name in islice(rest, SHOWN))
    return shown if len(rest) <= SHOWN else f"{shown} and {len(rest) - SHOWN} more"
