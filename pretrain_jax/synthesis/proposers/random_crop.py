"""Random crops: the proposer of OptiDEL-S."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from hardset.checks import check_integer, check_range
from pretrain_jax.synthesis.proposers.base import Find, Found, OfFields, Pixels, admitted


@dataclass(frozen=True)
class RandomCrop(OfFields):
    """Boxes of random area, shape and place.

    The area is uniform in `scale`, width over height log-uniform in `ratio`, the place uniform;
    sides are at least `least_side` and at most the image's.

    Attributes:
        crops: boxes of an image.
        scale: range of the box's area as a share of the image's.
        ratio: range of width over height.
        least_side: pixels of the shorter side.

    Source: patches by random cropping of which the hardest are kept, as in Sun et al. 2024,
    arXiv:2312.03526; the ranges are torchvision's of random resized crops with a largest area of
    one half.
    """

    crops: int = 8
    scale: tuple[float, float] = (0.08, 0.5)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    least_side: int = 16

    name: ClassVar[str] = "random-crop"

    def __post_init__(self) -> None:
        check_integer("crops", self.crops, 1, 10_000)
        check_range("scale", self.scale, 0.0, 1.0, open_low=True)
        check_range("ratio", self.ratio, 0.0, math.inf, open_low=True)
        check_integer("least_side", self.least_side, 1, 1 << 16)
        for name in ("scale", "ratio"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} = ({low:g}, {high:g}) is not an ascending pair")

    def start(self, cache: Path) -> Find:
        """The function that draws boxes."""
        return self._find

    def _find(self, pixels: Pixels, rng: np.random.Generator) -> Found:
        height, width = pixels.shape[:2]
        area = height * width * rng.uniform(*self.scale, self.crops)
        low, high = (math.log(end) for end in self.ratio)
        shape = np.exp(rng.uniform(low, high, self.crops) / 2)
        tall = np.clip(np.rint(np.sqrt(area) / shape), self.least_side, height).astype(np.int64)
        wide = np.clip(np.rint(np.sqrt(area) * shape), self.least_side, width).astype(np.int64)
        top = rng.integers(height - tall + 1)
        left = rng.integers(width - wide + 1)
        boxes = np.stack([top, left, tall, wide], axis=1)
        found = Found(boxes, tall * wide, np.ones(self.crops, np.float32))
        return admitted(found, self.least_side, 1.0, (height, width))
