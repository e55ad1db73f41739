"""Storage in pixels, exact: what a share of a data set may take, and what patches take."""

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from theory.checks import check_range

__all__ = ["group_pixels", "pixel_budget"]


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


def group_pixels(pixels: NDArray[np.int64], group: int) -> NDArray[np.int64]:
    """Pixels of the images made of `group` consecutive patches each; rests make none.

    An image made of patches has as many pixels as the image that its first patch is of.

    Args:
        pixels: of the image that each patch is of, shape (n,).
        group: patches of an image.
    """
    whole = len(pixels) // group
    return pixels[: whole * group : group]
