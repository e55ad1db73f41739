"""What the automatic mask generator keeps: stable masks, no duplicates, none cut by a crop."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from numpy.typing import NDArray

__all__ = ["Measures", "box_iou", "measure", "near_inner_edge", "nms"]

Array = jax.Array | NDArray
# Pixels between a box and an edge of its crop below which the crop may have cut the object.
EDGE = 20.0


class Measures(NamedTuple):
    """Numbers of masks at the image's resolution.

    Attributes:
        stability: pixels above threshold + offset over those above threshold - offset; 0 where
            there are none.
        area: pixels above the threshold.
        boxes: (..., 4) first column, first row, last column, last row of the mask; zeros where it
            is empty.
    """

    stability: jax.Array
    area: jax.Array
    boxes: jax.Array


def measure(
    logits: jax.Array,
    rows: Array,
    columns: Array,
    size: Array,
    threshold: Array,
    offset: Array,
) -> Measures:
    """Stability, area and box of masks, interpolated to the image's resolution.

    Args:
        logits: (..., m, m) predicted masks.
        rows: (H', m) `mask_operator` of the rows, zero rows behind the image's.
        columns: (W', m) the same of the columns.
        size: (2,) height and width of the image, at most H' and W'.
        threshold: logit above which a pixel belongs to the mask.
        offset: of the stability score.

    Source: Kirillov et al. 2023, arXiv:2304.02643, appendix B.
    """
    wide = interpolate(logits, rows, columns)
    inside = (jnp.arange(wide.shape[-2]) < size[0])[:, None] & (
        jnp.arange(wide.shape[-1]) < size[1]
    )
    strict, mask, loose = (
        (wide > threshold + shift) & inside for shift in (offset, jnp.zeros_like(offset), -offset)
    )
    strict, area, loose = (
        part.sum(axis=(-2, -1), dtype=jnp.int32) for part in (strict, mask, loose)
    )
    stability = (strict / jnp.maximum(loose, 1)).astype(logits.dtype)
    left, right = _extent(mask.any(axis=-2))
    top, bottom = _extent(mask.any(axis=-1))
    boxes = jnp.stack([left, top, right, bottom], axis=-1).astype(jnp.int32)
    return Measures(stability, area, jnp.where((area > 0)[..., None], boxes, 0))


def interpolate(logits: jax.Array, rows: Array, columns: Array) -> jax.Array:
    """Masks (..., m, m) at the image's resolution, (..., H', W')."""
    # Full precision: accelerators otherwise round the factors to eight or eleven bits.
    exact = lax.Precision.HIGHEST
    half = jnp.einsum("...ij,wj->...iw", logits, columns, precision=exact)
    return jnp.einsum("hi,...iw->...hw", rows, half, precision=exact)


def box_iou(a: jax.Array, b: jax.Array) -> jax.Array:
    """Intersection over union of boxes (left, top, right, bottom): (n, 4), (m, 4) -> (n, m).

    Sides are right - left and bottom - top; 0 where both boxes are empty.
    """
    low = jnp.maximum(a[:, None, :2], b[None, :, :2])
    high = jnp.minimum(a[:, None, 2:], b[None, :, 2:])
    common = jnp.prod(jnp.maximum(high - low, 0), axis=-1)
    areas = [jnp.prod(box[:, 2:] - box[:, :2], axis=-1) for box in (a, b)]
    union = areas[0][:, None] + areas[1][None, :] - common
    return common / jnp.where(union > 0, union, 1)


def nms(boxes: jax.Array, scores: jax.Array, valid: jax.Array, threshold: Array) -> jax.Array:
    """Greedy non-maximum suppression: which boxes no better kept box overlaps too much.

    Box i stays if no kept box j of higher score (of lower index at the same score) has
    IoU(i, j) > threshold. The rule defines the kept set from the best box on; iterating it from
    "all are kept" settles one more rank a step at least, most of them in the first few.

    Args:
        boxes: (n, 4) left, top, right, bottom.
        scores: (n,).
        valid: (n,) boxes that take part.
        threshold: in [0, 1].

    Returns:
        (n,) booleans.
    """
    boxes = boxes.astype(scores.dtype)
    index = jnp.arange(len(scores))
    ahead = (scores[:, None] > scores[None, :]) | (
        (scores[:, None] == scores[None, :]) & (index[:, None] < index[None, :])
    )
    suppresses = ahead & (box_iou(boxes, boxes) > threshold) & valid[:, None]

    def step(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        kept, _ = state
        new = valid & ~jnp.any(suppresses & kept[:, None], axis=0)
        return new, jnp.any(new != kept)

    kept, _ = lax.while_loop(lambda state: state[1], step, (valid, jnp.array(True)))
    return kept


def near_inner_edge(boxes: jax.Array, crop: Array, image: Array) -> jax.Array:
    """Whether a side of the box lies at its crop's edge where that is not the image's edge.

    Args:
        boxes: (n, 4) in the crop's pixels.
        crop: (4,) left, top, right, bottom in the image's pixels.
        image: (4,) zeros, width, height.

    Returns:
        (n,) booleans.
    """
    placed = boxes + jnp.tile(crop[:2], 2)
    return jnp.any((jnp.abs(placed - crop) <= EDGE) & (jnp.abs(placed - image) > EDGE), axis=-1)


def _extent(hit: jax.Array) -> tuple[jax.Array, jax.Array]:
    """First and last true index of the last axis."""
    return jnp.argmax(hit, axis=-1), hit.shape[-1] - 1 - jnp.argmax(hit[..., ::-1], axis=-1)
