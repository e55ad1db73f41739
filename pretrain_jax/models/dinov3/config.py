"""Configures DINOv3's vision transformers in the published sizes."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from hardset.checks import check_integer, check_range
from pretrain_jax.models.dinov2.config import DINOConfig
from pretrain_jax.models.vit.config import LARGEST


@dataclass(frozen=True, kw_only=True)
class DINOv3Config(DINOConfig):
    """Configures a DINOv3 encoder, whose positions are angles.

    Source: arXiv:2508.10104. Angles are no parameters, and any image size fits.

    Attributes:
        image_size: side of the square images that a head on the encoder takes, pixels.
        width: length of a token; `width / heads` is divisible by 4.
        hidden_width: width of the hidden layer of a block's MLP.
        swiglu: whether the MLP is gated, as in S+, H+ and 7B.
        qkv_bias: whether queries and values have a bias; keys have none.
        registers: 4 in published weights; one or more.
        period: longest period of the angles over the shortest, about.
    """

    image_size: int = 224
    patch_size: int = 16
    width: int = 384
    heads: int = 6
    hidden_width: int = 1536
    qkv_bias: bool = True
    registers: int = 4
    period: float = 100.0
    layer_norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("hidden_width", self.hidden_width, 1, LARGEST)
        check_integer("registers", self.registers, 1, LARGEST)
        check_range("period", self.period, 1.0, 1e9)
        if self.width % (4 * self.heads):
            raise ValueError(
                f"width = {self.width} must be divisible by 4 * heads = {4 * self.heads}"
            )


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
