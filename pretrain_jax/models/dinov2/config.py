"""Configures DINOv2's encoder in the published sizes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import get_args

from hardset.checks import check_choice, check_integer, check_range
from pretrain_jax.models.vit.config import LARGEST, DType


@dataclass(frozen=True, kw_only=True)
class DINOConfig:
    """Configures what the encoders of DINOv2 and DINOv3 have in common.

    They have pre-norm blocks with LayerScale (arXiv:2103.17239).

    Attributes:
        image_size: side of the square images, pixels. Images of other sizes can be encoded, too.
        patch_size: side of the square patches, pixels.
        channels: channels of the images.
        width: length of a token.
        depth: number of blocks.
        heads: number of attention heads.
        swiglu: whether a block's MLP is gated (SwiGLU, arXiv:2002.05202).
        registers: number of learned tokens beside the class token (arXiv:2309.16588).
        layer_norm_eps: added to the variance in layer normalisation.
        layer_scale: initial factor on what each half of a block adds.
        dtype: type of activations and matrix products.
        param_dtype: type of parameters.
    """

    image_size: int
    patch_size: int
    channels: int = 3
    width: int
    depth: int = 12
    heads: int
    swiglu: bool = False
    registers: int
    layer_norm_eps: float
    layer_scale: float = 1.0
    dtype: DType = "float32"
    param_dtype: DType = "float32"

    def __post_init__(self) -> None:
        for name in ("image_size", "patch_size", "channels", "width", "depth", "heads"):
            check_integer(name, getattr(self, name), 1, LARGEST)
        check_integer("registers", self.registers, 0, LARGEST)
        check_range("layer_norm_eps", self.layer_norm_eps, 0.0, 1.0)
        check_range("layer_scale", self.layer_scale, 0.0, 1e3)
        check_choice("dtype", self.dtype, get_args(DType))
        check_choice("param_dtype", self.param_dtype, get_args(DType))

    @property
    def side(self) -> int:
        """Return the number of rows, and of columns, of patches."""
        return self.image_size // self.patch_size

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width of the images in pixels."""
        return self.image_size, self.image_size

    @property
    def grid(self) -> tuple[int, int]:
        """Return the numbers of rows and columns of patches."""
        return self.side, self.side

    @property
    def patches(self) -> int:
        """Return the number of patches of an image."""
        return self.side**2

    @property
    def patch_values(self) -> int:
        """Return the number of values in a patch."""
        return self.patch_size**2 * self.channels

    @property
    def class_token(self) -> bool:
        """Say that there is a class token."""
        return True

    @property
    def leading(self) -> int:
        """Return the number of tokens before those of the patches.

        They are the class token and the registers.
        """
        return 1 + self.registers


@dataclass(frozen=True, kw_only=True)
class DINOv2Config(DINOConfig):
    """Configures a DINOv2 encoder, whose positions are learned.

    Sources: arXiv:2304.07193 (DINOv2), arXiv:2309.16588 (registers).

    Attributes:
        image_size: side of the square images whose grid the table of positions has, pixels.
        patch_size: side of the square patches, pixels; divides `image_size`.
        width: length of a token; divisible by `heads`.
        mlp_ratio: width of the hidden layer of a block's MLP over `width`.
        swiglu: whether the MLP is gated, as in the size g.
        registers: 0 or 4 in published weights.
    """

    image_size: int = 518
    patch_size: int = 14
    width: int = 768
    heads: int = 12
    mlp_ratio: float = 4.0
    registers: int = 0
    layer_norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("mlp_ratio", self.mlp_ratio, 0.0, 1e3, open_low=True)
        if self.width % self.heads:
            raise ValueError(f"width = {self.width} must be divisible by heads = {self.heads}")
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size = {self.image_size} is not divisible by patch_size = {self.patch_size}"
            )

    @property
    def hidden_width(self) -> int:
        """Return the width of the hidden layer of a block's MLP.

        A gated one has two thirds of it, rounded up to a multiple of 8, so that both kinds have
        about as many parameters.
        """
        hidden = int(self.width * self.mlp_ratio)
        return (int(hidden * 2 / 3) + 7) // 8 * 8 if self.swiglu else hidden


_PLAIN = {
    "dinov2_small": DINOv2Config(width=384, heads=6),
    "dinov2_base": DINOv2Config(width=768, heads=12),
    "dinov2_large": DINOv2Config(width=1024, depth=24, heads=16),
    "dinov2_giant": DINOv2Config(width=1536, depth=40, heads=24, swiglu=True),
}
DINOV2_PRESETS: Mapping[str, DINOv2Config] = MappingProxyType(
    _PLAIN | {f"{name}_registers": replace(each, registers=4) for name, each in _PLAIN.items()}
)
