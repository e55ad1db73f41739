"""Crops and scales images on the host, exactly in 8 and in 16 bits."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pretrain_jax.data.decode import Pixels

Kind = Literal["random", "centre", "none"]
Kernel = Literal["bicubic", "bilinear"]

ATTEMPTS = 10


class MixedSizesError(ValueError):
    """Says that an image has another size than the model.

    It is raised where resizing was switched off.
    """


@dataclass(frozen=True)
class Crop:
    """Says how an image comes to the model's size.

    Attributes:
        size: side of the result in pixels.
        kind: "random" (random resized crop), "centre" (short side to `size`, central square) or
            "none" (the image must have the size).
        scale: range of the crop's area as a share of the image's, in (0, 1].
        ratio: range of the crop's width over its height, drawn uniformly in the logarithm.
        flip: mirror every second image, drawn at random (kind "random" only).
    """

    size: int
    kind: Kind = "random"
    scale: tuple[float, float] = (0.2, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True

    def __call__(self, pixels: Pixels, rng: np.random.Generator, name: str = "image") -> Pixels:
        """Bring pixels to the model's size.

        From (H, W, C) they come to (size, size, C), and keep their type.

        Raises:
            MixedSizesError: kind "none" and another size.
        """
        height, width = pixels.shape[:2]
        if self.kind == "none":
            if (height, width) != (self.size, self.size):
                raise MixedSizesError(
                    f"image {name} is {height} x {width} pixels and the model takes "
                    f"{self.size} x {self.size}; images of mixed sizes need --data.crop random "
                    "or centre"
                )
            return pixels
        if self.kind == "centre":
            side = min(height, width)
            left, top = (width - side) / 2, (height - side) / 2
            return resized(pixels, self.size, (left, top, left + side, top + side))
        box = self.random_box(height, width, rng)
        cropped = resized(pixels, self.size, box)
        return cropped[:, ::-1] if self.flip and rng.random() < 0.5 else cropped

    def random_box(
        self, height: int, width: int, rng: np.random.Generator
    ) -> tuple[float, float, float, float]:
        """Draw the box of a random crop of an image of that size.

        It returns left, top, right and bottom.
        """
        for _ in range(ATTEMPTS):
            area = height * width * rng.uniform(*self.scale)
            ratio = math.exp(rng.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                left = int(rng.integers(width - w + 1))
                top = int(rng.integers(height - h + 1))
                return left, top, left + w, top + h
        # No crop fits (very long images): the central part with the nearest allowed ratio.
        w = min(width, round(height * self.ratio[1]))
        h = min(height, round(width / self.ratio[0]))
        left, top = (width - w) // 2, (height - h) // 2
        return left, top, left + w, top + h


def resized(
    pixels: Pixels,
    size: int | tuple[int, int],
    box: tuple[float, float, float, float],
    kernel: Kernel = "bicubic",
) -> Pixels:
    """Resize a box of an image, antialiased.

    16 bits are resized as floating-point numbers.

    Args:
        pixels: shape (H, W, C).
        size: height and width of the result, or both in one.
        box: left, top, right and bottom in pixels; at its edges pixels around it have a part in it.
        kernel: "bicubic" or "bilinear".

    Returns:
        Shape (height, width, C), of the same type.
    """
    from PIL import Image

    height, width = (size, size) if isinstance(size, int) else size
    shape, weights = (width, height), Image.Resampling[kernel.upper()]
    if pixels.dtype == np.uint8:
        image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        found = np.asarray(image.resize(shape, weights, box=box))
        return found.reshape(height, width, pixels.shape[2])
    planes = [
        Image.fromarray(pixels[:, :, c].astype(np.float32)).resize(shape, weights, box=box)
        for c in range(pixels.shape[2])
    ]
    stacked = np.stack([np.asarray(plane) for plane in planes], axis=2)
    return np.clip(np.rint(stacked), 0, 65535).astype(np.uint16)
