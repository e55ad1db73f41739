"""Storage, exact: what a share of a data set may take in pixels and bytes, and what fits in."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_integer, check_range

# What a share of the full set is a share of: its pixels, or its pixels and its files' bytes.
Storage = Literal["pixels", "bytes"]
LARGEST_GROUP = 1024
LARGEST = np.iinfo(np.int64).max
CHUNK = 1 << 16  # items that are looked at one by one at once


@dataclass(frozen=True)
class Budget:
    """What a set may take at most.

    Attributes:
        pixels: of its images.
        bytes: of its files; None where they do not count.
    """

    pixels: int
    bytes: int | None = None

    def __str__(self) -> str:
        """In words."""
        return f"{self.pixels} pixels" + ("" if self.bytes is None else f" and {self.bytes} bytes")


def pixel_budget(ratio: float, pixels: int) -> int:
    """floor(ratio * pixels), with the ratio taken as the decimal number that was written.

    Args:
        ratio: share of the full set, in (0, 1].
        pixels: of the full set; or bytes.

    Raises:
        ValueError: a ratio outside its range.
    """
    check_range("ratio", ratio, 0.0, 1.0, open_low=True)
    return math.floor(Fraction(repr(float(ratio))) * pixels)


def check_group(patches: int) -> None:
    """Check the number of patches of an image.

    Raises:
        ValueError: no square number from 1 to 1024.
    """
    check_integer("patches", patches, 1, LARGEST_GROUP)
    if round(patches**0.5) ** 2 != patches:
        raise ValueError(
            f"patches = {patches} is not a square number; an image is made of 1, 4, 9, ... patches"
        )


def group_pixels(pixels: NDArray[np.int64], group: int) -> NDArray[np.int64]:
    """Pixels of the images made of `group` consecutive patches each; rests make none.

    An image made of patches has as many pixels as the image that its first patch is of.

    Args:
        pixels: of the image that each patch is of, shape (n,).
        group: patches of an image.
    """
    whole = len(pixels) // group
    return pixels[: whole * group : group]


def fitting(
    pixels: NDArray[np.int64],
    sizes: NDArray[np.int64] | None,
    budget: Budget,
    group: int = 1,
) -> NDArray[np.int64]:
    """Places of the items that are kept when all are offered once, one after another.

    An item that would begin a new image is kept where that image still fits, and skipped where it
    does not; the next `group` - 1 items after one that is kept go into the same image. What is
    left of the budget at the end is too little for any item that was skipped. O(n).

    Args:
        pixels: of the image that each item is, or that it gives its size to, shape (n,).
        sizes: bytes of each, shape (n,), where they count.
        budget: most of both.
        group: items of an image; a last image that is not full is left out.
    """
    costs = [(pixels, budget.pixels)]
    if sizes is not None and budget.bytes is not None:
        costs.append((sizes, budget.bytes))
    # As long as everything fits no item needs a look of its own.
    whole = len(pixels) // group
    first = whole
    for one, most in costs:
        total = np.cumsum(group_pixels(one, group))
        first = min(first, int(np.searchsorted(total, most, side="right")))
    left = [most - int(group_pixels(one[: first * group], group).sum()) for one, most in costs]
    kept = np.zeros(len(pixels), bool)
    kept[: first * group] = True
    needed = 0
    least = [int(one[first * group :].min(initial=LARGEST)) for one, _ in costs]
    for start in range(first * group, len(pixels), CHUNK):
        if not needed and any(now < low for now, low in zip(left, least, strict=True)):
            break
        part = slice(start, start + CHUNK)
        needed = _offer([one[part].tolist() for one, _ in costs], left, needed, group, kept[part])
    places = np.flatnonzero(kept)
    return places[: len(places) // group * group]


def _offer(
    costs: list[list[int]], left: list[int], needed: int, group: int, kept: NDArray[np.bool_]
) -> int:
    """Offer some items: mark those kept, lower what is left, give what the last image still needs.

    Args:
        costs: of the items, for each kind of storage.
        left: of each kind; changed.
        needed: items that the image before still needs.
        group: items of an image.
        kept: changed.
    """
    for place, cost in enumerate(zip(*costs, strict=True)):
        if needed:
            needed -= 1
        elif all(own <= now for own, now in zip(cost, left, strict=True)):
            for kind, own in enumerate(cost):
                left[kind] -= own
            needed = group - 1
        else:
            continue
        kept[place] = True
    return needed
