"""Proposes where patches may lie in an image.

It has what a proposer answers, and the proposers that need no weights.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_choice, check_integer, check_range

Pixels = NDArray[np.uint8]
PROPOSERS: Mapping[str, str] = MappingProxyType(
    {
        "saliency": "pretrain_jax.synthesis.proposers:Saliency",
        "random-crop": "pretrain_jax.synthesis.proposers:RandomCrop",
        "sam": "pretrain_jax.synthesis.sam:Sam",
    }
)
# Working size: the longer side in pixels.
SIDE = 128
# Standard deviations of the centre, in shares of the working image's longer side; the surround's
# is four times as wide.
CENTRES = (1 / 128, 1 / 64, 1 / 32)
SURROUND = 4
# The most salient shares of the pixels whose components are candidates.
LEVELS = (0.05, 0.1, 0.2, 0.3)
OVERLAP = 0.7


class Found(NamedTuple):
    """Holds patches of one image, the best first.

    Attributes:
        boxes: (n, 4) top, left, height, width in pixels, inside the image.
        areas: (n,) pixels of the mask; of the box where there is no mask.
        confidence: (n,) predicted IoU, mean saliency, or 1.
    """

    boxes: NDArray[np.int64]
    areas: NDArray[np.int64]
    confidence: NDArray[np.float32]


# Such a function maps pixels (H, W, 3) and a generator of the image's own to its patches.
Find = Callable[[Pixels, np.random.Generator], Found]


class Proposer(Protocol):
    """Says where patches may lie in an image.

    Attributes:
        name: on the command line and in manifests.
        least_side: shorter side that every box has at least, in pixels.
    """

    name: ClassVar[str]

    @property
    def least_side(self) -> int: ...

    def parameters(self) -> dict[str, Any]:
        """Return what determines the boxes, JSON-able.

        The name is not among it.
        """
        ...

    def inputs(self) -> dict[str, str]:
        """Hash the files that determine the boxes.

        It returns the sha256 by name.

        Raises:
            ValueError: one is missing; says what to put where.
        """
        ...

    def start(self, cache: Path) -> Find:
        """Load what is needed, and return the function that finds patches.

        Args:
            cache: folder for what is worth keeping.
        """
        ...


class OfFields:
    """Serves as the base of proposers whose own fields determine the boxes.

    Such proposers are dataclasses.
    """

    def parameters(self) -> dict[str, Any]:
        """Return all fields."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    def inputs(self) -> dict[str, str]:
        """Return no files."""
        return {}


def grown(boxes: NDArray[np.integer], least: int, size: tuple[int, int]) -> NDArray[np.int64]:
    """Grow boxes around their centres to a least shorter side.

    They stay inside the image.

    Args:
        boxes: (n, 4) top, left, height, width, inside the image.
        least: pixels, at most the image's shorter side.
        size: height and width of the image.
    """
    start, length = boxes[:, :2].astype(np.int64), boxes[:, 2:].astype(np.int64)
    longer = np.maximum(length, least)
    start = start - (longer - length) // 2
    start = np.clip(start, 0, np.array(size) - longer)
    return np.concatenate([start, longer], axis=1)


def admitted(found: Found, least: int, most_area: float, size: tuple[int, int]) -> Found:
    """Grow patches to the least side, and drop large and repeated boxes.

    They keep their order.

    Args:
        found: the patches.
        least: pixels of the shorter side.
        most_area: largest share of the image that a box may cover.
        size: height and width of the image.
    """
    boxes = grown(found.boxes, least, size)
    small = boxes[:, 2] * boxes[:, 3] <= most_area * size[0] * size[1]
    _, first = np.unique(boxes, axis=0, return_index=True)
    kept = np.sort(first)
    kept = kept[small[kept]]
    return Found(boxes[kept], found.areas[kept], found.confidence[kept])


def proposer_from_name(name: str, **options: Any) -> Proposer:
    """Make the proposer called `name` with some fields other than their defaults.

    Raises:
        ValueError: an unknown name, or a value outside its range.
        TypeError: a field that the proposer lacks.
    """
    check_choice("proposer", name, PROPOSERS)
    proposer: Proposer = resolve_name(PROPOSERS[name])(**options)
    return proposer


@dataclass(frozen=True)
class RandomCrop(OfFields):
    """Draws boxes of random area, shape and place.

    The area is uniform in `scale`, width over height log-uniform in `ratio`, the place uniform;
    sides are at least `least_side` and at most the image's.

    Attributes:
        crops: boxes of an image.
        scale: range of the box's area as a share of the image's.
        ratio: range of width over height.
        least_side: pixels of the shorter side.

    Source: patches by random cropping of which the hardest are kept, as in Sun et al. 2024,
    arXiv:2312.03526; the ranges are torchvision's of random resized crops with a largest area of
    one half.
    """

    crops: int = 8
    scale: tuple[float, float] = (0.08, 0.5)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    least_side: int = 16

    name: ClassVar[str] = "random-crop"

    def __post_init__(self) -> None:
        check_integer("crops", self.crops, 1, 10_000)
        check_range("scale", self.scale, 0.0, 1.0, open_low=True)
        check_range("ratio", self.ratio, 0.0, math.inf, open_low=True)
        check_integer("least_side", self.least_side, 1, 1 << 16)
        for name in ("scale", "ratio"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} = ({low:g}, {high:g}) is not an ascending pair")

    def start(self, cache: Path) -> Find:
        """Return the function that draws boxes."""
        return self._find

    def _find(self, pixels: Pixels, rng: np.random.Generator) -> Found:
        height, width = pixels.shape[:2]
        area = height * width * rng.uniform(*self.scale, self.crops)
        low, high = (math.log(end) for end in self.ratio)
        shape = np.exp(rng.uniform(low, high, self.crops) / 2)
        tall = np.clip(np.rint(np.sqrt(area) / shape), self.least_side, height).astype(np.int64)
        wide = np.clip(np.rint(np.sqrt(area) * shape), self.least_side, width).astype(np.int64)
        top = rng.integers(height - tall + 1)
        left = rng.integers(width - wide + 1)
        boxes = np.stack([top, left, tall, wide], axis=1)
        found = Found(boxes, tall * wide, np.ones(self.crops, np.float32))
        return admitted(found, self.least_side, 1.0, (height, width))


@dataclass(frozen=True)
class Saliency(OfFields):
    """Finds boxes around connected regions that differ from their surroundings.

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
        """Return the function that finds regions.

        It draws nothing.
        """
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
        """Find the components of all levels, best first.

        They are those at the working size.
        """
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
    """Measure how much each pixel differs from its surroundings.

    The values lie in [0, 1], at the working size.

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
    """Keep the boxes that overlap no earlier one too much.

    Positions are returned. Too much is more than `OVERLAP`.
    """
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
