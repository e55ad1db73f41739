"""The automatic mask generator once more, in NumPy, one mask at a time, from its description.

Kirillov et al. 2023, arXiv:2304.02643, appendix B. Nothing here has fixed shapes, nothing is
batched, interpolation is SciPy's.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pretrain_jax.models.sam.config import GeneratorConfig

# (the image's part, points in the model's pixels) -> logits (n, M, m, m), predicted IoU (n, M)
Prompted = Callable[[NDArray, NDArray], tuple[NDArray, NDArray]]


class Mask(NamedTuple):
    """A mask that passed: logits at the image's resolution (NaN outside its crop)."""

    logits: NDArray
    box: tuple[int, int, int, int]
    iou: float
    stability: float
    point: tuple[float, float]
    crop: tuple[int, int, int, int]


def resample(plane: NDArray, height: int, width: int) -> NDArray:
    """Bilinear interpolation with half-pixel centres, by SciPy."""
    rows = (np.arange(height) + 0.5) * plane.shape[0] / height - 0.5
    columns = (np.arange(width) + 0.5) * plane.shape[1] / width - 0.5
    where = np.meshgrid(rows, columns, indexing="ij")
    return ndimage.map_coordinates(plane.astype(np.float64), where, order=1, mode="nearest")


def full_size(logits: NDArray, side: int, height: int, width: int) -> NDArray:
    """A predicted mask at the resolution of its crop."""
    scale = side / max(height, width)
    inner = int(np.floor(height * scale + 0.5)), int(np.floor(width * scale + 0.5))
    return resample(resample(logits, side, side)[: inner[0], : inner[1]], height, width)


def stability(logits: NDArray, threshold: float, offset: float) -> float:
    """IoU of the masks at threshold + offset and threshold - offset, one inside the other."""
    strict, loose = logits > threshold + offset, logits > threshold - offset
    return np.sum(strict & loose) / max(np.sum(strict | loose), 1)


def box_of(mask: NDArray) -> tuple[int, int, int, int]:
    """First column, first row, last column, last row."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection over union of two boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = width * height if width > 0 and height > 0 else 0
    total = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return common / (total - common) if total > common else 0.0


def greedy(boxes: list[tuple[float, ...]], order: list[int], threshold: float) -> list[int]:
    """Indices of boxes that overlap with no better one that stayed."""
    stayed: list[int] = []
    for index in order:
        if all(overlap(boxes[index], boxes[other]) <= threshold for other in stayed):
            stayed.append(index)
    return stayed


def cut_by_crop(box: tuple[int, ...], crop: tuple[int, ...], width: int, height: int) -> bool:
    """Whether a side lies within 20 pixels of its crop's edge but not of the image's."""
    edges = (0, 0, width, height)
    return any(
        abs(side - inner) <= 20 < abs(side - outer)
        for side, inner, outer in zip(box, crop, edges, strict=True)
    )


def crops(height: int, width: int, layers: int, ratio: float) -> list[tuple[tuple[int, ...], int]]:
    """(left, top, right, bottom), layer."""
    found = [((0, 0, width, height), 0)]
    for layer in range(1, layers + 1):
        per_side = 2**layer
        shared = int(ratio * min(height, width) * (2 / per_side))
        wide = int(np.ceil((shared * (per_side - 1) + width) / per_side))
        high = int(np.ceil((shared * (per_side - 1) + height) / per_side))
        for column in range(per_side):
            for row in range(per_side):
                left, top = column * (wide - shared), row * (high - shared)
                box = (left, top, min(left + wide, width), min(top + high, height))
                found.append((box, layer))
    return found


def generate(image: NDArray, prompted: Prompted, side: int, config: GeneratorConfig) -> list[Mask]:
    """Every mask of an image, the highest predicted IoU first."""
    height, width = image.shape[:2]
    everything: list[Mask] = []
    for crop, layer in crops(height, width, config.crop_layers, config.crop_overlap):
        left, top, right, bottom = crop
        part = image[top:bottom, left:right]
        per_side = max(1, config.points_per_side // config.crop_points_downscale**layer)
        scale = side / max(part.shape[:2])
        inner = [int(np.floor(length * scale + 0.5)) for length in part.shape[1::-1]]
        centres = [
            (column + 0.5, row + 0.5) for row in range(per_side) for column in range(per_side)
        ]
        unit = np.array(centres) / per_side
        logits, iou = prompted(part, unit * inner)
        passed: list[Mask] = []
        for place, masks, scores in zip(unit, logits, iou, strict=True):
            for mask, score in zip(masks, scores, strict=True):
                if score <= config.iou_threshold:
                    continue
                wide = full_size(mask, side, *part.shape[:2])
                stable = stability(wide, config.mask_threshold, config.stability_offset)
                area = np.sum(wide > config.mask_threshold) / (height * width)
                if stable < config.stability_threshold or area == 0:
                    continue
                if not config.min_area <= area <= config.max_area:
                    continue
                box = np.add(box_of(wide > config.mask_threshold), (left, top, left, top))
                if cut_by_crop(tuple(box), crop, width, height):
                    continue
                whole = np.full((height, width), np.nan)
                whole[top:bottom, left:right] = wide
                point = (left + place[0] * (right - left), top + place[1] * (bottom - top))
                passed.append(Mask(whole, tuple(box), float(score), stable, point, crop))
        order = sorted(range(len(passed)), key=lambda index: -passed[index].iou)
        boxes = [mask.box for mask in passed]
        stayed = greedy(boxes, order, config.box_nms_threshold)
        everything += [passed[index] for index in sorted(stayed)]
    if config.crop_layers:

        def smallest_crop_first(index: int) -> tuple[int, float]:
            left, top, right, bottom = everything[index].crop
            return (right - left) * (bottom - top), -everything[index].iou

        order = sorted(range(len(everything)), key=smallest_crop_first)
        stayed = greedy([mask.box for mask in everything], order, config.crop_nms_threshold)
        everything = [everything[index] for index in stayed]
    return sorted(everything, key=lambda mask: -mask.iou)
