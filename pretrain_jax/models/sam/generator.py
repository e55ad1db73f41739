"""Finds every object's mask in an image, without prompts.

What was found is kept in a cache.
"""

import dataclasses
import hashlib
import json
import math
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from numpy.typing import NDArray
from scipy import ndimage

from hardset.arrays import load_arrays, npz_bytes
from hardset.cache import Cache
from hardset.datafile import write_bytes_atomic
from hardset.seal import check_seal
from pretrain_jax.models.sam.candidates import (
    Candidates,
    Frame,
    Limits,
    find_candidates,
    interpolate,
    nms,
)
from pretrain_jax.models.sam.config import GeneratorConfig
from pretrain_jax.models.sam.geometry import (
    Crop,
    crops_of,
    inner_size,
    mask_operator,
    model_input,
    point_grid,
    unit_range,
)
from pretrain_jax.models.sam.modeling import SAM

# Pixels that touch at a corner belong together.
EIGHT = np.ones((3, 3), bool)
# This number is a part of every key, so that files of another layout are not found.
MASKS_SCHEMA = 2
# Bytes that a file's arrays may take in memory; masks are compressed a hundredfold and more.
LARGEST = 1 << 33
# Type of each array beside the masks, and its shape behind the number of masks.
NUMBERS: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
    "boxes": (np.int32, (4,)),
    "iou": (np.float32, ()),
    "stability": (np.float32, ()),
    "points": (np.float32, (2,)),
    "crops": (np.int32, (4,)),
}
# Settings that change memory and speed, not masks.
SPEED = ("points_per_batch", "chunk")
# Rows and columns at full resolution are padded to multiples of this, so that few programs are
# compiled.
BUCKET = 256
# Pixels that masks at full resolution may take at once.
PIXELS_AT_ONCE = 1 << 25


def without_small_regions(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """Fill the small holes of a mask, then remove its small islands.

    Small are those of fewer than `pixels` pixels.

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
    """Return the pixels of the regions with fewer than `pixels`."""
    labels, _ = ndimage.label(mask, EIGHT)
    sizes = np.bincount(labels.ravel())
    small = sizes < pixels
    small[0] = False
    return np.asarray(small[labels])


class ImageMasks(NamedTuple):
    """Holds the masks of one image.

    The highest predicted IoU comes first.

    Attributes:
        masks: (n, H, W) booleans.
        boxes: (n, 4) pixels left, top, right, bottom, the last two exclusive:
            image[top:bottom, left:right] holds the mask.
        iou: (n,) predicted IoU.
        stability: (n,) stability scores.
        points: (n, 2) the prompt, pixels (x, y).
        crops: (n, 4) the crop in which the mask was found, as `boxes`.
    """

    masks: NDArray[np.bool_]
    boxes: NDArray[np.int32]
    iou: NDArray[np.float32]
    stability: NDArray[np.float32]
    points: NDArray[np.float32]
    crops: NDArray[np.int32]


class _Numbers(NamedTuple):
    """Holds all of `ImageMasks` but the masks."""

    boxes: NDArray[np.int32]
    iou: NDArray[np.float32]
    stability: NDArray[np.float32]
    points: NDArray[np.float32]
    crops: NDArray[np.int32]


class MaskGenerator:
    """Finds the masks of everything in an image, from a grid of points.

    Programs are compiled once for each layer of crops and each multiple of 256 pixels of height
    and width.

    Args:
        model: the weights, read once, here.
        config: settings; the published ones by default.

    Raises:
        ValueError: `mean` and `std` do not fit the model's channels.
    """

    def __init__(self, model: SAM, config: GeneratorConfig | None = None) -> None:
        self.config = config or GeneratorConfig()
        self.model_config = model.config
        if len(self.config.mean) != model.config.channels:
            raise ValueError(
                f"mean has {len(self.config.mean)} values, the model takes "
                f"{model.config.channels} channels"
            )
        graph, self.state = nnx.split(model)

        def find(state: nnx.State, *arrays: Any, **static: Any) -> Candidates:
            return find_candidates(nnx.merge(graph, state), *arrays, **static)

        self._find = jax.jit(find, static_argnames=("capacity", "chunk", "mask_chunk"))
        self._interpolate = jax.jit(interpolate)
        self._nms = jax.jit(nms)

    def __call__(self, image: NDArray) -> ImageMasks:
        """Return every mask of an image.

        Args:
            image: (H, W), (H, W, 1) or (H, W, C); unsigned integers use their type's range,
                floats lie in [0, 1].

        Returns:
            The masks; none may pass the filters.

        Raises:
            ValueError: an image of another shape, type or range, NaN.
        """
        pixels = unit_range(image, self.model_config.channels)
        height, width = pixels.shape[:2]
        crops = crops_of(height, width, self.config.crop_layers, self.config.crop_overlap)
        found = [self._search(pixels, crop) for crop in crops]
        if len(crops) > 1:
            found = self._across_crops(found)
        masks = np.concatenate([self._render(one, (height, width)) for one in found])
        numbers = _joined(found)
        if self.config.min_region and len(masks):
            masks, numbers = self._cleaned(masks, numbers)
        order = np.argsort(-numbers.iou, kind="stable")
        return ImageMasks(masks[order], *_only(numbers, order))

    def _search(self, pixels: NDArray[np.float32], crop: Crop) -> "_Found":
        """Return the masks of one crop."""
        config, model = self.config, self.model_config
        height, width = pixels.shape[:2]
        part = pixels[crop.top : crop.bottom, crop.left : crop.right]
        inner = inner_size(*crop.size, model.image_size)
        grid = point_grid(
            max(1, config.points_per_side // config.crop_points_downscale**crop.layer)
        )
        points = (grid * inner[::-1]).astype(np.float32)
        count = -(-len(points) // config.points_per_batch)
        filled = np.zeros((count * config.points_per_batch, 2), np.float32)
        filled[: len(points)] = points
        batches = filled.reshape(count, config.points_per_batch, 2)
        valid = (np.arange(len(filled)) < len(points)).reshape(batches.shape[:2])
        rows, columns = (
            _padded(mask_operator(model.mask_size, model.image_size, side, length))
            for side, length in zip(inner, crop.size, strict=True)
        )
        frame = Frame(
            rows,
            columns,
            crop=np.array(crop[:4], np.float32),
            image=np.array([0, 0, width, height], np.float32),
        )
        limits = Limits(
            iou=np.asarray(config.iou_threshold, np.float32),
            stability=np.asarray(config.stability_threshold, np.float32),
            offset=np.asarray(config.stability_offset, np.float32),
            mask=np.asarray(config.mask_threshold, np.float32),
            min_area=np.asarray(config.min_area, np.float32),
            max_area=np.asarray(config.max_area, np.float32),
            box_nms=np.asarray(config.box_nms_threshold, np.float32),
        )
        room = PIXELS_AT_ONCE // (len(rows) * len(columns))
        masks = config.points_per_batch * model.multimask_outputs
        best = self._find(
            self.state,
            model_input(part, model.image_size, config.mean, config.std),
            batches,
            valid,
            frame,
            limits,
            capacity=config.capacity,
            chunk=_divisor(config.points_per_batch, config.chunk),
            mask_chunk=_divisor(masks, min(config.chunk, room)),
        )
        if best.passed > config.capacity:
            warnings.warn(
                f"{int(best.passed)} masks passed the filters, only the {config.capacity} of "
                f"highest predicted IoU were kept: raise capacity = {config.capacity}",
                stacklevel=3,
            )
        kept = np.flatnonzero(best.kept)
        corner = np.array([crop.left, crop.top, crop.left, crop.top], np.int32)
        unit = grid[np.asarray(best.point)[kept]]
        return _Found(
            best.logits[kept],
            frame,
            _Numbers(
                # The last row and column of a box become exclusive.
                np.asarray(best.measures.boxes)[kept] + corner + np.array([0, 0, 1, 1], np.int32),
                np.asarray(best.iou)[kept],
                np.asarray(best.measures.stability)[kept],
                (unit * crop.size[::-1] + corner[:2]).astype(np.float32),
                np.tile(np.array(crop[:4], np.int32), (len(kept), 1)),
            ),
        )

    def _across_crops(self, found: list["_Found"]) -> list["_Found"]:
        """Suppress duplicates between crops.

        Of two the one of the smaller crop stays, then the one of higher predicted IoU.
        """
        boxes, iou, _, _, crops = _joined(found)
        areas = np.prod(crops[:, 2:] - crops[:, :2], axis=1)
        kept = self._distinct(boxes, np.lexsort((-iou, areas)), self.config.crop_nms_threshold)
        ends = np.cumsum([len(one.numbers.iou) for one in found])
        parts = np.split(kept, ends[:-1])
        return [one.only(np.flatnonzero(p)) for one, p in zip(found, parts, strict=True)]

    def _cleaned(
        self, masks: NDArray[np.bool_], numbers: _Numbers
    ) -> tuple[NDArray[np.bool_], _Numbers]:
        """Return masks without small regions.

        Masks that needed no change win over those that did.
        """
        config = self.config
        clean = np.stack([without_small_regions(mask, config.min_region) for mask in masks])
        changed = (clean != masks).any(axis=(1, 2))
        boxes = np.array([_box(mask) for mask in clean], np.int32)
        threshold = max(config.box_nms_threshold, config.crop_nms_threshold)
        order = np.lexsort((-numbers.iou, changed))
        kept = np.flatnonzero(self._distinct(boxes, order, threshold))
        return clean[kept], _only(numbers._replace(boxes=boxes), kept)

    def _distinct(
        self, boxes: NDArray[np.int32], order: NDArray[np.intp], threshold: float
    ) -> NDArray[np.bool_]:
        """Return the boxes that no earlier box overlaps too much.

        Earlier ones come before them in `order`, and too much is an IoU above the threshold.
        """
        count = len(boxes)
        rank = np.empty(count, np.float32)
        rank[order] = -np.arange(count)
        # One compiled program for each power of two.
        room = 1 << max(count - 1, 1).bit_length()
        spare = (0, room - count)
        kept = self._nms(
            np.pad(boxes - np.array([0, 0, 1, 1]), (spare, (0, 0))),
            np.pad(rank, spare),
            np.arange(room) < count,
            np.float32(threshold),
        )
        return np.asarray(kept)[:count]

    def _render(self, found: "_Found", image: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the masks (n, H, W) of one crop's logits."""
        masks = np.zeros((len(found.logits), *image), bool)
        left, top, right, bottom = np.asarray(found.frame.crop).astype(int)
        rows, columns = found.frame.rows, found.frame.columns
        room = max(1, min(self.config.chunk, PIXELS_AT_ONCE // (len(rows) * len(columns))))
        for start in range(0, len(masks), room):
            part = np.asarray(found.logits[start : start + room])
            full = np.pad(part, ((0, room - len(part)), (0, 0), (0, 0)))
            wide = np.asarray(self._interpolate(full, rows, columns)[: len(part)])
            inside = wide[:, : bottom - top, : right - left] > self.config.mask_threshold
            masks[start : start + room, top:bottom, left:right] = inside
        return masks


class _Found(NamedTuple):
    """Holds what was found in one crop.

    It has logits (n, 4G, 4G), where they lie, and their numbers.
    """

    logits: jax.Array
    frame: Frame
    numbers: _Numbers

    def only(self, kept: NDArray[np.intp]) -> "_Found":
        return _Found(self.logits[kept], self.frame, _only(self.numbers, kept))


def _only(numbers: _Numbers, index: NDArray[np.intp]) -> _Numbers:
    """Return those with these indices."""
    return jax.tree.map(lambda part: part[index], numbers)


def _joined(found: list[_Found]) -> _Numbers:
    """Return the numbers of all crops."""
    return jax.tree.map(lambda *parts: np.concatenate(parts), *(one.numbers for one in found))


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Return the left, top, right and bottom of a mask, the last two exclusive."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _padded(operator: NDArray[np.float64]) -> NDArray[np.float32]:
    """Pad rows with zeros up to the next multiple of `BUCKET`."""
    missing = -len(operator) % BUCKET
    return np.pad(operator, ((0, missing), (0, 0))).astype(np.float32)


def _divisor(number: int, most: int) -> int:
    """Return the largest divisor of `number` that is at most `most`."""
    return max(part for part in range(1, max(most, 1) + 1) if number % part == 0)


class MasksCache:
    """Stores what a mask generator finds.

    It keeps one file for each image, see `hardset.cache`.

    Masks are known by the image's content, the weights and the settings.

    Args:
        generator: computes the masks of images that the folder lacks.
        folder: created if missing; must be writable.

    Attributes:
        found: images whose masks were read.
        computed: images whose masks were computed.
    """

    def __init__(self, generator: MaskGenerator, folder: str | Path) -> None:
        self._generator = generator
        self._files = Cache(folder, ".npz", _unpacked, _write, "those of earlier images are kept")
        settings = dataclasses.asdict(generator.config)
        for name in SPEED:
            del settings[name]
        text = json.dumps([MASKS_SCHEMA, settings, dataclasses.asdict(generator.model_config)])
        digest = hashlib.sha256(text.encode())
        for leaf in jax.tree.leaves(generator.state):
            _add(digest, np.asarray(leaf))
        self._prefix = digest
        self.found = 0
        self.computed = 0

    def __call__(self, image: NDArray) -> ImageMasks:
        """Return every mask of an image.

        See `MaskGenerator`.

        Raises:
            ValueError: an image of another shape, type or range.
            OSError: the folder cannot be written, with the reason.
        """
        key = self._key(image)
        masks = self._files.load(key)
        if masks is not None:
            self.found += 1
            return masks
        masks = self._generator(image)
        self.computed += 1
        self._files.store(key, masks)
        return masks

    def path(self, image: NDArray) -> Path:
        """Name the file of an image's masks, whether it exists or not."""
        return self._files.path(self._key(image))

    def _key(self, image: NDArray) -> str:
        digest = self._prefix.copy()
        _add(digest, image)
        return digest.hexdigest()[:32]


def _add(digest: "hashlib._Hash", array: NDArray) -> None:
    """Hash an array's shape, type and content."""
    digest.update(f"{array.shape}{array.dtype}".encode())
    digest.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")


def _write(path: Path, masks: ImageMasks) -> None:
    """Write a sealed .npz file with eight pixels a byte."""
    shape = np.asarray(masks.masks.shape)
    parts = masks._asdict() | {"masks": np.packbits(masks.masks), "shape": shape}
    write_bytes_atomic(path, npz_bytes(parts, compressed=True))


def _unpacked(path: Path) -> ImageMasks | None:
    """Read the masks of a file.

    It is None where the file holds something else.
    """
    check_seal(path)
    parts = load_arrays(path, limit_bytes=LARGEST)
    bits, shape = parts.pop("masks", None), parts.pop("shape", None)
    if bits is None or bits.dtype != np.uint8 or shape is None or parts.keys() != NUMBERS.keys():
        return None
    if shape.shape != (3,) or shape.dtype.kind != "i" or min(shape.tolist()) < 0:
        return None
    count, pixels = int(shape[0]), math.prod(shape.tolist())
    if bits.shape != (-(-pixels // 8),):
        return None
    for name, (dtype, width) in NUMBERS.items():
        if parts[name].dtype != dtype or parts[name].shape != (count, *width):
            return None
    masks = np.unpackbits(bits, count=pixels).reshape(shape).astype(bool)
    return ImageMasks(masks=masks, **parts)
