"""Masks on disk, found again by the image's content, the weights and the settings."""

import dataclasses
import hashlib
import json
import math
from pathlib import Path

import jax
import numpy as np
from numpy.typing import NDArray

from hardset.arrays import load_arrays, npz_bytes
from hardset.cli import check_output_folder
from hardset.datafile import write_bytes_atomic
from hardset.seal import check_seal
from pretrain_jax.models.sam.generator import ImageMasks, MaskGenerator

# Part of every key: files of another layout are not found.
SCHEMA = 2
# What a file's arrays may take in memory: masks are compressed a hundredfold and more.
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


class MasksCache:
    """A mask generator that stores what it finds: one file an image, written atomically.

    A file that was damaged is computed and written again. Several processes may share a folder.

    Args:
        generator: computes the masks of images that the folder lacks.
        folder: created if missing; must be writable.

    Attributes:
        found: images whose masks were read.
        computed: images whose masks were computed.
    """

    def __init__(self, generator: MaskGenerator, folder: str | Path) -> None:
        self._generator = generator
        self._folder = check_output_folder(folder)
        settings = dataclasses.asdict(generator.config)
        for name in SPEED:
            del settings[name]
        text = json.dumps([SCHEMA, settings, dataclasses.asdict(generator.model_config)])
        digest = hashlib.sha256(text.encode())
        for leaf in jax.tree.leaves(generator.state):
            _add(digest, np.asarray(leaf))
        self._prefix = digest
        self.found = 0
        self.computed = 0

    def __call__(self, image: NDArray) -> ImageMasks:
        """Every mask of an image, see `MaskGenerator`.

        Raises:
            ValueError: an image of another shape, type or range.
            OSError: the folder cannot be written, with the reason.
        """
        path = self.path(image)
        masks = _read(path)
        if masks is not None:
            self.found += 1
            return masks
        masks = self._generator(image)
        self.computed += 1
        try:
            write_bytes_atomic(path, _packed(masks))
        except OSError as error:
            raise OSError(
                f"masks cannot be written to {self._folder}: {error.strerror or error}; those of "
                "earlier images are kept"
            ) from None
        return masks

    def path(self, image: NDArray) -> Path:
        """The file of an image's masks, whether it exists or not."""
        digest = self._prefix.copy()
        _add(digest, image)
        return self._folder / f"{digest.hexdigest()[:32]}.npz"


def _add(digest: "hashlib._Hash", array: NDArray) -> None:
    """Hash an array's shape, type and content."""
    digest.update(f"{array.shape}{array.dtype}".encode())
    digest.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")


def _packed(masks: ImageMasks) -> bytes:
    """A sealed .npz with eight pixels a byte."""
    shape = np.asarray(masks.masks.shape)
    parts = masks._asdict() | {"masks": np.packbits(masks.masks), "shape": shape}
    return npz_bytes(parts, compressed=True)


def _read(path: Path) -> ImageMasks | None:
    """The masks of a file; None where it is missing, damaged or holds something else."""
    try:
        check_seal(path)
        parts = load_arrays(path, limit_bytes=LARGEST)
    except (OSError, ValueError):
        return None
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
