"""What a proposer answers, and the rules that all boxes obey."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


class Found(NamedTuple):
    """Patches of one image, the best first.

    Attributes:
        boxes: (n, 4) top, left, height, width in pixels, inside the image.
        areas: (n,) pixels of the mask; of the box where there is no mask.
        confidence: (n,) predicted IoU, mean saliency, or 1.
    """

    boxes: NDArray[np.int64]
    areas: NDArray[np.int64]
    confidence: NDArray[np.float32]


# Pixels (H, W, 3) and a generator of the image's own -> its patches.
Find = Callable[[Pixels, np.random.Generator], Found]


class Proposer(Protocol):
    """Where patches may lie in an image.

    Attributes:
        name: on the command line and in manifests.
        least_side: shorter side that every box has at least, in pixels.
    """

    name: ClassVar[str]

    @property
    def least_side(self) -> int: ...

    def parameters(self) -> dict[str, Any]:
        """What determines the boxes, JSON-able; the name is not among it."""
        ...

    def inputs(self) -> dict[str, str]:
        """sha256 of files that determine the boxes, by name.

        Raises:
            ValueError: one is missing; says what to put where.
        """
        ...

    def start(self, cache: Path) -> Find:
        """Load what is needed and give the function that finds patches.

        Args:
            cache: folder for what is worth keeping.
        """
        ...


class OfFields:
    """What proposers share whose boxes their own fields alone determine; of dataclasses."""

    def parameters(self) -> dict[str, Any]:
        """All fields."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    def inputs(self) -> dict[str, str]:
        """None."""
        return {}


def grown(boxes: NDArray[np.integer], least: int, size: tuple[int, int]) -> NDArray[np.int64]:
    """Boxes whose shorter side is at least `least`, grown around their centres inside the image.

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
    """Patches grown to the least side, without large and repeated boxes, in their order.

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
