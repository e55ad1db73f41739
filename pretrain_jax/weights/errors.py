"""The error of files of weights, and how its messages name what is in them."""

from collections.abc import Iterable
from itertools import islice

from hardset.cli import one_line

__all__ = ["WeightsError", "names"]

LONGEST_NAME = 160


class WeightsError(ValueError):
    """A file of weights cannot be read, or does not fit the model."""


def names(all_of_them: Iterable[str], most: int = 5) -> str:
    """The first few names of a list, fit for a terminal, and how many more there are."""
    rest = list(all_of_them)
    shown = ", ".join(one_line(name, LONGEST_NAME) for name in islice(rest, most))
    return shown if len(rest) <= most else f"{shown} and {len(rest) - most} more"
