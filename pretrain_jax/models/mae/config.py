"""Configures masked autoencoders of named sizes.

It needs no JAX.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from hardset.checks import check_integer, check_range
from pretrain_jax.models.vit import VIT_PRESETS, ViTConfig


@dataclass(frozen=True)
class MAEConfig:
    """Configures a masked autoencoder with a ViT encoder and a light decoder.

    Source: arXiv:2111.06377.

    Attributes:
        encoder: the encoder; with class token, without pooling.
        decoder_width: length of the decoder's tokens; divisible by 4 and by `decoder_heads`.
        decoder_depth: number of the decoder's blocks.
        decoder_heads: number of the decoder's attention heads.
        mask_ratio: share of patches that are hidden; int(patches * (1 - mask_ratio)) stay.
        norm_pixel_loss: whether each target patch is standardised (unbiased variance + 1e-6).
    """

    encoder: ViTConfig = VIT_PRESETS["vit_base"]
    decoder_width: int = 512
    decoder_depth: int = 8
    decoder_heads: int = 16
    mask_ratio: float = 0.75
    norm_pixel_loss: bool = True

    def __post_init__(self) -> None:
        for name in ("decoder_width", "decoder_depth", "decoder_heads"):
            check_integer(name, getattr(self, name), 1, 1 << 20)
        if self.decoder_width % 4 or self.decoder_width % self.decoder_heads:
            raise ValueError(
                f"decoder_width = {self.decoder_width} must be divisible by 4 and by "
                f"decoder_heads = {self.decoder_heads}"
            )
        check_range("mask_ratio", self.mask_ratio, 0.0, 1.0, open_low=True, open_high=True)
        if not 0 < self.visible < self.encoder.patches:
            raise ValueError(
                f"mask_ratio = {self.mask_ratio} leaves {self.visible} of "
                f"{self.encoder.patches} patches visible; at least one must be visible, one hidden"
            )
        if self.encoder.pool is not None or not self.encoder.class_token:
            raise ValueError("the encoder of an MAE has class_token = True and pool = None")

    @property
    def visible(self) -> int:
        """Return the number of patches of an image that the encoder sees."""
        return int(self.encoder.patches * (1 - self.mask_ratio))


MAE_PRESETS: Mapping[str, MAEConfig] = MappingProxyType(
    {
        "mae_vit_tiny": MAEConfig(VIT_PRESETS["vit_tiny"], 192, 4, 3),
        "mae_vit_small": MAEConfig(VIT_PRESETS["vit_small"], 256, 8, 8),
        "mae_vit_base": MAEConfig(VIT_PRESETS["vit_base"]),
        "mae_vit_large": MAEConfig(VIT_PRESETS["vit_large"]),
    }
)
