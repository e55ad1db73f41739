"""Configures Segment Anything and its mask generator.

It holds the published presets.
"""

import dataclasses
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, get_args

from hardset.checks import check_choice, check_integer, check_range
from pretrain_jax.models.vit.config import DType


@dataclasses.dataclass(frozen=True)
class GeneratorConfig:
    """Configures the automatic mask generator.

    The defaults are the published ones.

    Attributes:
        points_per_side: side of the grid of points on the whole image.
        points_per_batch: points decoded at once.
        iou_threshold: masks whose predicted IoU is above it stay.
        stability_threshold: masks at least that stable stay.
        stability_offset: logits by which the stability score moves the threshold.
        mask_threshold: logit above which a pixel belongs to a mask.
        box_nms_threshold: IoU of boxes above which the mask of lower predicted IoU goes.
        crop_layers: layers of crops besides the whole image; layer l has 4^l.
        crop_nms_threshold: IoU of boxes above which the mask from the larger crop goes.
        crop_overlap: shared part of the first layer's crops over the image's shorter side.
        crop_points_downscale: divides the grid's side from layer to layer.
        min_area: masks that cover at least this share of the image's pixels stay.
        max_area: masks that cover at most this share stay: without it the background wins.
        min_region: holes and islands of fewer pixels are filled and removed, and boxes that then
            coincide are suppressed; 0 leaves masks as they are.
        capacity: masks of a crop that can pass the filters; the best stay where there are more.
        chunk: points or masks brought to full resolution at once.
        mean: of the channels of images in [0, 1].
        std: of the channels of images in [0, 1].

    Source: Kirillov et al. 2023, arXiv:2304.02643, appendix B.

    Raises:
        ValueError: a field outside its range, with the value and the range.
    """

    points_per_side: int = 32
    points_per_batch: int = 64
    iou_threshold: float = 0.88
    stability_threshold: float = 0.95
    stability_offset: float = 1.0
    mask_threshold: float = 0.0
    box_nms_threshold: float = 0.7
    crop_layers: int = 0
    crop_nms_threshold: float = 0.7
    crop_overlap: float = 512 / 1500
    crop_points_downscale: int = 1
    min_area: float = 0.0
    max_area: float = 1.0
    min_region: int = 0
    capacity: int = 1024
    chunk: int = 16
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        for name, high in (
            ("points_per_side", 1024),
            ("points_per_batch", 1 << 16),
            ("crop_points_downscale", 64),
            ("capacity", 1 << 16),
            ("chunk", 1 << 16),
        ):
            check_integer(name, getattr(self, name), 1, high)
        check_integer("crop_layers", self.crop_layers, 0, 6)
        check_integer("min_region", self.min_region, 0, 1 << 40)
        for name in ("iou_threshold", "mask_threshold"):
            check_range(name, getattr(self, name), -math.inf, math.inf)
        check_range("stability_offset", self.stability_offset, 0.0, math.inf)
        for name in (
            *("stability_threshold", "box_nms_threshold", "crop_nms_threshold"),
            *("min_area", "max_area"),
        ):
            check_range(name, getattr(self, name), 0.0, 1.0)
        check_range("crop_overlap", self.crop_overlap, 0.0, 1.0, open_high=True)
        if self.min_area > self.max_area:
            raise ValueError(f"min_area = {self.min_area} exceeds max_area = {self.max_area}")
        check_range("mean", self.mean, -math.inf, math.inf)
        check_range("std", self.std, 0.0, math.inf, open_low=True)
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean has {len(self.mean)} values, std has {len(self.std)}")


@dataclasses.dataclass(frozen=True)
class SAMConfig:
    """Configures a Segment Anything model.

    It has a ViT image encoder, a prompt encoder and a two-way mask decoder.

    Attributes:
        image_size: side of the square input in pixels, a multiple of `patch_size`.
        patch_size: side of a patch in pixels.
        channels: channels of the input.
        width: features of a token of the image encoder.
        depth: blocks of the image encoder.
        heads: attention heads of the image encoder; divides `width`.
        mlp_ratio: hidden features of the encoder's MLPs over `width`.
        window_size: side of the attention windows in tokens.
        global_blocks: indices of the blocks that attend to the whole image.
        prompt_width: features of the image embedding and of the prompts.
        mask_prompt_channels: hidden features of the mask prompt's convolutions, a multiple of 4.
        decoder_depth: two-way blocks of the mask decoder.
        decoder_heads: attention heads of the mask decoder.
        decoder_mlp_width: hidden features of the two-way blocks' MLPs.
        attention_downsample: divides the features inside the decoder's cross-attention.
        multimask_outputs: masks for an ambiguous prompt; one more for an unambiguous one.
        iou_head_depth: layers of the head that predicts IoU, >= 2.
        iou_head_width: hidden features of that head.
        layer_norm_eps: epsilon of the image encoder's layer norms, neck included.
        layer_norm: epsilon of the two-way blocks: 1e-5 as published ("official"), 1e-6 in
            transformers ("hf"). All the others are the same in both.
        dtype: type of the computation.
        param_dtype: type of the parameters.

    Source: Kirillov et al. 2023, arXiv:2304.02643, appendix A.

    Raises:
        ValueError: a field outside its range, with the value and the range.
    """

    image_size: int = 1024
    patch_size: int = 16
    channels: int = 3
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    window_size: int = 14
    global_blocks: tuple[int, ...] = (2, 5, 8, 11)
    prompt_width: int = 256
    mask_prompt_channels: int = 16
    decoder_depth: int = 2
    decoder_heads: int = 8
    decoder_mlp_width: int = 2048
    attention_downsample: int = 2
    multimask_outputs: int = 3
    iou_head_depth: int = 3
    iou_head_width: int = 256
    layer_norm_eps: float = 1e-6
    layer_norm: Literal["official", "hf"] = "official"
    dtype: DType = "float32"
    param_dtype: DType = "float32"

    def __post_init__(self) -> None:
        for name in (
            *("patch_size", "channels", "width", "depth", "heads", "window_size"),
            *("decoder_depth", "decoder_heads", "decoder_mlp_width", "attention_downsample"),
            *("multimask_outputs", "iou_head_width"),
        ):
            check_integer(name, getattr(self, name), 1, 1 << 20)
        check_integer("iou_head_depth", self.iou_head_depth, 2, 64)
        check_range("mlp_ratio", self.mlp_ratio, 0.0, 64.0, open_low=True)
        check_range("layer_norm_eps", self.layer_norm_eps, 0.0, 1.0, open_low=True)
        if self.layer_norm not in ("official", "hf"):
            raise ValueError(f"layer_norm = {self.layer_norm!r} is not 'official' or 'hf'")
        for name, divisor in (
            ("image_size", self.patch_size),
            ("width", self.heads),
            ("prompt_width", 8 * self.attention_downsample),
            ("mask_prompt_channels", 4),
        ):
            value = getattr(self, name)
            check_integer(name, value, 1, 1 << 20)
            if value % divisor:
                raise ValueError(f"{name} = {value} is not a multiple of {divisor}")
        inner = self.prompt_width // self.attention_downsample
        if inner % self.decoder_heads:
            raise ValueError(
                f"decoder_heads = {self.decoder_heads} does not divide the {inner} features of "
                "the decoder's cross-attention"
            )
        for block in self.global_blocks:
            check_integer("global_blocks", block, 0, self.depth - 1)
        check_choice("dtype", self.dtype, get_args(DType))
        check_choice("param_dtype", self.param_dtype, get_args(DType))

    @property
    def dtypes(self) -> tuple[DType, DType]:
        """Return the types of the computation and of the parameters."""
        return self.dtype, self.param_dtype

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width of the images in pixels."""
        return self.image_size, self.image_size

    @property
    def grid(self) -> tuple[int, int]:
        """Return the numbers of rows and columns of patches."""
        return self.grid_size, self.grid_size

    @property
    def hidden_width(self) -> int:
        """Return the width of the hidden layer of an encoder block's MLP."""
        return round(self.width * self.mlp_ratio)

    @property
    def grid_size(self) -> int:
        """Return the side of the image embedding in tokens."""
        return self.image_size // self.patch_size

    @property
    def mask_size(self) -> int:
        """Return the side of the predicted masks in pixels."""
        return 4 * self.grid_size

    @property
    def two_way_eps(self) -> float:
        """Return epsilon of the layer norms inside the two-way blocks."""
        return 1e-5 if self.layer_norm == "official" else 1e-6


SAM_PRESETS: Mapping[str, SAMConfig] = MappingProxyType(
    {
        # Every mechanism of the large ones at the size of a test: a window that does not divide
        # the grid, windowed and global blocks.
        "sam_tiny": SAMConfig(
            image_size=128,
            width=64,
            depth=4,
            heads=4,
            window_size=3,
            global_blocks=(1, 3),
            prompt_width=64,
            decoder_heads=4,
            decoder_mlp_width=128,
            iou_head_width=64,
        ),
        "sam_vit_b": SAMConfig(),
        "sam_vit_l": SAMConfig(width=1024, depth=24, heads=16, global_blocks=(5, 11, 17, 23)),
        "sam_vit_h": SAMConfig(width=1280, depth=32, heads=16, global_blocks=(7, 15, 23, 31)),
    }
)
