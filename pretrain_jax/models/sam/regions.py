"""Small holes and islands of masks, which thresholded logits leave behind."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["without_small_regions"]

# Pixels that touch at a corner belong together.
EIGHT = np.ones((3, 3), bool)


def without_small_regions(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """The mask with every hole of fewer than `pixels` filled, then every such island removed.

    Regions are 8-connected, those of the background as well. Where all islands are small the
    largest stays (Kirillov et al. 2023, arXiv:2304.02643, appendix B, use 100 pixels).

    Args:
        mask: shape (H, W).
        pixels: regions of at least that many pixels stay as they are.
    """
    filled = mask | _small(~mask, pixels)
    small = _small(filled, pixels)
    if not (filled & ~small).any():
        labels, _ = ndimage.label(filled, EIGHT)
        sizes = np.bincount(labels.ravel())[1:]
        return np.asarray(labels == 1 + np.argmax(sizes)) if len(sizes) else filled
    return filled & ~small


def _small(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """Pixels of the regions with fewer than `pixels`."""
    labels, _ = ndimage.label(mask, EIGHT)
    sizes = np.bincount(labels.ravel())
    small = sizes < pixels
    small[0] = False
    return np.asarray(small[labels])
