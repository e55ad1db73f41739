"""Finds the masks of one crop that pass the filters.

All of it runs on the device and in fixed shapes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from numpy.typing import NDArray

from pretrain_jax.models.sam.modeling import SAM

Array = jax.Array | NDArray
# Pixels between a box and an edge of its crop below which the crop may have cut the object.
EDGE = 20.0
Tree = TypeVar("Tree")


class Measures(NamedTuple):
    """Holds numbers of masks at the image's resolution.

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
    """Measure stability, area and box of masks.

    The masks are interpolated to the image's resolution.

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
    """Interpolate masks to the image's resolution.

    From (..., m, m) they come to (..., H', W').
    """
    # Without full precision accelerators round the factors to eight or eleven bits.
    exact = lax.Precision.HIGHEST
    half = jnp.einsum("...ij,wj->...iw", logits, columns, precision=exact)
    return jnp.einsum("hi,...iw->...hw", rows, half, precision=exact)


def box_iou(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return the IoU of every pair of boxes.

    Boxes are (left, top, right, bottom), of shape (n, 4) and (m, 4). The answer has the shape (n,
    m).

    Sides are right - left and bottom - top. The IoU is 0 where both boxes are empty.
    """
    low = jnp.maximum(a[:, None, :2], b[None, :, :2])
    high = jnp.minimum(a[:, None, 2:], b[None, :, 2:])
    common = jnp.prod(jnp.maximum(high - low, 0), axis=-1)
    areas = [jnp.prod(box[:, 2:] - box[:, :2], axis=-1) for box in (a, b)]
    union = areas[0][:, None] + areas[1][None, :] - common
    return common / jnp.where(union > 0, union, 1)


def nms(boxes: jax.Array, scores: jax.Array, valid: jax.Array, threshold: Array) -> jax.Array:
    """Say which boxes no better kept box overlaps too much.

    This is greedy non-maximum suppression.

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
    """Say whether a box touches an inner edge of its crop.

    An inner edge is one that is not an edge of the image.

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
    """Return the first and the last true index of the last axis."""
    return jnp.argmax(hit, axis=-1), hit.shape[-1] - 1 - jnp.argmax(hit[..., ::-1], axis=-1)


class Limits(NamedTuple):
    """Holds the thresholds of the filters.

    See `GeneratorConfig`.
    """

    iou: Array
    stability: Array
    offset: Array
    mask: Array
    min_area: Array
    max_area: Array
    box_nms: Array


class Frame(NamedTuple):
    """Says where a crop lies and how its masks get there.

    Attributes:
        rows: (H', 4G) `mask_operator` of the rows, zero rows behind the crop's.
        columns: (W', 4G) the same of the columns.
        crop: (4,) left, top, right, bottom in the image's pixels.
        image: (4,) zeros, width and height of the image.
    """

    rows: Array
    columns: Array
    crop: Array
    image: Array


class Candidates(NamedTuple):
    """Holds the best masks of a crop.

    It has K slots, of which some are empty.

    Attributes:
        kept: (K,) whether the slot holds a mask that passed all filters and the suppression.
        iou: (K,) predicted IoU, -inf in empty slots.
        point: (K,) index of the mask's point.
        measures: stability, area and box (in the crop's pixels) of each.
        logits: (K, 4G, 4G) the masks.
        passed: masks that passed the filters; those beyond the K best are lost.
    """

    kept: jax.Array
    iou: jax.Array
    point: jax.Array
    measures: Measures
    logits: jax.Array
    passed: jax.Array


def find_candidates(
    model: SAM,
    image: jax.Array,
    points: jax.Array,
    valid: jax.Array,
    frame: Frame,
    limits: Limits,
    *,
    capacity: int,
    chunk: int,
    mask_chunk: int,
) -> Candidates:
    """Prompt the model with every point and keep what passes.

    Each batch of points goes through the two-way attention, which predicts the IoUs; only points
    that pass on one of them are upscaled to masks, only masks that pass are measured. The K best
    by predicted IoU stay in place while the batches run, then duplicates are suppressed.

    Args:
        model: the weights.
        image: (S, S, C) the crop as the model takes it.
        points: (batches, n, 2) pixels (x, y) of the model's input.
        valid: (batches, n) false for points that only fill the last batch.
        frame: where the crop lies.
        limits: thresholds.
        capacity: K.
        chunk: points upscaled to masks at once; divides n.
        mask_chunk: masks measured at once; divides n times the masks of a point.
    """
    config = model.config
    embedding = model.encode(image[None])[0] + model.prompt.dense(None)
    positions = model.prompt.grid()
    size, masks = config.mask_size, config.multimask_outputs
    per_batch = points.shape[1]
    extent = (frame.crop[2:] - frame.crop[:2])[::-1]
    pixels = frame.image[2] * frame.image[3]

    def attend(prompts: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        tokens, attended = model.decoder.attend(embedding, positions, prompts)
        return tokens, attended, model.decoder.iou(tokens, True)

    def upscale(args: tuple[jax.Array, jax.Array]) -> jax.Array:
        return model.decoder.masks(*args, True).astype(jnp.float32)

    def weigh(logits: jax.Array) -> Measures:
        return measure(logits, frame.rows, frame.columns, extent, limits.mask, limits.offset)

    def batch(best: Candidates, this: tuple[jax.Array, ...]) -> tuple[Candidates, None]:
        points, valid, first = this
        labels = jnp.ones((per_batch, 1), jnp.int32)
        tokens, attended, iou = jax.vmap(attend)(model.prompts(points[:, None], labels))
        iou = iou.astype(jnp.float32)
        likely = (iou > limits.iou) & valid[:, None]
        logits = work_off(jax.vmap(upscale), likely.any(axis=1), (tokens, attended), chunk)
        logits = logits.reshape(-1, size, size)
        measures = work_off(weigh, likely.ravel(), logits, mask_chunk)
        area = measures.area.astype(jnp.float32)
        passes = (
            likely.ravel()
            & (measures.stability >= limits.stability)
            & (measures.area > 0)
            & (area >= limits.min_area * pixels)
            & (area <= limits.max_area * pixels)
            & ~near_inner_edge(measures.boxes, frame.crop, frame.image)
        )
        new = Candidates(
            kept=passes,
            iou=jnp.where(passes, iou.ravel(), -jnp.inf),
            point=first + jnp.repeat(jnp.arange(per_batch, dtype=jnp.int32), masks),
            measures=measures,
            logits=logits,
            passed=best.passed + passes.sum(dtype=jnp.int32),
        )
        return _best(best, new), None

    empty = Candidates(
        kept=jnp.zeros(capacity, bool),
        iou=jnp.full(capacity, -jnp.inf, jnp.float32),
        point=jnp.zeros(capacity, jnp.int32),
        measures=Measures(
            jnp.zeros(capacity, jnp.float32),
            jnp.zeros(capacity, jnp.int32),
            jnp.zeros((capacity, 4), jnp.int32),
        ),
        logits=jnp.zeros((capacity, size, size), jnp.float32),
        passed=jnp.array(0, jnp.int32),
    )
    first = jnp.arange(len(points), dtype=jnp.int32) * per_batch
    best, _ = lax.scan(batch, empty, (points, valid, first))
    kept = nms(best.measures.boxes, best.iou, best.kept, limits.box_nms)
    return best._replace(kept=kept)


def work_off(function: Callable[[Any], Tree], chosen: jax.Array, rows: Any, chunk: int) -> Tree:
    """Apply a function to the chosen rows alone.

    The others hold zeros, or their own value where they fill up a chunk.

    Args:
        function: of `chunk` rows at once.
        chosen: (n,) booleans.
        rows: arrays (n, ...).
        chunk: divides n.
    """
    # A permutation: no row occurs twice, whatever fills the last chunk.
    order = jnp.argsort(~chosen, stable=True)

    def step(index: jax.Array, out: Tree) -> Tree:
        at = lax.dynamic_slice_in_dim(order, index * chunk, chunk)
        done = function(jax.tree.map(lambda row: row[at], rows))
        return jax.tree.map(lambda whole, part: whole.at[at].set(part), out, done)

    shapes = jax.eval_shape(function, jax.tree.map(lambda row: row[:chunk], rows))
    zeros = jax.tree.map(lambda s: jnp.zeros((len(chosen), *s.shape[1:]), s.dtype), shapes)
    return lax.fori_loop(0, -(-chosen.sum() // chunk), step, zeros)


def _best(old: Candidates, new: Candidates) -> Candidates:
    """Return the K best of the K old candidates and the new ones.

    Those that stay do not move.
    """
    capacity, count = len(old.iou), len(new.iou)
    # At equal scores the earlier index wins: what is stored stays.
    _, top = lax.top_k(jnp.concatenate([old.iou, new.iou]), capacity)
    winner = jnp.zeros(capacity + count, bool).at[top].set(True)
    free = jnp.argsort(winner[:capacity], stable=True)
    enters = winner[capacity:] & new.kept
    order = jnp.argsort(~enters, stable=True)[:capacity]
    slot = jnp.where(enters[order], free[: len(order)], capacity)

    def store(whole: jax.Array, part: jax.Array) -> jax.Array:
        return whole.at[slot].set(part[order], mode="drop")

    stored = jax.tree.map(store, old._replace(passed=old.iou), new._replace(passed=new.iou))
    return stored._replace(passed=new.passed)
