"""Patches decoded ahead of the device: each image is read once for all its patches in a row."""

import itertools
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pretrain_jax.data import UnreadableImageError
from pretrain_jax.stages.tables import Logged
from pretrain_jax.synthesis.patches import Part
from pretrain_jax.synthesis.pixels import Pixels, cut, read_image

__all__ = ["DecodedBatch", "decoded_batches"]

AHEAD = 32  # images


class DecodedBatch(NamedTuple):
    """Patches at the model's size; rows beyond those of `rows` are zero.

    Attributes:
        pixels: (batch size, H, W, C).
        keys: (batch size,) ids of the masks.
        rows: (n,) ids in the table, n <= batch size.
    """

    pixels: Pixels
    keys: NDArray[np.int64]
    rows: NDArray[np.int64]


def decoded_batches(
    parts: Iterator[Part],
    root: Path,
    size: tuple[int, int],
    channels: int,
    batch_size: int,
    pool: Executor,
    logged: Logged,
) -> Iterator[DecodedBatch]:
    """Batches of one size, in order; unreadable images are left out, counted and noted.

    Args:
        parts: those of one image follow each other.
        root: of the images' names.
        size: height and width of the result.
        channels: 1 or 3.
        batch_size: rows of every batch.
        pool: decodes.
        logged: gets the count `unreadable` and the reasons.
    """
    pixels = np.zeros((batch_size, *size, channels), np.uint8)
    held: list[Part] = []
    for group, found in _ahead(parts, root, size, channels, pool):
        if isinstance(found, str):
            logged.skip(found)
            continue
        for part, own in zip(group, found, strict=True):
            pixels[len(held)] = own
            held.append(part)
            if len(held) == batch_size:
                yield _batch(pixels, held)
                pixels, held = np.zeros_like(pixels), []
    if held:
        yield _batch(pixels, held)


def _batch(pixels: Pixels, parts: list[Part]) -> DecodedBatch:
    keys = np.zeros(len(pixels), np.int64)
    keys[: len(parts)] = [part.key for part in parts]
    return DecodedBatch(pixels, keys, np.array([part.row for part in parts], np.int64))


def _ahead(
    parts: Iterator[Part], root: Path, size: tuple[int, int], channels: int, pool: Executor
) -> Iterator[tuple[list[Part], list[Pixels] | str]]:
    """Patches of one image after another; a text says why an image cannot be read."""
    waiting: deque[tuple[list[Part], Future[list[Pixels] | str]]] = deque()
    for _, members in itertools.groupby(parts, key=lambda part: part.image):
        group = list(members)
        waiting.append((group, pool.submit(_cut_all, group, root, size, channels)))
        if len(waiting) > AHEAD:
            first, future = waiting.popleft()
            yield first, future.result()
    for first, future in waiting:
        yield first, future.result()


def _cut_all(
    group: list[Part], root: Path, size: tuple[int, int], channels: int
) -> list[Pixels] | str:
    try:
        pixels = read_image(root, group[0].name, group[0].frame, channels)
    except UnreadableImageError as error:
        return str(error).replace(f"{root}{os.sep}", "")
    return [cut(pixels, part.box, size) for part in group]
