"""Settings of SAM's automatic mask generator."""

import dataclasses
import math

from hardset.checks import check_integer, check_range

__all__ = ["GeneratorConfig"]


@dataclasses.dataclass(frozen=True)
class GeneratorConfig:
    """Settings of the automatic mask generator; the defaults are the published ones.

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
