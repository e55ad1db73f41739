"""Storage in pixels, exact: what a share of a data set may take, and what patches take."""

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from theory.checks import check_integer, check_range

__all__ = ["check_group", "group_pixels", "pixel_budget"]

LARGEST_GROUP = 1024


def pixel_budget(ratio: float, pixels: int) -> int:
    """floor(ratio * pixels), with the ratio taken as the decimal number that was written.

    Args:
        ratio: share of the full set, in (0, 1].
        pixels: of the full set.

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
