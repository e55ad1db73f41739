"""Salient regions without any trained weights: centre-surround contrast, then components."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_integer, check_range
from pretrain_jax.synthesis.proposers.base import Find, Found, OfFields, Pixels, admitted

# Working size: the longer side in pixels.
SIDE = 128
# Standard deviations of the centre, in shares of the working image's longer side; the surround's
# is four times as wide.
CENTRES = (1 / 128, 1 / 64, 1 / 32)
SURROUND = 4
# The most salient shares of the pixels whose components are candidates.
LEVELS = (0.05, 0.1, 0.2, 0.3)
OVERLAP = 0.7


@dataclass(frozen=True)
class Saliency(OfFields):
    """Boxes around connected regions that differ from their surroundings.

    The saliency of a pixel is the mean over three scales s of norm(G_s * I - G_4s * I), with I the
    image in CIE L*a*b*, G Gaussians, each scale's map divided by its maximum. Candidates are the
    8-connected components of the 5, 10, 20 and 30 % most salient pixels that cover between
    `min_area` and `max_area` of the image. They rank by (mean saliency inside - mean of the
    image) sqrt(share of the image covered); boxes that overlap a better one with IoU > 0.7 go.

    Attributes:
        patches: most boxes of an image.
        min_area: least share of the image that a region covers.
        max_area: largest share of the image that a box covers: without it the background wins.
        least_side: pixels of a box's shorter side; smaller ones are grown.

    Source: centre-surround differences as in Itti, Koch and Niebur 1998, without their
    orientation channels and normalisation operator.
    """

    patches: int = 8
    min_area: float = 0.002
    max_area: float = 0.5
    least_side: int = 16

    name: ClassVar[str] = "saliency"

    def __post_init__(self) -> None:
        check_integer("patches", self.patches, 1, 10_000)
        check_range("min_area", self.min_area, 0.0, 1.0)
        check_range("max_area", self.max_area, 0.0, 1.0, open_low=True)
        check_integer("least_side", self.least_side, 1, 1 << 16)
        if self.min_area > self.max_area:
            raise ValueError(f"min_area = {self.min_area:g} exceeds max_area = {self.max_area:g}")

    def start(self, cache: Path) -> Find:
        """The function that finds regions; it draws nothing."""
        return self._find

    def _find(self, pixels: Pixels, rng: np.random.Generator) -> Found:
        height, width = pixels.shape[:2]
        saliency = saliency_map(pixels)
        found = self._regions(saliency)
        scale = np.array([height / saliency.shape[0], width / saliency.shape[1]])
        start = np.floor(found.boxes[:, :2] * scale).astype(np.int64)
        end = np.ceil((found.boxes[:, :2] + found.boxes[:, 2:]) * scale).astype(np.int64)
        end = np.minimum(end, (height, width))
        areas = np.rint(found.areas * scale.prod()).astype(np.int64)
        whole = Found(np.concatenate([start, end - start], axis=1), areas, found.confidence)
        kept = admitted(whole, self.least_side, self.max_area, (height, width))
        chosen = _without_overlaps(kept.boxes)[: self.patches]
        return Found(kept.boxes[chosen], kept.areas[chosen], kept.confidence[chosen])

    def _regions(self, saliency: NDArray[np.float64]) -> Found:
        """Components of all levels at working size, best first."""
        from scipy import ndimage

        boxes, areas, confidence = [], [], []
        for level in LEVELS:
            salient = saliency > max(float(np.quantile(saliency, 1 - level)), 0.0)
            labels, count = ndimage.label(salient, np.ones((3, 3)))
            numbers = np.arange(1, count + 1)
            sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
            means = ndimage.mean(saliency, labels, numbers) if count else []
            for place, size, mean in zip(ndimage.find_objects(labels), sizes, means, strict=True):
                if self.min_area <= size / saliency.size <= self.max_area:
                    rows, columns = place
                    boxes.append(
                        (
                            rows.start,
                            columns.start,
                            rows.stop - rows.start,
                            columns.stop - columns.start,
                        )
                    )
                    areas.append(size)
                    confidence.append(mean)
        means, sizes = np.array(confidence, np.float64), np.array(areas, np.int64)
        order = np.argsort(-(means - saliency.mean()) * np.sqrt(sizes), kind="stable")
        return Found(
            np.array(boxes, np.int64).reshape(-1, 4)[order],
            sizes[order],
            means[order].astype(np.float32),
        )


def saliency_map(pixels: Pixels) -> NDArray[np.float64]:
    """How much each pixel differs from its surroundings, in [0, 1], at working size.

    Args:
        pixels: (H, W, 3).

    Returns:
        Shape (h, w), the longer side at most 128; see `Saliency`. All zero for a plain image.
    """
    from PIL import Image
    from scipy import ndimage
    from skimage.color import rgb2lab

    image = Image.fromarray(pixels)
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    lab = rgb2lab(np.asarray(image))
    longer = max(lab.shape)
    total = np.zeros(lab.shape[:2])
    for centre in CENTRES:
        sigma = centre * longer
        inner, outer = (
            ndimage.gaussian_filter(lab, (width, width, 0), mode="nearest")
            for width in (sigma, SURROUND * sigma)
        )
        contrast = np.linalg.norm(inner - outer, axis=2)
        # Rounding of a plain image is no contrast.
        if contrast.max() > 1e-6:
            total += contrast / contrast.max()
    return total / len(CENTRES)


def _without_overlaps(boxes: NDArray[np.int64]) -> NDArray[np.intp]:
    """Positions of the boxes that overlap no earlier kept one by more than `OVERLAP`."""
    kept: list[int] = []
    start, end = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    area = boxes[:, 2] * boxes[:, 3]
    for number in range(len(boxes)):
        shared = np.clip(
            np.minimum(end[number], end[kept]) - np.maximum(start[number], start[kept]), 0, None
        ).prod(axis=1)
        if np.all(shared <= OVERLAP * (area[number] + area[kept] - shared)):
            kept.append(number)
    return np.array(kept, np.intp)
