"""Configures vision transformers of named sizes."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, get_args

from hardset.checks import check_choice, check_integer, check_range

if TYPE_CHECKING:
    import jax.numpy as jnp  # a second that `--help` need not pay


DType = Literal["bfloat16", "float16", "float32", "float64"]
Pool = Literal["cls", "mean"]
LARGEST = 1 << 20


def dtype_of(name: DType) -> "jnp.dtype":
    """Return the floating-point type with that name."""
    import jax.numpy as jnp

    return jnp.dtype(name)


@dataclass(frozen=True)
class ViTConfig:
    """Configures a vision transformer with pre-norm blocks and exact GELU.

    Source: arXiv:2010.11929.

    Attributes:
        image_size: side of the square images, or (height, width), pixels.
        patch_size: side of the square patches, pixels; divides both sides of the images.
        channels: channels of the images.
        width: length of a token; divisible by 4 and by `heads`.
        depth: number of blocks.
        heads: number of attention heads.
        mlp_ratio: width of the hidden layer of a block's MLP over `width`.
        layer_norm_eps: added to the variance in layer normalisation; 1e-6 in the official MAE
            code, 1e-12 in the library transformers.
        class_token: whether a learned token precedes the patches.
        pool: None gives all tokens after the final norm, "cls" the class token after the norm,
            "mean" the norm of the patch tokens' mean.
        classes: outputs of a linear classifier on the pooled token, 0 for none.
        positions: "sincos" (two-dimensional, fixed) or "learned".
        remat: whether the backward pass recomputes each block: less memory, a third more work.
        dtype: type of activations and matrix products.
        param_dtype: type of parameters.
    """

    image_size: int | tuple[int, int] = 224
    patch_size: int = 16
    channels: int = 3
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    layer_norm_eps: float = 1e-6
    class_token: bool = True
    pool: Pool | None = None
    classes: int = 0
    positions: Literal["sincos", "learned"] = "sincos"
    remat: bool = False
    dtype: DType = "float32"
    param_dtype: DType = "float32"

    def __post_init__(self) -> None:
        for name in ("patch_size", "channels", "width", "depth", "heads"):
            check_integer(name, getattr(self, name), 1, LARGEST)
        check_integer("classes", self.classes, 0, LARGEST)
        check_range("mlp_ratio", self.mlp_ratio, 0.0, 1e3, open_low=True)
        check_range("layer_norm_eps", self.layer_norm_eps, 0.0, 1.0)
        if self.width % 4 or self.width % self.heads:
            raise ValueError(
                f"width = {self.width} must be divisible by 4 and by heads = {self.heads}"
            )
        for side in self.size:
            check_integer("image_size", side, 1, LARGEST)
            if side % self.patch_size:
                raise ValueError(
                    f"image_size = {side} is not divisible by patch_size = {self.patch_size}"
                )
        if self.pool is not None:
            check_choice("pool", self.pool, ("cls", "mean"))
        check_choice("positions", self.positions, ("sincos", "learned"))
        check_choice("dtype", self.dtype, get_args(DType))
        check_choice("param_dtype", self.param_dtype, get_args(DType))
        if self.pool == "cls" and not self.class_token:
            raise ValueError("pool = 'cls' needs class_token = True")
        if self.classes and self.pool is None:
            raise ValueError(f"classes = {self.classes} needs pool = 'cls' or 'mean'")

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width of the images in pixels."""
        size = self.image_size
        return size if isinstance(size, tuple) else (size, size)

    @property
    def grid(self) -> tuple[int, int]:
        """Return the numbers of rows and columns of patches."""
        height, width = self.size
        return height // self.patch_size, width // self.patch_size

    @property
    def patches(self) -> int:
        """Return the number of patches of an image."""
        rows, columns = self.grid
        return rows * columns

    @property
    def leading(self) -> int:
        """Return the number of tokens before those of the patches."""
        return int(self.class_token)

    @property
    def patch_values(self) -> int:
        """Return the number of values in a patch."""
        return self.patch_size**2 * self.channels

    @property
    def hidden_width(self) -> int:
        """Return the width of the hidden layer of a block's MLP."""
        return round(self.width * self.mlp_ratio)


VIT_PRESETS: Mapping[str, ViTConfig] = MappingProxyType(
    {
        "vit_tiny": ViTConfig(width=192, heads=3),
        "vit_small": ViTConfig(width=384, heads=6),
        "vit_base": ViTConfig(width=768, heads=12),
        "vit_large": ViTConfig(width=1024, depth=24, heads=16),
    }
)
