"""Configures DINOv3's vision transformers in the published sizes."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import get_args

from hardset.checks import check_choice, check_integer, check_range
from pretrain_jax.models.vit.config import LARGEST, DType


@dataclass(frozen=True)
class DINOv3Config:
    """Configures a DINOv3 encoder: pre-norm blocks with LayerScale and rotary positions.

    Source: arXiv:2508.10104. Positions are angles, not parameters, and any image size fits.

    Attributes:
        patch_size: side of the square patches, pixels.
        channels: channels of the images.
        width: length of a token; `width / heads` is divisible by 4.
        depth: number of blocks.
        heads: number of attention heads.
        hidden_width: width of the hidden layer of a block's MLP.
        swiglu: whether the MLP is gated (SwiGLU, arXiv:2002.05202), as in S+, H+ and 7B.
        qkv_bias: whether queries and values have a bias; keys have none.
        registers: number of learned tokens beside the class token, 4 in published weights.
        period: longest period of the angles over the shortest, about.
        image_size: side of the square images that a head on the encoder takes, pixels.
        layer_norm_eps: added to the variance in layer normalisation.
        layer_scale: initial factor on what each half of a block adds.
        dtype: type of activations and matrix products.
        param_dtype: type of parameters.
    """

    patch_size: int = 16
    channels: int = 3
    width: int = 384
    depth: int = 12
    heads: int = 6
    hidden_width: int = 1536
    swiglu: bool = False
    qkv_bias: bool = True
    registers: int = 4
    period: float = 100.0
    image_size: int = 224
    layer_norm_eps: float = 1e-5
    layer_scale: float = 1.0
    dtype: DType = "float32"
    param_dtype: DType = "float32"

    def __post_init__(self) -> None:
        for name in ("image_size", "patch_size", "channels", "width", "depth", "heads"):
            check_integer(name, getattr(self, name), 1, LARGEST)
        check_integer("hidden_width", self.hidden_width, 1, LARGEST)
        check_integer("registers", self.registers, 1, LARGEST)
        check_range("period", self.period, 1.0, 1e9)
        check_range("layer_norm_eps", self.layer_norm_eps, 0.0, 1.0)
        check_range("layer_scale", self.layer_scale, 0.0, 1e3)
        if self.width % (4 * self.heads):
            raise ValueError(
                f"width = {self.width} must be divisible by 4 * heads = {4 * self.heads}"
            )
        check_choice("dtype", self.dtype, get_args(DType))
        check_choice("param_dtype", self.param_dtype, get_args(DType))

    @property
    def side(self) -> int:
        """Return the number of rows, and of columns, of patches of a head's images."""
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


DINOV3_PRESETS: Mapping[str, DINOv3Config] = MappingProxyType(
    {
        "dinov3_small": DINOv3Config(),
        "dinov3_small_plus": DINOv3Config(swiglu=True),
        "dinov3_base": DINOv3Config(width=768, heads=12, hidden_width=3072),
        "dinov3_large": DINOv3Config(width=1024, depth=24, heads=16, hidden_width=4096),
        "dinov3_huge_plus": DINOv3Config(
            width=1280, depth=32, heads=20, hidden_width=5120, swiglu=True
        ),
        "dinov3_7b": DINOv3Config(
            width=4096, depth=40, heads=32, hidden_width=8192, swiglu=True, qkv_bias=False
        ),
    }
)
