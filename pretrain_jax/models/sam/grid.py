"""Where the automatic mask generator looks: a grid of points, overlapping crops."""

import itertools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Crop", "crops_of", "inner_size", "point_grid"]


class Crop(NamedTuple):
    """A part of an image, image[top:bottom, left:right].

    Attributes:
        left, top, right, bottom: pixels, the last two exclusive.
        layer: 0 for the whole image; layer l has 4^l crops.
    """

    left: int
    top: int
    right: int
    bottom: int
    layer: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.bottom - self.top, self.right - self.left


def point_grid(per_side: int) -> NDArray[np.float64]:
    """Centres (x, y) of a square's per_side^2 equal cells, in rows: (per_side^2, 2) in [0, 1]."""
    centres = (np.arange(per_side) + 0.5) / per_side
    x, y = np.meshgrid(centres, centres)
    return np.stack([x.ravel(), y.ravel()], axis=-1)


def crops_of(height: int, width: int, layers: int, overlap: float) -> list[Crop]:
    """The whole image, then 2^l x 2^l overlapping crops for l = 1 ... layers.

    Args:
        height: of the image in pixels.
        width: of the image in pixels.
        layers: layers of crops besides the whole image.
        overlap: shared part of neighbours in the first layer over the image's shorter side;
            halved from layer to layer.

    Returns:
        The crops; within a layer they go down first, then right.

    Source: Kirillov et al. 2023, arXiv:2304.02643, appendix B.
    """
    found = [Crop(0, 0, width, height, 0)]
    for layer in range(1, layers + 1):
        count = 2**layer
        shared = int(overlap * min(height, width) * 2 / count)
        spans = []
        for length in (width, height):
            side = math.ceil((shared * (count - 1) + length) / count)
            starts = [(side - shared) * step for step in range(count)]
            spans.append([(start, min(start + side, length)) for start in starts])
        for (left, right), (top, bottom) in itertools.product(*spans):
            found.append(Crop(left, top, right, bottom, layer))
    return found


def inner_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Height and width after the longer one has been scaled to `side` pixels."""
    scale = side / max(height, width)
    return int(height * scale + 0.5), int(width * scale + 0.5)
