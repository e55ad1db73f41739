"""Crops of images and masks: the same box and mirror for both, a function of seed and place."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pretrain_jax.data.transforms import Crop, resized
from pretrain_jax.segmentation.dataset import SegmentationSet, read_case

__all__ = ["Crops", "Pair", "TrainingExamples", "paired_crop", "whole_image"]

Bytes = NDArray[np.uint8]
CACHE_BYTES = 1 << 30


class Pair(NamedTuple):
    """Pixels (H, W, C) and labels (H, W) of a case."""

    pixels: Bytes
    labels: Bytes


class Crops(NamedTuple):
    """Images (B, S, S, C) and labels (B, S, S) of a batch."""

    images: Bytes
    labels: Bytes


def paired_crop(pair: Pair, crop: Crop, rng: np.random.Generator) -> Pair:
    """A random crop at the crop's size: the image bicubic, the labels by the nearest pixel.

    Args:
        pair: the case.
        crop: size, scale, ratio and flip of the crops.
        rng: decides box and mirror.
    """
    from PIL import Image

    height, width = pair.labels.shape
    box = crop.random_box(height, width, rng)
    pixels: Bytes = resized(pair.pixels, crop.size, box).astype(np.uint8, copy=False)
    size = (crop.size, crop.size)
    labels = np.asarray(
        Image.fromarray(pair.labels).resize(size, Image.Resampling.NEAREST, box=box)
    )
    if crop.flip and rng.random() < 0.5:
        pixels, labels = pixels[:, ::-1], labels[:, ::-1]
    return Pair(pixels, labels)


def whole_image(pixels: Bytes, size: int) -> Bytes:
    """The whole image (size, size, C), its shape not kept."""
    return resized(pixels, size, (0, 0, pixels.shape[1], pixels.shape[0])).astype(np.uint8)


class TrainingExamples:
    """Batches of random crops.

    Row r of step k is position p = k B + r of the stream: case `order(p)` of epoch p // n, cropped
    with a generator seeded by (seed, p). A run can therefore go on at any step.

    Args:
        cases: the training cases.
        crop: see `paired_crop`.
        batch_size: B.
        channels: of the images.
        seed: of order and crops.
    """

    def __init__(
        self, cases: SegmentationSet, crop: Crop, *, batch_size: int, channels: int, seed: int
    ) -> None:
        self._cases, self._crop = cases, crop
        self._batch_size, self._channels, self._seed = batch_size, channels, seed
        self._kept: dict[int, Pair] = {}
        self._bytes = 0

    def batches(self, start: int, stop: int) -> Iterator[Crops]:
        """The batches of steps `start` to `stop` - 1, each made while the one before is used."""
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(self.batch, start)
            for step in range(start, stop):
                batch = coming.result()
                if step + 1 < stop:
                    coming = pool.submit(self.batch, step + 1)
                yield batch

    def batch(self, step: int) -> Crops:
        """The batch of a step."""
        count = len(self._cases)
        made = []
        for position in range(step * self._batch_size, (step + 1) * self._batch_size):
            order = np.random.default_rng([self._seed, 0, position // count]).permutation(count)
            rng = np.random.default_rng([self._seed, 1, position])
            made.append(paired_crop(self._pair(int(order[position % count])), self._crop, rng))
        return Crops(
            np.stack([pair.pixels for pair in made]), np.stack([pair.labels for pair in made])
        )

    def _pair(self, index: int) -> Pair:
        """A decoded case; the decoded ones are kept as long as there is room."""
        if index not in self._kept:
            pair = Pair(*read_case(self._cases, self._cases.cases[index], channels=self._channels))
            size = pair.pixels.nbytes + pair.labels.nbytes
            if self._bytes + size > CACHE_BYTES:
                return pair
            self._kept[index] = pair
            self._bytes += size
        return self._kept[index]
