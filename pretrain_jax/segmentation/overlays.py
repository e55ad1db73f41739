"""Pictures of predictions: image, true mask and predicted mask side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pretrain_jax.segmentation.masks import IGNORE
from pretrain_jax.stages import Tile, contact_sheet

__all__ = ["Prediction", "overlay", "overlay_sheet", "spread"]

Bytes = NDArray[np.uint8]

SHOWN = 12
OPACITY = 0.5
# Okabe and Ito's colours, which are told apart by colour-blind readers too; classes from 1 on.
COLOURS = np.array([(230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0)])
UNKNOWN = np.array((128, 128, 128))


@dataclass(frozen=True)
class Prediction:
    """A case with what was predicted.

    Attributes:
        name: of the case.
        pixels: (H, W, C).
        truth: labels (H, W).
        predicted: labels (H, W).
        miou: of this case alone.
    """

    name: str
    pixels: Bytes
    truth: Bytes
    predicted: Bytes
    miou: float


def overlay(pixels: Bytes, labels: Bytes) -> Bytes:
    """The image (H, W, 3) with every class but the first in a colour; `IGNORE` is grey."""
    shown = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
    mixed = shown.astype(np.float64)
    for label in np.unique(labels):
        if label == 0:
            continue
        colour = UNKNOWN if label == IGNORE else COLOURS[(int(label) - 1) % len(COLOURS)]
        where = labels == label
        mixed[where] = (1 - OPACITY) * mixed[where] + OPACITY * colour
    return np.rint(mixed).astype(np.uint8)


def spread(cases: int, shown: int = SHOWN) -> list[int]:
    """Numbers of at most `shown` of the cases, spread over them."""
    return sorted({round(place) for place in np.linspace(0, cases - 1, min(cases, shown))})


def overlay_sheet(predictions: Sequence[Prediction], *, of: int) -> Bytes:
    """A contact sheet: image, true mask and predicted mask of each case.

    Args:
        predictions: those that are shown.
        of: number of cases there are.
    """
    tiles = []
    for one in predictions:
        tiles += [
            Tile(one.pixels, (one.name,)),
            Tile(overlay(one.pixels, one.truth), ("truth",)),
            Tile(overlay(one.pixels, one.predicted), (f"predicted, mIoU {one.miou:.3f}",)),
        ]
    return contact_sheet([(f"{len(predictions)} of {of} test cases", tiles)], columns=6)
