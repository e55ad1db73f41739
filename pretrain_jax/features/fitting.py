"""Brings images to the size of an encoder.

It is done as by the preprocessing of the encoder's kind in transformers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pretrain_jax.data.decode import Pixels
from pretrain_jax.data.transforms import Kernel, resized


@dataclass(frozen=True)
class Fit:
    """Says how an image of any size becomes a square one.

    Attributes:
        margin: the shorter side of the image becomes this many times the square's, and the square
            is cut out of the middle; None squashes the whole image.
        kernel: of the resizing, which is antialiased.
    """

    margin: float | None = None
    kernel: Kernel = "bilinear"

    def __call__(self, pixels: Pixels, side: int) -> Pixels:
        """Bring pixels from (H, W, C) to (side, side, C); they keep their type."""
        height, width = pixels.shape[:2]
        if self.margin is None:
            return resized(pixels, side, (0, 0, width, height), self.kernel)
        shorter = round(self.margin * side)
        # The sides of the resized image are whole numbers, and so is the place of the square.
        tall, wide = (shorter * one // min(height, width) for one in (height, width))
        top, left = (tall - side) // 2, (wide - side) // 2
        down, across = height / tall, width / wide
        box = (left * across, top * down, (left + side) * across, (top + side) * down)
        return resized(pixels, side, box, self.kernel)

    def sentence(self, side: int) -> str:
        """Say what happens to an image."""
        if self.margin is None:
            return f"images are squashed to {side} x {side} pixels as a whole, {self.kernel}"
        return (
            f"the shorter side of images becomes {round(self.margin * side)} pixels, "
            f"{self.kernel}, and {side} x {side} of them are cut out of the middle"
        )


# By kind of encoder. Source: the files preprocessor_config.json of facebook/dinov2-small (shortest
# edge 256, centre crop 224, bicubic), facebook/dinov3-vits16-pretrain-lvd1689m, facebook/
# vit-mae-base and google/vit-base-patch16-224 (all: 224 x 224, bilinear). SAM's own pads its
# images, which would count in the mean of patches; models of SimCLR are trained here.
FITS: Mapping[str, Fit] = MappingProxyType(
    {
        "dinov2": Fit(256 / 224, "bicubic"),
        "dinov3": Fit(),
        "mae": Fit(),
        "vit": Fit(),
        "sam": Fit(),
        "simclr": Fit(kernel="bicubic"),
    }
)
