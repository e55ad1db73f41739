"""Says where the mask generator looks in an image.

It also takes images and masks from one size to another.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image


class Crop(NamedTuple):
    """Holds a part of an image, image[top:bottom, left:right].

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
        """Return height and width in pixels."""
        return self.bottom - self.top, self.right - self.left


def point_grid(per_side: int) -> NDArray[np.float64]:
    """Return the centres (x, y) of a square's equal cells.

    There are per_side^2 cells, in rows. The shape is (per_side^2, 2), and the values lie in [0, 1].
    """
    centres = (np.arange(per_side) + 0.5) / per_side
    x, y = np.meshgrid(centres, centres)
    return np.stack([x.ravel(), y.ravel()], axis=-1)


def crops_of(height: int, width: int, layers: int, overlap: float) -> list[Crop]:
    """Return the whole image, then its overlapping crops.

    Layer l = 1 ... layers has 2^l x 2^l crops.

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
    """Return height and width after the longer one has been scaled to `side` pixels."""
    scale = side / max(height, width)
    return int(height * scale + 0.5), int(width * scale + 0.5)


def bilinear(old: int, new: int) -> NDArray[np.float64]:
    """Return the matrix (new, old) of linear interpolation.

    It has half-pixel centres, and edges are repeated.
    """
    place = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    left = np.minimum(place.astype(int), max(old - 2, 0))
    share = place - left
    matrix = np.zeros((new, old))
    matrix[np.arange(new), left] += 1 - share
    matrix[np.arange(new), np.minimum(left + 1, old - 1)] += share
    return matrix


def mask_operator(mask: int, side: int, inner: int, length: int) -> NDArray[np.float64]:
    """Return the matrix that takes a mask back to its image.

    It does so along one axis.

    It interpolates from the mask's to the model's size, cuts the padding off, and interpolates to
    the image's size. All of this is linear, and the two axes do not mix.

    Args:
        mask: pixels of the predicted mask.
        side: pixels of the model's input.
        inner: pixels of the model's input that the image filled.
        length: pixels of the image.

    Returns:
        (length, mask).
    """
    return bilinear(inner, length) @ bilinear(mask, side)[:inner]


def unit_range(image: NDArray, channels: int) -> NDArray[np.float32]:
    """Return an image as (H, W, channels) in [0, 1].

    Args:
        image: (H, W) or (H, W, 1 or `channels`); unsigned integers use their type's range,
            floats lie in [0, 1].
        channels: of the result; a single one is repeated.

    Raises:
        ValueError: another shape, type or range, NaN.
    """
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, channels) or image.size == 0:
        raise ValueError(
            f"image has the shape {image.shape}; (H, W), (H, W, 1) or (H, W, {channels}) is needed"
        )
    if image.dtype.kind == "u":
        pixels = image.astype(np.float32) / np.float32(np.iinfo(image.dtype).max)
    elif image.dtype.kind == "f":
        pixels = image.astype(np.float32)
        low, high = pixels.min(), pixels.max()
        if not (low >= 0 and high <= 1):
            raise ValueError(f"image has values from {low:g} to {high:g}; floats lie in [0, 1]")
    else:
        raise ValueError(
            f"image has the type {image.dtype}; unsigned integers or floats are needed"
        )
    return np.broadcast_to(pixels, (*pixels.shape[:2], channels))


def model_input(
    pixels: NDArray[np.float32], side: int, mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.float32]:
    """Return the image at the model's size.

    Its longer side is scaled. It is standardised, and padded with zeros.

    Args:
        pixels: (H, W, C) in [0, 1].
        side: of the model's input.
        mean: subtracted from each channel.
        std: divides each channel.

    Returns:
        (side, side, C); the image fills the upper left corner.
    """
    height, width = inner_size(pixels.shape[0], pixels.shape[1], side)
    out = np.zeros((side, side, pixels.shape[2]), np.float32)
    for channel, (centre, scale) in enumerate(zip(mean, std, strict=True)):
        plane = Image.fromarray(np.ascontiguousarray(pixels[..., channel]))
        # Pillow's filter widens when it shrinks an image: no aliases.
        resized = np.asarray(plane.resize((width, height), Image.Resampling.BILINEAR))
        out[:height, :width, channel] = (resized - centre) / scale
    return out
