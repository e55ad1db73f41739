"""How masks of the generator are compared with those of another derivation."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from pretrain_jax.models.sam import GeneratorConfig, ImageMasks
from tests.pretrain_jax.sam.reference import Mask, Prompted


def at_quantiles(
    prompted: Prompted, image: NDArray, side: int, settings: GeneratorConfig
) -> GeneratorConfig:
    """Thresholds that random weights pass: quantiles of what they say about the image.

    Their masks are specks all over the image: boxes differ less than those of objects.
    """
    scale = side / max(image.shape[:2])
    inner = np.floor(np.array(image.shape[1::-1]) * scale + 0.5)
    centres = (np.stack(np.meshgrid(np.arange(8), np.arange(8)), axis=-1).reshape(-1, 2) + 0.5) / 8
    logits, iou = prompted(image, centres * inner)
    return dataclasses.replace(
        settings,
        mask_threshold=float(np.quantile(logits, 0.98)),
        stability_offset=float(0.02 * logits.std()),
        stability_threshold=0.6,
        box_nms_threshold=0.95,
        crop_nms_threshold=0.9,
        iou_threshold=float(np.quantile(iou, 0.3)),
    )


def assert_same(ours: ImageMasks, theirs: list[Mask], threshold: float, least: int) -> None:
    """Same masks in the same order; pixels next to the threshold may fall on either side."""
    assert len(ours.iou) == len(theirs) >= least
    # Masks with equal numbers up to rounding may change places: none do in these draws.
    np.testing.assert_allclose(ours.iou, [mask.iou for mask in theirs], rtol=1e-4, atol=1e-5)
    largest = max(np.nanmax(np.abs(mask.logits)) for mask in theirs)
    for index, mask in enumerate(theirs):
        clear = np.abs(mask.logits - threshold) >= 1e-4 * largest
        expected = np.nan_to_num(mask.logits, nan=-np.inf) > threshold
        differs = ours.masks[index] != expected
        assert not np.any(differs & (clear | np.isnan(mask.logits)))
        box = np.add(mask.box, (0, 0, 1, 1))
        if not differs.any():
            np.testing.assert_array_equal(ours.boxes[index], box)
        np.testing.assert_allclose(ours.points[index], mask.point, rtol=1e-5)
        np.testing.assert_array_equal(ours.crops[index], mask.crop)
    stability = [mask.stability for mask in theirs]
    # A pixel on the other side of an offset changes a ratio of a few dozen pixels.
    np.testing.assert_allclose(ours.stability, stability, atol=0.05)
