"""Millions of paths in the memory of their characters."""

from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import overload

__all__ = ["STILL", "Names", "suffix_of"]

STILL = -1  # number of the frame of a still image


def suffix_of(name: str) -> str:
    """The ending of a path in lower case, as `Path.suffix`, which is slow for millions of paths."""
    stem, dot, ending = name.rpartition("/")[2].rpartition(".")
    return f".{ending.lower()}" if stem and dot and ending else ""


class Names(Sequence[str]):
    """Paths below a folder as one text and the places of their ends; a list of them takes thrice.

    Args:
        root: to which the names are relative.
        names: paths; UTF-8.
    """

    def __init__(self, root: Path, names: Iterable[str]) -> None:
        self._root = root
        text, self._ends = bytearray(), array("q", [0])
        for name in names:
            text += name.encode()
            self._ends.append(len(text))
        self._text = bytes(text)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...

    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        """A path with its root, or several."""
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        return str(self._root / self.name(index))

    def name(self, index: int) -> str:
        """A path relative to the root, as it was given."""
        place = range(len(self))[index]  # as lists count, from the end too
        return self._text[self._ends[place] : self._ends[place + 1]].decode()
