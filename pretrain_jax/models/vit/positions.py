"""Position embeddings of a grid of patches: sines and cosines, interpolation to other grids."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["resize_positions", "sincos_positions"]

# Cubic convolution with a = -3/4, the kernel image libraries call bicubic.
CUBIC = -0.75


def sincos_positions(
    grid: tuple[int, int], width: int, *, class_token: bool
) -> NDArray[np.float64]:
    """Fixed embeddings of MAE (arXiv:2111.06377): sin and cos of column and row times omega_k.

    omega_k = 10000^(-4 k / width); the four quarters of a vector are sin(column omega),
    cos(column omega), sin(row omega), cos(row omega). MoCo v3 interleaves differently: its
    tables are not interchangeable with these.

    Args:
        grid: rows and columns of patches.
        width: length of a token, divisible by 4.
        class_token: whether a row of zeros, the class token's position, comes first.

    Returns:
        The table, shape (rows * columns + class_token, width); patches go row by row.
    """
    omega = 10000.0 ** (-np.arange(width // 4) / (width // 4))
    rows, columns = np.meshgrid(*map(np.arange, grid), indexing="ij")
    angles = [np.outer(place.ravel(), omega) for place in (columns, rows)]
    table = np.concatenate([wave(a) for a in angles for wave in (np.sin, np.cos)], axis=1)
    return np.concatenate([np.zeros((int(class_token), width)), table])


def resize_positions(table: NDArray, grid: tuple[int, int], new_grid: tuple[int, int]) -> NDArray:
    """Bicubic interpolation (a = -3/4, half-pixel centres, edges repeated) of a table.

    Args:
        table: embeddings, shape (extra + rows * columns, width); the extra rows (class token)
            are kept as they are.
        grid: rows and columns of `table`.
        new_grid: rows and columns of the result.

    Returns:
        The table of the new grid, in the type of `table`.
    """
    if grid == new_grid:
        return table
    extra = table.shape[0] - grid[0] * grid[1]
    patches = table[extra:].astype(np.float64).reshape(*grid, table.shape[1])
    down, across = (_cubic(*sizes) for sizes in zip(grid, new_grid, strict=True))
    resized = np.einsum("ir,jc,rcw->ijw", down, across, patches, optimize=True)
    resized = resized.reshape(-1, table.shape[1]).astype(table.dtype)
    return np.concatenate([table[:extra], resized])


def _cubic(old: int, new: int) -> NDArray[np.float64]:
    """Matrix of one-dimensional cubic convolution from `old` to `new` samples."""
    place = (np.arange(new) + 0.5) * old / new - 0.5
    base = np.floor(place).astype(int)
    matrix = np.zeros((new, old))
    for offset in range(-1, 3):
        x = np.abs(place - (base + offset))
        near = (CUBIC + 2) * x**3 - (CUBIC + 3) * x**2 + 1
        far = CUBIC * (x**3 - 5 * x**2 + 8 * x - 4)
        index = np.clip(base + offset, 0, old - 1)
        np.add.at(matrix, (np.arange(new), index), np.where(x <= 1, near, far))
    return matrix
