"""Holes and islands against a flood fill, one pixel at a time."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pretrain_jax.models.sam.generator import without_small_regions


def regions(mask: NDArray[np.bool_]) -> list[list[tuple[int, int]]]:
    """The 8-connected regions of a mask, in the order of their first pixels."""
    left = {(int(row), int(column)) for row, column in np.argwhere(mask)}
    found = []
    for start in sorted(left):
        if start not in left:
            continue
        left.remove(start)
        region, front = [start], [start]
        while front:
            row, column = front.pop()
            for near in [(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]:
                if near in left:
                    left.remove(near)
                    region.append(near)
                    front.append(near)
        found.append(region)
    return found


def flooded(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    clean = mask.copy()
    for hole in regions(~mask):
        if len(hole) < pixels:
            clean[tuple(np.transpose(hole))] = True
    islands = regions(clean)
    kept = [island for island in islands if len(island) >= pixels]
    clean[:] = False
    for island in kept or [max(islands, key=len)]:
        clean[tuple(np.transpose(island))] = True
    return clean


@pytest.mark.parametrize("pixels", [1, 2, 5, 12, 1000])
@pytest.mark.parametrize("share", [0.15, 0.3, 0.6, 0.8])
def test_as_a_flood_fill(share: float, pixels: int) -> None:
    for seed in range(4):
        mask = np.random.default_rng(seed).random((13, 17)) < share
        np.testing.assert_array_equal(without_small_regions(mask, pixels), flooded(mask, pixels))
