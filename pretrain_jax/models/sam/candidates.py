"""One crop on the device: points -> masks that pass the filters, in fixed shapes."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from pretrain_jax.models.sam.filters import Array, Measures, measure, near_inner_edge, nms
from pretrain_jax.models.sam.modeling import SAM

__all__ = ["Candidates", "Frame", "Limits", "find_candidates", "work_off"]

Tree = TypeVar("Tree")


class Limits(NamedTuple):
    """Thresholds of the filters; see `GeneratorConfig`."""

    iou: Array
    stability: Array
    offset: Array
    mask: Array
    min_area: Array
    max_area: Array
    box_nms: Array


class Frame(NamedTuple):
    """Where a crop lies and how its masks get there.

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
    """The best masks of a crop, K slots of which some are empty.

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
    """`function` of the chosen rows; the others hold zeros or, filling a chunk, their own value.

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
    """The K best of the K old and the new ones; those that stay do not move."""
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
